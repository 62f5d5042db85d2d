"""The whole measurement of one dataset: detection, baselines, ablation, calibration."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from kubewitness.evaluate.ablation import Without, ablate, measured
from kubewitness.evaluate.baselines import BASELINES, Baseline
from kubewitness.evaluate.calibration import Histogram, histograms
from kubewitness.evaluate.dataset import Trial
from kubewitness.evaluate.judgement import Judgement, judge
from kubewitness.evaluate.memory import remembered
from kubewitness.surprise.registry import FACTORS

PRODUCT = "kubewitness"


class Measured(msgspec.Struct, frozen=True):
    """A detector and its judgements, one a seed."""

    method: str
    judgements: tuple[Judgement, ...]

    def values(self, figure: Callable[[Judgement], float | None]) -> list[float]:
        """A figure of each seed that has it."""
        return [value for j in self.judgements if (value := figure(j)) is not None]

    def mean(self, figure: Callable[[Judgement], float | None]) -> float | None:
        """The figure averaged over the seeds that have it."""
        known = self.values(figure)
        return statistics.mean(known) if known else None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured on one dataset. ``methods``: the product first, then the baselines.

    ``notes`` say what was not measured, and why.
    """

    dataset: str
    events: int
    activities: int
    attacks: int
    benign_changes: int
    misconfigurations: int
    since: datetime | None
    until: datetime
    days: float
    methods: tuple[Measured, ...]
    ablation: tuple[Without, ...]
    calibration: tuple[Histogram, ...]
    notes: tuple[str, ...]

    @property
    def product(self) -> Judgement:
        """Detection as it ships."""
        return self.methods[0].judgements[0]


def evaluate(
    trial: Trial,
    *,
    baselines: Sequence[Baseline] = BASELINES,
    ablation: bool = False,
    progress: Callable[[str], None] = lambda what: None,
) -> Evaluation:
    """Measure; ``progress`` is told what is done next."""
    factors = remembered(FACTORS)
    notes: list[str] = []
    progress("detection")
    methods = [Measured(PRODUCT, (measured(trial, factors),))]
    calibration = histograms(trial, factors)
    left_out: list[Without] = []
    if ablation:
        progress("ablation")
        left_out = ablate(trial, factors)
    for baseline in baselines:
        progress(baseline.name)
        try:
            methods.append(_measure(trial, baseline))
        except ImportError as error:
            notes.append(
                f"{baseline.name}: not measured, {error.name or 'a package'} is not installed"
                " (pip install 'kubewitness[evaluate]')"
            )
    judgement = methods[0].judgements[0]
    labels = [episode.label for episode in trial.episodes]
    return Evaluation(
        dataset=trial.name,
        events=trial.events,
        activities=_count(trial),
        attacks=judgement.attacks,
        benign_changes=labels.count("benign_change"),
        misconfigurations=labels.count("misconfiguration"),
        since=trial.since,
        until=trial.until,
        days=(trial.until - (trial.since or trial.first)) / timedelta(days=1),
        methods=tuple(methods),
        ablation=tuple(left_out),
        calibration=tuple(calibration),
        notes=tuple(notes),
    )


def _measure(trial: Trial, baseline: Baseline) -> Measured:
    return Measured(
        baseline.name,
        tuple(
            judge(baseline.detect(trial, seed), trial.episodes, trial.since, trial.until)
            for seed in range(baseline.seeds)
        ),
    )


def _count(trial: Trial) -> int:
    row = trial.connection.execute("SELECT count(*) FROM activities").fetchone()
    return int(row[0]) if row else 0
