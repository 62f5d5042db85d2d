"""Which part of the log is a row's past: the only difference between live and retrospective.

A row in slice ``s`` is judged by the slices before ``lower[s]`` and after ``upper[s]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kubewitness.activity.table import ActivityTable, Ints

NEVER = np.int64(2**31)
# Slices of a history in which everything is new for want of a past.
YOUNGEST = 4


@dataclass(frozen=True, slots=True)
class Horizon:
    """``lower`` and ``upper``: for each slice index, the open bounds of what is left out."""

    lower: Ints
    upper: Ints

    def at(self, slices: Ints) -> tuple[Ints, Ints]:
        """The bounds for rows in these slices."""
        return self.lower[slices], self.upper[slices]

    @property
    def reach(self) -> int:
        """The longest stretch that any row leaves out (0 when it leaves out all the future)."""
        finite = self.upper < NEVER
        return int((self.upper - self.lower)[finite].max()) if finite.any() else 0


def prequential(table: ActivityTable, since: int | None, delay: int, *, ahead: int = 0) -> Horizon:
    """Only the past counts: score, then learn. Reaches ``ahead`` slices beyond the table.

    ``since`` is the slice from which on things are judged: what happens after it is learnt only
    when it is ``delay`` slices old, so that an attack of several days does not become normal on
    its second (MODELS §8). The later half of the history is judged in the same way, as its
    scores decide what alerts. Slices before that learn from all that came before them.
    """
    slices = np.arange(_number(table) + ahead, dtype=np.int64)
    lower = slices.copy()
    for begin in (replayed_from(since), since) if since is not None else ():
        judged = slices >= begin
        lower[judged] = np.maximum(begin, slices[judged] - delay)
    return Horizon(lower, np.full_like(slices, NEVER))


def replayed_from(since: int) -> int:
    """The slice from which on the history is replayed, to see what would have alerted."""
    return since // 2


def retrospective(table: ActivityTable, guard: int) -> Horizon:
    """The whole log but the row's own neighbourhood of ``guard`` slices to either side."""
    slices = np.arange(_number(table), dtype=np.int64)
    return Horizon(slices - guard, slices + guard)


def guard_for(table: ActivityTable) -> int:
    """How many slices to either side of a row of ``table`` an episode may reach."""
    return guard_of(_number(table))


def guard_of(slices: int) -> int:
    """How many slices to either side an episode may reach in a log of so many: up to a week, at
    most a quarter of the log on each side, or nothing would be left to judge by."""
    return int(np.clip(slices // 4, 1, 5))


def _number(table: ActivityTable) -> int:
    return int(table.slice.max()) + 1 if len(table) else 0
