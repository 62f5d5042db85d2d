"""All factors over all rows: what is left is the evidence, a small part of the activity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from kubewitness.activity.table import ActivityTable, Floats, Ids, Ints, Mask
from kubewitness.baseline.fleet import NOTHING, FleetPrior
from kubewitness.baseline.horizon import Horizon
from kubewitness.surprise.calibration import Calibrations
from kubewitness.surprise.factor import Factor, Learnt, Surprise
from kubewitness.surprise.registry import FACTORS

# ev = min(−ln p, CLIP) − 1 (MODELS §5): what happens to a third of all on a normal day is no
# evidence, and no single fact outweighs everything else.
CLIP = 7.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What one factor found: the rows of ``activity`` with evidence and what is known of each.

    ``weight``: evidence in nats, > 0. ``chance``: calibrated p. The rest as in ``Surprise``.
    """

    factor: Factor
    rows: Ints
    weight: Floats
    chance: Floats
    atom: Ids
    seen: Ints
    active: Ints
    peers: Ints
    members: Ints

    def followed_by(self, later: Findings) -> Findings:
        """Both as one, the entries of ``later`` after these."""
        arrays = (
            np.concatenate([getattr(self, field.name), getattr(later, field.name)])
            for field in fields(self)[1:]
        )
        return Findings(self.factor, *arrays)


@dataclass(frozen=True, slots=True)
class Scale:
    """One factor, what it has learnt, and how often such surprises are seen."""

    factor: Factor
    learnt: Learnt
    calibrations: Calibrations


class Scales:
    """All factors, ready to score the table that they have learnt or later rows of the same log.

    What ``fleet`` expects is expected, but makes nothing else stranger: calibration does not
    know of it.
    """

    def __init__(
        self,
        table: ActivityTable,
        horizon: Horizon,
        reference: Mask,
        factors: Sequence[Factor] = FACTORS,
        fleet: FleetPrior = NOTHING,
    ) -> None:
        """Learn ``table``; calibrate on its rows in ``reference``."""
        self._horizon = horizon
        self._factors = tuple(factors)
        self._expected = {factor.name: fleet.expected(table, factor.columns) for factor in factors}
        self._scales: list[Scale] = []
        self.findings = self._find(table, self._learn(table, reference))

    def find(self, table: ActivityTable) -> list[Findings]:
        """What is evidence in rows that come after those that were learnt."""
        answers = ((scale, scale.learnt.answer(table)) for scale in self._scales)
        return self._find(table, answers)

    def _learn(self, table: ActivityTable, reference: Mask) -> Iterator[tuple[Scale, Surprise]]:
        # Who comes from a strange place need not be the component whose name it bears, so that is
        # asked first.
        for factor in sorted(self._factors, key=lambda factor: factor.aspect != "where from"):
            learnt = factor.learn(table, self._horizon)
            surprise = learnt.answer(table)
            calibrations = Calibrations.learn(table, surprise.nats, reference)
            self._scales.append(Scale(factor, learnt, calibrations))
            yield self._scales[-1], surprise

    def _find(
        self, table: ActivityTable, answers: Iterable[tuple[Scale, Surprise]]
    ) -> list[Findings]:
        found: dict[str, Findings] = {}
        strange = np.zeros(len(table), dtype=bool)
        for scale, surprise in answers:
            factor = scale.factor
            chance = scale.calibrations.chance(table, surprise.nats)
            odd = np.flatnonzero((_weight(chance) > 0) & ~strange)
            floor = self._expected[factor.name].floor(table, odd, self._horizon)
            chance[odd] = np.maximum(chance[odd], floor)
            weight = _weight(chance)
            rows = np.flatnonzero(weight > 0)
            if factor.aspect == "where from":
                strange[rows] = True
            found[factor.name] = Findings(
                factor,
                rows + table.offset,
                weight[rows],
                chance[rows],
                surprise.atom[rows],
                surprise.seen[rows],
                surprise.active[rows],
                surprise.peers[rows],
                surprise.members[rows],
            )
        return [found[factor.name] for factor in self._factors]


def find(
    table: ActivityTable,
    horizon: Horizon,
    reference: Mask,
    factors: Sequence[Factor] = FACTORS,
    fleet: FleetPrior = NOTHING,
) -> list[Findings]:
    """Score ``table`` by every factor; see ``Scales``."""
    return Scales(table, horizon, reference, factors, fleet).findings


def _weight(chance: Floats) -> Floats:
    weight: Floats = np.minimum(-np.log(chance), CLIP) - 1
    return weight
