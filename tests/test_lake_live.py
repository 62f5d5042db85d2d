"""Adding to a lake every second: each event once, at a cost that does not grow with the day."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities import START
from audit_log import Event, event, write
from conftest import program, remount
from kubewitness.errors import LakeError
from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.lake import compaction
from kubewitness.lake.compaction import compact
from kubewitness.lake.day import Day, damage
from lake_service import Live, live

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path / "lake", tmp_path / "work") as service:
        yield service


def second(at: int, n: int = 3, **fields: Any) -> list[Event]:
    """What arrives in one second of a day."""
    begin = START + at * SECOND
    return [event(begin + k * SECOND / n, name=f"pod-{at}-{k}", **fields) for k in range(n)]


def ids(events: list[Event]) -> list[str]:
    return sorted(one["auditID"] for one in events)


def test_what_is_new_is_in_the_parts_that_are_told_and_nothing_else(service: Live) -> None:
    first, second_ = second(0), second(1)
    added = service.add(first)
    assert (added.events, added.duplicates) == (3, 0)
    assert service.rows(added.parts) == ids(first)
    added = service.add([*first[1:], *second_, second_[0]])
    assert (added.events, added.duplicates) == (3, 3)
    assert service.rows(added.parts) == ids(second_)
    added = service.add(first)
    assert (added.events, added.duplicates, added.parts) == (0, 3, [])
    assert service.everything() == ids([*first, *second_])


def test_names_of_folders_are_no_columns(tmp_path: Path) -> None:
    """What looks like a partition of Hive's is a name."""
    with live(tmp_path / "verb=get" / "lake", tmp_path / "work") as service:
        days = [event(START, "ada"), event(START + DAY, "ada")]
        service.add(days, cluster="a/b")
        added = service.add([*days, event(START, "eve", "delete")], cluster="a/b")
        assert service.rows(added.parts, 'cluster, "user", verb') == [("a/b", "eve", "delete")]
        (part,) = added.parts
        columns = service.connection.execute(
            f"DESCRIBE FROM read_parquet('{part}', hive_partitioning = false)"
        ).fetchall()
        assert [column[0] for column in columns] == [*EVENT_COLUMNS, "date"]


def test_a_batch_of_several_days_is_in_a_part_of_each(service: Live) -> None:
    late = [event(START - DAY, "ada"), event(START, "ada"), event(START + DAY, "ada")]
    added = service.add(late)
    assert len(added.parts) == 3
    assert service.rows(added.parts) == service.everything() == ids(late)
    assert service.add(late).parts == []


def test_a_forged_audit_id_hides_nothing_however_late_it_comes(service: Live) -> None:
    service.add([event(START, "ada", auditID="chosen")])
    service.add(second(3600))
    forged = event(START, "eve", "delete", "secrets", auditID="chosen")
    added = service.add([*second(3601), forged])
    assert (added.events, added.forged) == (4, 1)
    assert service.add([forged]).events == 0
    assert service.everything('"user"').count("eve") == 1


batches = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 59, 60, 61, 3600, 3601, 86_399, 86_400, -1]),
            st.sampled_from(["one", "two"]),
            st.sampled_from(["ada", "eve"]),
        ),
        max_size=6,
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=10)
@given(batches=batches, merging=st.booleans())
def test_whatever_comes_twice_late_or_forged_every_record_is_there_once(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[int, str, str]]],
    merging: bool,
) -> None:
    folder = tmp_path_factory.mktemp("once")
    told = []
    with live(folder / "lake", folder / "scratch") as service:
        for batch in batches:
            added = service.add(
                event(START + at * SECOND, who, auditID=chosen) for at, chosen, who in batch
            )
            assert added.events + added.duplicates == len(batch)
            told += service.rows(added.parts, 'stage_at, audit_id, "user"')
            if merging:
                with patch.multiple(compaction, FANIN=2, _FEW=2):
                    while compact(service.lake, service.connection, grace=timedelta()):
                        pass
        expected = sorted({one for batch in batches for one in batch})
        found = service.everything('stage_at, audit_id, "user"')
        assert len(found) == len(expected)
        assert sorted(told) == found


def scratched(part: Path) -> None:
    """Its beginning and its end are whole."""
    data = bytearray(part.read_bytes())
    data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)
    part.write_bytes(data)


def test_only_parts_of_the_same_time_are_looked_into(service: Live) -> None:
    early = service.add(second(0)).parts[0]
    service.add(second(3600))
    scratched(early)
    added = service.add([*second(3601), *second(-3600)])
    assert (added.events, added.damaged) == (6, [])
    added = service.add(second(0))
    assert added.events == 3
    assert "damaged lake part set aside" in added.damaged[0]
    assert not early.exists()


def test_a_part_is_opened_once_and_again_when_it_is_another_file(service: Live) -> None:
    (part,) = service.add(second(0)).parts
    day = Day(part.parent)
    (footer,) = day.footers(service.connection).values()
    assert (footer.rows, footer.problem) == (3, "")
    assert footer.first == START.replace(tzinfo=None) + timedelta(milliseconds=3)
    part.write_bytes(b"nothing")
    assert day.footers(service.connection) == {part: footer}
    (footer,) = day.fresh_footers(service.connection).values()
    assert footer.problem


def test_one_part_that_cannot_be_read_among_many_is_found(service: Live) -> None:
    parts = [service.add(second(at)).parts[0] for at in range(5)]
    parts[3].write_bytes(b"")
    footers = Day(parts[0].parent).footers(service.connection)
    assert [bool(footers[part].problem) for part in parts] == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (duckdb.OutOfMemoryException, "failed to pin block"),
        (duckdb.IOException, 'Cannot open file "part": Too many open files'),
        (duckdb.InterruptException, "Interrupted"),
    ],
)
def test_no_part_is_damaged_because_the_process_lacks_something(
    kind: type[duckdb.Error], what: str, service: Live
) -> None:
    (part,) = service.add(second(0)).parts
    with pytest.raises(kind):
        damage(part, kind(what))
    wrong = duckdb.InvalidInputException("No magic bytes found")
    assert damage(part, wrong) == "No magic bytes found"
    assert damage(part.with_name("gone"), wrong) == ""


def test_a_part_of_another_process_is_seen_at_once(service: Live, tmp_path: Path) -> None:
    service.add(second(0))
    with live(service.lake.root, tmp_path / "other") as other:
        other.add(second(1))
        assert service.add(second(1)).events == 0
        service.add(second(2))
        assert other.add([*second(0), *second(2)]).events == 0


def test_parts_are_on_disk_before_they_are_told(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def syncing(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def replacing(self: Path, target: Path) -> Path:
        if target.is_relative_to(service.lake.events):
            done.append(f"rename {self.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", replacing)
    (part,) = service.add(second(0)).parts
    assert done[:3] == [f"sync {part.name}", f"rename {part.name}", f"sync {part.parent.name}"]
    assert set(done[3:]) == {"sync cluster=prod", "sync events", "sync lake"}


def test_a_full_disk_is_told_leaves_nothing_behind_and_is_forgotten(
    small_disk: Path, tmp_path: Path
) -> None:
    home = small_disk / "lake"
    with live(home, tmp_path / "work") as service:
        first = second(0)
        service.add(first)
        many = [one for at in range(1, 400) for one in second(at)]
        for _ in range(2):
            with pytest.raises(LakeError, match=r"writing stopped") as refused:
                service.add(many)
            assert "free some disk space" in refused.value.remedy
            assert service.everything() == ids(first)
            assert list((home / "staging").iterdir()) == []
        remount(small_disk, "size=8m")
        added = service.add(many)
        assert added.events == len(many)
        assert service.everything() == ids([*first, *many])


def test_a_disk_that_may_only_be_read_is_told(disk: Path, tmp_path: Path) -> None:
    with live(disk / "lake", tmp_path / "work") as service:
        service.add(second(0))
        remount(disk, "ro")
        with pytest.raises(LakeError, match="Read-only file system"):
            service.add(second(1))
        remount(disk, "rw")
        assert service.add(second(1)).events == 3


def test_a_batch_ingest_and_the_service_at_once_add_every_event_once(
    service: Live, state: Path, tmp_path: Path
) -> None:
    events = [one for at in range(0, 2000, 10) for one in second(at)]
    log = write(tmp_path / "audit.log", events)
    command = program("ingest", log, "--lake", service.lake.root, "--cluster", "prod")
    with subprocess.Popen(command, stderr=subprocess.PIPE) as running:
        for begin in range(0, len(events), 60):
            service.add(events[begin : begin + 60])
        assert running.stderr is not None
        talk = running.stderr.read()
    assert running.returncode == 0, talk
    assert service.everything() == ids(events)
