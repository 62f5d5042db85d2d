"""The witness notices when the log shows less than it did, and only then."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gap_worlds import (
    CLUSTER,
    START,
    STEP,
    Chunk,
    after,
    mark,
    minute,
    opened,
    quiet,
    sighting,
    told,
)
from kubewitness.report.inert import acts
from kubewitness.service.gaps import heartbeats, levels, requests
from kubewitness.service.gaps.clocks import Clock
from kubewitness.service.gaps.model import Gap
from kubewitness.service.gaps.survey import Mark, Sighting, Survey
from kubewitness.service.gaps.usual import Usual
from kubewitness.service.gaps.vigil import Vigil


def test_of_a_quiet_cluster_nothing_is_told() -> None:
    assert told(quiet(120)) == []


def test_a_cluster_that_falls_silent_is_told_and_when_it_is_back() -> None:
    chunks = quiet(60)
    silent = [(at, s if not 30 <= (at - START) / 60 < 40 else Survey([], [])) for at, s in chunks]
    first, last = told(silent)
    assert (first.kind, first.severity, first.until) == ("silence", "high", None)
    assert minute(first) == pytest.approx(30, abs=0.3)
    assert (last.id, last.since) == (first.id, first.since)
    assert last.until is not None
    assert (last.until - last.since) / timedelta(minutes=1) == pytest.approx(10, abs=0.5)
    assert last.why.endswith("nothing came of that time")


def test_events_that_come_after_a_silence_after_all_are_not_missing() -> None:
    chunks = quiet(60)
    held = [chunk for chunk in chunks if 30 <= (chunk[0] - START) / 60 < 40]
    back = START + 40 * 60
    late = [(back, survey) for _, survey in held]
    ticks = [(at, Survey([], [])) for at, _ in held]
    before = [chunk for chunk in chunks if chunk[0] < START + 30 * 60]
    later = [chunk for chunk in chunks if chunk[0] >= back]
    gaps = told([*before, *ticks, *late, *later])
    assert [gap.kind for gap in gaps] == ["silence", "silence"]
    assert gaps[1].why.endswith("its events came later")


def restarted(vigil: Vigil) -> Vigil:
    again = Vigil()
    for cluster, saved in vigil.saved().items():
        again.restore(cluster, saved)
    return again


def test_a_missing_file_is_a_hole() -> None:
    chunks = [chunk for chunk in quiet(60) if not 30 <= (chunk[0] - START) / 60 < 32]
    (hole,) = told(chunks)
    assert hole.kind == "hole"
    assert minute(hole) == pytest.approx(30, abs=0.3)
    assert hole.until is not None
    assert (hole.until - hole.since).total_seconds() == pytest.approx(120, abs=STEP)


def test_a_hole_in_an_old_log_that_is_added_alarms_nobody() -> None:
    week = 7 * 86_400
    chunks = [(at + week, s) for at, s in quiet(60) if not 30 <= (at - START) / 60 < 40]
    (hole,) = [gap for gap in told(chunks) if gap.kind == "hole"]
    assert hole.severity == "low"


def test_time_in_which_the_witness_was_away_is_no_silence_but_may_be_a_hole() -> None:
    chunks = quiet(90)
    vigil = Vigil()
    assert told([c for c in chunks if c[0] < START + 40 * 60], vigil) == []
    back = START + 60 * 60
    vigil = restarted(vigil)
    assert vigil.changes(back) == []
    gaps = told([c for c in chunks if c[0] >= back], vigil)
    assert [gap.kind for gap in gaps] == ["hole"]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_of_ours_that_is_set_is_no_silence(jump: float) -> None:
    chunks = quiet(60)
    jumped = [(at + jump if number > 200 else at, s) for number, (at, s) in enumerate(chunks)]
    vigil = Vigil()
    gaps = told(jumped, vigil)
    assert "silence" not in [gap.kind for gap in gaps]
    # Nor is the next silence overlooked.
    last = jumped[-1][0]
    ticks = [(last + STEP * n, Survey([], [])) for n in range(1, 60)]
    assert "silence" in opened(told(ticks, vigil))


def test_one_of_several_api_servers_falls_silent() -> None:
    def gone(one: Mark) -> Mark | None:
        return None if one.name in {"apiserver-1", "uid-1"} else one

    first, last = told(after(30, quiet(60), marks=gone, until=45))
    assert (first.kind, first.severity, first.members) == ("api-server", "high", ("apiserver-1",))
    assert minute(first) == pytest.approx(30, abs=0.3)
    assert last.until is not None


def test_without_leases_api_servers_are_told_apart_by_their_own_requests() -> None:
    def own(one: Mark) -> Mark | None:
        return one if one.what == "process" else None

    def gone(one: Mark) -> Mark | None:
        return None if one.name == "uid-1" else one

    world = [*after(0, quiet(60), marks=own)]
    assert told(world) == []
    (gap,) = told(after(30, world, marks=gone))
    assert (gap.kind, gap.members) == ("api-server", ("uid-1",))


@pytest.mark.parametrize("what", ["server", "process"])
def test_an_api_server_that_is_replaced_is_not_missing(what: str) -> None:
    def replaced(one: Mark) -> Mark | None:
        return one._replace(name="another") if one.name in {"apiserver-1", "uid-1"} else one

    def only(one: Mark) -> Mark | None:
        return one if one.what == what else None

    assert told(after(30, [*after(0, quiet(60), marks=only)], marks=replaced)) == []


def node_3(one: Mark) -> Mark | None:
    return None if one.name == "node-3" else one


def test_a_node_that_falls_silent_while_others_go_on() -> None:
    first, last = told(after(30, quiet(60), marks=node_3, until=45))
    assert (first.kind, first.severity, first.members) == ("heartbeat", "medium", ("node-3",))
    assert "nothing else is heard" in first.why
    assert minute(first) == pytest.approx(30, abs=0.3)
    assert last.until is not None
    assert (last.until.timestamp() - START) / 60 == pytest.approx(45, abs=0.5)


def test_a_node_whose_leases_only_are_missing_is_alive() -> None:
    def leases(one: Mark) -> Mark | None:
        return None if (one.what, one.name) == ("node", "node-3") else one

    (gap,) = told(after(30, quiet(60), marks=leases))
    assert gap.title == "Lease renewals of node node-3 are no longer logged"


def test_a_node_that_the_cluster_misses_as_well_is_down_and_no_gap_of_the_log() -> None:
    world = [*after(30, quiet(60), marks=node_3)]
    at = world[200][0] - STEP
    noticed = Survey([sighting(at, "x", "")], [mark(at, "noticed", "node-3")])
    (gap,) = told([*world[:200], (world[200][0], noticed), *world[200:]])
    assert gap.severity == "low"
    assert "the log is not at fault" in gap.remedy


def test_a_node_that_is_deleted_is_not_missed() -> None:
    world = [*after(30, quiet(60), marks=node_3)]
    at = world[181][0] - STEP
    gone = Survey([sighting(at, "ada", "delete nodes")], [mark(at, "gone", "node-3")])
    assert told([*world[:182], (at + STEP, gone), *world[182:]]) == []


def test_nodes_that_fall_silent_at_once_are_one_gap() -> None:
    def some(one: Mark) -> Mark | None:
        return None if one.name in {"node-1", "node-3", "node-4"} else one

    (gap,) = told(after(30, quiet(60), marks=some))
    assert (gap.severity, gap.members) == ("high", ("node-1", "node-3", "node-4"))


def test_leases_that_are_no_longer_logged_at_all() -> None:
    def none(one: Mark) -> Mark | None:
        return one if one.what in {"process", "alive"} else None

    (gap,) = told(after(30, quiet(60), marks=none))
    assert gap.title == "Lease renewals are no longer logged"
    assert len(gap.members) == 6 + 2


def test_a_log_without_leases_misses_none() -> None:
    assert told(after(0, quiet(60), marks=lambda one: None)) == []


def test_a_silence_of_all_is_not_told_of_each() -> None:
    chunks = [chunk for chunk in quiet(60) if not 30 <= (chunk[0] - START) / 60 < 40]
    assert {gap.kind for gap in told(chunks)} <= {"hole", "silence"}


def metadata(one: Sighting) -> Sighting:
    return one._replace(rank=0)


def test_a_level_that_is_lowered_and_raised_again() -> None:
    first, last = told(after(30, quiet(80), seen=metadata, until=40))
    assert (first.kind, first.severity) == ("level", "high")
    assert minute(first) == pytest.approx(30, abs=0.3)
    assert {"get pods", "update deployments.apps"} <= set(first.members)
    assert "had level Request and now Metadata" in first.why
    assert last.until is not None
    assert (last.until.timestamp() - START) / 60 == pytest.approx(40, abs=0.5)


def test_a_level_that_is_lowered_of_one_resource() -> None:
    def of_secrets(one: Sighting) -> Sighting:
        return metadata(one) if one.kind == "list secrets" else one

    (gap,) = told(after(30, quiet(60), seen=of_secrets))
    assert gap.members == ("list secrets",)


def test_answers_that_are_no_longer_logged() -> None:
    def high(one: Sighting) -> Sighting:
        return one._replace(rank=2)

    def lower(one: Sighting) -> Sighting:
        return one._replace(rank=1)

    (gap,) = told(after(30, [*after(0, quiet(60), seen=high)], seen=lower))
    assert gap.title.endswith("without answers")


def test_a_level_that_one_of_several_api_servers_lowers() -> None:
    coin = random.Random(0)

    def sometimes(one: Sighting) -> Sighting:
        return metadata(one) if coin.random() < 0.3 else one

    (gap,) = told(after(30, quiet(60), seen=sometimes))
    assert gap.kind == "level"
    assert "by some of its API servers" in gap.why


@pytest.mark.parametrize("who", ["ada", "system:anonymous"])
def test_a_person_whose_groups_change_is_no_other_policy(who: str) -> None:
    def of_one(one: Sighting) -> Sighting:
        return metadata(one) if one.user == who else one

    assert told(after(30, quiet(60), seen=of_one)) == []


def test_a_policy_of_metadata_only_has_nothing_to_lower() -> None:
    assert told(after(0, quiet(60), seen=metadata)) == []


def test_who_comes_later_is_judged_by_the_level_they_came_with() -> None:
    def new(one: Sighting) -> Sighting:
        return metadata(one._replace(namespace="new")) if one.kind == "get pods" else one

    assert told(after(30, quiet(60), seen=new)) == []


def test_a_lowered_level_is_taken_for_usual_after_a_week() -> None:
    known = levels.Levels()
    for number in range(10):
        known.see(sighting(START + 60 * number, "system:node:", "get pods"))
    for number in range(10, 20):
        known.see(metadata(sighting(START + 60 * number, "system:node:", "get pods")))
    assert len(known.judge(START + 60 * 20)) == 1
    assert known.judge(START + 8 * 86_400) == []
    known.see(metadata(sighting(START + 8 * 86_400, "system:node:", "get pods")))
    assert known.judge(START + 9 * 86_400) == []


def no_secrets(one: Sighting) -> Sighting | None:
    return None if one.kind == "list secrets" else one


def test_requests_that_are_no_longer_logged_though_who_makes_them_is_about() -> None:
    first, last = told(after(60, quiet(120), seen=no_secrets, until=90))
    assert (first.kind, first.severity, first.members) == ("request", "high", ("list secrets",))
    assert minute(first) == pytest.approx(60, abs=1)
    assert last.until is not None


def test_a_program_that_stops_asking_is_no_other_policy() -> None:
    def upgraded(one: Sighting) -> Sighting | None:
        return no_secrets(one) if "shop" in one.user or "ci:" in one.user else one

    def theirs(one: Sighting) -> Sighting | None:
        keeps = one.kind != "list secrets" or "shop" in one.user or "ci:" in one.user
        return one if keeps else None

    assert told(after(60, quiet(120), seen=upgraded)) == []
    assert told(after(60, [*after(0, quiet(120), seen=theirs)], seen=upgraded)) == []


def test_who_goes_home_is_not_missed() -> None:
    def at_night(one: Sighting) -> Sighting | None:
        return one if one.user.startswith("system:") and "serviceaccount" not in one.user else None

    assert told(after(60, quiet(120), seen=at_night)) == []


@pytest.mark.parametrize("stage", ["ResponseStarted", "ResponseComplete"])
def test_a_stage_that_is_omitted(stage: str) -> None:
    def omitted(one: Sighting) -> Sighting | None:
        return None if one.stage == stage else one

    gaps = told(after(60, quiet(120), seen=omitted))
    assert ("stage", stage) in [(gap.kind, gap.title.rpartition(" ")[2]) for gap in gaps]


def shifted(minutes: float, chunks: Iterable[Chunk], by: float) -> list[Chunk]:
    """The clock of the API server changes; everything arrives as before."""

    def seen(one: Sighting) -> Sighting:
        first = one.first + by
        return one._replace(minute=first - first % 60, first=first, last=one.last + by)

    def marks(one: Mark) -> Mark:
        return one._replace(first=one.first + by, last=one.last + by)

    return [*after(minutes, chunks, seen=seen, marks=marks)]


def test_a_clock_that_is_ahead_of_ours() -> None:
    world = quiet(60, servers=1)
    gaps = told([*shifted(30, world, 30.0)])
    assert opened(gaps) == ["clock"]
    assert "25 s ahead" in gaps[0].title
    assert opened(told(shifted(30, world, 1.0))) == []
    # An hour that was left out is no hole.
    assert [gap.kind for gap in told(shifted(30, world, 3600.0))] == ["clock"]


def test_how_far_a_clock_is_ahead_is_a_number_as_soon_as_it_is_known() -> None:
    vigil = Vigil()
    world = shifted(0, quiet(30, servers=1), 60.0)
    told(world[:3], vigil)
    assert vigil.skews() == {}
    told(world[3:], vigil)
    assert vigil.skews()[CLUSTER] == pytest.approx(55, abs=1)


def test_a_clock_that_has_always_been_ahead_is_told_as_well() -> None:
    assert opened(told(shifted(0, quiet(30), 60.0)))[0] == "clock"


def test_the_clock_of_one_api_server() -> None:
    def ahead(one: Mark) -> Mark:
        by = 30.0 if one.what == "server" and one.name == "apiserver-2" else 0.0
        return one._replace(first=one.first + by, last=one.last + by)

    (gap,) = told(after(30, quiet(60), marks=ahead))
    assert (gap.kind, "apiserver-2" in gap.title) == ("clock", True)


def test_a_clock_that_is_set_right_is_told_no_longer() -> None:
    gaps = told([*shifted(30, quiet(60, servers=1), 30.0), *quiet(120, servers=1)[360:]])
    assert [gap.kind for gap in gaps if gap.until] == ["clock"]


def test_events_that_come_much_later_than_usual() -> None:
    world = [(at + (400 if at > START + 3600 else 0), survey) for at, survey in quiet(120)]
    gaps = told(world)
    assert "late" in opened(gaps)
    assert "6 min late" in next(gap for gap in gaps if gap.kind == "late").title


def test_a_feed_that_is_always_late_is_not_told() -> None:
    assert told([(at + 900, survey) for at, survey in quiet(120)]) == []


def test_a_single_old_file_is_no_delay() -> None:
    world = quiet(120)
    old = [(world[500][0], survey) for _, survey in world[:100]]
    assert told([*world[:500], *old, *world[500:]]) == []


def test_an_event_of_the_far_future_blinds_nobody() -> None:
    world = quiet(60)
    at = START + 10 * 365 * 86_400
    forged = Survey([sighting(at, "ada", "get pods")], [])
    world.insert(100, (world[100][0], forged))
    gaps = told(after(30, world, marks=node_3))
    assert "heartbeat" in opened(gaps)


def test_a_backlog_is_told_while_it_lasts() -> None:
    vigil = Vigil()
    vigil.backlog(5.0, START)
    assert vigil.changes(START) == []
    vigil.backlog(90.0, START + 60)
    (gap,) = vigil.changes(START + 60)
    assert (gap.kind, gap.cluster) == ("backlog", "")
    vigil.backlog(120.0, START + 90)
    assert vigil.changes(START + 90) == []
    vigil.backlog(1.0, START + 120)
    (ended,) = vigil.changes(START + 120)
    assert (ended.id, ended.until is not None) == (gap.id, True)


@given(st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_chunks_that_overtake_each_other_are_no_gaps(rng: random.Random) -> None:
    world = quiet(40)
    arrivals = sorted(world, key=lambda chunk: chunk[0] + rng.uniform(0, 50))
    in_order = [(at, survey) for (_, survey), (at, _) in zip(arrivals, world, strict=True)]
    shifted_on = [(at + 50, survey) for at, survey in in_order]
    assert told(shifted_on) == []


WORLDS: list[Callable[[], Iterable[Chunk]]] = [
    lambda: after(20, quiet(50), marks=node_3),
    lambda: after(20, quiet(50), seen=metadata, until=30),
    lambda: after(30, quiet(60), seen=no_secrets),
    lambda: [c for c in quiet(50) if not 25 <= (c[0] - START) / 60 < 31],
]


@pytest.mark.parametrize("world", WORLDS)
def test_a_restart_changes_nothing(world: Callable[[], Iterable[Chunk]]) -> None:
    """State that was saved and restored after every chunk tells what the whole run tells."""
    vigil = Vigil()
    gaps: list[Gap] = []
    for arrived, survey in world():
        gaps += told([(arrived, survey)], vigil)
        vigil = restarted(vigil)
    expected = told(world())
    assert gaps == expected
    assert expected


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda saved: b"",
    lambda saved: b"\xff",
    lambda saved: saved[:-3],
    lambda saved: b"\x80" * 9,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_said_to_be(damage: Callable[[bytes], bytes]) -> None:
    vigil = Vigil()
    told(quiet(2), vigil)
    (saved,) = vigil.saved().values()
    with pytest.raises(ValueError, match="saved state"):
        Vigil().restore(CLUSTER, damage(saved))


def test_two_clusters_do_not_hide_each_other() -> None:
    world = quiet(60)
    other = [
        (at, Survey([s._replace(cluster="dev") for s in survey.sightings], []))
        for at, survey in world
        if at < START + 30 * 60
    ]
    both = sorted([*world, *other], key=lambda chunk: chunk[0])
    (gap,) = told(both)
    assert (gap.kind, gap.cluster) == ("silence", "dev")
    assert CLUSTER != "dev"


def test_what_is_told_does_nothing_where_it_is_shown() -> None:
    evil = "\x1b[2J\u202eevil"

    def renamed(one: Mark) -> Mark:
        return one._replace(name=evil) if one.name == "node-3" else one

    def silent(one: Mark) -> Mark | None:
        return None if one.name == evil else one

    (gap,) = told(after(30, [*after(0, quiet(60), marks=renamed)], marks=silent))
    assert not any(acts(text) for text in (gap.title, gap.what, gap.why, gap.remedy))
    assert gap.members == (evil,)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (heartbeats, levels, requests):
        monkeypatch.setattr(module, "MOST", 50)
    vigil = Vigil()
    world = [*after(40, quiet(60), marks=node_3)]
    for number, (at, survey) in enumerate(world[:180]):
        begun = at - STEP
        flood = [sighting(begun, f"u{n}", f"get made-up-{number}-{n}") for n in range(20)]
        marks = [mark(begun, "node", f"made-up-{number}-{n}") for n in range(20)]
        vigil.observe(Survey([*survey.sightings, *flood], [*survey.marks, *marks]), at)
        assert vigil.changes(at) == []
    assert sum(map(len, vigil.saved().values())) < 60_000
    # The flood has not driven out what was known before.
    assert {("heartbeat", ("node-3",))} <= {(g.kind, g.members) for g in told(world[180:], vigil)}


def test_what_is_usual_is_learnt_from_what_is_told_only_in_part() -> None:
    usual = Usual()
    for number in range(10):
        usual.learn(10.0, START + number)
    assert usual.limit(1.0) == pytest.approx(40.0, rel=1e-3)
    usual.learn(3600.0, START + 60, told=True)
    assert usual.most == pytest.approx(80.0, rel=1e-3)
    usual.learn(1.0, START + 60 + 7 * 86_400)
    assert usual.most == pytest.approx(40.0, rel=1e-3)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1e3))
def test_nothing_learnt_just_now_is_out_of_the_usual(values: list[float], least: float) -> None:
    usual = Usual()
    for value in values:
        usual.learn(value, START)
    assert max(values) <= usual.limit(least)


def test_a_clock_says_nothing_before_it_has_seen_some_arrivals() -> None:
    clock = Clock()
    clock.arrive(START + 100, START)
    assert [*clock.judge("")] == []
