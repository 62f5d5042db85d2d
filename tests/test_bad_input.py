"""Bad input never stops a run and never vanishes: it is told, with its place, and kept."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from activities import HOUR, START
from audit_log import event, lines, quiet_days, stolen_credential
from conftest import Command, Ran, program
from kubewitness.analysis import analyze

BEFORE = lines(event(START + n * HOUR, auditID=f"before-{n}") for n in range(20))
AFTER = lines(event(START + n * HOUR, auditID=f"after-{n}") for n in range(20, 40))
GOOD = 40
ONE = lines([event(START + 50 * HOUR, auditID="one")])


def with_fields(value: str, *names: str) -> bytes:
    """An event in which each of these fields is this JSON."""
    odd = {**event(auditID="odd"), **dict.fromkeys(names, "PLACE")}
    return json.dumps(odd, separators=(",", ":")).replace('"PLACE"', value).encode()


def at(value: str) -> bytes:
    return with_fields(value, "stageTimestamp", "requestReceivedTimestamp")


def intake_of(done: Ran) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.out)["metadata"]["intake"]
    rejected = sum(one["n"] for one in (*found["skipped"], *found["broken"]))
    assert found["lines"] == found["events"] + rejected
    assert found["events"] == found["added"] + found["duplicates"]
    return found


def unwrapped(talk: str, gap: str = " ") -> str:
    """What a report says, however its lines are broken; words that were have no ``gap``."""
    return gap.join(talk.split())


BROKEN = {
    "no JSON": (b"panic: runtime error", "not JSON"),
    "half a line": (ONE[:200], "cut off"),
    "a line without its beginning": (ONE[100:-1], "not JSON"),
    "malformed JSON": (ONE[:-2] + b",}", "malformed JSON"),
    "single quotes": (ONE.strip().replace(b'"', b"'"), "malformed JSON"),
    "NUL bytes": (b"\0" * 400, "NUL bytes"),
    "NUL bytes within": (ONE[:50] + b"\0\0" + ONE[50:-1], ""),
    "not UTF-8": (ONE.strip().replace(b"ada", b"ad\xe4"), "not UTF-8"),
    "UTF-16 within": ("ein Text\u00e4".encode("utf-16-le"), ""),
    "binary": (bytes(range(1, 10)) + bytes(range(11, 256)), ""),
    "deep nesting": (b'{"kind":"Event","x":' + b"[" * 100_000, "nested too deeply"),
    "deep nesting that ends": (
        ONE.strip()[:-1] + b',"requestObject":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        "nested too deeply",
    ),
    "the year 1": (at('"0001-01-01T00:00:00Z"'), "absurd timestamp"),
    "the year 9999": (at('"9999-12-31T23:59:59Z"'), "absurd timestamp"),
    "no time": (at('"yesterday"'), "absurd timestamp"),
    "a time of 400 digits": (at("9" * 400), "absurd timestamp"),
    "no verb": (with_fields("null", "verb"), ""),
    "no object": (with_fields("null", "requestURI", "objectRef"), ""),
}
SKIPPED = {
    "klog": (
        b"I0302 00:00:00.000000       1 trace.go:236] Trace[1]: listing",
        "not an audit event: klog text",
    ),
    "another kind": (
        b'{"kind":"Policy","apiVersion":"audit.k8s.io/v1","rules":[]}',
        "not an audit event: Policy",
    ),
    "an event of core": (
        b'{"kind":"Event","apiVersion":"v1","metadata":{"name":"x"},"reason":"Started"}',
        "",
    ),
    "an object": (b'{"hello":"world"}', "not an audit event: JSON object"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_costs_itself_only(
    name: str, path: Path, tmp_path: Path, kubewitness: Command
) -> None:
    line, reason = BROKEN[name]
    path.write_bytes(BEFORE + line + b"\n" + AFTER)
    lake = tmp_path / "lake"
    done = kubewitness("analyze", path, "--lake", lake, "-o", "json")
    assert done.code == 0
    found = intake_of(done)
    assert (found["events"], found["skipped"]) == (GOOD, [])
    assert {place for one in found["broken"] for place in one["places"]} == {f"{path}:21"}
    assert reason in found["broken"][0]["reason"]
    assert f"{path}:21" in unwrapped(done.talk, "")
    (kept,) = [json.loads(one) for one in Path(found["quarantine"]).read_bytes().splitlines()]
    assert (kept["source"], kept["line"]) == (str(path), 21)
    assert found["quarantine"].startswith(str(lake / "quarantine"))
    assert found["quarantine"] in unwrapped(done.talk, "")


@pytest.mark.parametrize("name", SKIPPED)
def test_what_is_no_audit_event_is_counted_with_a_reason(
    name: str, path: Path, tmp_path: Path, kubewitness: Command
) -> None:
    line, reason = SKIPPED[name]
    path.write_bytes(BEFORE + line + b"\n" + AFTER)
    found = intake_of(kubewitness("analyze", path, "--lake", tmp_path / "lake", "-o", "json"))
    assert (found["events"], found["broken"], found["quarantine"]) == (GOOD, [], "")
    (skipped,) = found["skipped"]
    assert skipped["places"] == [f"{path}:21"]
    assert reason in skipped["reason"]


@pytest.mark.parametrize("line", [line for line, _ in {**BROKEN, **SKIPPED}.values()])
def test_strict_fails_and_says_where(line: bytes, path: Path, kubewitness: Command) -> None:
    path.write_bytes(BEFORE + line + b"\n" + AFTER)
    done = kubewitness("analyze", path, "--strict", "-o", "json")
    assert (done.code, done.out) == (1, b"")
    assert done.talk.startswith(f"kubewitness: {path}:21: 1 of 41 lines are no audit events")
    assert "repair the input, or leave out --strict" in done.talk


def test_strict_is_content_with_what_the_api_server_wrote(path: Path, kubewitness: Command) -> None:
    path.write_bytes(BEFORE + AFTER)
    done = kubewitness("analyze", path, "--strict", "-o", "json")
    assert (done.code, intake_of(done)["events"]) == (0, GOOD)


@pytest.mark.parametrize("count", [1, 3, 500])
def test_however_many_lines_are_broken_the_counts_are_right(
    count: int, path: Path, kubewitness: Command
) -> None:
    good = quiet_days().splitlines(keepends=True)
    step = len(good) // count
    mixed = [
        line + (b"broken %d\n" % number if number % step == 0 else b"")
        for number, line in enumerate(good)
    ]
    path.write_bytes(b"".join(mixed) + stolen_credential())
    done = kubewitness("analyze", path, "-o", "json")
    found = intake_of(done)
    broken = sum(line.count(b"broken") for line in mixed)
    assert found["events"] == len(good) + len(stolen_credential().splitlines())
    assert sum(one["n"] for one in found["broken"]) == broken
    assert [one["principals"] for one in json.loads(done.out)["items"]] == [["ada"]]


def test_broken_lines_behind_a_good_beginning_are_found(path: Path, kubewitness: Command) -> None:
    """A file is trusted by its beginning; DuckDB alone would pass over the rest in silence."""
    good = quiet_days()
    path.write_bytes(good + ONE[:300] + b"\n" + at("7") + b"\n" + ONE)
    assert path.stat().st_size > 512 << 10
    found = intake_of(kubewitness("analyze", path, "-o", "json"))
    assert found["events"] == len(good.splitlines()) + 1
    assert sum(one["n"] for one in found["broken"]) == 2


def test_a_line_of_ten_megabytes_is_an_event_like_any_other(
    path: Path, kubewitness: Command
) -> None:
    big = event(auditID="big", level="Request", requestObject={"data": {"x": "y" * (10 << 20)}})
    path.write_bytes(BEFORE + lines([big]) + AFTER)
    done = kubewitness("analyze", path, "-o", "json")
    found = intake_of(done)
    assert (found["events"], found["broken"]) == (GOOD + 1, [])


def test_a_line_of_a_hundred_megabytes_costs_itself_only(path: Path, kubewitness: Command) -> None:
    path.write_bytes(BEFORE + b'{"kind":"Event","x":"' + b"y" * (100 << 20) + b'"}\n' + AFTER)
    found = intake_of(kubewitness("analyze", path, "-o", "json"))
    assert found["events"] == GOOD
    assert sum(one["n"] for one in found["broken"]) == 1


def test_a_key_that_comes_twice_is_told(path: Path, kubewitness: Command) -> None:
    twice = ONE.strip().replace(b'"verb":"get"', b'"verb":"get","verb":"delete"')
    path.write_bytes(BEFORE + twice + b"\n" + AFTER)
    done = kubewitness("analyze", path, "-o", "json")
    assert intake_of(done)["events"] == GOOD + 1
    assert "duplicate keys: the last of each was read" in done.talk
    assert kubewitness("analyze", path, "--strict").code == 1


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"\n\n\n", b"   \n\t\n"])
def test_ends_of_lines_and_empty_lines_are_no_lines(
    ending: bytes, path: Path, kubewitness: Command
) -> None:
    path.write_bytes((BEFORE + AFTER).strip().replace(b"\n", ending or b"\n") + ending)
    found = intake_of(kubewitness("analyze", path, "-o", "json"))
    assert (found["lines"], found["events"]) == (GOOD, GOOD)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_encodings(encoding: str, path: Path, kubewitness: Command) -> None:
    text = (BEFORE + AFTER).decode().replace("ada", "zoë")
    path.write_bytes(text.encode(encoding))
    found = intake_of(kubewitness("analyze", path, "-o", "json"))
    if encoding in ("utf-8-sig", "utf-16"):
        assert (found["events"], found["broken"]) == (GOOD, [])
    else:
        assert found["events"] == 0
        assert found["broken"]


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("name", PACK)
def test_a_cut_compressed_file_gives_what_it_has(
    name: str, path: Path, kubewitness: Command
) -> None:
    packed = PACK[name](quiet_days() + stolen_credential())
    path.write_bytes(packed[: len(packed) * 3 // 4])
    done = kubewitness("analyze", path, "-o", "json")
    assert done.code == 0
    found = intake_of(done)
    total = len(quiet_days().splitlines())
    assert found["events"] < total
    # bzip2 gives whole blocks of 900 kB or nothing
    assert found["events"] > total // 3 or name in ("bzip2", "zstd")
    told = f"{path}: cut off: the {name} stream does not end"
    assert unwrapped(told, "") in unwrapped(done.talk, "")
    strict = kubewitness("analyze", path, "--strict")
    assert strict.code == 1


@pytest.mark.parametrize("name", PACK)
def test_a_damaged_compressed_file_gives_what_it_has(
    name: str, path: Path, kubewitness: Command
) -> None:
    packed = bytearray(PACK[name](quiet_days()))
    packed[len(packed) // 2 : len(packed) // 2 + 50] = bytes(50)
    path.write_bytes(packed)
    other = path.with_name("other.log")
    other.write_bytes(ONE)
    done = kubewitness("analyze", path, other, "-o", "json")
    assert done.code == 0
    assert intake_of(done)["events"] >= 1
    assert str(path) in unwrapped(done.talk, "")
    assert kubewitness("analyze", path, other, "--strict").code == 1


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_told(content: bytes, path: Path, kubewitness: Command) -> None:
    path.write_bytes(content)
    done = kubewitness("analyze", path, "-o", "json")
    assert (done.code, intake_of(done)["lines"]) == (0, 0)
    assert f"{path}:empty" in unwrapped(done.talk, "")
    report = kubewitness("analyze", path)
    assert (report.code, report.err) == (0, b"")
    assert "empty" in report.text
    assert kubewitness("analyze", path, "--strict").code == 1
    assert kubewitness("summary", path).code == 0


def test_an_empty_lake_is_told(tmp_path: Path, kubewitness: Command) -> None:
    done = kubewitness("analyze", "--lake", tmp_path / "lake", "-o", "json")
    assert done.code == 0
    assert json.loads(done.out)["items"] == []
    assert "No incidents found." in done.talk


def unreadable(path: Path) -> None:
    """A file that cannot be read, by root neither."""
    path.symlink_to("/proc/self/mem")


def test_a_file_that_cannot_be_read_among_others_is_a_warning(
    path: Path, tmp_path: Path, kubewitness: Command
) -> None:
    path.write_bytes(BEFORE + AFTER)
    unreadable(tmp_path / "unreadable.log")
    done = kubewitness("analyze", path, tmp_path / "unreadable.log", "-o", "json")
    assert (done.code, intake_of(done)["events"]) == (0, GOOD)
    told = unwrapped(done.talk, "")
    assert "unreadable.log:notreadtotheend,input/outputerror" in told
    assert kubewitness("analyze", path, tmp_path / "unreadable.log", "--strict").code == 1


def test_a_file_that_cannot_be_read_alone_is_an_error(tmp_path: Path, kubewitness: Command) -> None:
    unreadable(tmp_path / "unreadable.log")
    done = kubewitness("analyze", tmp_path / "unreadable.log", "-o", "json")
    assert (done.code, done.out) == (1, b"")
    assert done.talk == f"kubewitness: {tmp_path}/unreadable.log: input/output error\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_file_without_permission_is_an_error(path: Path, tmp_path: Path, state: Path) -> None:
    path.write_bytes(BEFORE)
    path.chmod(0)
    above = [parent for parent in tmp_path.parents if "pytest-of-" in str(parent)]
    for folder in (tmp_path, *above, state, state.parent / "scratch"):
        folder.chmod(0o777)

    good = tmp_path / "good.log"
    good.write_bytes(BEFORE)
    # Once as root: the interpreter's own files may be root's only.
    script = f"""
import contextlib, os
from kubewitness.cli import main
with contextlib.suppress(SystemExit):
    main(["analyze", {str(good)!r}, "-o", "name"])
os.setgid(65534)
os.setuid(65534)
main(["analyze", {str(path)!r}])
"""
    done = subprocess.run(
        [program()[0], "-c", script], capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().endswith(f"kubewitness: {path}: permission denied\n")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.log", "no such file or directory"),
        ("*.nothing", "holds no files"),
        ("empty", "holds no files"),
        ("dangling", "no such file or directory"),
        ("loop", "too many levels of symbolic links"),
        ("socket", "no such device or address"),
        ("hidden", "holds no files"),
        ("audit.log/x", "no such file or directory"),
        ("", "no name given"),
    ],
)
def test_what_is_no_file_is_an_error(
    given: str, message: str, tmp_path: Path, kubewitness: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "audit.log").write_bytes(BEFORE)
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".log").write_bytes(BEFORE)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("socket")
    with listening:
        done = kubewitness("analyze", given, "-o", "json")
    assert (done.code, done.out) == (1, b"")
    assert done.talk.startswith(f"kubewitness: {given}{': ' if given else ''}{message}")


def test_a_pipe_is_read_as_a_stream(tmp_path: Path, kubewitness: Command) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(BEFORE + AFTER,))
    writer.start()
    done = kubewitness("analyze", pipe, "-o", "json")
    writer.join()
    assert intake_of(done)["events"] == GOOD


def test_pipes_and_devices_that_lie_around_are_not_waited_for(
    tmp_path: Path, kubewitness: Command
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "audit.log").write_bytes(BEFORE)
    os.mkfifo(folder / "pipe.log")
    (folder / "zero.log").symlink_to("/dev/zero")
    for named in (folder, folder / "*.log"):
        found = intake_of(kubewitness("analyze", named, "-o", "json"))
        assert (found["sources"], found["events"]) == (1, 20)


def test_links_and_repetitions_are_read_once(tmp_path: Path, kubewitness: Command) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_bytes(BEFORE + AFTER)
    (folder / "b.log").symlink_to("a.log")
    (folder / "up").symlink_to(".")
    os.link(folder / "a.log", folder / "c.log")
    done = kubewitness("analyze", folder, folder / "a.log", folder / "*.log", "-o", "json")
    assert intake_of(done)["lines"] == GOOD


def test_standard_input_twice_is_an_error(kubewitness: Command) -> None:
    done = kubewitness("analyze", "-", "-", stdin=BEFORE)
    assert done.code == 1
    assert "named twice" in done.talk


def test_a_file_that_grows_while_it_is_read_is_read_as_far_as_it_is(
    path: Path, tmp_path: Path, kubewitness: Command
) -> None:
    """The last line of a live log is cut; the next run reads it whole."""
    path.write_bytes(BEFORE + AFTER[:-100])
    lake = tmp_path / "lake"
    first = intake_of(kubewitness("analyze", path, "--lake", lake, "-o", "json"))
    assert (first["added"], first["broken"][0]["reason"]) == (GOOD - 1, "cut off")
    path.write_bytes(BEFORE + AFTER)
    second = intake_of(kubewitness("analyze", path, "--lake", lake, "-o", "json"))
    assert (second["added"], second["duplicates"], second["broken"]) == (1, GOOD - 1, [])


def test_only_garbage_is_told_and_counted(path: Path, kubewitness: Command) -> None:
    path.write_bytes(os.urandom(1 << 20))
    done = kubewitness("analyze", path, "-o", "json")
    assert done.code == 0
    found = intake_of(done)
    assert found["events"] == 0
    assert found["lines"] > 0
    assert "broken" in done.talk


def test_broken_lines_of_a_run_without_a_lake_say_how_to_keep_them(
    path: Path, kubewitness: Command
) -> None:
    path.write_bytes(BEFORE + b"broken\n")
    for done in (kubewitness("analyze", path), kubewitness("analyze", path, "-o", "name")):
        told = unwrapped(done.text + done.talk)
        assert "With --lake DIR, broken lines are kept in its quarantine." in told


odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=25)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(sorted(event())), odd_values, max_size=4),
        min_size=10,
        max_size=40,
    )
)
def test_whatever_stands_in_the_fields_every_line_is_accounted_for(
    changes: list[dict[str, Any]],
) -> None:
    odd = [{**event(auditID=f"odd-{n}"), **fields} for n, fields in enumerate(changes)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.log"
        path.write_bytes(BEFORE + b"".join(json.dumps(one).encode() + b"\n" for one in odd))
        intake = analyze([path]).intake
    assert intake.lines == 20 + len(odd)
    assert intake.events == intake.added + intake.duplicates
    assert intake.lines == intake.events + sum(one.n for one in (*intake.skipped, *intake.broken))
