"""Mergeable counts: on how many slices was a value seen in a context?

The state is a set of distinct (context, value, slice) triples. Sets merge by union, in any order
and any number of times, so chunks, days, processes and machines all arrive at the same counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kubewitness.activity.table import Ids, Ints, combine
from kubewitness.baseline.horizon import NEVER, Horizon

# Slices are packed below a dense key in one integer; 2^21 slices of five minutes are 20 years.
_SLICES = np.int64(2**21)


class History(NamedTuple):
    """What a row's past says, one entry a row, all counts of distinct slices.

    ``seen``: slices with this value in this context. ``active``: slices with this context.
    ``singles``: values that this context showed on one slice only (the Good–Turing measure of
    how often it does something new).
    """

    seen: Ints
    active: Ints
    singles: Ints


@dataclass(frozen=True, slots=True)
class Counts:
    """Distinct triples, sorted. Merging is commutative, associative and idempotent."""

    context: Ids
    value: Ids
    slice: Ints

    @classmethod
    def learn(cls, context: Ids, value: Ids, slices: Ints) -> Counts:
        """Count rows; repeated triples count once."""
        order = np.lexsort((slices, value, context))
        context, value, slices = context[order], value[order], slices[order]
        fresh = np.ones(len(context), dtype=bool)
        fresh[1:] = (
            (context[1:] != context[:-1]) | (value[1:] != value[:-1]) | (slices[1:] != slices[:-1])
        )
        return cls(context[fresh], value[fresh], slices[fresh])

    def merge(self, other: Counts) -> Counts:
        """The union of both."""
        return Counts.learn(
            np.concatenate([self.context, other.context]),
            np.concatenate([self.value, other.value]),
            np.concatenate([self.slice, other.slice]),
        )

    def history(self, context: Ids, value: Ids, slices: Ints, horizon: Horizon) -> History:
        """The past of rows ``(context, value)`` in ``slices``."""
        return Past(self).history(context, value, slices, horizon)

    def habits(self, group: Ids) -> Habits:
        """Activity and exploration of whole groups of contexts; ``group`` parallels ``context``
        and is the same for all triples of a context."""
        return Habits(self, group)


class Past:
    """Counts made ready to be asked, any number of times."""

    def __init__(self, counts: Counts) -> None:
        self._habits = counts.habits(counts.context)
        self._seen = Occasions(combine(counts.context, counts.value), counts.slice)

    def history(self, context: Ids, value: Ids, slices: Ints, horizon: Horizon) -> History:
        """The past of rows ``(context, value)`` in ``slices``."""
        lower, upper = horizon.at(slices)
        active, singles = self._habits.outside(context, lower, upper)
        return History(self._seen.outside(combine(context, value), lower, upper), active, singles)


class Habits:
    """How often contexts were active, and how often they showed something for the only time.

    Before a point in time a value is single when its first slice has passed and its second has
    not; for a window left out of a whole log, the values that are single in the whole log are
    taken.
    """

    def __init__(self, counts: Counts, group: Ids) -> None:
        context, value, slices = counts.context, counts.value, counts.slice
        edge = np.ones(len(context), dtype=bool)
        edge[1:] = (context[1:] != context[:-1]) | (value[1:] != value[:-1])
        first = np.flatnonzero(edge)
        second = first + 1
        repeated = np.zeros(len(first), dtype=bool)
        inside = second < len(edge)
        repeated[inside] = ~edge[second[inside]]
        single = first[~repeated]
        second = second[repeated]
        _, active = np.unique(combine(context, slices.astype(np.uint64)), return_index=True)
        self._active = Occasions(group[active], slices[active], distinct=False)
        self._firsts = Occasions(group[first], slices[first], distinct=False)
        self._seconds = Occasions(group[second], slices[second], distinct=False)
        self._alone = Occasions(group[single], slices[single], distinct=False)

    def outside(self, key: Ids, lower: Ints, upper: Ints) -> tuple[Ints, Ints]:
        """Active slices of all contexts in group ``key``, and their single values."""
        active = self._active.outside(key, lower, upper)
        if (upper >= NEVER).all():
            before = self._firsts.outside(key, lower, upper)
            return active, before - self._seconds.outside(key, lower, upper)
        return active, self._alone.outside(key, lower, upper)


class Occasions:
    """On which slices each key occurred; counts those outside a window by binary search."""

    def __init__(self, key: Ids, slices: Ints, *, distinct: bool = True) -> None:
        self.keys, inverse = np.unique(key, return_inverse=True)
        packed = inverse.astype(np.int64) * _SLICES + slices
        self.packed = np.unique(packed) if distinct else np.sort(packed)
        bounds = np.arange(len(self.keys) + 1, dtype=np.int64) * _SLICES
        self.begin = np.searchsorted(self.packed, bounds)

    def find(self, key: Ids) -> tuple[Ints, NDArrayBool]:
        """The dense index of each key, and whether it is known at all."""
        if not len(self.keys):
            return np.zeros(len(key), dtype=np.int64), np.zeros(len(key), dtype=bool)
        index = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1).astype(np.int64)
        return index, self.keys[index] == key

    def outside(self, key: Ids, lower: Ints, upper: Ints) -> Ints:
        """How many occasions of ``key`` lie before ``lower`` or after ``upper``."""
        index, known = self.find(key)
        if not len(self.keys):
            return np.zeros(len(key), dtype=np.int64)
        base = index * _SLICES
        low = np.searchsorted(self.packed, base + np.clip(lower, 0, _SLICES - 1))
        high = np.searchsorted(self.packed, base + np.clip(upper, -1, _SLICES - 1), side="right")
        count = (low - self.begin[index]) + (self.begin[index + 1] - np.maximum(high, low))
        return np.where(known, count, 0).astype(np.int64)


NDArrayBool = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
