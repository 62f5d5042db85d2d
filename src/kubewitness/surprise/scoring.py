"""All factors over all rows: what is left is the evidence, a small part of the activity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kubewitness.activity.table import ActivityTable, Floats, Ids, Ints, Mask
from kubewitness.baseline.fleet import NOTHING, FleetPrior
from kubewitness.baseline.horizon import Horizon
from kubewitness.surprise.calibration import calibrated
from kubewitness.surprise.factor import Factor
from kubewitness.surprise.registry import FACTORS

# ev = min(−ln p, CLIP) − 1 (MODELS §5): what happens to a third of all on a normal day is no
# evidence, and no single fact outweighs everything else.
CLIP = 7.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What one factor found: the rows with evidence and what is known of each.

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


def find(
    table: ActivityTable,
    horizon: Horizon,
    reference: Mask,
    factors: Sequence[Factor] = FACTORS,
    fleet: FleetPrior = NOTHING,
) -> list[Findings]:
    """Score ``table`` by every factor; calibrate on the rows in ``reference``.

    What ``fleet`` expects is expected, but makes nothing else stranger: calibration does not
    know of it.
    """
    found: dict[str, Findings] = {}
    strange = np.zeros(len(table), dtype=bool)
    # Who comes from a strange place need not be the component whose name it bears, so that is
    # asked first.
    for factor in sorted(factors, key=lambda factor: factor.aspect != "where from"):
        surprise = factor.score(table, horizon)
        chance = calibrated(table, surprise.nats, reference)
        odd = np.flatnonzero((_weight(chance) > 0) & ~strange)
        floor = fleet.floor(table, odd, factor.columns, horizon)
        chance[odd] = np.maximum(chance[odd], floor)
        weight = _weight(chance)
        rows = np.flatnonzero(weight > 0)
        if factor.aspect == "where from":
            strange[rows] = True
        found[factor.name] = Findings(
            factor,
            rows,
            weight[rows],
            chance[rows],
            surprise.atom[rows],
            surprise.seen[rows],
            surprise.active[rows],
            surprise.peers[rows],
            surprise.members[rows],
        )
    return [found[factor.name] for factor in factors]


def _weight(chance: Floats) -> Floats:
    weight: Floats = np.minimum(-np.log(chance), CLIP) - 1
    return weight
