"""The service as a whole, as a process, and what really happens to processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from activities import DAY, START
from audit_log import event, lines
from conftest import Command, FailingDisk, mounted
from kubewitness.analysis import analyze
from kubewitness.incidents.model import Incident
from kubewitness.state.database import State
from kubewitness.times import Moment
from postgresql import Server
from serving import CLUSTER, Service, identities
from test_witness import everything, last_day, pieces, received

SINCE = START + 3 * DAY
KILLS = int(os.environ.get("SERVICE_KILLS", "6"))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with three quiet days."""
    root = tmp_path_factory.mktemp("history")
    log = root / "audit.log"
    log.write_bytes(b"\n".join(line for line in everything() if received(line) < SINCE))
    analyze([log], lake=root / "lake", cluster=CLUSTER)
    return root / "lake"


@pytest.fixture
def service(tmp_path: Path, history: Path) -> Service:
    found = Service(tmp_path)
    shutil.copytree(history, found.data / "lake")
    return found


def standing(service: Service) -> datetime:
    """From when on the service judges."""
    path = service.data / "lake" / "activity" / f"cluster={CLUSTER}" / "standing.json"
    since = datetime.fromisoformat(msgspec.json.decode(path.read_bytes())["since"])
    return since.replace(tzinfo=UTC)


def known(service: Service) -> list[Incident]:
    with State(service.data / "state.sqlite") as state:
        return sorted(state.incidents(CLUSTER), key=lambda one: (-one.score, one.id))


def test_a_theft_is_told_at_once_and_as_analyze_tells_it(service: Service) -> None:
    with service.running():
        service.until(lambda: service.metric("judgement_duration_seconds_count") > 0, "no judge")
        for piece in pieces(last_day(), 9):
            assert service.post(piece) == 200
        service.until(service.notices, "nobody is told")
        service.settled()
        assert service.stop() == 0
    assert service.stored().keys() >= identities(last_day())
    assert set(service.stored().values()) == {1}

    found = analyze(
        [], lake=service.data / "lake", cluster=CLUSTER, since=Moment(when=standing(service))
    )
    batch = sorted((*found.incidents, *found.queue), key=lambda one: (-one.score, one.id))
    live = known(service)
    assert [one.id for one in live] == [one.id for one in batch]
    for one, other in zip(live, batch, strict=True):
        bare = {"cause": None, "reach": None, "prevention": ()}
        assert msgspec.structs.replace(one, **bare) == msgspec.structs.replace(other, **bare)
    assert [one.cause is not None for one in live] == [one.alert for one in live]
    assert {one["id"] for one in service.notices()} == {one.id for one in found.incidents}
    assert "Warning" not in service.log.read_text()


def test_a_judging_process_that_is_killed_is_replaced(service: Service) -> None:
    """As by the kernel where memory is short."""
    with service.running():
        service.until(lambda: service.metric("judgement_duration_seconds_count") > 0, "no judge")
        for number, piece in enumerate(pieces(last_day(), 9)):
            if number in (3, 6):
                for pid in service.children():
                    os.kill(pid, signal.SIGKILL)
            assert service.post(piece) == 200
        service.settled()
        service.until(service.notices, "nobody is told")
        children = service.children()
        assert children
        assert service.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert service.stored().keys() >= identities(last_day())
    found = analyze(
        [], lake=service.data / "lake", cluster=CLUSTER, since=Moment(when=standing(service))
    )
    assert {one["id"] for one in service.notices()} == {one.id for one in found.incidents}


def test_whatever_was_acknowledged_is_in_the_lake_once_after_any_number_of_kills(
    service: Service,
) -> None:
    chance = random.Random(7)
    waiting = list(pieces(last_day(), 60))
    acknowledged: set[str] = set()
    done = threading.Event()

    def api_server() -> None:
        """Sends what was not acknowledged again, and now and then what was."""
        while waiting and not done.is_set():
            piece = waiting[0]
            if service.post(piece) == 200:
                acknowledged.update(identities(piece))
                waiting.pop(0)
                if chance.random() < 0.3:
                    service.post(piece)
            else:
                time.sleep(0.02)

    service.begin()
    sender = threading.Thread(target=api_server)
    sender.start()
    try:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.3, 2.0))
            service.kill()
            service.begin()
        service.wait_until_ready()
        sender.join(60)
        assert not waiting
        service.settled()
        assert service.stop() == 0
    finally:
        done.set()
        sender.join()
        service.kill()
    stored = service.stored()
    assert acknowledged == identities(last_day())
    assert acknowledged <= stored.keys()
    assert set(stored.values()) == {1}
    found = analyze(
        [], lake=service.data / "lake", cluster=CLUSTER, since=Moment(when=standing(service))
    )
    assert {one.id for one in known(service)} >= {one.id for one in found.incidents}
    assert len(found.incidents) == 1


def test_a_locked_state_keeps_no_event_and_no_incident_away(service: Service) -> None:
    with service.running():
        service.until(lambda: service.metric("judgement_duration_seconds_count") > 0, "no judge")
        held = sqlite3.connect(service.data / "state.sqlite", isolation_level=None)
        held.execute("BEGIN EXCLUSIVE")
        for piece in pieces(last_day(), 4):
            assert service.post(piece) == 200
        service.until(lambda: service.metric("spool_backlog_bytes") == 0, "the spool is full")
        assert service.notices() == []
        held.execute("ROLLBACK")
        held.close()
        service.until(service.notices, "nobody is told")
        assert service.stop() == 0


def test_incidents_are_kept_in_a_postgresql_that_goes_away_and_comes_back(
    tmp_path: Path, history: Path, database: str, postgresql: Server, kubewitness: Command
) -> None:
    (tmp_path / "state.url").write_text(database)
    (tmp_path / "state.url").chmod(0o600)
    service = Service(tmp_path, state={"file": str(tmp_path / "state.url")})
    shutil.copytree(history, service.data / "lake")
    with service.running():
        service.until(lambda: service.metric("judgement_duration_seconds_count") > 0, "no judge")
        postgresql.kill()
        for piece in pieces(last_day(), 4):
            assert service.post(piece) == 200
        service.until(lambda: service.metric("spool_backlog_bytes") == 0, "the spool is full")
        postgresql.start()
        service.until(service.notices, "nobody is told")
        assert service.stop() == 0
    (stolen,) = {one["id"] for one in service.notices()}
    assert stolen in kubewitness("incidents", "--state", database, "-o", "name").text


@pytest.fixture
def own_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "own", "size=24m")


def test_a_full_disk_stops_nothing_for_longer_than_it_is_full(
    own_disk: Path, history: Path
) -> None:
    service = Service(own_disk)
    shutil.copytree(history, service.data / "lake")
    early, late = list(pieces(last_day(), 10))[:5], list(pieces(last_day(), 10))[5:]
    with service.running():
        for piece in early:
            assert service.post(piece) == 200
        filler = own_disk / "filler"
        answers = []
        for piece in late:
            # What is deleted meanwhile makes some room again.
            with suppress(OSError), filler.open("ab", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)
            answers.append(service.post(piece))
        assert set(answers) <= {200, 503}
        assert 503 in answers
        filler.unlink()
        for piece in late:
            service.until(lambda piece=piece: service.post(piece) == 200, "nothing is taken")
        service.settled()
        assert service.stop() == 0
    stored = service.stored()
    assert identities(last_day()) <= stored.keys()
    assert set(stored.values()) == {1}


def test_a_disk_that_becomes_read_only_is_not_written_past(
    failing_disk: FailingDisk, history: Path
) -> None:
    service = Service(failing_disk.folder)
    shutil.copytree(history, service.data / "lake")
    os.sync()
    early, late = list(pieces(last_day(), 10))[:5], list(pieces(last_day(), 10))[5:]
    with service.running():
        for piece in early:
            assert service.post(piece) == 200
        failing_disk.fail()
        assert {service.post(piece) for piece in late} == {503}
        service.until(lambda: service.check("readyz") == 503, "it says that it is ready")
        assert service.check("healthz") == 200
        service.stop()
    failing_disk.mend()
    with service.running():
        for piece in late:
            assert service.post(piece) == 200
        service.settled()
        assert service.stop() == 0
    stored = service.stored()
    assert identities(last_day()) <= stored.keys()
    assert set(stored.values()) == {1}


@pytest.mark.parametrize("named", [True, False])
def test_standard_input_is_heard_to_its_end(service: Service, named: bool) -> None:
    """Of a cluster that has a way in already, and of one that needs no configuration."""
    if not named:
        service.file.write_text(service.file.read_text().replace(f"name: {CLUSTER}", "name: other"))
    service.begin("--stdin", CLUSTER, stdin=subprocess.PIPE)
    try:
        assert service.process is not None
        assert service.process.stdin is not None
        service.process.stdin.write(b"\n".join(last_day()) + b"\nno event\n")
        service.process.stdin.close()
        service.wait_until_ready()
        service.until(service.notices, "nobody is told")
        assert service.metric("events_rejected_total") == 1
        assert service.stop() == 0
    finally:
        service.kill()
    assert identities(last_day()) <= service.stored().keys()


def test_a_followed_file_and_a_second_cluster_are_heard(tmp_path: Path, history: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(b"")
    clusters = [{"name": CLUSTER, "follow": [str(log)]}, {"name": "other"}]
    service = Service(tmp_path, clusters=clusters)
    shutil.copytree(history, service.data / "lake")
    with service.running():
        with log.open("ab") as file:
            for piece in pieces(last_day(), 7):
                file.write(b"\n".join(piece) + b"\n")
                file.flush()
        service.until(service.notices, "nobody is told")
        assert service.stop() == 0
    assert {one["cluster"] for one in service.notices()} == {CLUSTER}


def test_what_keeps_it_from_beginning_is_said_and_ends_it(
    service: Service, process: Command
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", service.port))
        taken.listen()
        ran = process("serve", "--config", service.file)
    assert ran.code == 1
    assert str(service.port) in ran.talk
    assert "Traceback" not in ran.talk
    ran = process("serve", "--config", service.file, "--set", "listen.port=no")
    assert ran.code == 1
    assert "listen.port" in ran.talk


def test_two_services_do_not_share_a_folder(service: Service, process: Command) -> None:
    with service.running():
        ran = process("serve", "--config", service.file, "--set", "listen.port=0", "--set",
                      "admin.port=0")  # fmt: skip
        assert ran.code == 1
        assert "Traceback" not in ran.talk
        assert service.post(lines([event()]).splitlines()) == 200


def test_it_ends_when_it_is_told_to_even_before_it_is_ready(service: Service) -> None:
    """As where the lake cannot be written from the beginning."""
    (service.data / "lake" / "activity").write_text("in the way", encoding="ascii")
    service.begin()
    try:
        service.until(lambda: "Not a directory" in service.log.read_text(), "it can write")
        assert service.check("statusz") == 503
        assert service.stop() == 0
    finally:
        service.kill()


def test_what_killed_services_leave_behind_is_gone(service: Service) -> None:
    with service.running():
        service.until(service.children, "nobody judges")
        service.kill()
    left = service.data / "scratch"
    assert any(left.iterdir())
    with service.running():
        service.until(lambda: service.metric("judgement_duration_seconds_count") > 0, "no judge")
        assert service.stop() == 0
    assert not any(path.is_file() for path in left.rglob("*"))
