"""Factors that remember their answers, so that leaving one out does not ask all others again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from kubewitness.activity.table import ActivityTable
from kubewitness.baseline.horizon import Horizon
from kubewitness.surprise.factor import Factor, Learnt, Surprise


class Remembered:
    """A factor that answers one trial once.

    A factor is a pure function of a table and a horizon, and within a trial both are always the
    same: only the number of rows is compared. ``table`` is what it was asked about, ``known``
    what it answered.
    """

    def __init__(self, factor: Factor) -> None:
        self._factor = factor
        self.table: ActivityTable | None = None
        self._learnt: _Known | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factor, name)

    @property
    def known(self) -> Surprise:
        """The answer; it must have been asked for."""
        assert self._learnt is not None
        return self._learnt.surprise

    def learn(self, table: ActivityTable, horizon: Horizon) -> Learnt:
        """See ``Factor.learn``: what was learnt answers about ``table`` only."""
        if self._learnt is None or self.table is None or len(self.table) != len(table):
            self.table = table
            self._learnt = _Known(self._factor.learn(table, horizon).answer(table))
        return self._learnt


@dataclass(frozen=True, slots=True)
class _Known:
    surprise: Surprise

    def answer(self, table: ActivityTable) -> Surprise:
        """See ``Learnt.answer``."""
        return self.surprise


def remembered(factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """The same factors, each with a memory; for one trial only."""
    return tuple(cast(Factor, Remembered(factor)) for factor in factors)
