"""From a surprise to a chance: how often does anybody of this class show one this large in a day?

Per factor and class the empirical distribution of the largest surprise of each principal and
slice: p = (1 + #{maxima ≥ s}) / (n + 1). Theoretical probabilities fail under benign bursts;
what a cluster's own past showed does not (MODELS §1). Beyond the largest maximum the tail is
continued exponentially (peaks over threshold; Siffer et al., "Anomaly detection in streams with
extreme value theory", KDD 2017), so that stranger things still rank above strange ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kubewitness.activity.table import ActivityTable, Floats, Ids, Ints, Mask, combine

# The tail is fitted to this share of the non-zero maxima, and to at least so many.
_TAIL_SHARE = 0.1
_TAIL_COUNT = 3
_MINIMUM_SCALE = 0.5
# What every other row shows is not surprising, whatever its rank among unsurprising rows.
MINIMUM_NATS = 0.7


@dataclass(frozen=True, slots=True)
class Calibration:
    """``maxima``: sorted, one for each principal and slice of a class, 0 where the question
    did not arise. Two calibrations merge by concatenating them."""

    maxima: Floats
    scale: float

    @classmethod
    def learn(cls, nats: Floats, actor: Ids, slices: Ints) -> Calibration:
        """From rows to the maxima of (actor, slice)."""
        _, group = np.unique(combine(actor, slices.astype(np.uint64)), return_inverse=True)
        maxima = np.zeros(int(group.max()) + 1 if len(group) else 0)
        np.maximum.at(maxima, group, nats)
        return cls.of(maxima)

    @classmethod
    def of(cls, maxima: Floats) -> Calibration:
        """With the scale of the exponential tail."""
        ordered = np.sort(maxima)
        positive = ordered[ordered > 0]
        tail = positive[-max(_TAIL_COUNT, int(len(positive) * _TAIL_SHARE)) :]
        mean = float((tail - tail[0]).mean()) if len(tail) > 1 else 1.0
        return cls(ordered, max(_MINIMUM_SCALE, mean))

    def merge(self, other: Calibration) -> Calibration:
        """Both pasts together."""
        return Calibration.of(np.concatenate([self.maxima, other.maxima]))

    def chance(self, nats: Floats) -> Floats:
        """The calibrated p of each surprise, in (0, 1]."""
        n = len(self.maxima)
        above = n - np.searchsorted(self.maxima, nats, side="left")
        p = (1 + above) / (n + 1)
        top = self.maxima[-1] if n else 0.0
        return np.where(nats > top, p * np.exp(-np.maximum(nats - top, 0) / self.scale), p)


@dataclass(frozen=True, slots=True)
class Calibrations:
    """One calibration for each class, and within a class one for what matters (``grave``) and one
    for the rest: somebody tries something new every day, but hardly ever anything grave."""

    of: dict[tuple[int, bool], Calibration]

    @classmethod
    def learn(cls, table: ActivityTable, nats: Floats, reference: Mask) -> Calibrations:
        """From the surprises of the rows in ``reference``; whom they do not show is calibrated by
        nothing."""
        of: dict[tuple[int, bool], Calibration] = {}
        classes = table.ids["class"]
        for kind in np.unique(classes):
            learnt = np.flatnonzero((classes == kind) & reference)
            actor, slices = table.ids["actor"][learnt], table.slice[learnt]
            for grave in (True, False):
                shown = np.where(table.grave[learnt] == grave, nats[learnt], 0.0)
                of[int(kind), grave] = Calibration.learn(shown, actor, slices)
        return cls(of)

    def chance(self, table: ActivityTable, nats: Floats) -> Floats:
        """The chance of each row's surprise, 1 where it is not asked for."""
        chance = np.ones(len(table))
        classes = table.ids["class"]
        for kind in np.unique(classes):
            for grave in (True, False):
                alike = (classes == kind) & (table.grave == grave)
                asked = np.flatnonzero(alike & (nats > MINIMUM_NATS))
                if len(asked):
                    known = self.of.get((int(kind), grave), _NOTHING)
                    chance[asked] = known.chance(nats[asked])
        return chance


_NOTHING = Calibration.of(np.zeros(0))


def calibrated(table: ActivityTable, nats: Floats, reference: Mask) -> Floats:
    """The chance of each row's surprise, by those of the rows in ``reference``."""
    return Calibrations.learn(table, nats, reference).chance(table, nats)
