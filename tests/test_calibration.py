"""From surprises to chances: in (0, 1], monotone, and as uniform as exchangeable days are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities import loaded
from kubewitness.activity.table import Floats, Ints, Mask
from kubewitness.activity.technique import GRAVE
from kubewitness.surprise.calibration import MINIMUM_NATS, Calibration, calibrated

NATS = st.lists(st.floats(0, 100), max_size=40).map(lambda values: np.array(values, dtype=float))


def uniformity(p: Floats) -> float:
    """The Kolmogorov–Smirnov distance of ``p`` from the uniform distribution."""
    ordered = np.sort(p)
    steps = np.arange(len(p) + 1) / len(p)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def same(one: Calibration, other: Calibration) -> bool:
    return bool(
        np.array_equal(one.maxima, other.maxima) and np.isclose(one.scale, other.scale, rtol=1e-9)
    )


@given(NATS, NATS)
def test_a_chance_is_a_probability_and_falls_with_surprise(past: Floats, asked: Floats) -> None:
    chance = Calibration.of(past).chance(np.sort(asked))
    assert ((chance > 0) & (chance <= 1)).all()
    assert (np.diff(chance) <= 0).all()


@given(NATS)
def test_beyond_everything_seen_the_chance_falls_strictly(past: Floats) -> None:
    calibration = Calibration.of(past)
    top = float(past.max()) if len(past) else 0.0
    chance = calibration.chance(top + np.array([0.0, 0.5, 1.0, 5.0, 20.0]))
    assert (np.diff(chance) < 0).all()
    assert chance[1] < 1 / (len(past) + 1)
    assert calibration.scale > 0


def test_an_empty_past_says_little() -> None:
    chance = Calibration.of(np.array([])).chance(np.array([0.0, 1.0, 2.0]))
    assert chance[0] == 1.0
    assert (np.diff(chance) < 0).all()
    nothing = Calibration.learn(np.array([]), np.array([], np.uint64), np.array([], np.int64))
    assert len(nothing.maxima) == 0


@pytest.mark.parametrize("seed", range(5))
def test_chances_of_exchangeable_days_are_uniform(seed: int) -> None:
    """3,000 principal-days of the past and 1,000 of the same kind afterwards."""
    random = np.random.default_rng(seed)
    calibration = Calibration.of(random.exponential(2.0, 3000))
    p = calibration.chance(random.exponential(2.0, 1000))
    # 1.63/√n is exceeded one time in a hundred for a known distribution; the past is a sample too.
    assert uniformity(p) < 1.63 * np.sqrt(1 / 1000 + 1 / 3000)


@pytest.mark.parametrize("seed", range(5))
def test_days_without_the_question_do_not_make_others_improbable(seed: int) -> None:
    """Most days show nothing: ties at 0 get p = 1, the rest stays valid at every level."""
    random = np.random.default_rng(seed)
    days = random.exponential(2.0, 4000) * (random.random(4000) < 0.3)
    p = Calibration.of(days[:3000]).chance(days[3000:])
    assert (p[days[3000:] == 0] == 1).all()
    for level in (0.01, 0.05, 0.1, 0.3):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 1000)


def _rows(seed: int) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.uint64]], Ints]:
    random = np.random.default_rng(seed)
    return (
        random.exponential(1.0, 300) * (random.random(300) < 0.5),
        random.integers(0, 6, 300).astype(np.uint64),
        random.integers(0, 10, 300),
    )


def test_only_the_largest_surprise_of_a_principal_and_slice_counts() -> None:
    nats, actor, slices = _rows(1)
    largest: dict[tuple[int, int], float] = {}
    for value, who, when in zip(nats.tolist(), actor.tolist(), slices.tolist(), strict=True):
        largest[who, when] = max(value, largest.get((who, when), 0.0))
    assert Calibration.learn(nats, actor, slices).maxima.tolist() == sorted(largest.values())


@pytest.mark.parametrize("seed", range(5))
def test_days_learnt_apart_are_learnt_at_once(seed: int) -> None:
    nats, actor, slices = _rows(seed)

    def learn(rows: Mask) -> Calibration:
        return Calibration.learn(nats[rows], actor[rows], slices[rows])

    early, middle, late = slices < 3, (slices >= 3) & (slices < 6), slices >= 6
    whole = learn(np.ones(300, dtype=bool))
    assert same(learn(early).merge(learn(middle)).merge(learn(late)), whole)
    assert same(learn(late).merge(learn(early).merge(learn(middle))), whole)
    assert same(whole.merge(learn(np.zeros(300, dtype=bool))), whole)


def test_each_class_is_measured_by_itself_and_by_the_reference_alone() -> None:
    """And within a class what is grave apart from the rest, on all days of the class."""
    nats, actor, slices = _rows(2)
    nats = nats * 2
    classes = (actor % np.uint64(2)).astype(np.uint64)
    grave = np.random.default_rng(7).random(300) < 0.3
    table = replace(
        loaded([]), ids={"class": classes, "actor": actor}, slice=slices, first=slices,
        importance=np.where(grave, GRAVE, GRAVE / 2),
    )  # fmt: skip
    reference = slices < 5
    chance = calibrated(table, nats, reference)
    assert (chance[nats <= MINIMUM_NATS] == 1).all()
    for kind in (0, 1):
        learnt = (classes == kind) & reference
        for stratum in (grave, ~grave):
            past = np.where(stratum, nats, 0.0)[learnt]
            asked = (classes == kind) & stratum & (nats > MINIMUM_NATS)
            expected = Calibration.learn(past, actor[learnt], slices[learnt]).chance(nats[asked])
            assert asked.any()
            assert np.array_equal(chance[asked], expected)
