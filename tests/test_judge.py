"""A judge that goes on hearing says what would be said if all were judged at once."""

from __future__ import annotations

from datetime import datetime

import pytest

from activities import CLUSTER, DAY, HOUR, OUTSIDE, START, Row, account, connected, put, theft, week
from activities import row as activity
from kubewitness.activity.table import load
from kubewitness.incidents.detection import Judge, detect
from kubewitness.incidents.model import Incident

DAYS = 12
SINCE = START + 9 * DAY
NIGHT = START + 10 * DAY + 2 * HOUR


def at_once(rows: list[Row]) -> dict[str, Incident]:
    """The alerts of a whole log."""
    with connected(rows) as connection:
        found = detect(connection, CLUSTER, since=SINCE)
    return {one.id: one for one in found.incidents if one.alert}


def heard(rows: list[Row], begin: datetime, step: int) -> tuple[dict[str, Incident], list[int]]:
    """The alerts as they were told last, when rows from ``begin`` on come ``step`` at a time, and
    how many were told each time."""
    later = sorted((one for one in rows if one["first"] >= begin), key=lambda one: one["first"])
    told: dict[str, Incident] = {}
    times = []
    with connected([one for one in rows if one["first"] < begin]) as connection:
        judge = Judge(connection, CLUSTER, load(connection, CLUSTER), since=SINCE, ahead=9)
        told |= {one.id: one for one in judge.detection().incidents if one.alert}
        for place in range(0, len(later), step):
            put(connection, later[place : place + step], "arrivals")
            alerts = judge.hear()
            told |= {one.id: one for one in alerts}
            times.append(len(alerts))
    return told, times


def minted() -> list[Row]:
    """A person has a token made for a service account, and somebody uses it elsewhere."""
    its = account("shop/api")
    return [
        activity(NIGHT, "ada", "create", "serviceaccounts", subresource="token", names=("api",),
                 namespace="shop", source_ip=OUTSIDE, issued="JTI=minted"),
        activity(NIGHT + HOUR / 60, its, "list", "secrets", names=("",), namespace="ci",
                 source_ip="198.51.100.7", credential="JTI=minted", scheme="JTI"),
    ]  # fmt: skip


@pytest.mark.parametrize("step", [4, 10_000])
@pytest.mark.parametrize("attack", [theft(NIGHT), minted()], ids=["theft", "minted token"])
def test_what_comes_piece_by_piece_is_told_as_if_it_had_been_there(
    attack: list[Row], step: int
) -> None:
    rows = [*week(DAYS), *attack]
    told, times = heard(rows, NIGHT - HOUR / 6, step)
    assert told == at_once(rows) != {}
    assert sum(times) > 0


def test_an_attack_that_a_judgement_has_seen_goes_on_as_the_same_incident() -> None:
    rows = [*week(DAYS), *theft(NIGHT), *theft(NIGHT + HOUR, source_ip=OUTSIDE)]
    told, _ = heard(rows, NIGHT + HOUR * 0.9, 20)
    assert told.keys() == at_once(rows).keys()
    assert len(told) == 1


def test_a_usual_day_is_told_nobody() -> None:
    rows = week(DAYS)
    told, times = heard(rows, START + 11 * DAY, 20)
    assert told == at_once(rows) == {}
    assert len(times) > 5


def test_what_goes_on_of_an_incident_is_counted_and_no_news() -> None:
    again = [{**one, "last": one["last"] + HOUR / 4, "n": 5} for one in theft(NIGHT)]
    with connected([*week(DAYS), *theft(NIGHT)]) as connection:
        judge = Judge(connection, CLUSTER, load(connection, CLUSTER), since=SINCE, ahead=9)
        put(connection, again, "arrivals")
        assert judge.hear() == ()
        put(connection, theft(NIGHT + HOUR), "arrivals")
        (grown,) = judge.hear()
    assert any(moment.n >= 6 for moment in grown.timeline)


def test_rows_beyond_the_time_that_a_judge_knows_wait_for_the_next() -> None:
    with connected(week(DAYS)) as connection:
        judge = Judge(connection, CLUSTER, load(connection, CLUSTER), since=SINCE, ahead=2)
        put(connection, [*theft(START + 40 * DAY), *theft(START - 3 * DAY)], "arrivals")
        assert judge.hear() == ()
        put(connection, theft(START + 12 * DAY + 2 * HOUR), "arrivals")
        assert len(judge.hear()) == 1
