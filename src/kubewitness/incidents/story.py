"""One plain sentence on top: who did what, where from, and what is most telling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from kubewitness.activity.issuer import ANY_NODE
from kubewitness.activity.technique import GRAVE, Technique
from kubewitness.incidents.ledger import Ledger
from kubewitness.incidents.model import Reason
from kubewitness.incidents.ranking import Case
from kubewitness.incidents.wording import joined, named, sentence, some

TACTICS = (
    "Reconnaissance",
    "Initial Access",
    "Execution",
    "Persistence",
    "Privilege Escalation",
    "Defense Evasion",
    "Credential Access",
    "Discovery",
    "Lateral Movement",
    "Collection",
    "Command and Control",
    "Exfiltration",
    "Impact",
)
REFUSED = ("denied", "unauthenticated")
# Looking around is told only of those who did, or tried, nothing else.
_PLAIN = 1.0
_TIERS = 2
_CALLED = {"client": "program", "scheme": "kind of credential"}


def principals(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """Who is accused, the one with most of the evidence first; impersonated ones after."""
    weight: dict[str, float] = {}
    for line in case.lines:
        who = ledger.texts["principal"][line]
        weight[who] = weight.get(who, 0.0) + float(ledger.total[line])
    actors = sorted(weight, key=lambda who: (-weight[who], who))
    borrowed = {ledger.texts["acting_as"][line] for line in case.lines} - {"", *actors}
    return (*actors, *sorted(borrowed))


def addresses(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """Where it came from, the address with most of the evidence first."""
    weight: dict[str, float] = {}
    for line in case.lines:
        where = ledger.texts["source_ip"][line]
        weight[where] = weight.get(where, 0.0) + float(ledger.total[line])
    return tuple(sorted(filter(None, weight), key=lambda where: (-weight[where], where)))


def title(ledger: Ledger, case: Case) -> str:
    """Who did what, where from: short enough for a list."""
    who = principals(ledger, case)[0]
    text = f"{named(who)} {_told(ledger, case, who, 2)}"
    circumstance = _circumstance(ledger, case, who)
    return sentence(f"{text}{circumstance}")


def summary(ledger: Ledger, case: Case, reasons: Sequence[Reason]) -> str:
    """When, who, what, how often, how it was answered, and what is odd."""
    texts = ledger.texts
    first = min(texts["first"][line] for line in case.lines)
    last = max(texts["last"][line] for line in case.lines)
    requests = sum(int(texts["n"][line]) for line in case.lines)
    refused = sum(int(texts["n"][line]) for line in case.lines if texts["outcome"][line] in REFUSED)
    who = principals(ledger, case)
    places = _in(_places(ledger, case, who[0], 3))
    text = f"{_span(first, last)}, {named(who[0])} {_told(ledger, case, who[0], 3, places)}"
    for other in who[1:4]:
        told = _told(ledger, case, other, 2)
        text += f"; {named(other)} {told}" if told else f"; acting as {named(other)}"
    text += (
        f". These are {requests:,} unusual requests" if requests > 1 else ". This is one request"
    )
    if refused:
        all_of_them = "all of them refused" if requests > 1 else "which was refused"
        text += f", {all_of_them if refused == requests else f'{refused:,} of them refused'}"
    text += "".join(_origin(ledger, case, one) for one in who[:4])
    if reasons:
        text += f". Most telling: {reasons[0].sentence}"
    return text if text.endswith(".") else f"{text}."


def _origin(ledger: Ledger, case: Case, who: str) -> str:
    """Whose tokens a service account used, if not those that kubelets get for its pods."""
    texts = ledger.texts
    tokens = {
        texts["credential"][line]: texts["issuer"][line]
        for line in case.lines
        if texts["principal"][line] == who
        and texts["class"][line] == "workload"
        and texts["issuer"][line] not in ("", ANY_NODE)
    }
    if not tokens:
        return ""
    which = f"a token ({next(iter(tokens))})" if len(tokens) == 1 else f"{len(tokens)} tokens"
    return f". {sentence(named(who))} used {which} issued by {some(sorted(set(tokens.values())))}"


def tactics(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """Distinct ATT&CK tactics, in the order of the matrix."""
    found = {ledger.techniques[atom.line].tactic for atom in case.atoms}
    return tuple(tactic for tactic in TACTICS if tactic in found)


def techniques(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """Distinct ATT&CK technique ids."""
    return tuple(sorted({ledger.techniques[atom.line].technique for atom in case.atoms}))


def _deeds(
    ledger: Ledger, case: Case, who: str, most: int
) -> tuple[list[Technique], list[Technique]]:
    """At most ``most`` of what ``who`` did and was only refused, what matters before what does
    not, then by how strange it was."""
    worth: dict[tuple[bool, Technique], float] = {}
    for atom in case.atoms:
        if ledger.texts["principal"][atom.line] == who:
            refused = ledger.texts["outcome"][atom.line] in REFUSED
            deed = (refused, ledger.techniques[atom.line])
            worth[deed] = worth.get(deed, 0.0) + atom.weight
    for _, plain in [one for one in worth if one[0] and _tier(one[1]) == _TIERS]:
        # Who looks around and is refused nearly everything did not look around.
        if worth[True, plain] > worth.get((False, plain), 0.0):
            worth.pop((False, plain), None)
    ranked = sorted(worth, key=lambda deed: (_tier(deed[1]), -worth[deed], deed[1].did))
    done = _apart(deed for refused, deed in ranked if not refused)
    served = {deed.did for deed in done}
    vain = _apart(deed for refused, deed in ranked if refused and deed.did not in served)
    grave = [deed for deed in vain if deed.weight >= _PLAIN]
    if grave and all(deed.weight < _PLAIN for deed in done):
        return [], grave[:most]
    return done[: most - bool(vain)], vain[: max(1, most - len(done))]


def _tier(deed: Technique) -> int:
    """0 for what is grave, ``_TIERS`` for what everybody does all day."""
    return 0 if deed.weight >= GRAVE else 1 if deed.weight >= _PLAIN else _TIERS


def _apart(deeds: Iterable[Technique]) -> list[Technique]:
    """Each deed once: some serve several techniques."""
    return list({deed.did: deed for deed in reversed(list(deeds))}.values())[::-1]


def _told(ledger: Ledger, case: Case, who: str, most: int, places: str = "") -> str:
    """The deeds as a clause: "read secrets in 2 namespaces and tried in vain to …"."""
    done, vain = _deeds(ledger, case, who, most)
    clauses = [joined([deed.did for deed in done]) + places] if done else []
    if vain:
        tried = joined([deed.tried for deed in vain])
        clauses.append(f"tried in vain to {tried}{'' if done else places}")
    return ", and ".join(clauses) if len(done) > 1 else " and ".join(clauses)


def _places(ledger: Ledger, case: Case, who: str, most: int) -> list[str]:
    """The namespaces in which the deeds were done that are told of ``who``; if nothing was done,
    those in which it was tried."""
    done, vain = _deeds(ledger, case, who, most)
    told = {deed.did for deed in done or vain}
    texts = ledger.texts
    return sorted(
        {
            texts["namespace"][line]
            for line in case.lines
            if texts["principal"][line] == who
            and ledger.techniques[line].did in told
            and (not done or texts["outcome"][line] not in REFUSED)
        }
        - {""}
    )


def _circumstance(ledger: Ledger, case: Case, who: str) -> str:
    """From where, or with what, if that is odd: of the same principal whose deeds are told."""
    texts = ledger.texts
    own = [line for line in case.lines if texts["principal"][line] == who]
    for atom in case.atoms:
        if atom.aspect != "where from" or texts["principal"][atom.line] != who:
            continue
        finding = ledger.findings[int(ledger.finding[atom.aspect][atom.line])]
        public = texts["scope"][atom.line] == "public"
        if not (public or finding.active[int(ledger.entry[atom.aspect][atom.line])]):
            continue  # all is new of somebody new
        (column,) = finding.factor.columns
        value = texts[column][atom.line]
        if column in ("network", "subnet", "source_ip"):
            where = "a new outside address" if public else "an unusual address"
            words = f"from {where} ({texts['source_ip'][atom.line]})"
        elif column == "issuer":
            words = f"with a token issued by {value}"
        else:
            words = f"with an unusual {_CALLED.get(column, column)} ({value or 'none'})"
        return (
            f" {words}"
            if all(texts[column][line] == value for line in own)
            else (f", partly {words}")
        )
    return ""


def _in(places: Sequence[str]) -> str:
    if not places:
        return ""
    return f" in namespace {places[0]}" if len(places) == 1 else f" in {len(places)} namespaces"


def _span(first: datetime, last: datetime) -> str:
    if first.date() == last.date():
        if f"{first:%H:%M}" == f"{last:%H:%M}":
            return f"On {first:%Y-%m-%d} at {first:%H:%M} UTC"
        return f"On {first:%Y-%m-%d} between {first:%H:%M} and {last:%H:%M} UTC"
    return f"Between {first:%Y-%m-%d %H:%M} and {last:%Y-%m-%d %H:%M} UTC"
