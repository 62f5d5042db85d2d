"""How much an incident weighs, how severe it is, and whether anybody should be woken.

**Models set rank, knowledge sets severity.** The score adds the atoms of each aspect with
harmonically falling weight (the tenth new secret says less than the first), and what is strange
both in what was done and in where from or when counts more than either alone. Whether it alerts
is decided by replay: what would have alerted on the cluster's own past at most once a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kubewitness.activity.table import Ints
from kubewitness.incidents.ledger import ASPECTS, Ledger
from kubewitness.incidents.model import SEVERITIES, Severity
from kubewitness.surprise.factor import Aspect

# The second atom of an aspect counts 1/(1 + FALL), the third 1/(1 + 2·FALL), …
FALL = 0.5
TOGETHER = 0.5
# Below this nothing is worth reporting: one fairly unusual ordinary act.
REPORT_FROM = 4.0
ALERTS_A_DAY = 1.0
# With hardly any past to replay, an alert needs as much as a few independent strong surprises.
ALERT_FLOOR = 12.0


@dataclass(frozen=True, slots=True)
class Atom:
    """The strongest line of one atom: ``weight`` in nats after weighing, ``line`` of the ledger."""

    aspect: Aspect
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
    """Score a group of lines; ``opened`` is the event time (µs) at which it became reportable."""
    best: dict[tuple[Aspect, int], Atom] = {}
    score, opened = 0.0, int(ledger.first[lines[0]])
    for line in lines:
        for aspect in ASPECTS:
            weight = float(ledger.weight[aspect][line])
            atom = (aspect, int(ledger.atom[aspect][line]))
            if weight > 0 and (atom not in best or weight > best[atom].weight):
                best[atom] = Atom(aspect, weight, int(line))
        if score < REPORT_FROM:
            score = _total(best.values())
            opened = int(ledger.first[line])
    atoms = tuple(sorted(best.values(), key=lambda atom: (-atom.weight, atom.line)))
    return Case(lines, _total(atoms), atoms, opened)


def _total(atoms: Iterable[Atom]) -> float:
    known = list(atoms)
    sums: dict[str, float] = {}
    for aspect in ASPECTS:
        weights = sorted(
            (atom.weight for atom in known if atom.aspect == aspect),
            reverse=True,
        )
        sums[aspect] = sum(weight / (1 + FALL * place) for place, weight in enumerate(weights))
    deed = sums["what"] + sums["whose"] + sums["answer"]
    circumstance = sums["where from"] + sums["when"]
    return deed + circumstance + TOGETHER * float(np.sqrt(deed * circumstance))


def alert_threshold(past_scores: Sequence[float], days: float) -> float:
    """The score from which an incident alerts: exceeded at most ``ALERTS_A_DAY`` in the replay.

    >>> alert_threshold([30.0, 20.0, 18.0, 5.0], 2.0)
    18.0
    """
    allowed = int(ALERTS_A_DAY * days)
    ranked = sorted(past_scores, reverse=True)
    threshold = ranked[allowed] if len(ranked) > allowed else 0.0
    return max(threshold, ALERT_FLOOR)


def severity(ledger: Ledger, case: Case, alert: bool) -> Severity:
    """From what could be done with what was touched, not from how strange it was.

    Refused attempts weigh one step less; several tactics in one story, or a sensitive deed from
    a public address that is new, one more.
    """
    strongest = 0.0
    public = False
    for atom in case.atoms:
        weight = ledger.techniques[atom.line].weight
        if ledger.texts["outcome"][atom.line] in ("denied", "unauthenticated", "missing"):
            weight -= 0.4
        strongest = max(strongest, weight)
        public |= atom.aspect == "where from" and ledger.texts["scope"][atom.line] == "public"
    tactics = {ledger.techniques[atom.line].tactic for atom in case.atoms}
    level = int(np.searchsorted([1.1, 1.5], strongest, side="right"))
    level += int(public and strongest >= 1.4) + int(len(tactics) >= 4)
    return SEVERITIES[min(level if alert else min(level, 2), 3)]
