"""Lines in a file and on standard output: whole, durable, and wherever the file is now."""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import json
import os
import resource
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import report_fixtures as fixtures
from kubewitness.config.settings import Sink as SinkSettings
from kubewitness.sinks.sink import DeliveryError, Notice, sink

NOTICES = [Notice("opened", one, 1) for one in fixtures.week().incidents]


def to(path: Path, **options: Any) -> SinkSettings:
    return SinkSettings(name="log", type="file", path=path, **options)


def send(wanted: SinkSettings, *notices: Notice) -> None:
    async def all_of_them() -> None:
        there = sink(wanted)
        for notice in notices:
            await there.send(notice)

    asyncio.run(all_of_them())


def ids(path: Path) -> list[str]:
    return [json.loads(line)["data"]["id"] for line in path.read_text().splitlines()]


def test_each_notice_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    send(to(path), *NOTICES)
    assert ids(path) == [notice.incident.id for notice in NOTICES]
    assert path.read_bytes().endswith(b"\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("form", "key"), [("json", "data"), ("falco", "output_fields"), ("ocsf", "finding_info")]
)
def test_a_line_has_the_format_that_was_asked_for(form: Any, key: str, tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    send(to(path, format=form), NOTICES[0])
    assert key in json.loads(path.read_text())


def test_ocsf_goes_into_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    send(SinkSettings(name="lake", type="ocsf", path=path), *NOTICES)
    assert [json.loads(line)["class_uid"] for line in path.read_text().splitlines()] == [2004] * 3


def test_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_text("of another day\n")
    path.chmod(0o640)
    send(to(path), NOTICES[0])
    assert path.read_text().startswith("of another day\n{")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_rotation_by_moving_begins_a_new_file(tmp_path: Path) -> None:
    path, old = tmp_path / "alerts.jsonl", tmp_path / "alerts.jsonl.1"

    async def while_it_runs() -> None:
        there = sink(to(path))
        await there.send(NOTICES[0])
        path.rename(old)
        await there.send(NOTICES[1])
        (tmp_path / "alerts.1.gz").write_bytes(gzip.compress(old.read_bytes()))
        path.unlink()
        await there.send(NOTICES[2])

    asyncio.run(while_it_runs())
    assert ids(old) == [NOTICES[0].incident.id]
    assert ids(path) == [NOTICES[2].incident.id]


def test_rotation_by_emptying_leaves_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"

    async def while_it_runs() -> None:
        there = sink(to(path))
        await there.send(NOTICES[0])
        os.truncate(path, 0)
        await there.send(NOTICES[1])

    asyncio.run(while_it_runs())
    assert ids(path) == [NOTICES[1].incident.id]
    assert b"\0" not in path.read_bytes()


def test_a_line_cut_short_by_a_power_failure_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    send(to(path), NOTICES[0])
    with path.open("ab") as file:
        file.write(b'{"type":"incident.op')
    send(to(path), NOTICES[1])
    lines = path.read_text().splitlines()
    assert lines[1] == '{"type":"incident.op'
    assert json.loads(lines[2])["data"]["id"] == NOTICES[1].incident.id


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond this many bytes: a write is cut short, then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_no_half_line_and_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    send(to(path), NOTICES[0])
    before = path.read_bytes()
    with room_for(len(before) + 100), pytest.raises(DeliveryError) as caught:
        send(to(path), NOTICES[1])
    assert path.read_bytes() == before
    assert not caught.value.permanent
    assert str(path) in caught.value.what
    send(to(path), NOTICES[1])
    assert ids(path) == [notice.incident.id for notice in NOTICES[:2]]


def test_what_cannot_be_a_file_is_told_and_tried_again(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path in (pipe, loop, tmp_path, tmp_path / "none" / "alerts", Path("/dev/null")):
        with pytest.raises(DeliveryError) as caught:
            send(to(path), NOTICES[0])
        assert not caught.value.permanent
        assert caught.value.where == "sink log"


def _many(path: str) -> None:
    send(to(Path(path)), *NOTICES * 20)


def test_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    spawned = get_context("fork")
    processes = [spawned.Process(target=_many, args=(str(path),)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(ids(path)) == 3 * 20 * len(NOTICES)


def test_a_line_is_on_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alerts.jsonl"
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", fsync)
    send(to(path), *NOTICES[:2])
    assert synced == [str(path), str(tmp_path), str(path)]


async def impatient(wanted: SinkSettings, blocked: Callable[[], bool]) -> None:
    """Five attempts that are given up while somebody else stands in the way."""
    there = sink(wanted)
    threads = threading.active_count()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await there.send(NOTICES[0])
        assert threading.active_count() <= threads + 1
    assert blocked()
    await there.send(NOTICES[1])


def test_a_file_that_another_holds_holds_one_line(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def empty() -> bool:
            there_was_nothing = not path.read_bytes()
            fcntl.flock(file, fcntl.LOCK_UN)
            return there_was_nothing

        asyncio.run(impatient(to(path), empty))
    assert ids(path) == [notice.incident.id for notice in NOTICES[:2]]


def test_a_reader_of_standard_output_that_stalls_holds_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    size = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    os.write(writing, b" " * size)
    with os.fdopen(writing, "w") as out, os.fdopen(reading, "rb") as there:
        monkeypatch.setattr("sys.stdout", out)
        asyncio.run(
            impatient(
                SinkSettings(name="out", type="stdout"), lambda: there.read(size) == b" " * size
            )
        )
        out.close()
        told = [json.loads(line)["data"]["id"] for line in there]
    assert told == [notice.incident.id for notice in NOTICES[:2]]


def test_standard_output_gets_a_line_a_notice(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    send(SinkSettings(name="out", type="stdout"), *NOTICES)
    lines = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line)["data"]["id"] for line in lines] == [
        notice.incident.id for notice in NOTICES
    ]


def test_standard_output_that_is_full_is_a_failed_delivery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(DeliveryError, match="No space left"):
            send(SinkSettings(name="out", type="stdout"), NOTICES[0])
