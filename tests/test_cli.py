"""The contract of the command line that scripts rely on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit_log import quiet_days, stolen_credential
from conftest import Command, program
from kubewitness import __version__

FIELDS = {
    *("id", "cluster", "score", "severity", "alert", "opened_at", "updated_at", "principals"),
    *("source_ips", "evidence", "events", "title", "summary", "tactics", "techniques", "objects"),
    "reasons",
}
REASON_FIELDS = {
    *("factor", "observed", "expected", "days_self", "days_peers", "days_cluster", "p", "share"),
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Four quiet days, and a stolen credential in the last night."""
    path = tmp_path / "audit.log"
    path.write_bytes(quiet_days() + stolen_credential())
    return path


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    path = tmp_path / "quiet.log"
    path.write_bytes(quiet_days())
    return path


def incidents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_stolen_credential_is_an_incident_a_line(kubewitness: Command, log: Path) -> None:
    done = kubewitness("analyze", log, "--cluster", "prod", "-o", "jsonl")
    assert done.code == 0
    assert done.err == b""
    (found,) = incidents(done.text)
    assert FIELDS - found.keys() == set()
    assert found["cluster"] == "prod"
    assert found["principals"] == ["ada"]
    assert found["source_ips"] == ["203.0.113.9"]
    assert found["alert"] is True
    assert found["severity"] in ("low", "medium", "high", "critical")
    assert found["opened_at"] == "2026-03-05T02:00:00Z"
    assert found["updated_at"] >= found["opened_at"]
    stolen = {event["auditID"] for event in map(json.loads, stolen_credential().splitlines())}
    assert set(found["evidence"]) <= stolen
    assert set(found["evidence"]) | set(found["events"]) >= stolen
    assert not set(found["evidence"]) & set(found["events"])


def test_reasons_say_what_was_observed_and_what_was_expected(
    kubewitness: Command, log: Path
) -> None:
    (found,) = incidents(kubewitness("analyze", log, "-o", "jsonl").text)
    reasons = found["reasons"]
    for reason in reasons:
        assert REASON_FIELDS - reason.keys() == set()
        assert 0 < reason["p"] <= 1
        assert all(0 <= usual["share"] <= 1 for usual in reason["expected"])
    assert sum(reason["share"] for reason in reasons) == pytest.approx(1, abs=0.01)
    observed = {reason["observed"] for reason in reasons}
    assert observed & {"203.0.113.9", "203.0.113.0/24", "public", "curl"}
    assert all(reason["days_self"] == 0 for reason in reasons if reason["observed"] == "curl")


def test_the_same_log_is_told_in_the_same_words(process: Command, log: Path) -> None:
    told = {process("analyze", log, "-o", "json").out for _ in range(4)}
    assert len(told) == 1


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_lists_have_the_shape_of_kubernetes_lists(
    output: str, kubewitness: Command, log: Path
) -> None:
    text = kubewitness("analyze", log, "-o", output).text
    document = json.loads(text) if output == "json" else yaml.safe_load(text)
    assert document["apiVersion"] == "kubewitness.dev/v1alpha1"
    assert document["kind"] == "IncidentList"
    assert document["items"] == incidents(kubewitness("analyze", log, "-o", "jsonl").text)
    intake = document["metadata"]["intake"]
    assert intake["lines"] == intake["events"] == len(log.read_bytes().splitlines())


@pytest.mark.parametrize("output", ["table", "wide"])
def test_tables_have_a_line_an_incident(output: str, kubewitness: Command, log: Path) -> None:
    done = kubewitness("analyze", log, "-o", output)
    header, line = done.text.splitlines()
    assert header.split()[:3] == ["ID", "SEVERITY", "SCORE"]
    assert line.split()[1] == "critical"
    bare = kubewitness("analyze", log, "-o", output, "--no-headers")
    assert bare.text.split() == line.split()


def test_names_can_be_given_to_the_next_command(kubewitness: Command, log: Path) -> None:
    (name,) = kubewitness("analyze", log, "-o", "name").text.splitlines()
    kind, _, identity = name.partition("/")
    assert kind == "incident"
    told = kubewitness("incident", identity)
    assert told.code == 0
    assert "203.0.113.9" in told.text
    (found,) = incidents(kubewitness("incident", identity[:4], "-o", "jsonl").text)
    assert found["id"] == identity


@pytest.mark.parametrize("output", ["table", "wide", "jsonl", "name"])
def test_without_incidents_stdout_is_empty(output: str, kubewitness: Command, quiet: Path) -> None:
    done = kubewitness("analyze", quiet, "-o", output)
    assert (done.code, done.out) == (0, b"")
    assert done.err == b"No incidents found.\n"


def test_an_unknown_incident_is_an_error_that_names_the_known(
    kubewitness: Command, log: Path
) -> None:
    identity = kubewitness("analyze", log, "-o", "name").text.strip().removeprefix("incident/")
    done = kubewitness("incident", "nonsense")
    assert done.code == 1
    assert done.out == b""
    assert "no incident begins with 'nonsense'" in done.talk
    assert identity in done.talk


def test_incident_before_any_analysis_says_what_to_do(kubewitness: Command) -> None:
    done = kubewitness("incident", "abc")
    assert done.code == 1
    assert "run 'kubewitness analyze PATH...' first" in done.talk


def test_since_makes_everything_before_it_history(kubewitness: Command, log: Path) -> None:
    (found,) = incidents(kubewitness("analyze", log, "--since", "2026-03-04", "-o", "jsonl").text)
    assert found["principals"] == ["ada"]
    document = json.loads(kubewitness("analyze", log, "--since", "2026-03-04", "-o", "json").text)
    assert document["metadata"]["mode"] == "history and test"


def test_incidents_opened_before_since_are_not_reported(kubewitness: Command, log: Path) -> None:
    done = kubewitness("analyze", log, "--since", "2026-03-05T12:00:00Z", "-o", "jsonl")
    assert (done.code, done.out) == (0, b"")


@pytest.mark.parametrize("since", ["1d", "24h", "1440m"])
def test_a_duration_counts_back_from_the_last_event(
    since: str, kubewitness: Command, log: Path
) -> None:
    # The log ends at 22:01 on the day of the theft.
    assert incidents(kubewitness("analyze", log, "--since", since, "-o", "jsonl").text)


def test_until_leaves_out_what_comes_later(kubewitness: Command, log: Path) -> None:
    done = kubewitness("analyze", log, "--until", "2026-03-05", "-o", "json")
    document = json.loads(done.text)
    assert document["items"] == []
    assert document["metadata"]["end"] < "2026-03-05"


@pytest.mark.parametrize(
    ("since", "note"),
    [
        ("9999-12-31", "The last event lies before --since"),
        ("0001-01-01", "Nothing lies before --since"),
        ("99999w", "Nothing lies before --since"),
    ],
)
def test_a_since_outside_the_log_is_told(
    since: str, note: str, kubewitness: Command, log: Path
) -> None:
    done = kubewitness("analyze", log, "--since", since, "-o", "name")
    assert done.code == 0
    assert note in done.talk


@pytest.mark.parametrize(
    "args",
    [
        ("analyze",),
        ("analyze", "LOG", "--since", "yesterday"),
        ("analyze", "LOG", "--since", "0001-01-01T00:00:00+14:00"),
        ("analyze", "LOG", "--until", "99999999999999999999w"),
        ("analyze", "LOG", "-o", "csv"),
        ("analyze", "LOG", "--fail-on", "awful"),
        ("analyze", "LOG", "--lake", "LOG"),
        ("analyze", "LOG", "--nonsense"),
        ("ingest", "LOG"),
        ("ingest", "--lake", "lake"),
        ("summary",),
        ("incident",),
        ("nonsense",),
    ],
)
def test_usage_mistakes_exit_2(args: tuple[str, ...], kubewitness: Command, log: Path) -> None:
    done = kubewitness(*(str(log) if arg == "LOG" else arg for arg in args))
    assert done.code == 2
    assert done.out == b""
    assert done.talk.startswith("Usage: kubewitness")


def test_errors_exit_1_and_say_where(kubewitness: Command, tmp_path: Path) -> None:
    done = kubewitness("analyze", tmp_path / "nothing.log")
    assert (done.code, done.out) == (1, b"")
    assert done.talk == f"kubewitness: {tmp_path}/nothing.log: no such file or directory\n"


@pytest.mark.parametrize(
    ("severity", "code"), [("low", 3), ("medium", 3), ("high", 3), ("critical", 3)]
)
def test_fail_on_exits_3_for_an_alert_as_severe(
    severity: str, code: int, kubewitness: Command, log: Path, quiet: Path
) -> None:
    done = kubewitness("analyze", log, "--fail-on", severity, "-o", "jsonl")
    assert done.code == code
    assert incidents(done.text)[0]["severity"] == "critical"
    assert kubewitness("analyze", quiet, "--fail-on", severity).code == 0


def test_the_code_of_fail_on_is_documented(kubewitness: Command) -> None:
    assert "Exit 3" in re.sub(r"\s+", " ", kubewitness("analyze", "--help").text)


def test_the_report_is_one_page(kubewitness: Command, log: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert kubewitness("analyze", log, "--report", page, "-o", "name").code == 0
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "203.0.113.9" in text
    assert list(tmp_path.glob(".report.html*")) == []


def test_a_report_that_cannot_be_written_is_told_before_the_work(
    kubewitness: Command, log: Path, tmp_path: Path
) -> None:
    page = tmp_path / "missing" / "report.html"
    done = kubewitness("analyze", log, "--report", page, "-o", "name")
    assert (done.code, done.out) == (1, b"")
    assert done.talk == (
        f"kubewitness: {page}: the report cannot be written: no such directory\n"
        "  choose another file with --report\n"
    )


def test_a_report_replaces_a_report_and_nothing_else(
    kubewitness: Command, log: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    link = tmp_path / "link.html"
    link.symlink_to(page)
    for path in (page, page, link):
        assert kubewitness("analyze", log, "--report", path, "-o", "name").code == 0
    assert link.is_symlink()
    before = log.read_bytes()
    done = kubewitness("analyze", log, "--report", log)
    assert (done.code, done.out) == (1, b"")
    assert "there is a file that is no report" in done.talk
    assert log.read_bytes() == before


def test_the_next_run_over_a_folder_knows_what_the_last_has_left(
    kubewitness: Command, log: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log.rename(folder / "audit.log")
    args = (folder, "--lake", folder / "lake", "--report", folder / "report.html", "-o", "json")
    first = kubewitness("analyze", *args)
    again = kubewitness("analyze", *args)
    items = json.loads(first.text)["items"]
    assert json.loads(again.text)["items"] == items
    intake = json.loads(again.text)["metadata"]["intake"]
    assert intake["added"] == 0
    assert [one["reason"] for one in intake["broken"]] == [
        "a HTML page, no text: unpack or convert it"
    ]
    lost = kubewitness("analyze", folder / "lake")
    assert lost.code == 1
    assert "is a lake" in lost.talk
    assert "--lake" in lost.talk


def test_a_report_may_be_a_device(kubewitness: Command, log: Path) -> None:
    assert kubewitness("analyze", log, "--report", "/dev/null", "-o", "name").code == 0
    done = kubewitness("analyze", log, "--report", "/dev/full", "-o", "name")
    assert done.code == 1
    assert "No space left on device" in done.talk


def test_standard_input_is_a_source(kubewitness: Command, log: Path) -> None:
    done = kubewitness("analyze", "-", "-o", "jsonl", stdin=log.read_bytes())
    assert done.out == kubewitness("analyze", log, "-o", "jsonl").out


def test_directories_and_globs_are_sources(kubewitness: Command, log: Path) -> None:
    folder = log.parent / "logs"
    folder.mkdir()
    lines = log.read_bytes().splitlines(keepends=True)
    for number in range(3):
        (folder / f"audit-{number}.log").write_bytes(b"".join(lines[number::3]))
    whole = kubewitness("analyze", log, "-o", "jsonl").out
    assert kubewitness("analyze", folder, "-o", "jsonl").out == whole
    assert kubewitness("analyze", folder / "audit-*.log", "-o", "jsonl").out == whole


def test_ingesting_twice_adds_nothing(kubewitness: Command, log: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    events = len(log.read_bytes().splitlines())
    first = kubewitness("ingest", log, "--lake", lake)
    assert (first.code, first.out) == (0, b"")
    assert f"{events:,} events added, 0 were there already" in first.talk
    parts = sorted(lake.rglob("*.parquet"))
    again = kubewitness("ingest", log, "--lake", lake)
    assert f"0 events added, {events:,} were there already" in again.talk
    assert sorted(lake.rglob("*.parquet")) == parts


def test_a_lake_is_judged_as_the_files_it_was_made_of(
    kubewitness: Command, log: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    kubewitness("ingest", log, "--lake", lake, "--cluster", "prod")
    from_lake = kubewitness("analyze", "--lake", lake, "-o", "jsonl")
    assert from_lake.out == kubewitness("analyze", log, "--cluster", "prod", "-o", "jsonl").out
    (found,) = incidents(from_lake.text)
    kept = kubewitness("incident", found["id"], "--lake", lake, "-o", "jsonl")
    assert incidents(kept.text) == [found]


def test_a_lake_is_history_for_the_next_file(
    kubewitness: Command, tmp_path: Path, quiet: Path
) -> None:
    lake, fresh = tmp_path / "lake", tmp_path / "fresh.log"
    fresh.write_bytes(stolen_credential())
    kubewitness("ingest", quiet, "--lake", lake)
    done = kubewitness("analyze", fresh, "--lake", lake, "--since", "2026-03-05", "-o", "jsonl")
    assert [found["principals"] for found in incidents(done.text)] == [["ada"]]


def test_an_unknown_cluster_is_an_error_that_names_the_known(
    kubewitness: Command, log: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    kubewitness("ingest", log, "--lake", lake, "--cluster", "prod")
    done = kubewitness("analyze", "--lake", lake, "--cluster", "prd", "-o", "jsonl")
    assert (done.code, done.out) == (1, b"")
    assert "no events of cluster 'prd'" in done.talk
    assert "prod" in done.talk


@pytest.mark.parametrize("output", [None, "json", "yaml"])
def test_summary(output: str | None, kubewitness: Command, log: Path) -> None:
    events = len(log.read_bytes().splitlines())
    done = kubewitness("summary", log, *(("-o", output) if output else ()))
    assert (done.code, done.err) == (0, b"")
    if output is None:
        assert f"{events:,} requests" in done.text
        return
    document = json.loads(done.text) if output == "json" else yaml.safe_load(done.text)
    assert document["kind"] == "Summary"
    assert document["summary"]["requests"] == events
    assert {row["principal"] for row in document["summary"]["sensitive"]} == {"ada"}


def test_a_report_has_no_escapes_where_stdout_is_no_terminal(
    kubewitness: Command, log: Path
) -> None:
    assert b"\x1b" not in kubewitness("analyze", log).out


def on_a_terminal(args: list[str], **env: str) -> bytes:
    """What the command writes where stdout and stderr are a terminal of 100 columns."""
    controller, terminal = os.openpty()
    with subprocess.Popen(
        args,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **env},
    ) as running:
        os.close(terminal)
        written = b""
        while True:
            try:
                block = os.read(controller, 65536)
            except OSError:  # the terminal is gone
                break
            if not block:
                break
            written += block
    os.close(controller)
    assert running.returncode == 0
    return written


def test_no_color_is_obeyed_on_a_terminal(state: Path, log: Path) -> None:
    colours = re.compile(rb"\x1b\[[0-9;]*[0-9]{2}[0-9;]*m")
    assert colours.search(on_a_terminal(program("analyze", log)))
    plain = on_a_terminal(program("analyze", log), NO_COLOR="1")
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-7]|38;5;[0-9]+|9[0-7])m", plain)
    assert b"203.0.113.9" in plain


@pytest.mark.parametrize("args", [(), ("-o", "json"), ("-o", "wide")])
def test_a_reader_that_has_seen_enough_is_no_error(
    args: tuple[str, ...], state: Path, log: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    with subprocess.Popen(
        program("analyze", log, *args, "--report", page, "--fail-on", "high"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        talk = running.stderr.read()
    # What was asked for besides stdout is done nevertheless.
    assert (running.returncode, talk) == (3, b"")
    assert page.exists()


def test_a_full_disk_behind_stdout_is_an_error(state: Path, log: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            program("analyze", log, "-o", "json"), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "kubewitness: standard output: cannot be written: No space left on device\n"
        "  free some disk space, or write somewhere else\n"
    )


def test_nobody_has_to_listen_on_stderr(state: Path, tmp_path: Path, log: Path) -> None:
    log.write_bytes(b"broken\n" + log.read_bytes())
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            program("analyze", log, "-o", "name"), stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert done.returncode == 0
    assert done.stdout.startswith(b"incident/")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_are_no_files(closed: str, state: Path, log: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    command = f'exec "$@" {closed}'
    args = program("analyze", log, "--lake", lake, "-o", "name")
    done = subprocess.run(["sh", "-c", command, "sh", *args], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads((lake / "analysis.json").read_bytes())["incidents"]


@pytest.mark.parametrize("home", ["missing", "unknown", "a file", "full"])
def test_where_nothing_can_be_kept_the_analysis_is_the_same(
    home: str, process: Command, log: Path, tmp_path: Path
) -> None:
    wrong = {
        "missing": {"HOME": str(tmp_path / "file" / "none"), "XDG_STATE_HOME": None},
        "unknown": {"HOME": "/proc/none", "XDG_STATE_HOME": None},
        "a file": {"XDG_STATE_HOME": str(tmp_path / "file")},
        "full": {"XDG_STATE_HOME": "/dev/full"},
    }[home]
    (tmp_path / "file").touch()
    done = process("analyze", log, "-o", "name", env=wrong)
    assert done.code == 0
    assert done.out.startswith(b"incident/")
    assert "not kept for 'kubewitness incident'" in done.talk


def scratch_files(state: Path) -> Iterator[Path]:
    return (state.parent / "scratch").iterdir()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_stopped_run_leaves_no_temporary_files(
    number: signal.Signals, code: int, state: Path, log: Path
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("whoever runs the tests has this signal ignored (nohup)")
    with subprocess.Popen(
        program("analyze", "-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdin is not None
        assert running.stderr is not None
        running.stdin.write(log.read_bytes())
        running.stdin.flush()
        deadline = time.monotonic() + 30
        while not list(scratch_files(state)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert list(scratch_files(state))
        time.sleep(0.2)
        running.send_signal(number)
        talk = running.stderr.read()
    assert running.returncode == code
    assert b"Traceback" not in talk
    assert list(scratch_files(state)) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_query_that_takes_long_is_stopped_too(
    number: signal.Signals, code: int, state: Path
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("whoever runs the tests has this signal ignored (nohup)")
    script = """
import duckdb, kubewitness.analysis
from kubewitness.cli import main
def long(*args, **options):
    print("begun", flush=True)
    duckdb.execute("SELECT count(*) FROM range(1000000000000) AS n(i) WHERE sqrt(i) < 0")
kubewitness.analysis.analyze = long
main(["analyze", "-"])
"""
    with subprocess.Popen(
        [program()[0], "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"begun\n"
        time.sleep(0.5)
        running.send_signal(number)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.send_signal(number)  # who is told twice goes at once
        talk = running.stderr.read()
    assert running.returncode in (code, -number)
    assert talk == b""


def test_the_version(kubewitness: Command) -> None:
    assert kubewitness("--version").text == f"kubewitness, version {__version__}\n"


def test_it_is_a_plugin_of_kubectl(kubewitness: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/local/bin/kubectl-witness"])
    assert kubewitness("--help").text.startswith("Usage: kubectl witness [OPTIONS]")
    assert kubewitness("analyze").talk.startswith("Usage: kubectl witness analyze")


@pytest.mark.parametrize("command", ["analyze", "ingest", "summary", "incident", "evaluate"])
def test_every_command_has_help(command: str, kubewitness: Command) -> None:
    assert command in kubewitness("--help").text
    done = kubewitness(command, "--help")
    assert (done.code, done.err) == (0, b"")
    assert done.text.startswith(f"Usage: kubewitness {command}")
