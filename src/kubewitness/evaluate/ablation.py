"""What each part is worth: detection with one factor, or one whole aspect, left out.

A component whose removal costs no recall on any dataset should be removed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kubewitness.evaluate.dataset import Trial
from kubewitness.evaluate.judgement import Judgement, judge
from kubewitness.incidents.detection import detect
from kubewitness.surprise.factor import Factor


class Without(msgspec.Struct, frozen=True):
    """How detection does without ``name``, which is a ``factor`` or an ``aspect``."""

    kind: str
    name: str
    judgement: Judgement


def ablate(trial: Trial, factors: Sequence[Factor]) -> list[Without]:
    """Leave out each factor, then each aspect that has several.

    Give ``memory.remembered`` factors, or each is computed once for every other.
    """
    aspects = list(dict.fromkeys(factor.aspect for factor in factors))
    left_out = [
        ("factor", factor.name, [f for f in factors if f is not factor]) for factor in factors
    ]
    left_out += [
        ("aspect", aspect, [factor for factor in factors if factor.aspect != aspect])
        for aspect in aspects
        if sum(factor.aspect == aspect for factor in factors) > 1
    ]
    return [Without(kind, name, measured(trial, rest)) for kind, name, rest in left_out if rest]


def measured(trial: Trial, factors: Sequence[Factor]) -> Judgement:
    """Detection by these factors, judged."""
    detection = detect(trial.connection, trial.name, since=trial.since, factors=factors)
    return judge(detection.incidents, trial.episodes, trial.since, trial.until)
