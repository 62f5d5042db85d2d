"""From who issued a credential to who uses it.

All lines here have evidence of their own: that kubelets issue tokens all day links nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from kubewitness.activity.table import DAY
from kubewitness.incidents.ledger import Ledger

# Where the log does not tell which credential it was, that it was issued and that one is used
# belong together for a day.
_WITHIN = DAY
_CERTIFIED = frozenset({"handled certificate requests", "approved client certificates"})


def tokens(ledger: Ledger) -> Iterator[tuple[int, int]]:
    """A token was issued and is used: that very one where its id is told at both ends (KEP-4193),
    whenever that is; else one for an account of this name, within a day."""
    texts = ledger.texts
    by_id: dict[Hashable, int] = {}
    by_name: dict[Hashable, int] = {}
    without_id: dict[Hashable, int] = {}
    for line in range(len(ledger)):
        cluster, credential = texts["cluster"][line], texts["credential"][line]
        if (cluster, credential) in by_id:
            yield by_id[cluster, credential], line
        # A token with an id is not one that was issued with another.
        named = without_id if credential else by_name
        maker = named.get((cluster, texts["principal"][line]))
        if maker is not None and ledger.first[line] - ledger.last[maker] <= _WITHIN:
            yield maker, line
        if texts["subresource"][line] == "token" and texts["outcome"][line] == "ok":
            issued = texts["issued"][line]
            if issued:
                by_id[cluster, issued] = line
            for name in texts["name_samples"][line]:
                account = f"system:serviceaccount:{texts['namespace'][line]}:{name}"
                by_name[cluster, account] = line
                if not issued:
                    without_id[cluster, account] = line


def certificates(ledger: Ledger) -> Iterator[tuple[int, int]]:
    """Somebody had a client certificate signed, and at the same address one is used that was never
    seen before. No log tells which certificate a request was answered with.

    That nodes ask for their own is how they join.
    """
    texts = ledger.texts
    signed: dict[Hashable, int] = {}
    for line in range(len(ledger)):
        place = (texts["cluster"][line], texts["source_ip"][line])
        before = signed.get(place)
        if (
            before is not None
            and texts["scheme"][line] == "X509SHA256"
            and ledger.first[before] <= ledger.debut[line] <= ledger.last[before] + _WITHIN
        ):
            yield before, line
        served = texts["outcome"][line] == "ok" and texts["source_ip"][line]
        if (
            served
            and texts["class"][line] in ("human", "workload")
            and ledger.techniques[line].did in _CERTIFIED
        ):
            signed[place] = line
