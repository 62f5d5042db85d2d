"""Is a chance of 1 in 100 one in a hundred? Calibrated p-values on data they did not see.

Each factor gives each principal a smallest p in each time slice. Calibrated on the history, they
should be uniform on the benign part of the test: one tenth of them in each tenth. They cannot be
quite: the test holds benign changes, which is why alert thresholds come from replay instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from kubewitness.activity.table import MICROSECONDS, ActivityTable, Floats, Mask, combine
from kubewitness.baseline.horizon import YOUNGEST
from kubewitness.evaluate.dataset import ATTACK, Trial
from kubewitness.evaluate.memory import Remembered
from kubewitness.surprise.calibration import calibrated
from kubewitness.surprise.factor import Factor

BINS = 20
LEVELS = (0.1, 0.01, 0.001)


class Histogram(msgspec.Struct, frozen=True):
    """``n`` smallest p-values of a factor, one for each principal and slice of the test.

    ``bins``: how many fall in each of ``BINS`` equal parts of 0…1, without those at exactly 1,
    where the factor's question did not arise. ``below``: the observed share at or below each
    of ``LEVELS``.
    """

    factor: str
    n: int
    bins: tuple[int, ...]
    below: dict[float, float]


def histograms(trial: Trial, factors: Sequence[Factor]) -> list[Histogram]:
    """One for each factor that detection has asked; none without a history to calibrate on."""
    asked = [f for f in factors if isinstance(f, Remembered) and f.table is not None]
    if trial.since is None or not asked:
        return []
    table = asked[0].table
    assert table is not None
    benign = ~_attacked(trial, table)
    return [_histogram(factor, table, trial, benign) for factor in asked]


def _histogram(factor: Remembered, table: ActivityTable, trial: Trial, benign: Mask) -> Histogram:
    assert trial.since is not None
    begin = trial.since.timestamp() * MICROSECONDS
    judged = (table.first >= begin) & benign
    first = int(np.clip((begin - table.start) // table.slice_width, 0, table.slice.max() + 1))
    reference = (table.slice >= min(YOUNGEST, first // 3)) & (table.first < begin)
    chance = calibrated(table, factor.known.nats, reference)
    smallest = _smallest(
        chance[judged],
        combine(table.ids["actor"][judged], table.slice[judged].astype(np.uint64)),
    )
    bins, _ = np.histogram(smallest[smallest < 1], bins=BINS, range=(0.0, 1.0))
    return Histogram(
        factor.name,
        len(smallest),
        tuple(int(n) for n in bins),
        {level: float((smallest <= level).mean()) if len(smallest) else 0.0 for level in LEVELS},
    )


def _smallest(chance: Floats, group: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> Floats:
    groups, inverse = np.unique(group, return_inverse=True)
    smallest = np.ones(len(groups))
    np.minimum.at(smallest, inverse, chance)
    return smallest


def _attacked(trial: Trial, table: ActivityTable) -> Mask:
    """Rows with a request of an attack; ``detect`` left the numbered rows in ``activity``."""
    attacked = np.zeros(len(table), dtype=bool)
    ids = [a for e in trial.episodes if e.label == ATTACK for a in (*e.audit_ids, *e.related_ids)]
    rows = trial.connection.execute(
        "SELECT row FROM activity WHERE list_has_any(audit_ids, ?::VARCHAR[])", [ids]
    ).fetchnumpy()["row"]
    attacked[np.asarray(rows, dtype=np.int64)] = True
    return attacked
