"""The lake: every event once, whatever happens while it is written and whoever else is at it."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from activities import START
from audit_log import event, lines, quiet_days, write
from conftest import Command, program, remount
from kubewitness.analysis import analyze, summarize
from kubewitness.errors import LakeError
from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.inquiry import opened
from kubewitness.lake.store import Lake
from kubewitness.report.model import Intake

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def ingest(home: Path, *paths: Path, cluster: str | None = None) -> Intake:
    with opened(paths, lake=home, cluster=cluster) as (_, _, intake):
        return intake


def parts(home: Path) -> list[Path]:
    return sorted(home.glob("events/*/*/*.parquet"))


def rows(home: Path, columns: str = "audit_id") -> list[Any]:
    """Of every event in the lake, read as any engine would."""
    if not parts(home):
        return []
    found = asked(f"SELECT {columns} FROM read_parquet('{home}/events/*/*/*.parquet')")
    return sorted(row[0] if len(row) == 1 else row for row in found)


def asked(query: str) -> list[Any]:
    """What any other engine finds."""
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def audit_ids(log: bytes) -> list[str]:
    return sorted(json.loads(line)["auditID"] for line in log.splitlines())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of four days."""
    path = tmp_path / "audit.log"
    path.write_bytes(quiet_days())
    return path


def test_every_event_is_in_the_part_of_its_cluster_and_day(home: Path, log: Path) -> None:
    intake = ingest(home, log, cluster="prod")
    assert intake.added == intake.events == intake.lines == len(quiet_days().splitlines())
    assert rows(home) == audit_ids(quiet_days())
    assert [str(part.parent.relative_to(home)) for part in parts(home)] == [
        f"events/cluster=prod/date=2026-03-0{day}" for day in (2, 3, 4, 5)
    ]
    for part in parts(home):
        days = asked(f"SELECT DISTINCT stage_at::DATE::VARCHAR FROM '{part}'")
        assert days == [(part.parent.name.removeprefix("date="),)]


def test_a_part_has_the_documented_columns(home: Path, log: Path) -> None:
    ingest(home, log)
    found = asked(f"DESCRIBE SELECT * FROM '{parts(home)[0]}'")
    assert {row[0]: row[1] for row in found} == {**EVENT_COLUMNS, "date": "DATE"}


def test_an_event_has_what_the_api_server_wrote(home: Path, tmp_path: Path) -> None:
    extra = {"authentication.kubernetes.io/credential-id": ["JTI=1"]}
    written = event(
        START,
        "ada",
        "patch",
        "deployments",
        group="apps",
        subresource="scale",
        user={"username": "ada", "uid": "u-1", "groups": ["dev"], "extra": extra},
        impersonatedUser={"username": "ben", "groups": ["ops"]},
        responseStatus={"code": 409, "reason": "Conflict", "message": "try again"},
        requestObject={"spec": {"replicas": 3}},
        source_ips=("10.8.0.4", "10.0.0.1"),
    )
    ingest(home, write(tmp_path / "one.log", [written]))
    (row,) = asked(f"SELECT * FROM '{parts(home)[0]}'")
    found = dict(zip([*EVENT_COLUMNS, "date"], row, strict=True))
    assert found["cluster"] == "default"
    assert found["audit_id"] == written["auditID"]
    assert (found["user"], found["user_uid"], found["groups"]) == ("ada", "u-1", ["dev"])
    assert json.loads(found["extra"]) == extra
    assert (found["impersonated_user"], found["impersonated_groups"]) == ("ben", ["ops"])
    assert found["source_ips"] == ["10.8.0.4", "10.0.0.1"]
    assert (found["api_group"], found["resource"], found["subresource"]) == (
        ("apps", "deployments", "scale")
    )
    assert (found["namespace"], found["name"]) == ("shop", "web")
    assert (found["code"], found["reason"], found["message"]) == (409, "Conflict", "try again")
    assert json.loads(found["request_object"]) == {"spec": {"replicas": 3}}
    assert found["received_at"] == START.replace(tzinfo=None)
    assert found["stage_at"] - found["received_at"] == timedelta(milliseconds=3)
    assert found["source"] == str(tmp_path / "one.log")


@pytest.mark.parametrize("again", ["same", "gzip", "shuffled", "stdin", "split", "with others"])
def test_what_is_there_is_not_added_again(
    again: str, home: Path, log: Path, tmp_path: Path, kubewitness: Command
) -> None:
    ingest(home, log)
    before = parts(home)
    other = tmp_path / "again"
    text = quiet_days().splitlines(keepends=True)
    fresh: list[bytes] = []
    match again:
        case "gzip":
            other.write_bytes(gzip.compress(quiet_days()))
        case "shuffled":
            random.Random(1).shuffle(text)
            other.write_bytes(b"".join(text))
        case "split":
            other.mkdir()
            for number in range(3):
                (other / f"{number}.log").write_bytes(b"".join(text[number::3]))
        case "with others":
            fresh = [lines([event(START + 5 * DAY)])]
            other.write_bytes(b"".join([*text[:100], *fresh, *text[100:]]))
        case _:
            other = log
    if again == "stdin":
        assert kubewitness("ingest", "-", "--lake", home, stdin=quiet_days()).code == 0
    else:
        intake = ingest(home, other)
        assert (intake.added, intake.duplicates) == (len(fresh), len(text))
    assert rows(home) == audit_ids(b"".join([*text, *fresh]))
    assert set(before) <= set(parts(home))


def test_servers_in_parallel_write_interleaved_unordered_and_duplicated_files(
    home: Path, tmp_path: Path
) -> None:
    chance = random.Random(2)
    text = quiet_days().splitlines(keepends=True)
    folder = tmp_path / "servers"
    folder.mkdir()
    for server in range(3):
        some = [line for line in text if chance.random() < 0.6]
        chance.shuffle(some)
        (folder / f"audit-{server}.log").write_bytes(b"".join(some + some[:50]))
    (folder / "audit-rest.log").write_bytes(b"".join(text))
    intake = ingest(home, folder)
    assert rows(home) == audit_ids(quiet_days())
    assert intake.added == len(text)
    assert intake.added + intake.duplicates == intake.events
    assert not [warning for warning in intake.warnings if "auditID" in warning]


def test_a_forged_audit_id_hides_nothing_and_is_raised(home: Path, tmp_path: Path) -> None:
    honest = event(START, "ada", auditID="chosen")
    forged = event(START, "eve", "delete", "secrets", auditID="chosen")
    intake = ingest(home, write(tmp_path / "audit.log", [honest, forged, honest]))
    assert rows(home, '"user", verb') == [("ada", "get"), ("eve", "delete")]
    assert (intake.added, intake.duplicates) == (2, 1)
    assert any("1 auditIDs stand on records of different content" in w for w in intake.warnings)


def test_a_forged_audit_id_of_an_earlier_ingest_is_raised(home: Path, tmp_path: Path) -> None:
    ingest(home, write(tmp_path / "one.log", [event(START, "ada", auditID="chosen")]))
    forged = event(START, "eve", "delete", "secrets", auditID="chosen")
    intake = ingest(home, write(tmp_path / "two.log", [forged]))
    assert rows(home, '"user"') == ["ada", "eve"]
    assert any("auditIDs stand on records of different content" in w for w in intake.warnings)


def test_a_reused_audit_id_at_another_time_is_another_request(home: Path, tmp_path: Path) -> None:
    reused = [event(START + n * HOUR, auditID="chosen") for n in range(3)]
    assert ingest(home, write(tmp_path / "audit.log", reused)).added == 3


def test_stages_of_one_request_are_all_kept(home: Path, tmp_path: Path) -> None:
    stages = [
        event(auditID="one", stage="RequestReceived", responseStatus=None, annotations=None),
        event(auditID="one", stage="ResponseStarted"),
        event(auditID="one"),
    ]
    assert ingest(home, write(tmp_path / "audit.log", stages)).added == 3


@pytest.mark.parametrize(
    "cluster",
    [
        "../../../etc",
        "/etc/passwd",
        "..",
        ".",
        "a/b",
        "a\\b",
        "*",
        "[a-z]?",
        "date=2026-03-02",
        "it's; DROP TABLE events; --",
        '"quoted"',
        "%2e%2e%2f",
        "-rf",
        " ",
        "a\nb",
        "\x1b[31mred",
        "\u202ecod.exe",
        "名前",
        "{{ 7*7 }}",
        "x" * 5000,
        "\x00",
    ],
)
@pytest.mark.parametrize("said_by", ["option", "log"])
def test_a_cluster_is_a_folder_whatever_its_name(
    cluster: str, said_by: str, home: Path, tmp_path: Path
) -> None:
    one = event() if said_by == "option" else event(cluster=cluster)
    path = write(tmp_path / "audit.log", [one])
    option = cluster if said_by == "option" else None
    assert ingest(home, path, cluster=option).added == 1
    assert ingest(home, path, cluster=option).added == 0
    (part,) = parts(home)
    assert part.parent.name == "date=2026-03-02"
    assert part.parent.parent.parent == home / "events"
    found = analyze([], lake=home)
    (count,) = found.summary.coverage.clusters
    assert count.n == 1
    assert count.value == cluster or (len(cluster) > 200 and count.value.startswith("cluster-"))
    if cluster == count.value and said_by == "option":
        assert summarize([], lake=home, cluster=cluster)[0].requests == 1
    # nothing anywhere else
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audit.log", "lake"]


def test_clusters_are_kept_apart(home: Path, log: Path) -> None:
    for name in ("prod", "test"):
        assert ingest(home, log, cluster=name).added == len(quiet_days().splitlines())
    summary, _ = summarize([], lake=home, cluster="test")
    assert summary.requests == len(quiet_days().splitlines())


# A run that is killed


class Killed(BaseException):
    """As if the process were gone: nobody catches it."""


@pytest.mark.parametrize("rename", range(5))
def test_killed_between_any_two_renames_nothing_is_lost_or_doubled(
    rename: int, home: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = rename
    replace = Path.replace

    def dying(self: Path, target: Path) -> Path:
        nonlocal left
        if Path(target).is_relative_to(home / "events"):
            if left == 0:
                raise Killed
            left -= 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    # What a killed process does not do:
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **options: None)
    if rename < 4:
        with pytest.raises(Killed):
            ingest(home, log)
        assert len(parts(home)) == rename
    monkeypatch.undo()
    ingest(home, log)
    assert rows(home) == audit_ids(quiet_days())
    assert list((home / "staging").iterdir()) == []


def test_killed_in_the_middle_and_run_again_every_event_is_there_once(
    home: Path, log: Path, state: Path
) -> None:
    with subprocess.Popen(
        program("ingest", log, "-", "--lake", home), stdin=subprocess.PIPE
    ) as running:
        deadline = time.monotonic() + 30
        while not list(home.glob("staging/*/parts")) and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
    assert list(home.glob("staging/*/parts"))
    assert parts(home) == []
    assert ingest(home, log).added == len(quiet_days().splitlines())
    assert rows(home) == audit_ids(quiet_days())
    assert list((home / "staging").iterdir()) == []


def test_what_a_running_ingest_has_staged_is_left_alone(
    home: Path, log: Path, state: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(
        program("ingest", log, "-", "--lake", home),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as running:
        deadline = time.monotonic() + 30
        while not list(home.glob("staging/*/parts")) and time.monotonic() < deadline:
            time.sleep(0.02)
        late = event(START + DAY, auditID="late")
        assert ingest(home, write(tmp_path / "late.log", [late])).added == 1
        assert list(home.glob("staging/*/parts"))
        assert running.stdin is not None
        running.stdin.close()
    assert running.returncode == 0
    assert rows(home) == sorted([*audit_ids(quiet_days()), "late"])


def test_two_ingests_at_once_add_every_event_once(home: Path, log: Path, state: Path) -> None:
    running = [
        subprocess.Popen(program("ingest", log, "--lake", home), stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for one in running:
        _, talk = one.communicate(timeout=60)
        assert one.returncode == 0, talk
    assert rows(home) == audit_ids(quiet_days())
    assert [path.name for path in home.iterdir()].count("lake.json") == 1


def test_two_analyses_of_one_lake_at_once(home: Path, log: Path, state: Path) -> None:
    running = [
        subprocess.Popen(
            program("analyze", log, "--lake", home, "-o", "json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for one in running:
        _, talk = one.communicate(timeout=60)
        assert one.returncode == 0, talk
    assert rows(home) == audit_ids(quiet_days())


# A lake that is damaged, of another version, or may only be read


def truncated(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-100])


def emptied(part: Path) -> None:
    part.write_bytes(b"")


def overwritten(part: Path) -> None:
    part.write_bytes(b"PAR1 and nothing else PAR1")


def scratched(part: Path) -> None:
    """Its beginning and its end are whole."""
    data = bytearray(part.read_bytes())
    data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)
    part.write_bytes(data)


def of_other_columns(part: Path) -> None:
    asked(f"COPY (SELECT 1 AS audit_id) TO '{part}'")


DAMAGES = [truncated, emptied, overwritten, scratched, of_other_columns]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_set_aside_and_all_others_are_analysed(
    damage: Any, home: Path, log: Path
) -> None:
    ingest(home, log)
    hurt = parts(home)[1]
    lost = asked(f"SELECT count(*) FROM '{hurt}'")[0][0]
    damage(hurt)
    found = analyze([], lake=home)
    assert found.summary.requests == len(quiet_days().splitlines()) - lost
    (warning,) = found.intake.warnings
    assert "damaged lake part set aside" in warning
    assert "ingest the logs of 2026-03-03 again" in warning
    assert not hurt.exists()
    (aside,) = (home / "quarantine").iterdir()
    assert str(aside) in warning


@pytest.mark.parametrize("damage", DAMAGES)
def test_events_of_a_damaged_part_can_be_ingested_again(damage: Any, home: Path, log: Path) -> None:
    ingest(home, log)
    hurt = parts(home)[1]
    lost = asked(f"SELECT count(*) FROM '{hurt}'")[0][0]
    damage(hurt)
    intake = ingest(home, log)
    assert intake.added == lost
    assert len([w for w in intake.warnings if "damaged lake part set aside" in w]) == 1
    assert rows(home) == audit_ids(quiet_days())


def test_foreign_files_in_a_lake_are_no_parts(home: Path, log: Path) -> None:
    ingest(home, log)
    folder = parts(home)[0].parent
    (folder / "notes.txt").write_text("hello")
    (folder / "folder.parquet").mkdir()
    (folder / "gone.parquet").symlink_to(home / "nowhere")
    assert analyze([], lake=home).summary.requests == len(quiet_days().splitlines())


@pytest.mark.parametrize(
    ("header", "what", "remedy"),
    [
        ({"version": 2, "redaction_key": "0" * 64}, "newer kubewitness", "upgrade kubewitness"),
        ({"version": 0, "redaction_key": "0" * 64}, "damaged", "start a new lake"),
        ({"version": 1, "redaction_key": "zz"}, "damaged", "start a new lake"),
        ({"version": 1}, "damaged", "start a new lake"),
        ([], "damaged", "start a new lake"),
    ],
)
def test_a_lake_of_another_version_is_left_alone(
    header: Any, what: str, remedy: str, home: Path, log: Path
) -> None:
    home.mkdir()
    (home / "lake.json").write_bytes(msgspec.json.encode(header))
    with pytest.raises(LakeError) as refused:
        ingest(home, log)
    assert what in str(refused.value)
    assert remedy in str(refused.value)
    assert [path.name for path in home.iterdir()] == ["lake.json"]


def test_the_key_of_a_lake_is_private(home: Path, log: Path) -> None:
    ingest(home, log)
    assert (home / "lake.json").stat().st_mode & 0o777 == 0o600
    assert len(Lake(home).redactor.mark("x")) == len("redacted:") + 12


@pytest.mark.parametrize("damage", [None, truncated, scratched])
def test_a_lake_that_may_only_be_read_is_read(
    damage: Any, disk: Path, log: Path, process: Command
) -> None:
    home = disk / "lake"
    ingest(home, log)
    if damage:
        damage(parts(home)[1])
    remount(disk, "ro")
    done = process("analyze", "--lake", home, "-o", "json")
    assert done.code == 0
    assert json.loads(done.out)["metadata"]["intake"]["lines"] == 0
    assert "not kept for 'kubewitness incident': Read-only file system" in done.talk
    assert ("damaged lake part left out" in done.talk) is (damage is not None)
    refused = process("ingest", log, "--lake", home)
    assert refused.code == 1
    assert "Read-only file system" in refused.talk
    assert "--lake" in refused.talk


def test_a_full_disk_is_told_and_what_is_whole_stays(
    small_disk: Path, log: Path, tmp_path: Path, process: Command
) -> None:
    home = small_disk / "lake"
    first = write(tmp_path / "first.log", [event(START)])
    assert process("ingest", first, "--lake", home).code == 0
    done = process("ingest", log, "--lake", home)
    assert (done.code, done.out) == (1, b"")
    assert "writing stopped" in done.talk
    assert "free some disk space" in done.talk
    assert "Traceback" not in done.talk
    assert rows(home) == [event(START)["auditID"]]
    assert list((home / "staging").iterdir()) == []
    remount(small_disk, "size=8m")
    assert process("ingest", log, "--lake", home).code == 0
    assert rows(home) == sorted([*audit_ids(quiet_days()), event(START)["auditID"]])


def test_without_a_lake_every_event_counts_once_too(tmp_path: Path) -> None:
    days = [event(START + hours * HOUR) for hours in (0, 5, 30, 31, 60)]
    other = event(START + 5 * HOUR, "mallory", auditID=days[1]["auditID"])
    logs = [
        write(tmp_path / "one.log", days),
        write(tmp_path / "two.log", [days[4], event(START + 70 * HOUR), other]),
    ]
    alone, _ = summarize(logs[:1])
    assert alone.requests == len(days)
    both, intake = summarize(logs)
    assert both.requests == len(days) + 2
    assert (intake.events, intake.added, intake.duplicates) == (8, 7, 1)
    assert any("forged" in one or "auditID" in one for one in intake.warnings)


@pytest.mark.parametrize("given", ["file", "stdin"])
def test_a_full_temporary_directory_is_told(
    given: str, small_disk: Path, log: Path, process: Command
) -> None:
    source = {"file": log, "stdin": "-"}[given]
    remount(small_disk, "size=16k")  # a temporary lake is small
    done = process("analyze", source, stdin=quiet_days(), env={"TMPDIR": str(small_disk)})
    assert (done.code, done.out) == (1, b"")
    assert "free some disk space" in done.talk
    assert "TMPDIR" in done.talk
    assert "Traceback" not in done.talk
    assert list(small_disk.iterdir()) == []


def test_a_disk_too_full_for_the_quarantine_is_told(
    small_disk: Path, tmp_path: Path, process: Command
) -> None:
    path = tmp_path / "broken.log"
    path.write_bytes(b"".join(b"broken %d\n" % n for n in range(10_000)))
    done = process("ingest", path, "--lake", small_disk / "lake")
    assert done.code == 1
    assert "No space left on device" in done.talk
    assert "quarantine" in done.talk
    assert "Traceback" not in done.talk


def test_a_disk_too_full_for_the_report_keeps_the_old_one(
    small_disk: Path, log: Path, process: Command
) -> None:
    page = small_disk / "report.html"
    page.write_text("<!doctype html>old")
    done = process("analyze", log, "--report", page, "-o", "name")
    assert done.code == 1
    assert done.talk.startswith(f"kubewitness: {page}: the report cannot be written: No space left")
    assert page.read_text() == "<!doctype html>old"
    assert [path.name for path in small_disk.iterdir()] == ["report.html"]


def test_a_disk_too_full_for_the_state_costs_only_the_state(
    small_disk: Path, log: Path, process: Command
) -> None:
    (small_disk / "filling").write_bytes(bytes(44 << 10))
    log.write_bytes(quiet_days() + lines([event(START, "eve", "delete", "secrets", code=403)]))
    done = process("analyze", log, "-o", "json", env={"XDG_STATE_HOME": str(small_disk)})
    assert done.code == 0
    assert json.loads(done.out)["kind"] == "IncidentList"
    assert "not kept for 'kubewitness incident': No space left on device" in done.talk
