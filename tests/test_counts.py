"""Counts, occasions and peers against brute force in plain Python, under both horizons."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubewitness.activity.table import DAY, ActivityTable, Ids, Ints
from kubewitness.baseline.counts import Counts, Occasions
from kubewitness.baseline.horizon import (
    NEVER,
    Horizon,
    guard_for,
    prequential,
    retrospective,
)
from kubewitness.baseline.peers import Peers, share

SLICES = 9


class Line(NamedTuple):
    """A row as the counts see it. ``group`` and ``context`` belong to the principal."""

    principal: int
    value: int
    slice: int

    @property
    def group(self) -> int:
        return self.principal % 2


LINES = st.lists(
    st.builds(Line, st.integers(0, 4), st.integers(0, 3), st.integers(0, SLICES - 1)), max_size=30
)
HORIZONS = st.sampled_from(["prequential", "judged", "retrospective 1", "retrospective 2"])


def ids(values: list[int]) -> Ids:
    return np.array(values, dtype=np.uint64)


def ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def empty_table(slices: list[int]) -> ActivityTable:
    """A table of which only the slices matter."""
    none = ints([0] * len(slices))
    return ActivityTable(
        {}, first=none, last=none, slice=ints(slices), requests=none,
        importance=np.ones(len(slices)),
        slice_width=DAY, start=0, salt=0,
    )  # fmt: skip


def horizon_of(kind: str) -> Horizon:
    table = empty_table(list(range(SLICES)))
    if kind == "prequential":
        return prequential(table, None, 7)
    if kind == "judged":
        return prequential(table, 3, 2)
    return retrospective(table, int(kind[-1]))


def is_past(horizon: Horizon) -> Callable[[int, int], bool]:
    """Whether slice ``other`` belongs to the past of a row in slice ``own``."""
    return lambda own, other: bool(other < horizon.lower[own] or other > horizon.upper[own])


def learnt(lines: list[Line]) -> Counts:
    return Counts.learn(
        ids([line.principal for line in lines]),
        ids([line.value for line in lines]),
        ints([line.slice for line in lines]),
    )


def triples(counts: Counts) -> list[tuple[int, ...]]:
    return list(
        zip(counts.context.tolist(), counts.value.tolist(), counts.slice.tolist(), strict=True)
    )


@given(LINES, LINES, HORIZONS)
def test_history_is_what_brute_force_counts(
    lines: list[Line], asked: list[Line], kind: str
) -> None:
    horizon = horizon_of(kind)
    past = is_past(horizon)
    found = learnt(lines).history(
        ids([line.principal for line in asked]),
        ids([line.value for line in asked]),
        ints([line.slice for line in asked]),
        horizon,
    )
    for at, row in enumerate(asked):
        own = [line for line in lines if line.principal == row.principal]
        outside = [line for line in own if past(row.slice, line.slice)]
        assert found.seen[at] == len({o.slice for o in outside if o.value == row.value})
        assert found.active[at] == len({o.slice for o in outside})
        # A window in the midst of a log: single in the whole log, and outside the window.
        whole = outside if kind in ("prequential", "judged") else own
        days = {line.value: {o.slice for o in whole if o.value == line.value} for line in outside}
        assert found.singles[at] == sum(len(slices) == 1 for slices in days.values())


@given(LINES, LINES, LINES)
def test_merging_is_commutative_associative_and_idempotent(
    one: list[Line], two: list[Line], three: list[Line]
) -> None:
    a, b, c = learnt(one), learnt(two), learnt(three)
    assert triples(a.merge(b)) == triples(b.merge(a))
    assert triples(a.merge(b).merge(c)) == triples(a.merge(b.merge(c)))
    assert triples(a.merge(a)) == triples(a)
    assert triples(a.merge(learnt([]))) == triples(a)


@given(LINES, st.integers(0, 30))
def test_chunks_learnt_apart_are_learnt_at_once(lines: list[Line], cut: int) -> None:
    apart = learnt(lines[:cut]).merge(learnt(lines[cut:]))
    assert triples(apart) == triples(learnt(lines))
    assert triples(apart) == sorted(set(map(tuple, lines)))


@given(LINES)
def test_learning_and_asking_leave_their_input_alone(lines: list[Line]) -> None:
    context = ids([line.principal for line in lines])
    value = ids([line.value for line in lines])
    slices = ints([line.slice for line in lines])
    for array in (context, value, slices):
        array.flags.writeable = False
    horizon = horizon_of("retrospective 1")
    counts = Counts.learn(context, value, slices)
    history = counts.history(context, value, slices, horizon)
    before = triples(counts)
    counts.merge(counts)
    Peers(context, value, value, slices, horizon).company(context, value, slices, *history[:2])
    assert triples(counts) == before


@given(LINES, st.lists(st.tuples(st.integers(0, 6), st.integers(-2, 10), st.integers(-2, 12))))
def test_occasions_outside_a_window(lines: list[Line], asked: list[tuple[int, int, int]]) -> None:
    asked = [(key, lower, max(lower - 1, upper)) for key, lower, upper in asked]
    arguments = (
        ids([key for key, _, _ in asked]),
        ints([lower for _, lower, _ in asked]),
        ints([upper for _, _, upper in asked]),
    )
    for distinct in (True, False):
        known: list[tuple[int, int]] = [(line.principal, line.slice) for line in lines]
        occasions = Occasions(
            ids([key for key, _ in known]), ints([at for _, at in known]), distinct=distinct
        )
        found = occasions.outside(*arguments)
        expected = set(known) if distinct else known
        assert found.tolist() == [
            sum(key == wanted and (at < lower or at > upper) for key, at in expected)
            for wanted, lower, upper in asked
        ]


@given(LINES, HORIZONS)
@settings(max_examples=150)
def test_company_is_what_brute_force_counts(lines: list[Line], kind: str) -> None:
    horizon = horizon_of(kind)
    past = is_past(horizon)
    group = ids([line.group for line in lines])
    principal = ids([line.principal for line in lines])
    value = ids([line.value for line in lines])
    slices = ints([line.slice for line in lines])
    own = learnt(lines).history(principal, value, slices, horizon)
    company = Peers(group, principal, value, slices, horizon).company(
        group, value, slices, own.seen, own.active
    )
    for at, row in enumerate(lines):
        others = [
            line
            for line in lines
            if line.group == row.group
            and line.principal != row.principal
            and past(row.slice, line.slice)
        ]
        sharing = {other.principal for other in others if other.value == row.value}
        assert company.sharing[at] == len(sharing)
        assert company.members[at] == len({other.principal for other in others})


def test_nothing_learnt_is_nothing_known() -> None:
    horizon = horizon_of("prequential")
    history = learnt([]).history(ids([1]), ids([1]), ints([5]), horizon)
    assert [count.tolist() for count in history] == [[0], [0], [0]]
    nothing = learnt(lines := [Line(0, 0, 0)]).history(ids([]), ids([]), ints([]), horizon)
    assert [len(count) for count in nothing] == [0, 0, 0]
    assert len(lines) == len(learnt(lines).slice)


def test_a_prior_stands_for_so_many_peers() -> None:
    horizon = horizon_of("prequential")
    none = ints([0])
    company = Peers(ids([]), ids([]), ids([]), ints([]), horizon).company(
        ids([0]), ids([0]), none, none, none
    )
    assert share(company, np.array([0.25]), 2.0).tolist() == [0.25], "no peers: the prior"


def test_prequential_leaves_out_the_future_and_what_is_judged() -> None:
    table = empty_table(list(range(10)))
    assert prequential(table, None, 7).lower.tolist() == list(range(10)), "score, then learn"
    judged = prequential(table, 4, 3)
    assert judged.lower.tolist() == [0, 1, 2, 2, 4, 4, 4, 4, 5, 6], "from 2 on in replay"
    assert (judged.upper == NEVER).all()
    assert judged.reach == 0


def test_retrospective_leaves_out_the_neighbourhood() -> None:
    horizon = retrospective(empty_table(list(range(7))), 1)
    assert [horizon.at(ints([3]))[edge].tolist() for edge in (0, 1)] == [[2], [4]]
    assert horizon.reach == 2


@pytest.mark.parametrize(("slices", "guard"), [(1, 1), (7, 1), (14, 3), (60, 5)])
def test_the_guard_leaves_most_of_the_log(slices: int, guard: int) -> None:
    assert guard_for(empty_table(list(range(slices)))) == guard


def test_an_empty_table_has_an_empty_horizon() -> None:
    table = empty_table([])
    for horizon in (prequential(table, 0, 7), retrospective(table, guard_for(table))):
        assert len(horizon.lower) == len(horizon.upper) == horizon.reach == 0
