"""The benign explanations that were tried, and what an auditor would do next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields

import numpy as np

from kubewitness.activity.table import YOUNG
from kubewitness.activity.technique import DEPLOYED
from kubewitness.baseline.fleet import Deed, FleetPrior
from kubewitness.incidents.ledger import Ledger
from kubewitness.incidents.model import Reason
from kubewitness.incidents.ranking import Case
from kubewitness.incidents.story import REFUSED, principals
from kubewitness.incidents.wording import named, some
from kubewitness.times import periods

_FEW = 3


def considered(
    ledger: Ledger, case: Case, reasons: Sequence[Reason], fleet: FleetPrior
) -> tuple[str, ...]:
    """The benign explanations that were tried, and what speaks for or against each."""
    texts = ledger.texts
    lines = [int(line) for line in case.lines]
    tried = [_peers(reasons)] if reasons else []
    tried += _stock(ledger, lines, fleet)
    young = sum(YOUNG in (texts["place"][line], texts["kind"][line]) for line in lines)
    tried.append(
        f"Something new is being set up: possible for {young} of {len(lines)} kinds of activity,"
        " which touch a namespace or a kind of object that is new in this log."
        if young
        else "Something new is being set up: no; every namespace and every kind of object touched"
        " was known before."
    )
    known = all(texts["class"][line] != "anonymous" for line in lines)
    if known and not any(reason.days_active for reason in reasons):
        tried.append("A new account: possible; nothing was known of these habits before.")
    place, program = _new(ledger, lines, "network"), _new(ledger, lines, "client")
    if not known:
        tried.append("A forgotten login: possible; who it was cannot be told from the log.")
    elif place and not program:
        tried.append("Travel or a new address: possible; the program is the usual one.")
    elif program and not place:
        tried.append("A new or upgraded program: possible; the network is the usual one.")
    elif place and program:
        tried.append("Travel or a new device: both the network and the program are new at once.")
    if all(texts["outcome"][line] in REFUSED for line in lines):
        tried.append(
            "A broken configuration: possible; everything was refused, nothing was gained."
        )
    if any(reason.days_active < _FEW for reason in reasons):
        tried.append(
            "Too little history: possible; some of these habits were known from fewer than"
            f" {periods(_FEW, reasons[0].unit)}, and were judged by those of others."
        )
    return tuple(tried)


def next_steps(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """What to do, the most pressing first, with the names of what to look at."""
    steps = [step for who in principals(ledger, case)[:_FEW] for step in _about(ledger, case, who)]
    for deeds, advice in _ADVICE:
        touched = _touched(ledger, case, deeds)
        if touched:
            steps.append(advice.format(some(touched)))
    return tuple(dict.fromkeys(steps))


_ADVICE = (
    ({"read secrets", "read the system's secrets"}, "Rotate the secrets that were read: {}."),
    (
        {"minted service account tokens"},
        "Find where the tokens minted for {} were used; recreate the account to void them.",
    ),
    (
        {"changed permissions"},
        "Compare the permissions with their source and undo what nobody ordered: {}.",
    ),
    (
        {"made tokens that never expire"},
        "Delete these secrets, and with them the tokens that they hold: {}.",
    ),
    (
        {"changed admission control", "changed API aggregation"},
        "Everything written to the cluster passes through this; see who ordered it: {}.",
    ),
    (
        {"approved client certificates", "handled certificate requests"},
        "A client certificate cannot be revoked: see whose it is, and what its name may do: {}.",
    ),
    (
        {"entered containers", "injected debug containers", "opened tunnels into pods"},
        "Inspect or replace the pods that were entered, for no audit log holds what was typed: {}.",
    ),
    (
        DEPLOYED,
        "Inspect images, mounts and service accounts of what was deployed: {}.",
    ),
    (
        {"relaxed pod security", "changed the system's configuration"},
        "Compare with what is under version control, and set back what nobody ordered: {}.",
    ),
    (
        {"removed agents from all nodes", "deleted workloads", "deleted namespaces or storage"},
        "Find out whether this was to be deleted, and restore it if not: {}.",
    ),
)


def _peers(reasons: Sequence[Reason]) -> str:
    alone = sum(reason.peers.startswith("0 of") for reason in reasons)
    if all(reason.peers.startswith("0 of 0 ") for reason in reasons):
        return "Peers do the same: cannot be told; this principal has no peers in the log."
    if not alone:
        return "Peers do the same: yes, each of these things is known of some peer."
    return f"Peers do the same: no; {alone} of {len(reasons)} reasons are unknown among them."


def _stock(ledger: Ledger, lines: Sequence[int], fleet: FleetPrior) -> list[str]:
    """For each stock component, by its name, how much of this it does in other clusters."""
    texts = ledger.texts
    # A grave deed may not be believed of a component, but is told of it.
    names = {
        texts["principal"][line]: texts["component"][line]
        for line in lines
        if texts["component"][line]
    }
    deeds: dict[str, set[Deed]] = defaultdict(set)
    for line in lines:
        name = names.get(texts["principal"][line])
        if name in fleet.captures:
            deeds[name].add(Deed(*(texts[field.name][line] for field in fields(Deed))))
    tried = []
    for name, done in sorted(deeds.items()):
        known = len(done & fleet.facts.keys())
        answer = "possible" if known == len(done) else "only in part" if known else "no"
        tried.append(
            f"A stock component's usual work: {answer}; {known} of {len(done)} kinds of activity"
            f" are known of {name} from other clusters (counted in {fleet.captures[name]})."
        )
    return tried


def _new(ledger: Ledger, lines: Iterable[int], factor: str) -> bool:
    """Whether a factor found something never seen before of its principal in any line, be it the
    strongest of its aspect or not."""
    rows = ledger.rows[[*lines]]
    return any(
        bool((np.isin(finding.rows, rows) & (finding.seen == 0)).any())
        for finding in ledger.findings
        if finding.factor.name == factor
    )


def _about(ledger: Ledger, case: Case, who: str) -> list[str]:
    texts = ledger.texts
    lines = [line for line in case.lines if texts["principal"][line] == who]
    if not lines:
        return []  # only impersonated: the one who did it is asked
    odd = {
        texts["source_ip"][atom.line]: texts["scope"][atom.line] == "public"
        for atom in case.atoms
        if atom.aspect == "where from" and texts["principal"][atom.line] == who
    }
    addresses = some(sorted(odd, key=lambda address: (not odd[address], address)))
    kind = texts["class"][lines[0]]
    if kind == "human":
        seen = f" from {addresses}" if addresses else ""
        return [f"Ask {who} whether this was theirs{seen}; if not, revoke the credential."]
    if kind == "anonymous":
        reached = addresses or some(sorted({texts["source_ip"][line] for line in lines} - {""}))
        steps = [
            f"Find out what is at {reached}: it never logged in; should it reach the API server at"
            " all?"
        ]
        served = some(
            [
                texts["action"][line]
                for line in lines
                if texts["resource"][line] and texts["outcome"][line] == "ok"
            ]
        )
        if served:
            steps.append(f"Find the binding of system:anonymous that allowed this: {served}.")
        return steps
    if kind == "workload" and odd:
        return [
            f"Find out what at {addresses} holds the token of {named(who)}; if it is none of its"
            " pods, the token is stolen: recreate the account."
        ]
    if kind == "workload":
        return [f"Find out who or what ran this in the pods of {named(who)}."]
    return [f"See whether an upgrade or somebody with access to it explains this of {named(who)}."]


def _touched(ledger: Ledger, case: Case, deeds: Collection[str]) -> list[str]:
    """What was touched by requests that were served, the most telling first."""
    texts = ledger.texts
    found: dict[str, None] = {}
    for line in sorted(case.lines, key=lambda line: -float(ledger.total[line])):
        if ledger.techniques[line].did not in deeds or texts["outcome"][line] in REFUSED:
            continue
        for name in texts["name_samples"][line]:
            place = texts["namespace"][line]
            resource = texts["resource"][line].partition(".")[0]
            what = f"{resource}/{name}" if name else f"all {resource}"
            if not name and texts["verb"][line] == "create":
                what = resource
            found[f"{what} in {place}" if place else what] = None
    return list(found)
