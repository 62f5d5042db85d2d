"""The ATT&CK tactics in the order of an attack, and which of them an incident touched."""

from __future__ import annotations

from typing import NamedTuple

from kubewitness.incidents.model import Incident

_IDS = {
    "TA0043": "Reconnaissance",
    "TA0042": "Resource Development",
    "TA0001": "Initial Access",
    "TA0002": "Execution",
    "TA0003": "Persistence",
    "TA0004": "Privilege Escalation",
    "TA0005": "Defense Evasion",
    "TA0006": "Credential Access",
    "TA0007": "Discovery",
    "TA0008": "Lateral Movement",
    "TA0009": "Collection",
    "TA0011": "Command and Control",
    "TA0010": "Exfiltration",
    "TA0040": "Impact",
}
KILL_CHAIN = tuple(_IDS.values())
# Prepared or carried outside the API server: shown only when something did point at them.
_RARE = frozenset({"Reconnaissance", "Resource Development", "Command and Control"})


class Step(NamedTuple):
    """A place in the strip, and whether the incident reached it."""

    tactic: str
    hit: bool


def name(tactic: str) -> str:
    """The tactic as ATT&CK writes it, from an id, a Sigma tag or any spelling of the name.

    >>> name("attack.credential-access"), name("TA0007"), name("Impact")
    ('Credential Access', 'Discovery', 'Impact')
    """
    word = tactic.strip()
    if word.upper() in _IDS:
        return _IDS[word.upper()]
    words = word.removeprefix("attack.").replace("_", " ").replace("-", " ").casefold()
    return next((known for known in KILL_CHAIN if known.casefold() == words), word)


def uid(tactic: str) -> str:
    """The id of a tactic, '' for what is none.

    >>> uid("Impact"), uid("mischief")
    ('TA0040', '')
    """
    return next((uid for uid, known in _IDS.items() if known == name(tactic)), "")


def touched(incident: Incident) -> tuple[str, ...]:
    """The incident's tactics in kill-chain order, unknown ones last."""
    names = {name(tactic) for tactic in incident.tactics}
    known = tuple(tactic for tactic in KILL_CHAIN if tactic in names)
    return known + tuple(sorted(names.difference(KILL_CHAIN)))


def strip(incident: Incident) -> tuple[Step, ...]:
    """The whole chain, the touched tactics marked."""
    hit = touched(incident)
    chain = [t for t in KILL_CHAIN if t in hit or t not in _RARE]
    return tuple(Step(t, t in hit) for t in [*chain, *(t for t in hit if t not in KILL_CHAIN)])
