"""What is too old goes, a day at a time, and nothing else does."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from activities import START
from audit_log import event
from conftest import remount
from kubewitness.errors import LakeError
from kubewitness.inquiry import ask
from kubewitness.lake.compaction import compact
from kubewitness.lake.retention import Expired, expire
from lake_service import Live, live

DAY = timedelta(days=1)
NOON = datetime(START.year, START.month, START.day, 12, tzinfo=UTC)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path / "lake", tmp_path / "work") as service:
        service.add(event(START + at * DAY, name=f"pod-{at}") for at in range(5))
        yield service


def expired(service: Live, **options: Any) -> list[Expired]:
    wanted = {"events": 2 * DAY, "activity": 4 * DAY, "now": NOON + 4 * DAY, **options}
    return expire(service.lake, **wanted)


def days(service: Live, kind: str = "events") -> list[int]:
    """Which days are there, counted from the first."""
    folders = (service.lake.root / kind).glob("cluster=*/date=*")
    dates = (date.fromisoformat(folder.name.removeprefix("date=")) for folder in folders)
    return sorted((one - START.date()).days for one in dates)


def activity(service: Live, cluster: str = "prod") -> None:
    for at in range(5):
        folder = service.lake.root / "activity" / f"cluster={cluster}"
        folder /= f"date={START + at * DAY:%Y-%m-%d}"
        folder.mkdir(parents=True)
        (folder / "part-1.parquet").write_bytes(b"activity")


def test_days_go_once_they_have_been_over_for_as_long_as_is_kept(
    service: Live, caplog: pytest.LogCaptureFixture
) -> None:
    activity(service)
    with caplog.at_level(logging.INFO, logger="kubewitness.lake.retention"):
        gone = expired(service)
    assert days(service) == [2, 3, 4]
    assert days(service, "activity") == [0, 1, 2, 3, 4]
    assert [one.files for one in gone] == [1, 1]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"deleted events/cluster=prod/date={START + at * DAY:%Y-%m-%d}" for at in (0, 1)
    ]
    assert os.listdir(service.lake.staging) == []
    expired(service, activity=1.5 * DAY)
    assert days(service, "activity") == [3, 4]
    assert expired(service) == []
    assert len(service.everything()) == 3


def test_the_present_stays_even_if_nothing_is_kept(service: Live) -> None:
    expired(service, events=timedelta(0))
    assert days(service) == [4]
    expired(service, events=timedelta(0), now=NOON + 5 * DAY)
    assert days(service) == [4]


def test_a_clock_that_runs_ahead_deletes_no_more_than_the_events_tell(service: Live) -> None:
    assert expired(service, events=10 * DAY, now=NOON + 3650 * DAY) == []
    expired(service, now=NOON + 3650 * DAY)
    assert days(service) == [2, 3, 4]


def test_a_clock_that_is_behind_deletes_nothing(service: Live) -> None:
    assert expired(service, now=datetime(1970, 1, 1, tzinfo=UTC)) == []


def test_an_event_of_the_future_makes_nobody_old(service: Live) -> None:
    service.add([event(START + 20_000 * DAY)])
    expired(service)
    assert days(service) == [2, 3, 4, 20_000]


def test_a_cluster_that_is_gone_goes_with_its_last_day(service: Live) -> None:
    service.add([event(START)], cluster="old")
    expired(service)
    assert os.listdir(service.lake.events) == ["cluster=prod"]


def test_folders_that_are_no_days_are_left_alone(service: Live) -> None:
    (service.lake.events / "cluster=prod" / "date=any").mkdir()
    (service.lake.events / "cluster=prod" / "date=2020-01-01.txt").write_text("notes")
    expired(service)
    assert {"date=any", "date=2020-01-01.txt"} <= set(
        os.listdir(service.lake.events / "cluster=prod")
    )


def test_late_events_of_a_day_that_went_are_taken_and_go_again(service: Live) -> None:
    expired(service)
    assert service.add([event(START, name="late")]).events == 1
    assert days(service) == [0, 2, 3, 4]
    assert len(expired(service)) == 1


def test_a_reader_that_loses_a_day_begins_anew(service: Live) -> None:
    asked = []

    def question(connection: duckdb.DuckDBPyConnection) -> Any:
        asked.append(connection.execute("SELECT count(*) FROM events").fetchall())
        if len(asked) == 1:
            expired(service)
        return connection.execute("SELECT count(DISTINCT audit_id) FROM events").fetchall()

    found, intake = ask([], question, lake=service.lake.root)
    assert (found, intake.warnings) == ([(3,)], ())
    assert compact(service.lake, service.connection) is None


def quarantined(service: Live, name: str, size: int, age: timedelta) -> Path:
    service.lake.quarantine.mkdir(exist_ok=True)
    path = service.lake.quarantine / name
    path.write_bytes(bytes(size))
    written = time.time() - age.total_seconds()
    os.utime(path, (written, written))
    return path


def test_the_quarantine_is_bounded_and_what_is_being_written_stays(service: Live) -> None:
    now = datetime.now(UTC)
    service.add([event(now)])
    old = quarantined(service, "old.jsonl", 1, 5 * DAY)
    large = quarantined(service, "large.jsonl", 1000, timedelta(hours=20))
    small = quarantined(service, "small.jsonl", 100, timedelta(hours=10))
    current = quarantined(service, "current.jsonl", 1000, timedelta(minutes=1))
    gone = expired(service, now=now, events=3 * DAY, quarantine=1500)
    assert [one.path for one in gone if one.path.parent == service.lake.quarantine] == [old, large]
    expired(service, now=now, events=3 * DAY, quarantine=0)
    assert not small.exists()
    assert current.exists()


def test_the_quarantine_of_a_lake_without_events_is_bounded_too(tmp_path: Path) -> None:
    with live(tmp_path / "lake", tmp_path / "work") as service:
        old = quarantined(service, "old.jsonl", 1, 5 * DAY)
        expired(service, now=datetime.now(UTC))
        assert not old.exists()


def test_a_day_goes_from_a_full_disk_and_stays_on_one_that_may_only_be_read(
    small_disk: Path, tmp_path: Path
) -> None:
    with live(small_disk / "lake", tmp_path / "work") as service:
        remount(small_disk, "size=8m")
        service.add(event(START + at * DAY) for at in range(5))
        remount(small_disk, "ro")
        with pytest.raises(LakeError, match="Read-only file system"):
            expired(service)
        assert days(service) == [0, 1, 2, 3, 4]
        remount(small_disk, "rw")
        with (small_disk / "filling").open("wb", buffering=0) as file, pytest.raises(OSError):  # noqa: PT011, PT012
            while True:
                file.write(bytes(1024))
        expired(service)
        assert days(service) == [2, 3, 4]
