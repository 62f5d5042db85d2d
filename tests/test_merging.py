"""Incidents that turn out to be part of others: in the state, and for whoever heard of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from activities import CLUSTER, DAY, HOUR, START, Row, connected, theft, week
from kubewitness.incidents.detection import detect
from kubewitness.incidents.model import Incident
from kubewitness.state.database import State
from state_fixtures import MINUTE, NOW, Clock, incident, sent, sink

PAGER = sink()
BEGAN = START + 10 * DAY + 2 * HOUR


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(place: Path | str, clock: Clock) -> Iterator[State]:
    with State(place, clock=clock) as opened:
        yield opened


def judged(rows: list[Row]) -> list[Incident]:
    with connected(rows) as connection:
        return list(detect(connection, CLUSTER, since=START + 9 * DAY).incidents)


def test_a_story_whose_beginning_is_found_later_takes_in_what_was_told(
    state: State, clock: Clock
) -> None:
    """Two of the same address: the one that came first is seen last."""
    later = [*week(12), *theft(BEGAN + 20 * MINUTE, who="ben")]
    first = judged(later)
    state.keep(CLUSTER, first, [PAGER])
    assert state.merge(CLUSTER, first) == []
    (alert,) = (one for one in first if one.alert)
    assert sent(state) == [("opened", alert.id, 1)]

    everything = judged([*later, *theft(BEGAN, who="ada")])
    state.keep(CLUSTER, everything, [PAGER])
    clock.now += MINUTE
    ((part, whole),) = state.merge(CLUSTER, everything)
    assert part == alert.id
    (whole_alert,) = (one for one in everything if one.alert)
    assert whole == whole_alert.id
    assert set(whole_alert.principals) == {"ada", "ben"}
    assert sent(state, now=clock.now) == [("opened", whole, 1), ("resolved", part, 2)]
    assert {one.id for one in state.incidents()} == {one.id for one in everything}
    (gone,) = (one for one in state.incidents(merged=True) if one.id == part)
    assert gone == msgspec.structs.replace(alert, merged_into=whole)
    # Once.
    state.keep(CLUSTER, everything, [PAGER])
    assert state.merge(CLUSTER, everything) == []
    assert sent(state) == []


def whole(*evidence: str, **fields: Any) -> Incident:
    return incident("whole", evidence=evidence, principals=("eve", "ada"), **fields)


def test_who_did_not_hear_of_it_yet_hears_of_the_whole_only(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    state.keep("prod", [whole("e1", "e2", "e3")], [PAGER])
    assert state.merge("prod", [whole("e1", "e2", "e3")]) == [("a1", "whole")]
    assert sent(state) == [("opened", "whole", 1)]
    assert state.backlog() == []


def test_a_sink_that_is_down_is_told_when_it_is_back(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    sent(state)
    state.keep("prod", [incident(severity="critical")], [PAGER])
    delivery = state.due("pager", NOW)
    assert delivery is not None
    state.failed(delivery, "down", NOW + MINUTE)
    state.merge("prod", [whole("e1", "e2")])
    assert sent(state) == []
    assert sent(state, now=NOW + MINUTE) == [("resolved", "a1", 3)]


@pytest.mark.parametrize(
    "other",
    [
        whole("e2", "e3"),
        incident("whole", evidence=("e9",), events=("e2",)),
        incident("whole", events=("e1", "e2"), evidence=(), opened_at=NOW - timedelta(days=999)),
    ],
)
def test_half_of_it_is_enough_as_not_all_of_a_large_one_is_listed(
    state: State, other: Incident
) -> None:
    state.keep("prod", [incident(evidence=("e1", "e2"))], [PAGER])
    assert state.merge("prod", [other]) == [("a1", "whole")]


@pytest.mark.parametrize(
    "other",
    [
        whole("e3", "e4"),
        incident("whole", evidence=("e1", "e2"), principals=("eve",)),
        incident("whole", evidence=("e1", "e2"), opened_at=NOW + timedelta(days=999)),
    ],
)
def test_what_is_told_elsewhere_by_chance_stays(state: State, other: Incident) -> None:
    state.keep("prod", [incident()], [PAGER])
    assert state.merge("prod", [other]) == []
    assert state.merge("other", [whole("e1", "e2")]) == []
    assert state.merge("prod", []) == []
    assert [one.id for one in state.incidents()] == ["a1"]


def test_what_stands_by_itself_again_is_listed_and_told_again(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    sent(state)
    state.merge("prod", [whole("e1", "e2")])
    assert sent(state) == [("resolved", "a1", 2)]
    state.keep("prod", [incident()], [PAGER])
    assert sent(state) == [("opened", "a1", 3)]
    assert state.incidents() == [incident()]


def test_only_what_is_not_over_is_counted(state: State) -> None:
    state.keep("prod", [incident(), incident("b"), incident("gap", ended_at=NOW)], [])
    assert state.counted() == {"low": 0, "medium": 0, "high": 2, "critical": 0}
    state.merge("prod", [incident("b"), whole("e1", "e2")])
    assert state.counted()["high"] == 1
