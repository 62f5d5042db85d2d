"""What the state database promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubewitness.incidents.model import SEVERITIES, Incident
from kubewitness.state.database import State
from kubewitness.state.growth import news, told
from kubewitness.state.keeping import QUIET, Kind, Wanted
from kubewitness.state.outbox import LONGEST, Delivery
from report_fixtures import hostile, lost_binding, stolen_token
from state_fixtures import MINUTE, NOW, Clock, incident, sent, sink

PAGER = sink()
EVERYTHING = sink("archive", alerts_only=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(place: Path | str, clock: Clock) -> Iterator[State]:
    with State(place, clock=clock) as opened:
        yield opened


def due(state: State, name: str = "pager", now: datetime = NOW) -> Delivery:
    delivery = state.due(name, now)
    assert delivery is not None
    return delivery


def test_a_new_incident_is_opened_and_told_once(state: State) -> None:
    (change,) = state.keep("prod", [incident()], [PAGER])
    assert (change.kind, change.incident, change.revision) == ("opened", incident(), 1)
    assert sent(state) == [("opened", "a1", 1)]
    assert state.keep("prod", [incident()], [PAGER]) == []
    assert sent(state) == []


def test_what_is_stored_is_what_was_judged(state: State) -> None:
    judged = [hostile(), stolen_token(), incident()]
    state.keep("prod", judged, [EVERYTHING])
    assert sorted(state.incidents(), key=lambda one: one.id) == sorted(
        judged, key=lambda one: one.id
    )


@pytest.mark.parametrize(
    ("grown", "expected"),
    [
        ({"severity": "critical"}, ("severity",)),
        ({"principals": ("ada", "eve")}, ("principals",)),
        ({"techniques": ("T1552", "T1098")}, ("techniques",)),
        ({"objects": ("secrets shop/db", "secrets shop/key")}, ("objects",)),
        ({"evidence": ("e1", "e2", "e3", "e4")}, ("evidence",)),
        ({"score": 30.0}, ("score",)),
        ({"principals": ("eve",), "score": 300.0}, ("principals", "score")),
    ],
)
def test_news_of_an_incident_is_told(
    state: State, grown: dict[str, Any], expected: tuple[str, ...]
) -> None:
    state.keep("prod", [incident()], [PAGER])
    sent(state)
    (change,) = state.keep("prod", [incident(**grown)], [PAGER])
    assert (change.kind, change.revision, change.news) == ("updated", 2, expected)
    assert sent(state, now=NOW + QUIET) == [("updated", "a1", 2)]
    assert state.keep("prod", [incident(**grown)], [PAGER]) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"score": 29.9},
        {"score": 1.0},
        {"severity": "low"},
        {"evidence": ("e1", "e2", "e3")},
        {"evidence": ()},
        {"principals": ()},
        {"title": "Other words"},
        {"updated_at": NOW},
    ],
)
def test_what_is_no_news_is_stored_and_not_told(state: State, changed: dict[str, Any]) -> None:
    state.keep("prod", [incident()], [PAGER])
    sent(state)
    assert state.keep("prod", [incident(**changed)], [PAGER]) == []
    assert sent(state, now=NOW + LONGEST) == []
    assert state.incidents() == [incident(**changed)]


def test_slow_growth_is_told_in_the_end(state: State) -> None:
    changes = []
    for score in range(20, 50):
        changes += state.keep("prod", [incident(score=float(score))], [PAGER])
    assert [change.incident.score for change in changes] == [20.0, 30.0, 45.0]


def test_what_was_told_before_is_no_news_again(state: State) -> None:
    most = {"principals": ("ada", "eve"), "objects": ("pods a/b", "pods a/c"), "score": 50.0}
    told = [
        change.revision
        for fields in (
            most,
            {"objects": ("pods a/b",)},
            most,
            {"severity": "critical", "objects": ()},
            {**most, "severity": "critical"},
            {**most, "severity": "low"},
            {**most, "severity": "high", "techniques": ("T1098",)},
            {**most, "severity": "critical", "techniques": ("T1552", "T1098")},
        )
        for change in state.keep("prod", [incident(**fields)], [])
    ]
    assert told == [1, 2, 3]


def test_an_incident_that_grows_without_end_is_told_a_few_dozen_times() -> None:
    known, times = told(incident()), 0
    for n in range(1, 1000):
        names = tuple(f"secrets shop/{i}" for i in range(n))
        grown = incident(objects=names, principals=names, evidence=names, score=float(n))
        if news(grown, known):
            known, times = told(grown, known), times + 1
    assert 10 < times < 50


def test_a_message_that_still_waits_is_replaced(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    state.keep("prod", [incident(severity="critical")], [PAGER])
    delivery = due(state)
    assert (delivery.kind, delivery.revision) == ("opened", 2)
    assert delivery.incident.severity == "critical"
    assert sent(state) == [("opened", "a1", 2)]


def test_a_message_tells_what_is_known_when_it_is_sent(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    state.keep("prod", [incident(title="Told better")], [PAGER])
    assert due(state).incident.title == "Told better"
    assert due(state).revision == 1


def test_news_while_a_message_is_on_its_way_is_sent_after_it(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    on_its_way = due(state)
    state.keep("prod", [incident(severity="critical")], [PAGER])
    state.delivered(on_its_way)
    assert sent(state) == [("updated", "a1", 2)]
    state.delivered(on_its_way)
    assert sent(state) == []


def test_what_can_wait_waits_and_takes_along_what_comes_meanwhile(
    state: State, clock: Clock
) -> None:
    state.keep("prod", [incident()], [PAGER])
    sent(state)
    clock.now += MINUTE
    state.keep("prod", [incident(techniques=("T1552", "T1098"))], [PAGER])
    assert sent(state, now=clock.now) == []
    clock.now += MINUTE
    grown = incident(techniques=("T1552", "T1098", "T1059"), score=40.0)
    state.keep("prod", [grown], [PAGER])
    assert sent(state, now=NOW + QUIET - timedelta(seconds=1)) == []
    assert sent(state, now=NOW + QUIET) == [("updated", "a1", 3)]


def test_what_is_urgent_does_not_wait(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    sent(state)
    state.keep("prod", [incident(techniques=())], [PAGER])
    state.keep("prod", [incident(severity="critical")], [PAGER])
    assert sent(state) == [("updated", "a1", 2)]


def test_a_sink_hears_of_what_passes_and_first_of_all_that_it_opened(state: State) -> None:
    quiet: dict[str, Any] = {"alert": False, "severity": "low", "score": 5.0}
    sinks = [PAGER, EVERYTHING, sink("board", alerts_only=False, min_severity="high")]
    state.keep("prod", [incident(**quiet)], sinks)
    assert [sent(state, one.name) for one in sinks] == [[], [("opened", "a1", 1)], []]
    state.keep("prod", [incident(**{**quiet, "severity": "high"})], sinks)
    assert [sent(state, one.name) for one in sinks] == [
        [],
        [("updated", "a1", 2)],
        [("opened", "a1", 2)],
    ]
    state.keep("prod", [incident()], sinks)
    assert [sent(state, one.name) for one in sinks] == [
        [("opened", "a1", 3)],
        [("updated", "a1", 3)],
        [("updated", "a1", 3)],
    ]


def test_a_sink_hears_of_an_incident_that_passes_without_being_news(state: State) -> None:
    strict = sink("strict", min_severity="high")
    state.keep("prod", [incident(severity="low")], [strict])
    state.keep("prod", [incident(severity="high", alert=False)], [strict])
    assert state.keep("prod", [incident(severity="high")], [strict]) == []
    assert sent(state, "strict") == [("opened", "a1", 2)]


def test_without_sinks_nobody_is_told(state: State) -> None:
    assert len(state.keep("prod", [incident()], [])) == 1
    assert state.keep("prod", [incident()], [PAGER]) == []
    assert sent(state) == []
    state.keep("prod", [incident(severity="critical")], [PAGER])
    assert sent(state) == [("opened", "a1", 2)]


def test_clusters_are_kept_apart(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    state.keep("test", [incident(cluster="test", title="Other")], [PAGER])
    assert [one.title for one in state.incidents("test")] == ["Other"]
    assert len(state.incidents()) == 2
    assert state.due("pager", NOW, clusters=["elsewhere"]) is None
    delivery = state.due("pager", NOW, clusters=["test"])
    assert delivery is not None
    assert delivery.incident.cluster == "test"


def test_a_failed_message_waits_for_its_time(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    later = NOW + 10 * MINUTE
    state.failed(due(state), "refused \0 \udcff" + "x" * 10_000, later)
    assert state.due("pager", later - MINUTE) is None
    assert due(state, now=later).attempts == 1
    # What is newer goes along, and does not hurry a sink that is down.
    state.keep("prod", [incident(severity="critical")], [PAGER])
    assert state.due("pager", later - MINUTE) is None
    (backlog,) = state.backlog()
    assert (backlog.sink, backlog.waiting, backlog.failing) == ("pager", 1, 1)
    assert backlog.oldest == later
    assert sent(state, now=later) == [("opened", "a1", 2)]
    assert state.backlog() == []


def test_a_message_that_is_given_up_is_not_sent_but_what_comes_after(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    state.given_up(due(state), "no such channel")
    assert sent(state) == []
    state.keep("prod", [incident(severity="critical")], [PAGER])
    assert sent(state) == [("opened", "a1", 2)]


def test_messages_come_in_the_order_in_which_they_were_due(state: State, clock: Clock) -> None:
    for n in range(5):
        clock.now = NOW - n * MINUTE
        state.keep("prod", [incident(f"a{n}")], [PAGER])
    assert [identity for _, identity, _ in sent(state)] == ["a4", "a3", "a2", "a1", "a0"]


def test_a_clock_that_is_put_back_delays_nothing_for_long(state: State, clock: Clock) -> None:
    clock.now = NOW + timedelta(days=300)
    state.keep("prod", [incident()], [PAGER])
    assert sent(state, now=NOW) == [("opened", "a1", 1)]


def test_incidents_are_listed_as_an_analysis_lists_them(state: State) -> None:
    low = incident("low", score=5.0, alert=False)
    loud = incident("loud", score=90.0, alert=False)
    state.keep("prod", [low, loud, incident("a2", score=30.0), incident("a1")], [])
    assert [one.id for one in state.incidents()] == ["a2", "a1", "loud", "low"]
    state.keep("prod", [incident("late", updated_at=NOW)], [])
    assert [one.id for one in state.incidents(since=NOW)] == ["late"]


def test_what_ended_long_ago_is_forgotten_with_its_messages(state: State) -> None:
    state.keep("prod", [incident("old", updated_at=NOW - 2 * MINUTE)], [PAGER])
    state.keep("prod", [incident("new", updated_at=NOW)], [PAGER])
    assert state.forget(MINUTE) == 1
    assert [one.id for one in state.incidents()] == ["new"]
    assert sent(state) == [("opened", "new", 1)]


def test_a_clock_that_runs_ahead_forgets_nothing(state: State, clock: Clock) -> None:
    state.keep("prod", [incident(updated_at=NOW)], [])
    clock.now = NOW + timedelta(days=4000)
    assert state.forget(MINUTE) == 0


def test_an_incident_of_the_future_is_forgotten_like_others(state: State, clock: Clock) -> None:
    state.keep("prod", [incident("ahead", updated_at=NOW + timedelta(days=4000))], [])
    state.keep("prod", [incident(updated_at=NOW)], [])
    assert state.forget(MINUTE) == 0
    clock.now = NOW + 2 * MINUTE
    state.keep("prod", [incident("new", updated_at=clock.now)], [])
    assert state.forget(MINUTE) == 2
    assert [one.id for one in state.incidents()] == ["new"]


def test_years_leave_no_more_than_what_is_kept(tmp_path: Path, clock: Clock) -> None:
    """Each day an incident, a gap that ends, a misconfiguration, and a sink that is down."""
    sizes = []
    with State(tmp_path / "state.sqlite", clock=clock) as state:
        for day in range(60):
            clock.now = NOW + timedelta(days=day)
            at: dict[str, Any] = {"opened_at": clock.now, "updated_at": clock.now}
            gap = incident(f"gap-{day}", evidence=(), **at)
            state.keep("prod", [incident(f"i{day}", **at), gap], [PAGER, sink("down")])
            state.keep("prod", [msgspec.structs.replace(gap, ended_at=clock.now)], [PAGER])
            state.merge("prod", [incident(f"w{day}", **at)])
            broken = {"id": f"m{day}", "principal": f"p{day}"}
            state.keep_misconfigurations(
                "prod", [msgspec.structs.replace(lost_binding(), **broken)]
            )
            for feed in ("file:/var/log/audit.log", "gaps/prod"):
                state.set_position(feed, b"%d" % day)
            sent(state, now=clock.now)
            state.forget(timedelta(days=10))
            rows = 0
            with closing(sqlite3.connect(tmp_path / "state.sqlite")) as connection:
                for table in ("incidents", "deliveries", "misconfigurations", "positions"):
                    rows += connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            sizes.append(rows)
    assert max(sizes) == sizes[20] == sizes[-1]


def test_a_feed_finds_its_position_again(state: State) -> None:
    odd = "file:/var/log/\udcff\0.log"
    assert state.position(odd) is None
    for value in (b"", b"\x00\xff", b"inode 7 offset 12"):
        state.set_position(odd, value)
        assert state.position(odd) == value
    assert state.position("file:/var/log/audit.log") is None


def test_everything_is_there_after_opening_it_again(place: Path | str, clock: Clock) -> None:
    with State(place, clock=clock) as state:
        state.keep("prod", [incident()], [PAGER])
        state.set_position("feed", b"7")
    with State(place, existing=True, clock=clock) as state:
        assert state.incidents() == [incident()]
        assert state.position("feed") == b"7"
        assert state.keep("prod", [incident()], [PAGER]) == []
        assert sent(state) == [("opened", "a1", 1)]


def over(**fields: Any) -> Incident:
    return incident(ended_at=NOW, **fields)


def test_that_it_is_over_is_told_once_to_whoever_knows_it(state: State) -> None:
    grave = sink("grave", min_severity="critical")
    state.keep("prod", [incident()], [PAGER, grave])
    sent(state)
    (change,) = state.keep("prod", [over(score=500.0)], [PAGER, grave])
    assert (change.kind, change.revision, change.news) == ("resolved", 2, ())
    assert sent(state) == [("resolved", "a1", 2)]
    assert sent(state, "grave") == []
    assert state.keep("prod", [over(title="Told better", score=900.0)], [PAGER, grave]) == []
    assert sent(state, now=NOW + LONGEST) == []


def test_that_it_is_over_is_told_even_if_it_no_longer_passes(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    sent(state)
    state.keep("prod", [over(alert=False, severity="low")], [PAGER])
    assert sent(state) == [("resolved", "a1", 2)]


@pytest.mark.parametrize("known", [True, False])
def test_what_is_over_before_it_was_told_is_told_whole(state: State, known: bool) -> None:
    if known:
        state.keep("prod", [incident()], [PAGER])
    state.keep("prod", [over()], [PAGER])
    assert sent(state) == [("opened", "a1", 1), ("resolved", "a1", 2)]


def test_what_is_over_while_its_message_is_on_its_way_is_told_after_it(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    on_its_way = due(state)
    state.keep("prod", [over()], [PAGER])
    state.delivered(on_its_way)
    assert sent(state) == [("resolved", "a1", 2)]


def test_who_would_not_hear_that_it_opened_does_not_hear_its_end(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    state.given_up(due(state), "no such channel")
    state.keep("prod", [over()], [PAGER])
    assert sent(state) == []
    assert state.backlog() == []


def test_what_goes_on_after_all_opens_once_more(state: State) -> None:
    for n, judged in enumerate([incident(), over(), incident(), over()], 1):
        (change,) = state.keep("prod", [judged], [PAGER])
        kind = "resolved" if judged.ended_at else "opened"
        assert change.kind == kind
        assert sent(state) == [(kind, "a1", n)]


def test_what_goes_on_without_being_wanted_any_more_ends_for_a_sink_once(state: State) -> None:
    state.keep("prod", [incident()], [PAGER])
    assert sent(state) == [("opened", "a1", 1)]
    state.keep("prod", [over()], [PAGER])
    assert sent(state) == [("resolved", "a1", 2)]
    state.keep("prod", [incident(alert=False)], [PAGER])
    state.keep("prod", [over(alert=False)], [PAGER])
    assert sent(state) == []
    state.keep("prod", [incident()], [PAGER])
    assert [kind for kind, _, _ in sent(state)] == ["opened"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["keep", "end", "deliver", "fail", "give up"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(SEVERITIES),
        st.booleans(),
        st.sets(st.sampled_from(["ada", "eve", "bob"])),
    ),
    max_size=20,
)


@settings(max_examples=20)
@given(STEPS)
def test_no_sink_hears_a_revision_twice_or_misses_the_newest(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    """Whatever happens in whatever order; SQLite only, where a database costs nothing. Of what is
    over, the end comes last, unless it opens once more."""
    sinks: list[Wanted] = [PAGER, sink("grave", min_severity="critical"), EVERYTHING]
    heard: dict[tuple[str, str], list[tuple[Kind, int]]] = {}
    announced: dict[str, int] = {}
    with State(tmp_path_factory.mktemp("s") / "state.sqlite", clock=lambda: NOW) as state:
        for what, identity, severity, alert, principals in [*steps, ("last", "", "low", False, ())]:
            if what in ("keep", "end"):
                judged = incident(
                    identity,
                    severity=severity,
                    alert=alert,
                    principals=tuple(sorted(principals)),
                    ended_at=NOW if what == "end" else None,
                )
                for change in state.keep("prod", [judged], sinks):
                    at_once = what == "end" and identity not in announced
                    assert change.revision == announced.get(identity, 0) + 1 + at_once
                    announced[identity] = change.revision
                continue
            for one in sinks:
                while delivery := state.due(one.name, NOW + LONGEST):
                    if what == "fail":
                        state.failed(delivery, "", NOW + LONGEST)
                        break
                    if what == "give up":
                        state.given_up(delivery, "")
                        continue
                    known = heard.setdefault((one.name, delivery.incident.id), [])
                    known.append((delivery.kind, delivery.revision))
                    state.delivered(delivery)
    for messages in heard.values():
        kinds = "".join(kind[0] for kind, _ in messages)
        revisions = [revision for _, revision in messages]
        # What opens once more before its end was told is not over for its sink.
        assert re.fullmatch("(ou*(r|(?=o)|$))*", kinds)
        assert revisions == sorted(set(revisions))
    if not any(what == "give up" for what, *_ in steps):
        for identity, revision in announced.items():
            assert heard["archive", identity][-1][1] == revision
