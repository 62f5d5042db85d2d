"""From new parts of the lake to what is told of gaps: with a real lake, a real state, real logs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from audit_log import Event, event, lines
from kubewitness.config.settings import Sink as Settings
from kubewitness.incidents.model import Incident
from kubewitness.lake.adding import add
from kubewitness.lake.engine import engine
from kubewitness.lake.store import Lake
from kubewitness.service import lookout as module
from kubewitness.service import metrics
from kubewitness.service.gaps.survey import Mark, Sighting, survey
from kubewitness.service.gaps.telling import notice
from kubewitness.service.gaps.vigil import Vigil
from kubewitness.service.lookout import Lookout
from kubewitness.sinks.courier import Courier
from kubewitness.sinks.sink import sink
from kubewitness.sources.reading import Chunk
from kubewitness.state.database import State
from receivers import answers, receiver

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
SECONDS = START.timestamp()


class Place:
    """A lake and a state in a folder, and the engine."""

    def __init__(self, folder: Path, connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
        self.folder = folder
        self.connection = connection
        self.lake = lake
        self.state = State(folder / "state.sqlite")

    def add(self, events: Iterable[Event]) -> list[Path]:
        path = self.folder / "chunk.jsonl"
        path.write_bytes(lines(events))
        n = path.read_bytes().count(b"\n")
        chunk = Chunk(path, "none", "webhook", verbatim=False, lines=n)
        return add([chunk], self.lake, self.connection, cluster="prod").parts

    def lookout(self, *clusters: str) -> Lookout:
        lookout = Lookout(self.lake, self.state, clusters or ["prod"])
        lookout.begin(self.connection.cursor())
        return lookout


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    lake = Lake(tmp_path / "lake")
    with engine(tmp_path / "spill", lake.redactor) as connection:
        connection.execute("SET threads=1")
        here = Place(tmp_path, connection, lake)
        yield here
        here.state.close()


def lease(at: datetime, who: str, namespace: str, name: str, code: int = 200) -> Event:
    group = "coordination.k8s.io"
    return event(
        at, who, "update", "leases", group=group, namespace=namespace, name=name, code=code
    )


def renewal(at: datetime, node: str, code: int = 200) -> Event:
    return lease(at, f"system:node:{node}", "kube-node-lease", node, code)


def hour(minutes: range, nodes: Sequence[str] = ("a", "b", "c")) -> Iterator[Event]:
    for minute in minutes:
        for second in (0, 20, 40):
            at = START + timedelta(minutes=minute, seconds=second)
            yield from (renewal(at, node) for node in nodes)
            yield event(at, "ada", "list", "secrets", level="Request")


def of(*events: Event, place: Place) -> tuple[list[Sighting], list[Mark]]:
    found = survey(place.connection, f"({Lake.relation(place.add(events))})")
    return sorted(found.sightings), sorted(found.marks)


def test_events_alike_are_one_sighting(place: Place) -> None:
    at = START + timedelta(seconds=1)
    sightings, marks = of(
        event(at, "ada", "get", "pods", level="RequestResponse"),
        event(at, "ada", "get", "pods", name="other", level="RequestResponse"),
        event(at, "ada", "get", "pods", level="RequestResponse", stage="ResponseStarted"),
        event(at, "ada", "update", "deployments", group="apps", subresource="scale"),
        event(at, "ada", "get", "pods", code=403),
        place=place,
    )
    told = [(s.kind, s.rank, s.stage, s.n, s.minute) for s in sightings]
    assert told == [
        ("", 0, "ResponseComplete", 1, SECONDS),
        ("get pods", 2, "ResponseComplete", 2, SECONDS),
        ("get pods", 2, "ResponseStarted", 1, SECONDS),
        ("update deployments.apps/scale", 0, "ResponseComplete", 1, SECONDS),
    ]
    assert marks == []


def test_signs_of_life(place: Place) -> None:
    controller = "system:serviceaccount:kube-system:node-controller"
    server = lease(START, "system:apiserver", "kube-system", "apiserver-x")
    server["user"]["uid"] = "run-1"
    _, marks = of(
        renewal(START, "a"),
        event(START, "system:node:b", "get", "pods"),
        lease(START, "system:kube-scheduler", "kube-system", "kube-scheduler"),
        server,
        event(START, controller, "patch", "nodes", namespace="", name="c"),
        event(START, "ada", "delete", "nodes", namespace="", name="d"),
        # No signs: it failed, it is an application's, it is somebody's own.
        renewal(START, "e", code=409),
        lease(START, "system:serviceaccount:shop:api", "kube-system", "api"),
        lease(START, "ada", "shop", "web"),
        place=place,
    )
    assert [(mark.what, mark.name, mark.n) for mark in marks] == [
        ("alive", "b", 1),
        ("alive", "e", 1),
        ("gone", "d", 1),
        ("leader", "kube-scheduler", 1),
        ("node", "a", 1),
        ("noticed", "c", 1),
        ("process", "run-1", 1),
        ("server", "apiserver-x", 1),
    ]


Tell = Callable[[str, Sequence[Incident]], Awaitable[None]]


def looked(
    lookout: Lookout, monkeypatch: pytest.MonkeyPatch, now: float, waiting: float = 0.0
) -> list[tuple[str, Incident]]:
    """One look at ``now``; what is told."""
    monkeypatch.setattr("kubewitness.service.lookout.time.time", lambda: now)
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    told: list[tuple[str, Incident]] = []

    async def tell(cluster: str, incidents: Sequence[Incident]) -> None:
        told.extend((cluster, one) for one in incidents)

    looks = 0

    def waits() -> float:
        nonlocal looks
        looks += 1
        return waiting

    async def run() -> None:
        task = asyncio.create_task(lookout.run(tell, waits))
        while looks < 2 and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return told


def gaps_open(kind: str) -> float:
    return float(metrics.GAPS_OPEN.labels(kind=kind)._value.get())


def fed(
    place: Place, lookout: Lookout, monkeypatch: pytest.MonkeyPatch, events: Iterable[Event]
) -> list[tuple[str, Incident]]:
    """Ten minutes of events at a time, each ten as one chunk."""
    told = []
    chunks: dict[datetime, list[Event]] = {}
    for one in events:
        at = datetime.fromisoformat(one["stageTimestamp"])
        chunks.setdefault(at.replace(minute=at.minute // 10 * 10, second=0, microsecond=0), []
                          ).append(one)  # fmt: skip
    for begin, some in sorted(chunks.items()):
        now = (begin + timedelta(minutes=10)).timestamp()
        lookout.see(place.add(some), now)
        told += looked(lookout, monkeypatch, now)
    return told


def test_a_node_that_falls_silent_is_told_everywhere(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lookout = place.lookout()
    with caplog.at_level(logging.INFO, "kubewitness"):
        assert fed(place, lookout, monkeypatch, hour(range(30))) == []
        told = fed(place, lookout, monkeypatch, hour(range(30, 60), nodes=["a", "b"]))
        ((cluster, incident),) = told
        assert (cluster, incident.title) == ("prod", "Nothing is heard of node c")
        assert incident.next_steps
        assert gaps_open("heartbeat") == 1
        (line,) = [one for one in caplog.records if one.levelno == logging.WARNING]
        assert "cluster prod: Nothing is heard of node c" in line.getMessage()
        fed(place, lookout, monkeypatch, hour(range(60, 80)))
    assert gaps_open("heartbeat") == 0
    assert "over: Nothing is heard of node c" in caplog.text


def test_the_end_of_a_gap_reaches_whoever_heard_of_it_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubewitness.sinks.courier.POLL", 0.02)
    lookout = place.lookout()
    with receiver(answers(204)) as there:
        wanted = Settings(name="hook", type="webhook", url=there.url, alerts_only=False)

        def kept(told: Iterable[tuple[str, Incident]]) -> None:
            for cluster, incident in told:
                place.state.keep(cluster, [incident], [wanted])

        async def deliver() -> None:
            task = asyncio.create_task(Courier(place.state, [(wanted, sink(wanted))]).run())
            while place.state.backlog():
                await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        kept(fed(place, lookout, monkeypatch, hour(range(30))))
        kept(fed(place, lookout, monkeypatch, hour(range(30, 60), nodes=["a", "b"])))
        asyncio.run(deliver())
        # A process that is killed now knows what it told.
        again = place.lookout()
        kept(fed(place, again, monkeypatch, hour(range(60, 90))))
        asyncio.run(deliver())
        told = [json.loads(taken.body) for taken in there.taken]
    assert [one["type"] for one in told] == ["incident.opened", "incident.resolved"]
    opened, over = (one["data"] for one in told)
    assert opened["id"] == over["id"]
    assert opened["ended_at"] is None
    assert over["ended_at"] == over["updated_at"] > over["opened_at"]


def test_a_restart_goes_on_and_hears_what_came_before_it_was_saved(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookout = place.lookout()
    fed(place, lookout, monkeypatch, hour(range(40)))
    # Taken into the lake, and the process is killed before it looks.
    place.add(hour(range(40, 50), nodes=["a", "b"]))
    monkeypatch.setattr("kubewitness.service.lookout.time.time", lambda: SECONDS + 3000)
    again = place.lookout()
    told = looked(again, monkeypatch, SECONDS + 3001)
    assert [incident.title for _, incident in told] == ["Nothing is heard of node c"]
    assert fed(place, again, monkeypatch, hour(range(50, 60), nodes=["a", "b"])) == []


def test_services_that_share_a_state_know_their_own_clusters_only(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = place.lookout()
    fed(place, ours, monkeypatch, hour(range(30)))
    theirs = place.lookout("dev")
    later = SECONDS + 3 * 3600
    for seconds in range(0, 1200, 50):  # of ours nothing comes there
        assert looked(theirs, monkeypatch, later + seconds) == []
    # And what they save is not instead of what we know.
    again = place.lookout()
    assert place.state.position("gaps/prod")
    fed(place, again, monkeypatch, hour(range(30, 40)))
    told = fed(place, again, monkeypatch, hour(range(40, 60), nodes=["a", "b"]))
    assert [incident.title for _, incident in told] == ["Nothing is heard of node c"]


def test_a_damaged_state_is_begun_anew(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.state.set_position("gaps/prod", b"nonsense")
    place.lookout()
    assert "what is usual in its log is learnt anew" in caplog.text


def test_a_part_that_cannot_be_read_stops_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lookout = place.lookout()
    lookout.see([place.folder / "gone.parquet"], SECONDS)
    assert looked(lookout, monkeypatch, SECONDS) == []
    assert "gaps were not looked for in new events" in caplog.text
    assert fed(place, lookout, monkeypatch, hour(range(10))) == []


def test_a_state_that_is_gone_stops_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from kubewitness.errors import StateUnavailable

    def gone(*given: object) -> None:
        raise StateUnavailable("the state is locked")

    lookout = place.lookout()
    monkeypatch.setattr(place.state, "set_position", gone)
    assert fed(place, lookout, monkeypatch, hour(range(10))) == []
    assert "what is known of gaps is not saved" in caplog.text


def test_events_that_wait_are_told_without_a_notice(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lookout = place.lookout()
    assert looked(lookout, monkeypatch, SECONDS, waiting=90.0) == []
    assert gaps_open("backlog") == 1
    assert "Accepted events wait to be stored" in caplog.text
    looked(lookout, monkeypatch, SECONDS + 10, waiting=0.0)
    assert gaps_open("backlog") == 0


def test_a_lowered_level_is_a_notice_of_defence_evasion() -> None:
    from gap_worlds import after, quiet, told

    (gap,) = told(after(30, quiet(60), seen=lambda one: one._replace(rank=0)))
    incident = notice(gap)
    assert incident.alert
    assert (incident.tactics, incident.techniques) == (("Defense Evasion",), ("T1562.008",))
    assert incident.summary.startswith("Since ")
    assert "In the dark: what was written" in incident.summary
    assert incident.opened_at == gap.since
    assert Vigil().open == []
