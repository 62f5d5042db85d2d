"""The process that judges: it answers, it fails with a reason, and it never outlives who asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from audit_log import quiet_days
from kubewitness.config.settings import Detection
from kubewitness.errors import LakeError
from kubewitness.lake.adding import add
from kubewitness.lake.engine import engine
from kubewitness.lake.store import Lake
from kubewitness.service.judging import Judging
from kubewitness.service.witness import Witness
from kubewitness.sources.reading import Chunk

PATIENCE = 30.0


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with quiet days."""
    root = tmp_path_factory.mktemp("judging")
    path = root / "log.jsonl"
    path.write_bytes(quiet_days())
    lake = Lake(root / "lake")
    with engine(root / "spill", lake.redactor) as connection:
        chunk = Chunk(path, "none", "log", verbatim=False, lines=len(quiet_days().splitlines()))
        add([chunk], lake, connection, cluster="default")
    return root


@pytest.fixture
def judging(heard: Path, tmp_path: Path) -> Judging:
    """What a witness has set apart of it."""
    lake = Lake(heard / "lake")
    with engine(tmp_path / "spill") as database:
        settings = Detection(learn=timedelta(days=2).total_seconds())
        witness = Witness("default", lake, database, settings, tmp_path)
        witness.catch_up()
        return witness.snapshot()


def gone(pid: int) -> bool:
    """Whether there is no such process, at the latest after a while."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text("ascii").split()[2] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def endless(judging: Judging) -> None:
    """Make it wait for a writer that never comes."""
    groups = Path(judging.task.folder) / "groups.parquet"
    groups.unlink()
    os.mkfifo(groups)


def begun(judging: Judging) -> int:
    deadline = time.monotonic() + PATIENCE
    while judging.pid is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return judging.pid


def test_it_ends_with_its_folder(judging: Judging) -> None:
    verdict = judging.reach()
    assert verdict.detection.mode == "history and test"
    pid = judging.pid
    assert pid is not None
    judging.end()
    assert gone(pid)
    assert not Path(judging.task.folder).exists()


def test_a_killed_process_is_told_of(judging: Judging) -> None:
    judging.reach()
    assert judging.pid is not None
    os.kill(judging.pid, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match=r"-9 .*memory"):
        judging.hear(Path("arrivals.parquet"))
    judging.end()


def test_a_process_that_hangs_is_not_waited_for(
    judging: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging.reach()
    assert judging.pid is not None
    monkeypatch.setattr("kubewitness.service.judging.HEARS_WITHIN", 0.5)
    os.kill(judging.pid, signal.SIGSTOP)
    with pytest.raises(ChildProcessError, match="in time"):
        judging.hear(Path("arrivals.parquet"))
    judging.end()


def test_a_fault_in_it_is_told_with_its_place(judging: Judging) -> None:
    (Path(judging.task.folder) / "met.parquet").write_bytes(b"no table")
    with pytest.raises(RuntimeError, match=r"(?s)judgement\.py.*met\.parquet"):
        judging.reach()
    judging.end()


def test_an_archive_that_cannot_be_written_is_for_later(judging: Judging, tmp_path: Path) -> None:
    lake = tmp_path / "other"
    (lake / "events").mkdir(parents=True)
    (lake / "activity").write_text("in the way", encoding="ascii")
    task = msgspec.structs.replace(
        judging.task, lake=str(lake), ended=frozenset({judging.task.begin})
    )
    other = Judging(task)
    with pytest.raises(LakeError, match="writing stopped"):
        other.reach()
    other.end()


def test_what_is_ended_while_it_judges_is_not_waited_for(judging: Judging) -> None:
    endless(judging)
    raised: list[BaseException] = []

    def reach() -> None:
        try:
            judging.reach()
        except ChildProcessError as error:
            raised.append(error)

    thread = threading.Thread(target=reach)
    thread.start()
    pid = begun(judging)
    judging.end()
    thread.join(PATIENCE)
    assert len(raised) == 1
    assert gone(pid)
    with pytest.raises(ChildProcessError):
        judging.reach()


def test_it_does_not_outlive_who_asks(judging: Judging) -> None:
    endless(judging)
    asks = subprocess.Popen(
        [sys.executable, "-c", _ASKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asks.stdin is not None
    assert asks.stdout is not None
    with asks:
        asks.stdin.write(msgspec.json.encode(judging.task).decode() + "\n")
        asks.stdin.flush()
        pid = int(asks.stdout.readline())
        asks.kill()
    assert gone(pid)
    judging.end()


_ASKS = """
import sys, threading, time
import msgspec
from kubewitness.service.judging import Judging
from kubewitness.service.judgement import Task
judging = Judging(msgspec.json.decode(sys.stdin.readline(), type=Task))
threading.Thread(target=judging.reach, daemon=True).start()
while judging.pid is None:
    time.sleep(0.01)
time.sleep(1)
print(judging.pid, flush=True)
time.sleep(600)
"""
