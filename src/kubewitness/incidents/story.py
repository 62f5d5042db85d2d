"""One plain sentence on top, the timeline below, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kubewitness.activity.technique import Technique
from kubewitness.incidents.ledger import Ledger
from kubewitness.incidents.model import Moment, Reason
from kubewitness.incidents.ranking import Case

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
_MOMENTS = 200
_OBJECTS = 40
_REFUSED = ("denied", "unauthenticated")


def principals(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """Who is accused, the one with most of the evidence first; impersonated ones after."""
    weight: dict[str, float] = {}
    for line in case.lines:
        who = ledger.texts["principal"][line]
        weight[who] = weight.get(who, 0.0) + float(ledger.total[line])
    actors = sorted(weight, key=lambda who: (-weight[who], who))
    borrowed = {ledger.texts["acting_as"][line] for line in case.lines} - {"", *actors}
    return (*actors, *sorted(borrowed))


def title(ledger: Ledger, case: Case) -> str:
    """Who did what, where from: short enough for a list."""
    who = principals(ledger, case)[0]
    text = f"{short(who)} {_told(ledger, case, who, 2)}"
    circumstance = _circumstance(ledger, case)
    return f"{text} {circumstance}" if circumstance else text


def summary(ledger: Ledger, case: Case, reasons: Sequence[Reason], unit: str) -> str:
    """One plain sentence: when, who, what, how often, how it was answered, and what is odd."""
    texts = ledger.texts
    first = min(texts["first"][line] for line in case.lines)
    last = max(texts["last"][line] for line in case.lines)
    requests = sum(int(texts["n"][line]) for line in case.lines)
    refused = sum(
        int(texts["n"][line]) for line in case.lines if texts["outcome"][line] in _REFUSED
    )
    who = principals(ledger, case)
    places = sorted({texts["namespace"][line] for line in case.lines} - {""})
    sentence = (
        f"{_span(first, last)}, {who[0]} {_told(ledger, case, who[0], 3)}"
        f"{_in(places)}: {requests} unusual request{'s' if requests != 1 else ''}"
    )
    if refused:
        sentence += f", {'all' if refused == requests else refused} of them refused"
    for other in who[1:4]:
        told = _told(ledger, case, other, 2)
        sentence += f"; {other} {told}" if told else f"; as {other}"
    if reasons:
        sentence += f". Most telling: {reasons[0].sentence}"
    return sentence if sentence.endswith(".") else f"{sentence}."


def tactics(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """Distinct ATT&CK tactics, in the order of the matrix."""
    found = {ledger.techniques[atom.line].tactic for atom in case.atoms}
    return tuple(tactic for tactic in TACTICS if tactic in found)


def techniques(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """Distinct ATT&CK technique ids."""
    return tuple(sorted({ledger.techniques[atom.line].technique for atom in case.atoms}))


def objects(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """``resource namespace/name`` of what was touched, at most forty."""
    found: dict[str, None] = {}
    for line in case.lines:
        resource = ledger.texts["resource"][line]
        namespace = ledger.texts["namespace"][line]
        for name in ledger.texts["name_samples"][line]:
            if resource:
                found[f"{resource} {namespace}/{name}" if namespace else f"{resource} {name}"] = (
                    None
                )
    return tuple(found)[:_OBJECTS]


def timeline(ledger: Ledger, case: Case) -> tuple[Moment, ...]:
    """The lines as moments, at most two hundred: the most telling ones, in order of time."""
    telling = {atom.line for atom in case.atoms[:12]}
    kept = sorted(case.lines, key=lambda line: -float(ledger.total[line]))[:_MOMENTS]
    return tuple(moment(ledger.texts, line, line in telling) for line in sorted(kept))


def moment(texts: dict[str, list[Any]], line: int, notable: bool) -> Moment:
    """One activity row as a moment."""
    names = texts["name_samples"][line]
    name = names[0] if len(names) == 1 else texts["template"][line]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Moment(
        at=texts["first"][line].replace(tzinfo=UTC),
        until=texts["last"][line].replace(tzinfo=UTC),
        principal=texts["principal"][line],
        acting_as=texts["acting_as"][line],
        action=texts["action"][line],
        object=f"{name or '*'}{more}" if texts["resource"][line] else "",
        namespace=texts["namespace"][line],
        source_ip=texts["source_ip"][line],
        client=" ".join(part for part in (texts["client"][line], texts["release"][line]) if part),
        outcome=texts["outcome"][line],
        n=int(texts["n"][line]),
        notable=notable,
        audit_ids=tuple(texts["audit_ids"][line]),
    )


def considered(ledger: Ledger, case: Case, reasons: Sequence[Reason]) -> tuple[str, ...]:
    """The benign explanations that were tried, and what speaks for or against each."""
    texts = ledger.texts
    lines = [int(line) for line in case.lines]
    tried = []
    shared = [reason for reason in reasons if not reason.peers.startswith("0 of")]
    if shared and len(shared) == len(reasons):
        tried.append("Peers do the same: partly; every one of these things is known of some peer.")
    elif reasons:
        tried.append(
            f"Peers do the same: no; {len(reasons) - len(shared)} of {len(reasons)} reasons are"
            " unknown among the peers of this principal."
        )
    young = sum(
        texts["place"][line] == "(young)" or texts["kind"][line] == "(young)" for line in lines
    )
    tried.append(
        f"Something new is being set up: for {young} of {len(lines)} lines of evidence; those count"
        " for less."
        if young
        else "Something new is being set up: no; all namespaces and kinds of object are older than"
        " a week or as old as this log."
    )
    new_place = any(reason.factor == "network" for reason in reasons)
    new_client = any(reason.factor in ("client", "platform") for reason in reasons)
    if new_place and not new_client:
        tried.append("Travel or a new address: possible; the program is the usual one.")
    elif new_client and not new_place:
        tried.append("A new or upgraded program: possible; the network is the usual one.")
    elif new_place and new_client:
        tried.append("Travel or a new device: would have to be both at once.")
    refused = sum(texts["outcome"][line] in _REFUSED for line in lines)
    if refused and refused == len(lines):
        tried.append(
            "A broken configuration: possible; everything was refused, nothing was gained."
        )
    if any(reason.days_active < 3 for reason in reasons):
        tried.append(
            "Too little history: some of these habits are known from less than three "
            f"{reasons[0].unit}s only, and were judged by peers."
        )
    return tuple(tried)


def next_steps(ledger: Ledger, case: Case, identity: str) -> tuple[str, ...]:
    """What an auditor would do next, the most pressing first."""
    texts = ledger.texts
    who = principals(ledger, case)[0]
    human = any(texts["class"][line] == "human" for line in case.lines)
    addresses = sorted(
        {texts["source_ip"][atom.line] for atom in case.atoms if atom.aspect == "where from"} - {""}
    )
    deeds = {ledger.techniques[atom.line].did for atom in case.atoms}
    steps = []
    if human:
        place = f" from {addresses[0]}" if addresses else ""
        steps.append(f"Ask {who} whether this was theirs{place}; if not, revoke the credential.")
    elif addresses and not who.startswith("<"):
        steps.append(
            f"Find out what runs at {addresses[0]}; a workload's token has no business elsewhere."
            " Delete the pod or rotate the token if it is not yours."
        )
    if "read secrets" in deeds:
        steps.append("Rotate the secrets that were read (listed under objects).")
    if "minted service account tokens" in deeds:
        steps.append(
            "Find where the minted tokens were used; recreate the service account to void them."
        )
    if deeds & {
        "changed permissions",
        "changed admission control",
        "had client certificates issued",
    }:
        steps.append(
            "Compare the changed RBAC, webhooks and certificates with their source; undo what"
            " nobody ordered."
        )
    if deeds & {"entered containers", "injected debug containers", "opened tunnels into pods"}:
        steps.append(
            "What was typed inside is not in an audit log: inspect or replace the pods that were"
            " entered."
        )
    if deeds & {"deployed workloads", "deployed recurring workloads"}:
        steps.append("Inspect what was deployed: images, mounts, service accounts.")
    steps.append(f"kubewitness incident {identity}")
    return tuple(steps)


def short(principal: str) -> str:
    """A principal as people say it: ``shop/api`` for a service account.

    >>> short("system:serviceaccount:shop:api"), short("maria@example.org")
    ('shop/api', 'maria@example.org')
    """
    if principal.startswith("system:serviceaccount:"):
        return principal.removeprefix("system:serviceaccount:").replace(":", "/", 1)
    return principal


def _deeds(ledger: Ledger, case: Case, who: str) -> tuple[list[str], list[str]]:
    """What ``who`` did and was refused, by how much it matters and how strange it was."""
    done: dict[str, float] = {}
    refused: dict[str, float] = {}
    for atom in case.atoms:
        if ledger.texts["principal"][atom.line] != who:
            continue
        deed: Technique = ledger.techniques[atom.line]
        if ledger.texts["outcome"][atom.line] in _REFUSED:
            refused[deed.tried] = refused.get(deed.tried, 0.0) + atom.weight
        else:
            done[deed.did] = done.get(deed.did, 0.0) + atom.weight
    return (
        sorted(done, key=lambda phrase: (-done[phrase], phrase)),
        sorted(refused, key=lambda phrase: (-refused[phrase], phrase)),
    )


def _told(ledger: Ledger, case: Case, who: str, most: int) -> str:
    """At most ``most`` deeds as a clause: "read secrets and was refused when trying to …"."""
    done, refused = _deeds(ledger, case, who)
    clauses = [_joined(done[:most])] if done else []
    if refused and len(done) < most:
        clauses.append(f"was refused when trying to {_joined(refused[: most - len(done)])}")
    return ", and ".join(clauses)


def _circumstance(ledger: Ledger, case: Case) -> str:
    for atom in case.atoms:
        if atom.aspect != "where from":
            continue
        finding = ledger.findings[int(ledger.finding[atom.aspect][atom.line])]
        if finding.factor.name == "network":
            scope = ledger.texts["scope"][atom.line]
            where = "a new outside address" if scope == "public" else "an unusual network"
            return f"from {where} ({ledger.texts['source_ip'][atom.line]})"
        return f"with an unusual program ({ledger.texts['client'][atom.line]})"
    return ""


def _joined(phrases: Sequence[str]) -> str:
    return " and ".join((", ".join(phrases[:-1]), phrases[-1])) if len(phrases) > 1 else phrases[0]


def _in(places: Sequence[str]) -> str:
    if not places:
        return ""
    return f" in {places[0]}" if len(places) == 1 else f" in {len(places)} namespaces"


def _span(first: datetime, last: datetime) -> str:
    if first.date() == last.date():
        if f"{first:%H:%M}" == f"{last:%H:%M}":
            return f"On {first:%Y-%m-%d} at {first:%H:%M} UTC"
        return f"On {first:%Y-%m-%d} between {first:%H:%M} and {last:%H:%M} UTC"
    return f"Between {first:%Y-%m-%d %H:%M} and {last:%Y-%m-%d %H:%M} UTC"
