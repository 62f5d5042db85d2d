"""Leaving out factors, and whether their chances mean what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from evaluate_fixtures import small
from kubewitness.activity.table import load
from kubewitness.baseline.horizon import retrospective
from kubewitness.evaluate.ablation import ablate, measured
from kubewitness.evaluate.calibration import BINS, LEVELS, histograms
from kubewitness.evaluate.dataset import Trial, read_dataset, trial
from kubewitness.evaluate.memory import Remembered, remembered
from kubewitness.surprise.registry import FACTORS

WHAT = [factor for factor in FACTORS if factor.aspect == "what"]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with trial(read_dataset(small(tmp_path_factory.mktemp("data") / "small"))) as prepared:
        yield prepared


def test_detection_finds_the_theft_and_is_blind_without_its_factors(ready: Trial) -> None:
    assert measured(ready, FACTORS).recall[5] == 1.0
    blind = [factor for factor in FACTORS if factor.name in {"impersonation", "refusal"}]
    assert measured(ready, blind).recall[5] == 0.0


def test_ablation_leaves_out_each_factor_and_each_aspect_of_several(ready: Trial) -> None:
    few = [WHAT[0], WHAT[1], *(factor for factor in FACTORS if factor.name == "refusal")]
    found = ablate(ready, remembered(few))
    assert [(one.kind, one.name) for one in found] == [
        *(("factor", factor.name) for factor in few),
        ("aspect", "what"),
    ]
    assert found[-1].judgement.recall[5] == 0.0, "only refusals are left, and nobody was refused"


def test_a_remembered_factor_answers_as_the_factor_does(ready: Trial) -> None:
    table = load(ready.connection, ready.name)
    horizon = retrospective(table, 1)
    for factor, memory in zip(FACTORS, remembered(FACTORS), strict=True):
        assert (memory.name, memory.aspect, memory.columns) == (
            factor.name,
            factor.aspect,
            factor.columns,
        )
        answer = memory.learn(table, horizon).answer(table)
        told = factor.learn(table, horizon).answer(table)
        assert answer.nats.tolist() == told.nats.tolist()
        assert memory.learn(table, horizon).answer(table) is answer


def test_nothing_is_known_before_it_was_asked(ready: Trial) -> None:
    with pytest.raises(AssertionError):
        Remembered(FACTORS[0]).known  # noqa: B018
    assert histograms(ready, remembered(FACTORS)) == []


def test_histograms_count_each_principal_and_slice_once(ready: Trial) -> None:
    factors = remembered(FACTORS)
    measured(ready, factors)
    found = histograms(ready, factors)
    assert [one.factor for one in found] == [factor.name for factor in FACTORS]
    for one in found:
        # Three people and a robot on two days; the theft itself is taken out.
        assert one.n == 8
        assert len(one.bins) == BINS
        assert sum(one.bins) <= one.n
        assert list(one.below) == list(LEVELS)
        assert one.below[0.1] == 0.0, f"{one.factor}: nothing benign is new in the test"


def test_without_history_there_is_nothing_to_verify(ready: Trial) -> None:
    whole = replace(ready, since=None)
    factors = remembered(FACTORS)
    measured(whole, factors)
    assert histograms(whole, factors) == []
