"""How much an incident weighs, how severe it is, and whether anybody should be woken.

**Models set rank, knowledge sets severity.** The score adds the atoms of each aspect with
harmonically falling weight, twice: those that speak of the same kind of deed first (the tenth new
secret says much less than the first), then the kinds. What is strange
both in what was done and in where from or when counts more than either alone. Whether it alerts
is decided by replay: what would have alerted on the cluster's own past at most once a day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kubewitness.activity.table import MICROSECONDS, Ints
from kubewitness.activity.technique import GRAVE
from kubewitness.incidents.ledger import ASPECTS, CIRCUMSTANCES, Ledger
from kubewitness.incidents.model import SEVERITIES, Severity
from kubewitness.surprise.factor import Aspect

# The second kind of deed counts 1/(1 + FALL), the third 1/(1 + 2·FALL), …
FALL = 0.8
# More of the same kind adds less: who restarts one workload in a strange place restarts ten.
FALL_OF_SAME = 2.0
TOGETHER = 0.5
# A score is divided by (lines · hours) to this power, see ``weigh``.
SPREAD = 0.15
PAUSE = 1800 * MICROSECONDS
_HOUR = 3600 * MICROSECONDS
# From which weight of a technique an incident is of medium and of high severity.
_STEPS = (1.1, 1.5)
# Below this nothing is worth reporting: one fairly unusual ordinary act.
REPORT_FROM = 4.0
ALERTS_A_DAY = 1.0
# Whatever the replay says, an alert needs as much as so many facts, each as strange as anything
# that this log can show: the next weeks bring changes that the last ones did not.
ALERT_FACTS = 2.6
LEAST_FLOOR, ALERT_FLOOR = 5.0, 9.8


@dataclass(frozen=True, slots=True)
class Atom:
    """The strongest line of one atom: ``weight`` in nats after weighing, ``line`` of the ledger.

    ``kind``: the deed or, where it is about circumstances, the factor that found them strange.
    """

    aspect: Aspect
    kind: str
    weight: float
    line: int


@dataclass(frozen=True, slots=True)
class Case:
    """A linked group of ledger lines with its score; ``atoms`` from strongest to weakest."""

    lines: Ints
    score: float
    atoms: tuple[Atom, ...]
    opened: int

    @property
    def key(self) -> tuple[float, int]:
        """For sorting: best score first, then the earliest."""
        return (-self.score, int(self.lines[0]))


def weigh(ledger: Ledger, lines: Ints) -> Case:
    """Score a group of lines; ``opened`` is the event time (µs) at which it became reportable.

    A story that goes on has more chances to be odd, so its score falls with its length, but never
    below that of its most telling burst: an attack is not made harmless by what comes later.
    """
    told: dict[tuple[Aspect, int], Atom] = {}
    opened, reportable = int(ledger.first[lines[0]]), False
    for line in lines:
        _tell(ledger, int(line), told)
        if not reportable:
            reportable = _total(told.values()) >= REPORT_FROM
            opened = int(ledger.first[line])
    atoms = tuple(sorted(told.values(), key=lambda atom: (-atom.weight, atom.line)))
    score = _spread(ledger, lines, atoms)
    for burst in _bursts(ledger, lines):
        alone: dict[tuple[Aspect, int], Atom] = {}
        for line in burst:
            _tell(ledger, int(line), alone)
        score = max(score, _spread(ledger, burst, alone.values()))
    return Case(lines, score, atoms, opened)


def _tell(ledger: Ledger, line: int, told: dict[tuple[Aspect, int], Atom]) -> None:
    """Enter the atoms of a line among those ``told`` before it."""
    for aspect in ASPECTS:
        weight = float(ledger.weight[aspect][line])
        atom = (aspect, int(ledger.atom[aspect][line]))
        if weight > 0 and (atom not in told or _tells_more(ledger, line, weight, told[atom])):
            told[atom] = Atom(aspect, _kind(ledger, aspect, line), weight, line)


def _spread(ledger: Ledger, lines: Ints, atoms: Iterable[Atom]) -> float:
    """What the atoms say together, by the number of lines and hours that it took."""
    hours = len(np.unique(ledger.first[lines] // _HOUR))
    return _total(atoms) / float((len(lines) * hours) ** SPREAD)


def _bursts(ledger: Ledger, lines: Ints) -> list[Ints]:
    """The stretches without a long pause, if there are several."""
    pause = ledger.first[lines][1:] - np.maximum.accumulate(ledger.last[lines])[:-1]
    ends = np.flatnonzero(pause > PAUSE) + 1
    return np.split(lines, ends) if len(ends) else []


def _tells_more(ledger: Ledger, line: int, weight: float, known: Atom) -> bool:
    """Of the same oddity the strongest line is told, and rather one that was served."""
    served, before = (ledger.texts["outcome"][one] == "ok" for one in (line, known.line))
    return (weight, served) > (known.weight, before)


def _kind(ledger: Ledger, aspect: Aspect, line: int) -> str:
    if aspect in CIRCUMSTANCES:
        return ledger.findings[int(ledger.finding[aspect][line])].factor.name
    return ledger.techniques[line].did


def _total(atoms: Iterable[Atom]) -> float:
    same: dict[tuple[Aspect, str], list[float]] = defaultdict(list)
    for atom in atoms:
        same[atom.aspect, atom.kind].append(atom.weight)
    kinds: dict[Aspect, list[float]] = defaultdict(list)
    for (aspect, _), weights in same.items():
        kinds[aspect].append(_falling(weights, FALL_OF_SAME))
    sums = {aspect: _falling(kinds[aspect], FALL) for aspect in ASPECTS}
    deed = sums["what"] + sums["whose"] + sums["answer"]
    circumstance = sums["where from"] + sums["when"]
    return deed + circumstance + TOGETHER * float(np.sqrt(deed * circumstance))


def _falling(weights: Iterable[float], fall: float) -> float:
    """The strongest counts in full, each further one less."""
    ranked = sorted(weights, reverse=True)
    return sum(weight / (1 + fall * place) for place, weight in enumerate(ranked))


def alert_floor(compared: int) -> float:
    """The least score that alerts, by how many (person, time slice) surprises are compared with.

    Of ``n`` none can be rarer than 1 in n + 1, so that all scores of a small cluster are small.

    >>> [round(alert_floor(n), 1) for n in (3, 36, 100, 1000)]
    [5.0, 6.8, 9.4, 9.8]
    """
    strangest = float(np.log1p(compared)) - 1
    return min(max(LEAST_FLOOR, ALERT_FACTS * strangest), ALERT_FLOOR)


def alert_threshold(past_scores: Sequence[float], days: float, floor: float) -> float:
    """The score from which an incident alerts: exceeded at most ``ALERTS_A_DAY`` in the replay.

    >>> alert_threshold([30.0, 20.0, 18.0, 5.0], 2.0, floor=9.8)
    18.0
    """
    allowed = int(ALERTS_A_DAY * days)
    ranked = sorted(past_scores, reverse=True)
    threshold = ranked[allowed] if len(ranked) > allowed else 0.0
    return max(threshold, floor)


def severity(ledger: Ledger, case: Case, alert: bool) -> Severity:
    """From what could be done with what was touched, not from how strange it was.

    Refused attempts weigh one step less. Where a grave deed was served, several tactics in one
    story and a public address that is new weigh one step more each.
    """
    level, gained, public = 0, False, False
    for atom in case.atoms:
        weight = ledger.techniques[atom.line].weight
        refused = ledger.texts["outcome"][atom.line] in ("denied", "unauthenticated", "missing")
        level = max(level, int(np.searchsorted(_STEPS, weight, side="right")) - refused)
        gained |= weight >= GRAVE and not refused
        public |= atom.aspect == "where from" and ledger.texts["scope"][atom.line] == "public"
    if gained:
        tactics = {ledger.techniques[atom.line].tactic for atom in case.atoms}
        level += int(public) + int(len(tactics) >= 4)
    return SEVERITIES[min(level if alert else min(level, 2), 3)]
