"""A witness hears each event once, in whatever order and after whatever restarts, and judges as
``kubewitness analyze`` would."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import pytest

from activities import DAY, OUTSIDE, START
from audit_log import STOLEN_AT, event, lines, quiet_days, stolen_credential, write
from kubewitness.analysis import analyze
from kubewitness.config.settings import Detection
from kubewitness.incidents.model import Incident
from kubewitness.lake.adding import add
from kubewitness.lake.compaction import compact
from kubewitness.lake.engine import engine
from kubewitness.lake.store import Lake
from kubewitness.service import witness
from kubewitness.service.judgement import Verdict
from kubewitness.service.witness import Witness
from kubewitness.sources.reading import Chunk
from kubewitness.times import Moment

CLUSTER = "default"
SINCE = START + 3 * DAY


class Cluster:
    """A lake with a witness, as the service has them."""

    def __init__(self, root: Path, learn: timedelta = 2 * DAY) -> None:
        self.root = root
        self.lake = Lake(root / "lake", durable=True)
        self._learn = learn.total_seconds()
        self.told: dict[str, Incident] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """The service is up; at its end it is gone without a word, as if killed."""
        with engine(self.root / "spill", self.lake.redactor) as self._database:
            settings = Detection(learn=self._learn)
            scratch = self.root / "scratch"
            scratch.mkdir(exist_ok=True)
            self.witness = Witness(CLUSTER, self.lake, self._database, settings, scratch)
            self.witness.catch_up()
            try:
                yield
            finally:
                self.witness.dismiss()

    def hears(self, audit_lines: Sequence[bytes]) -> None:
        path = self.root / "chunk.jsonl"
        path.write_bytes(b"\n".join(audit_lines) + b"\n")
        chunk = Chunk(path, "none", "webhook", verbatim=False, lines=len(audit_lines))
        added = add([chunk], self.lake, self._database.cursor(), cluster=CLUSTER)
        if added.parts:
            self.told |= {one.id: one for one in self.witness.hear(added.parts)}

    def judges(self) -> Verdict:
        self.judging = self.witness.snapshot()
        verdict = self.judging.reach()
        self.told |= {one.id: one for one in self.witness.adopt(self.judging)}
        self.witness.save()
        return verdict

    def as_analyzed(self) -> tuple[Incident, ...]:
        """What a batch run makes of the same events; causes are told elsewhere."""
        since = self.witness.standing.since
        assert since is not None
        found = analyze(
            [], lake=self.lake.root, cluster=CLUSTER, since=Moment(when=since.replace(tzinfo=UTC))
        )
        nothing: dict[str, object] = {"cause": None, "reach": None, "prevention": ()}
        return tuple(
            msgspec.structs.replace(one, **nothing) for one in (*found.incidents, *found.queue)
        )


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with three quiet days."""
    root = tmp_path_factory.mktemp("history")
    with Cluster(root).running():
        pass
    cluster = Cluster(root)
    with cluster.running():
        cluster.hears([line for line in everything() if received(line) < SINCE])
    shutil.rmtree(root / "lake" / "activity", ignore_errors=True)
    return root


@pytest.fixture
def cluster(history: Path, tmp_path: Path) -> Cluster:
    shutil.copytree(history / "lake", tmp_path / "lake")
    return Cluster(tmp_path)


def everything() -> list[bytes]:
    """Four days, a theft in the last night."""
    found = [*quiet_days().splitlines(), *stolen_credential().splitlines()]
    return sorted(found, key=received)


def received(line: bytes) -> datetime:
    text = msgspec.json.decode(line)["requestReceivedTimestamp"]
    return datetime.fromisoformat(text)


def last_day() -> list[bytes]:
    return [line for line in everything() if received(line) >= SINCE]


def pieces(of: Sequence[bytes], n: int) -> Iterator[list[bytes]]:
    size = len(of) // n + 1
    for place in range(0, len(of), size):
        yield list(of[place : place + size])


def alerts(incidents: Sequence[Incident]) -> dict[str, Incident]:
    return {one.id: one for one in incidents if one.alert}


def test_what_is_heard_live_is_judged_as_analyze_judges_it(cluster: Cluster) -> None:
    with cluster.running():
        assert cluster.judges().detection.incidents == ()
        for number, piece in enumerate(pieces(last_day(), 12)):
            cluster.hears(piece)
            if number == 7:
                cluster.judges()
        found = cluster.judges().detection.incidents
        judged = cluster.judges()
    assert found == cluster.as_analyzed()
    assert alerts(found).keys() == cluster.told.keys()
    assert len(cluster.told) == 1
    assert [one.cause is not None for one in judged.incidents] == [one.alert for one in found]
    (stolen,) = cluster.told.values()
    assert stolen.principals == ("ada",)
    assert stolen.opened_at - STOLEN_AT < timedelta(minutes=5)


@pytest.mark.parametrize("seed", [1, 2])
def test_neither_order_nor_repetition_nor_lateness_makes_a_difference(
    cluster: Cluster, seed: int
) -> None:
    chance = random.Random(seed)
    shuffled = last_day()
    chance.shuffle(shuffled)
    with cluster.running():
        cluster.judges()
        for number, piece in enumerate(pieces(shuffled, 6)):
            cluster.hears(piece)
            cluster.hears(piece[: chance.randrange(len(piece))])
            if number in (2, 4):
                cluster.judges()
        found = cluster.judges().detection.incidents
    assert found == cluster.as_analyzed()


@pytest.mark.parametrize("orderly", [True, False], ids=["saved", "killed"])
def test_a_restart_forgets_nothing(cluster: Cluster, orderly: bool) -> None:
    for number, piece in enumerate(pieces(last_day(), 5)):
        with cluster.running():
            if number % 2:
                cluster.judges()
            cluster.hears(piece)
            if orderly:
                cluster.witness.save()
    with cluster.running():
        found = cluster.judges().detection.incidents
        assert cluster.witness.standing.since is not None
    assert found == cluster.as_analyzed()
    assert len(alerts(found)) == 1


def test_what_another_process_adds_to_the_lake_is_heard_at_the_next_start(
    cluster: Cluster, tmp_path: Path
) -> None:
    early, late = last_day()[:200], last_day()[200:]
    with cluster.running():
        cluster.judges()
        cluster.hears(early)
        cluster.judges()
    path = write(tmp_path / "more.log", [])
    path.write_bytes(b"\n".join(late) + b"\n")
    analyze([path], lake=cluster.lake.root, cluster=CLUSTER)
    with cluster.running():
        found = cluster.judges().detection.incidents
    assert found == cluster.as_analyzed()
    assert len(alerts(found)) == 1


@pytest.mark.parametrize("what", ["standing.json", "activity.parquet", "groups", "everything"])
def test_whatever_is_damaged_is_made_again_from_the_events(cluster: Cluster, what: str) -> None:
    with cluster.running():
        cluster.judges()
        cluster.hears(last_day())
        cluster.judges()
    kept = cluster.lake.root / "activity"
    files = [path for path in kept.rglob("*") if path.is_file()]
    chosen = [path for path in files if what in path.name or what == "everything"]
    assert chosen
    for path in chosen:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with cluster.running():
        # Which events had been there before is not known any more, so all are history now.
        assert len(cluster.judges().detection.incidents) <= 1
        cluster.hears(lines([event(START + 4 * DAY, "ada", "list", "secrets")]).splitlines())
        found = cluster.judges().detection.incidents
    assert found == cluster.as_analyzed()


def test_a_cluster_without_history_is_learnt_before_it_is_judged(tmp_path: Path) -> None:
    """From its first event on: slots become wider, and slices longer, as the log grows."""
    cluster = Cluster(tmp_path, learn=3 * DAY)
    with cluster.running():
        for piece in pieces(everything(), 10):
            cluster.judges()
            learning = cluster.witness.standing.since is None
            assert (cluster.judging.task.since is None) is learning
            assert not (learning and cluster.told)
            cluster.hears(piece)
        found = cluster.judges().detection.incidents
        assert cluster.witness.standing.since == received(everything()[0]).replace(
            tzinfo=None
        ) + timedelta(days=3)
        assert cluster.witness.standing.width == 3600
    assert found == cluster.as_analyzed()
    assert len(alerts(found)) == 1


def test_a_proxy_that_shows_only_later_changes_who_spoke_before(cluster: Cluster) -> None:
    """The archive has addresses in it, so it is made again."""
    ended, followed = b'"],"userAgent"', b'","192.0.2.1"],"userAgent"'
    through = [line.replace(ended, followed) for line in last_day()]
    with cluster.running():
        cluster.judges()
        for piece in pieces(through, 3):
            cluster.hears(piece)
            cluster.judges()
        found = cluster.judges().detection.incidents
        assert cluster.witness.standing.proxies == {"192.0.2.1"}
    assert found == cluster.as_analyzed()
    assert any(OUTSIDE in one.source_ips for one in alerts(found).values())


def test_a_clock_that_runs_ahead_hides_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "_now", lambda: (START + 4 * DAY).replace(tzinfo=None))
    ahead = lines([event(START + 400 * DAY, "ben", "get", "pods")]).splitlines()
    with cluster.running():
        cluster.judges()
        for piece in pieces(last_day(), 3):
            cluster.hears([*ahead, *piece])
            cluster.judges()
        assert len(cluster.told) == 1
        assert alerts(cluster.judges().detection.incidents).keys() == cluster.told.keys()


def test_a_failed_judgement_leaves_the_last_one_in_charge(cluster: Cluster) -> None:
    with cluster.running():
        cluster.judges()
        cluster.witness.abandon(cluster.witness.snapshot())
        cluster.hears(last_day()[:300])
        cluster.witness.abandon(cluster.witness.snapshot())
        cluster.hears(last_day()[300:])
        assert len(cluster.told) == 1
        assert cluster.judges().detection.incidents == cluster.as_analyzed()


def test_a_killed_judge_is_followed_by_another(cluster: Cluster) -> None:
    with cluster.running():
        cluster.judges()
        assert cluster.judging.pid is not None
        os.kill(cluster.judging.pid, signal.SIGKILL)
        with pytest.raises(ChildProcessError):
            cluster.hears(last_day()[:300])
        cluster.witness.dismiss()
        cluster.hears(last_day()[300:])
        assert not cluster.told
        found = cluster.judges().detection.incidents
        assert found == cluster.as_analyzed()
        assert len(alerts(found)) == 1


def test_activity_that_the_lake_cannot_make_again_is_kept(cluster: Cluster) -> None:
    """A proxy shows, a file is damaged, all is forgotten: events are kept for less time."""
    with cluster.running():
        cluster.judges()
        cluster.hears(last_day())
        cluster.judges()
    kept = cluster.lake.root / "activity"
    old = sorted(kept.rglob("activity.parquet"))[0]
    expired = cluster.lake.events / old.parent.relative_to(kept)
    shutil.rmtree(expired)
    before = old.read_bytes()
    ended, followed = b'"],"userAgent"', b'","192.0.2.1"],"userAgent"'
    with cluster.running():
        cluster.hears([line.replace(ended, followed) for line in last_day()[-200:]])
        cluster.judges()
    assert old.read_bytes() == before
    next(kept.rglob("standing.json")).unlink()
    with cluster.running():
        cluster.judges()
    assert old.read_bytes() == before


def test_nothing_says_that_activity_is_there_once_it_is_being_forgotten(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of it, the service hears everything anew."""
    with cluster.running():
        cluster.judges()
        cluster.hears(last_day())
        cluster.judges()
    days = list(cluster.lake.root.rglob("activity.parquet"))
    (next(cluster.lake.root.rglob("standing.json"))).write_text("{")

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name == "activity.parquet":
            raise KeyboardInterrupt
        os.unlink(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt), cluster.running():
            pass
    assert not list(cluster.lake.root.rglob("standing.json"))
    with cluster.running():
        assert cluster.witness.standing.heard
        assert {path for path in days if path.exists()}


def test_an_orderly_end_during_compaction_counts_nothing_twice(
    cluster: Cluster, tmp_path: Path
) -> None:
    with cluster.running():
        cluster.judges()
        for piece in pieces(last_day(), 20):
            cluster.hears(piece)
        settled = timedelta(0)
        with engine(tmp_path / "merging") as connection:
            assert compact(cluster.lake, connection, settled=settled)
        # Nobody comes to say ``merged`` any more.
        cluster.witness.save()
    with cluster.running():
        found = cluster.judges().detection.incidents
    assert found == cluster.as_analyzed()
    assert len(alerts(found)) == 1


def test_a_chunk_of_the_future_is_not_the_present(cluster: Cluster) -> None:
    ahead = lines([event(witness._now().replace(tzinfo=UTC) + 400 * DAY, "ben", "get", "pods")])
    with cluster.running():
        cluster.judges()
        cluster.hears(ahead.splitlines())
        cluster.hears(last_day())
        found = cluster.judges().detection.incidents
    assert len(alerts(found)) == 1
    assert alerts(found).keys() == cluster.told.keys()


def test_a_damaged_part_hides_no_other(cluster: Cluster) -> None:
    with cluster.running():
        cluster.judges()
        for piece in pieces(last_day(), 3):
            cluster.hears(piece)
    damaged = max(cluster.lake.parts(), key=lambda part: part.stat().st_mtime_ns)
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    shutil.rmtree(cluster.lake.root / "activity")
    cluster.lake = Lake(cluster.lake.root, durable=True)
    with cluster.running():
        cluster.hears(lines([event(START + 4 * DAY, "ada", "list", "secrets")]).splitlines())
        found = cluster.judges().detection.incidents
        assert found == cluster.as_analyzed()
    assert not damaged.exists()


def test_what_failed_to_be_kept_is_heard_later(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where memory is short between two tables."""
    with cluster.running():
        cluster.judges()

        def fails(closed: datetime) -> None:
            raise duckdb.OutOfMemoryException("no memory")

        with monkeypatch.context() as patched:
            patched.setattr(cluster.witness, "_remember", fails)
            with pytest.raises(duckdb.OutOfMemoryException):
                cluster.hears(last_day())
        cluster.witness.catch_up()
        found = cluster.judges().detection.incidents
    assert found == cluster.as_analyzed()
    assert len(alerts(found)) == 1
