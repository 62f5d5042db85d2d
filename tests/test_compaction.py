"""Many parts become few, and every event is there exactly once at every instant."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from activities import START
from audit_log import Event, event
from conftest import remount
from kubewitness.errors import LakeError
from kubewitness.inquiry import ask
from kubewitness.lake import compaction
from kubewitness.lake.compaction import (
    FANIN,
    FINAL_BYTES,
    FINAL_ROWS,
    Merged,
    compact,
    worth_merging,
)
from kubewitness.lake.day import Footer
from kubewitness.lake.engine import engine
from kubewitness.lake.settling import copied
from kubewitness.lake.store import Lake
from lake_service import Live, live

SECOND = timedelta(seconds=1)
NOW = timedelta()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path / "lake", tmp_path / "work") as service:
        yield service


def second(at: int) -> list[Event]:
    return [event(START + (at + k / 3) * SECOND, name=f"pod-{at}-{k}") for k in range(3)]


def ids(seconds: range) -> list[str]:
    return sorted(one["auditID"] for at in seconds for one in second(at))


def merge(service: Live, **options: Any) -> Merged | None:
    return compact(service.lake, service.connection, **options)


def filled(service: Live, n: int = FANIN) -> range:
    """A part for each of ``n`` seconds, named in no order."""
    (whole,) = service.add(one for at in range(n) for one in second(at)).parts
    for at in range(n):
        service.connection.execute(
            f"COPY (SELECT * FROM read_parquet('{whole}') WHERE date_trunc('second', stage_at)"
            f" = TIMESTAMP '{START:%Y-%m-%d %H:%M:%S}' + INTERVAL {at} SECOND)"
            f" TO '{whole.with_name(f'part-{at * 7 % n}.parquet')}'"
        )
    whole.unlink()
    return range(n)


# What is worth merging


def footers(rows: list[int], *, written: float = 0, size: int = 1) -> dict[Path, Footer]:
    begin = datetime(2026, 3, 2)  # noqa: DTZ001
    return {
        Path(f"part-{at}.parquet"): Footer(
            n, begin + at * SECOND, begin + (at + 1) * SECOND, "", (int(written * 1e9), size)
        )
        for at, n in enumerate(rows)
    }


def chosen(rows: list[int], *, age: float = 1, size: int = 1, **options: Any) -> list[int]:
    found = worth_merging(footers(rows, written=1000 - age, size=size), now=1000, **options)
    return [footer.rows for footer in found.values()]


def test_parts_of_one_size_are_merged_once_there_are_enough() -> None:
    assert chosen([5000] * (FANIN - 1)) == []
    assert chosen([5000] * FANIN) == [5000] * FANIN
    assert chosen([5000] * (FANIN - 1) + [100_000]) == []
    assert chosen([100_000, *[300] * FANIN, 5000]) == [300] * FANIN


def test_a_large_part_is_final_and_a_merge_is_bounded() -> None:
    assert chosen([FINAL_ROWS] * 100, age=1e6) == []
    found = chosen([100_000] * 100)
    assert FINAL_ROWS <= sum(found) <= FINAL_ROWS + 100_000
    assert len(chosen([1] * 5000)) < 1000
    assert len(chosen([100_000] * 100, size=FINAL_BYTES // 4)) == 4
    assert chosen([5000] * 100, size=FINAL_BYTES) == []


def test_a_day_that_is_over_is_tidied_up() -> None:
    assert chosen([100_000, 5000, 5000, 300], age=60) == []
    assert chosen([100_000, 5000, 5000, 300], age=7200) == [100_000, 5000, 5000, 300]
    assert chosen([100_000, 5000, 300], age=7200) == []


def test_what_has_just_come_can_be_left_alone() -> None:
    assert chosen([5000] * FANIN, age=60, settled=timedelta(minutes=10)) == []
    assert chosen([5000] * FANIN, age=601, settled=timedelta(minutes=10)) == [5000] * FANIN


@pytest.mark.parametrize("rows", [10, 300, 5000, 10_000])
def test_an_event_is_written_a_few_times_and_the_day_stays_tidy(rows: int) -> None:
    parts = dict[Path, Footer]()
    written = most = 0
    total = 3000
    for at in range(total):
        (one,) = footers([rows]).values()
        parts[Path(f"part-{at}")] = one._replace(first=one.first and one.first + at * SECOND)
        while found := worth_merging(parts, now=1):
            for part in found:
                del parts[part]
            begin = min(footer.first for footer in found.values() if footer.first)
            size = sum(footer.rows for footer in found.values())
            parts[Path(f"merged-{at}-{size}")] = one._replace(rows=size, first=begin)
            written += size
        most = max(most, len(parts))
    assert sum(footer.rows for footer in parts.values()) == total * rows
    assert written <= 4 * total * rows
    assert most <= 5 * FANIN + total * rows / FINAL_ROWS


# A merge


def test_the_events_are_the_same_in_one_part_in_the_order_of_time(service: Live) -> None:
    seconds = filled(service)
    before = service.everything("* EXCLUDE (groups, source_ips)")
    merged = merge(service)
    assert merged is not None
    assert (merged.parts, merged.rows) == (len(seconds), 3 * len(seconds))
    assert Lake(service.lake.root).parts() == service.lake.parts() == [merged.part]
    assert service.everything("* EXCLUDE (groups, source_ips)") == before
    assert times(service, merged) == sorted(times(service, merged))
    assert merge(service) is None


@pytest.mark.parametrize("memory", ["enough", "too little"])
def test_parts_of_the_same_time_are_sorted_if_there_is_memory_for_it(
    memory: str, service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(FANIN):
        service.add([*second(at), *second(1000 - at)])
    if memory == "too little":

        def failing(connection: Any, select: str, target: Path) -> int:
            if "ORDER BY" in select:
                target.write_bytes(b"half of it")
                raise duckdb.OutOfMemoryException("failed to pin block")
            return copied(connection, select, target)

        monkeypatch.setattr("kubewitness.lake.compaction.copied", failing)
    merged = merge(service)
    assert merged is not None
    in_order = times(service, merged) == sorted(times(service, merged))
    assert in_order is (memory == "enough")
    assert len(service.everything()) == 6 * FANIN


def times(service: Live, merged: Merged) -> list[datetime]:
    rows = service.connection.execute(
        f"SELECT stage_at FROM read_parquet('{merged.part}', file_row_number = true)"
        " ORDER BY file_row_number"
    ).fetchall()
    return [at for (at,) in rows]


def test_what_was_merged_stays_readable_for_a_while(service: Live) -> None:
    seconds = filled(service)
    listed = service.lake.parts()
    merged = merge(service)
    assert merge(service) is None
    assert service.rows(listed) == ids(seconds)
    assert merged is not None
    assert merge(service, grace=NOW) is None
    assert os.listdir(merged.part.parent) == [merged.part.name]
    assert service.everything() == ids(seconds)


def test_merged_parts_are_merged_again_before_the_first_are_deleted(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FANIN", 4)
    monkeypatch.setattr(compaction, "_MOST_PARTS", 4)
    seconds = filled(service, 64)
    merges = 0
    while merge(service):
        merges += 1
        assert service.everything() == ids(seconds)
    (part,) = service.lake.parts()
    assert merges == 16 + 4 + 1
    assert len(list(part.parent.glob("*.parquet"))) == 64 + merges
    assert merge(service, grace=NOW) is None
    assert list(part.parent.iterdir()) == [part]
    assert service.everything() == ids(seconds)


def test_what_a_merged_part_holds_is_not_added_again(service: Live) -> None:
    seconds = filled(service)
    merge(service)
    assert service.add(one for at in seconds for one in second(at)).events == 0
    assert service.add([*second(3), *second(99)]).events == 3
    assert service.everything() == sorted([*ids(seconds), *ids(range(99, 100))])


def test_another_engine_can_leave_out_what_does_not_count(service: Live) -> None:
    """With the query that the documentation shows."""
    seconds = filled(service)
    page = Path(__file__).parent.parent / "docs" / "events.md"
    (query,) = re.findall(r"```sql\n([^`]*replaces[^`]*)```", page.read_text(encoding="utf-8"))
    query = query.replace("DIR", str(service.lake.root))
    for _ in range(2):
        with duckdb.connect() as other:
            found = other.execute(f"SELECT audit_id FROM ({query.strip().rstrip(';')})").fetchall()
        assert sorted(row[0] for row in found) == ids(seconds)
        merge(service)


def test_a_damaged_part_is_set_aside_and_the_others_are_merged(service: Live) -> None:
    filled(service, FANIN + 1)
    hurt = service.lake.parts()[4]
    lost = service.rows([hurt])
    data = bytearray(hurt.read_bytes())
    data[4:200] = bytes(196)
    hurt.write_bytes(data)
    assert merge(service) is None
    merged = merge(service)
    assert merged is not None
    assert merged.parts == FANIN
    assert service.everything() == sorted(set(ids(range(FANIN + 1))) - set(lost))
    assert [path.suffix for path in service.lake.quarantine.iterdir()] == [".damaged"]


def test_a_part_that_somebody_sets_aside_meanwhile_is_not_brought_back(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(service)
    gone = service.lake.parts()[0]
    written = compaction._written

    def meanwhile(*arguments: Any, **options: Any) -> int:
        rows = written(*arguments, **options)
        gone.rename(gone.with_suffix(".away"))
        return rows

    monkeypatch.setattr(compaction, "_written", meanwhile)
    assert merge(service) is None
    assert len(service.lake.parts()) == FANIN - 1
    assert list(service.lake.staging.iterdir()) == []


def test_a_disk_that_is_full_or_read_only_stops_a_merge_and_nothing_else(
    small_disk: Path, tmp_path: Path
) -> None:
    remount(small_disk, "size=8m")
    with live(small_disk / "lake", tmp_path / "work") as service:
        seconds = filled(service)
        filling = small_disk / "filling"
        with filling.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):  # noqa: PT012
            while True:
                file.write(bytes(1024))
        with pytest.raises(LakeError, match="writing stopped"):
            merge(service)
        filling.unlink()
        remount(small_disk, "ro")
        with pytest.raises(LakeError, match="Read-only file system"):
            merge(service)
        remount(small_disk, "rw")
        assert len(service.lake.parts()) == len(seconds)
        assert list(service.lake.staging.iterdir()) == []
        assert merge(service) is not None
        assert service.everything() == ids(seconds)


# Readers


def test_a_reader_that_loses_parts_begins_anew(service: Live) -> None:
    seconds = filled(service)
    asked = []

    def question(connection: duckdb.DuckDBPyConnection) -> Any:
        asked.append(connection.execute("SELECT count(*) FROM events").fetchall())
        if len(asked) == 1:
            assert merge(service)
            assert merge(service, grace=NOW) is None
        return connection.execute("SELECT count(DISTINCT audit_id) FROM events").fetchall()

    found, intake = ask([], question, lake=service.lake.root)
    assert found == [(3 * len(seconds),)]
    assert len(asked) == 2
    assert intake.warnings == ()


def test_one_thread_adds_and_another_merges_in_the_same_lake(
    service: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FANIN", 2)
    monkeypatch.setattr(compaction, "_FEW", 2)
    over = threading.Event()

    def merge_for_ever() -> int:
        merges = 0
        with engine(tmp_path / "merging") as connection:
            while not over.is_set():
                merges += compact(service.lake, connection, grace=NOW) is not None
        return merges

    with ThreadPoolExecutor(1) as pool:
        merging = pool.submit(merge_for_ever)
        try:
            for at in range(16):
                added = service.add([*second(at), *second(at // 2)])
                assert added.events == 3
        finally:
            over.set()
        assert merging.result(60) > 1
    assert service.everything() == ids(range(16))


# Killed


class Killed(BaseException):
    """As if the process were gone: nobody catches it."""


def dying(count: int, patch: pytest.MonkeyPatch, home: Path) -> None:
    """Die instead of the ``count``-th change of a name or a file below ``home``."""
    left = count
    for name in ("replace", "unlink", "rename", "mkdir", "write_text"):
        original = getattr(Path, name)

        def step(self: Path, *arguments: Any, _original: Any = original, **options: Any) -> Any:
            nonlocal left
            if self.is_relative_to(home):
                if not left:
                    raise Killed
                left -= 1
            return _original(self, *arguments, **options)

        patch.setattr(Path, name, step)


def test_killed_between_any_two_steps_every_event_is_there_once(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two merges, a merge of what they made, and the deletion of it all."""
    for name in ("FANIN", "_MOST_PARTS", "_FEW"):
        monkeypatch.setattr(compaction, name, 2)
    seconds = filled(service, 4)
    template = service.lake.root.rename(service.lake.root.with_name("template"))
    count, whole = 0, False
    while not whole:
        home = template.with_name(f"lake-{count}")
        subprocess.run(["cp", "-a", template, home], check=True)
        lake = Lake(home)
        with monkeypatch.context() as patch:
            # What a killed process does not do:
            patch.setattr("shutil.rmtree", lambda *arguments, **options: None)
            dying(count, patch, home)
            try:
                while compact(lake, service.connection):
                    pass
                assert compact(lake, service.connection, grace=NOW) is None
                whole = True
            except Killed:
                pass
        again = Lake(home)
        assert service.rows(again.parts()) == ids(seconds)
        while compact(again, service.connection, grace=NOW):
            assert service.rows(again.parts()) == ids(seconds)
        (part,) = again.parts()
        assert os.listdir(part.parent) == [part.name]
        with again.run():
            pass
        assert os.listdir(again.staging) == []
        count += 1
    assert count > 20


def test_killed_at_any_moment_while_others_read_every_event_is_there_once(
    service: Live, tmp_path: Path
) -> None:
    runs, total = 20, 240
    filled(service, total)
    day = service.lake.parts()[0].parent
    waiting = tmp_path / "waiting"
    waiting.mkdir()
    for part in service.lake.parts():
        part.rename(waiting / part.name)
    script = Path(__file__).with_name("compactor.py")
    command = [sys.executable, *map(str, (script, day, waiting, runs, 1))]
    counted = most = 0
    deadline = time.monotonic() + 120
    with subprocess.Popen(command, stderr=subprocess.PIPE) as running:
        try:
            while running.poll() is None:
                least = total - len(os.listdir(waiting))
                found, distinct = reread(service)
                assert found == distinct
                assert 3 * least <= found <= 3 * (total - len(os.listdir(waiting)))
                counted += 1
                most = max(most, len(service.lake.parts()))
                assert time.monotonic() < deadline
        finally:
            running.kill()
        assert running.stderr is not None
        assert running.stderr.read() == b""
    assert running.returncode == 0
    assert counted >= runs
    assert most < total / 2  # the killed have done something
    while merge(service, grace=NOW):
        pass
    assert reread(service) == (3 * total, 3 * total)
    assert sorted(day.iterdir()) == service.lake.parts()


def reread(service: Live) -> tuple[int, int]:
    """How many events and how many distinct ones there are, for a reader that starts now."""
    deadline = time.monotonic() + 60
    while True:
        service.lake.attach(service.connection)
        try:
            found = service.connection.execute(
                "SELECT count(*), count(DISTINCT audit_id) FROM events"
            ).fetchone()
        except duckdb.IOException:
            if not service.lake.outdated or time.monotonic() > deadline:
                raise
        else:
            assert found
            return found[0], found[1]
