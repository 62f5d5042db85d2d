"""Files that are followed: rotated, truncated, packed, replaced, and read on after a crash."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
import yaml

from feeding import Log, Positions, Spool, intake, running, until
from kubewitness.config.settings import Cluster
from kubewitness.service.feeds.follow import FollowFeed
from kubewitness.service.feeds.lines import BODY, Cutter
from kubewitness.service.feeds.log_file import Mark
from kubewitness.service.feeds.opening import feeds
from kubewitness.service.feeds.rotation import families, generation
from kubewitness.service.feeds.standard_input import StandardInputFeed
from kubewitness.service.feeds.trail import Trail


class Reader:
    """Looks at a log by hand, and begins anew where it was left."""

    def __init__(self, named: Path, linger: float = 0.0) -> None:
        self.named = named
        self.linger = linger
        self.lines: list[bytes] = []
        self.trail = Trail(named, linger=linger)

    def look(self) -> list[bytes]:
        """The lines that are new since the last look."""
        new: list[bytes] = []
        for piece in self.trail.look():
            new += intake(piece.source, piece.cut.body).lines
            self.trail.took(piece)
        self.lines += new
        return new

    def close(self) -> None:
        self.trail.close()

    def restart(self) -> None:
        kept = msgspec.json.encode(self.trail.marks())
        self.trail.close()
        self.trail = Trail(
            self.named, msgspec.json.decode(kept, type=list[Mark]), linger=self.linger
        )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "audit.log")
    yield made
    made.close()


Follow = Callable[..., Reader]


@pytest.fixture
def follow() -> Iterator[Follow]:
    with ExitStack() as stack:

        def begin(named: Path, linger: float = 0.0) -> Reader:
            reader = Reader(named, linger)
            stack.callback(reader.close)
            return reader

        yield begin


@pytest.fixture
def reader(log: Log, follow: Follow) -> Reader:
    return follow(log.path)


def pack(path: Path) -> Path:
    """As gzip and lumberjack do: a new file, then the old one goes."""
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


def copytruncate(path: Path) -> Path:
    copy = path.with_name(path.name + ".1")
    shutil.copyfile(path, copy)
    os.truncate(path, 0)
    return copy


# Which files belong together -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "audit-2026-11-23T18-00-00.000.log",
        "audit-2026-11-23T18-00-00.000.log.gz",
        "audit.log.1",
        "audit.log.12.gz",
        "audit.log-20261123",
        "audit.log-20261123.zst",
        "audit.log.20261123-180000.gz",
        "audit.log-1795456800",
    ],
)
def test_a_rotated_file_is_known_by_its_name(name: str) -> None:
    assert generation(name).base == "audit.log"
    assert generation(name).age < generation("audit.log").age


@pytest.mark.parametrize("name", ["audit.log", "node-10.log", "v1.28.log", "0.log", "a.1234"])
def test_other_names_stand_for_themselves(name: str) -> None:
    assert generation(name).base == name


def test_generations_sort_from_the_oldest(tmp_path: Path) -> None:
    names = [
        "audit-2026-11-22T18-00-00.000.log.gz",
        "audit-2026-11-23T18-00-00.000.log",
        "audit-2026-11-23T18-00-00.001.log",
        "audit.log",
    ]
    for name in [*reversed(names), "audit-policy.yaml", "other.log"]:
        (tmp_path / name).touch()
    (family,) = families(tmp_path / "audit.log")
    assert [path.name for path in family.files] == names


def test_numbers_count_backwards(tmp_path: Path) -> None:
    for name in ("audit.log", "audit.log.1", "audit.log.2.gz", "audit.log.10.gz"):
        (tmp_path / name).touch()
    (family,) = families(tmp_path / "audit.log")
    assert [path.name[10:] for path in family.files] == ["10.gz", "2.gz", "1", ""]


def test_a_link_leads_to_the_file_and_to_what_was_rotated_away_from_it(tmp_path: Path) -> None:
    pods = tmp_path / "pods"
    pods.mkdir()
    (pods / "0.log").touch()
    (pods / "0.log.20261123-180000.gz").touch()
    (tmp_path / "kube-apiserver.log").symlink_to(pods / "0.log")
    (family,) = families(tmp_path / "kube-apiserver.log")
    assert [path.name for path in family.files] == ["0.log.20261123-180000.gz", "0.log"]


def test_a_rotated_file_that_is_named_stands_for_itself(tmp_path: Path) -> None:
    for name in ("audit.log", "audit.log.1", "audit.log.2"):
        (tmp_path / name).touch()
    (family,) = families(tmp_path / "audit.log.1")
    assert [path.name for path in family.files] == ["audit.log.1"]


# What is read ----------------------------------------------------------------------------------


def test_lines_are_read_as_they_are_written(log: Log, reader: Reader) -> None:
    log.numbered(3)
    assert reader.look() == log.written
    assert reader.look() == []
    log.numbered(2)
    assert reader.look() == log.written[3:]


def test_a_line_is_waited_for_until_it_is_whole(log: Log, reader: Reader) -> None:
    with log.path.open("ab") as file:
        for part in (b'{"line"', b":1", b"}"):
            file.write(part)
            file.flush()
            assert reader.look() == []
        file.write(b"\n")
    assert reader.look() == [b'{"line":1}']


def test_a_file_may_come_later(
    follow: Follow, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = follow(tmp_path / "audit.log")
    for _ in range(3):
        assert reader.look() == []
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/audit.log: nothing to follow yet: no such file or directory"
    ]
    Log(tmp_path / "audit.log").numbered(1)
    assert len(reader.look()) == 1


def test_what_was_rotated_away_before_is_read_first(log: Log, reader: Reader) -> None:
    for _ in range(3):
        log.numbered(2)
        log.rotate()
    log.numbered(2)
    assert reader.look() == log.written


def test_a_rotation_is_read_to_its_end_before_the_new_file(log: Log, reader: Reader) -> None:
    log.numbered(2)
    reader.look()
    log.numbered(2)
    log.rotate()
    log.numbered(2)
    assert reader.look() == log.written[2:]


def test_a_file_that_was_deleted_is_read_to_its_end(log: Log, reader: Reader) -> None:
    log.numbered(1)
    reader.look()
    log.numbered(1)
    log.rotate().unlink()
    log.numbered(1)
    assert reader.look() == log.written[1:]
    reader.look()
    assert len(reader.trail.marks()) == 2  # what a copy would be known by is kept


def test_who_still_writes_to_a_rotated_file_is_heard(log: Log, reader: Reader) -> None:
    log.numbered(1)
    reader.look()
    late = log.path.open("ab")
    log.rotate()
    log.numbered(1)
    reader.look()
    reader.look()
    late.write(b'{"late":true}\n')
    late.close()
    assert reader.look() == [b'{"late":true}']


def test_the_last_line_of_a_rotated_file_may_lack_its_newline(follow: Follow, log: Log) -> None:
    patient = follow(log.path, linger=60.0)
    hasty = follow(log.path, linger=0.0)
    with log.path.open("ab") as file:
        file.write(b'{"a":1}\n{"torn":')
    log.rotate()
    log.numbered(1)
    assert patient.look() == [b'{"a":1}', *log.written]
    assert patient.look() == []
    assert hasty.look() == [b'{"a":1}', b'{"torn":', *log.written]


def test_a_truncated_file_is_read_from_its_beginning(log: Log, reader: Reader) -> None:
    log.numbered(50)
    reader.look()
    os.truncate(log.path, 0)
    log.numbered(3)
    assert reader.look() == log.written[50:]


def test_a_truncated_file_is_noticed_even_where_it_has_grown_beyond(
    log: Log, reader: Reader
) -> None:
    log.numbered(3)
    reader.look()
    os.truncate(log.path, 0)
    log.numbered(500)
    assert reader.look() == log.written[3:]


def test_half_a_truncation_is_noticed(log: Log, reader: Reader) -> None:
    log.numbered(100)
    reader.look()
    os.truncate(log.path, sum(len(line) + 1 for line in log.written[:60]))
    log.numbered(90)
    assert set(log.written[100:]) <= set(reader.look())


def test_a_hole_that_truncation_left_is_passed_over(log: Log, reader: Reader) -> None:
    with log.path.open("wb") as file:  # does not append: goes on where it was
        file.write(b'{"before":1}\n' * 1000)
        file.flush()
        reader.look()
        os.truncate(log.path, 0)
        file.write(b'{"behind":1}\n')
    assert reader.look() == [b'{"behind":1}']


def test_a_copy_made_for_truncation_gives_what_was_not_read(log: Log, reader: Reader) -> None:
    log.numbered(50)
    reader.look()
    log.numbered(50)
    copytruncate(log.path)
    log.numbered(3)
    assert reader.look() == log.written[50:]


def test_a_copy_that_is_still_being_made_is_not_read_again(follow: Follow, log: Log) -> None:
    reader = follow(log.path, linger=60.0)
    log.numbered(100)
    reader.look()
    copy = log.path.with_name("audit.log.1")
    whole = log.path.read_bytes()
    for size in (1500, 4000, len(whole)):
        copy.write_bytes(whole[:size])
        assert reader.look() == []


def test_a_replaced_file_is_read_from_its_beginning(log: Log, reader: Reader) -> None:
    log.numbered(50)
    reader.look()
    log.path.unlink()
    again = Log(log.path)
    again.write(*(b"other %d" % n for n in range(50)))
    assert reader.look() == again.written


def test_what_is_packed_after_it_was_read_is_not_read_again(log: Log, reader: Reader) -> None:
    log.numbered(100)
    reader.look()
    pack(log.rotate())
    log.numbered(1)
    assert reader.look() == log.written[100:]
    assert reader.look() == []


def test_what_was_packed_before_it_was_read_is_read_on(log: Log, reader: Reader) -> None:
    log.numbered(100)
    reader.look()
    reader.restart()
    log.numbered(100)
    pack(log.rotate())
    log.numbered(1)
    assert reader.look() == log.written[100:]


def test_a_packed_file_is_read_once_it_is_whole(follow: Follow, log: Log) -> None:
    log.numbered(1000)
    old = log.rotate()
    whole = gzip.compress(old.read_bytes())
    old.unlink()
    packed = old.with_name(old.name + ".gz")
    reader = follow(log.path, linger=0.2)
    for size in (100, 1000, len(whole)):
        packed.write_bytes(whole[:size])
        assert reader.look() == []
    time.sleep(0.25)
    assert reader.look() == log.written


def test_a_damaged_packed_file_gives_what_can_be_read(
    log: Log, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    log.numbered(20000)
    packed = pack(log.rotate())
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    read = reader.look()
    assert read[:-1] == log.written[: len(read) - 1] != []
    assert "cut off: the gzip stream does not end" in caplog.text
    assert reader.look() == []
    packed.write_bytes(whole)
    assert set(log.written[len(read) :]) <= set(reader.look())


def test_a_directory_stands_for_all_logs_below_it(follow: Follow, tmp_path: Path) -> None:
    one, two = Log(tmp_path / "a.log"), Log(tmp_path / "b.log")
    one.numbered(2)
    two.write(b"first", b"second")
    one.rotate()
    reader = follow(tmp_path)
    one.numbered(1)
    assert sorted(reader.look()) == sorted([*one.written, *two.written])


def test_a_glob_finds_what_matches_later(follow: Follow, tmp_path: Path) -> None:
    reader = follow(tmp_path / "*.log")
    assert reader.look() == []
    for name in ("a.log", "b.log", "c.txt"):
        (tmp_path / name).write_bytes(name.encode() + b"\n")
    assert reader.look() == [b"a.log", b"b.log"]


def test_a_link_that_is_led_elsewhere_is_followed(follow: Follow, tmp_path: Path) -> None:
    old, new = tmp_path / "one", tmp_path / "two"
    old.write_bytes(b"1\n")
    new.write_bytes(b"3\n")
    link = tmp_path / "current"
    link.symlink_to(old)
    reader = follow(link)
    assert reader.look() == [b"1"]
    with old.open("ab") as file:
        file.write(b"2\n")
    link.unlink()
    link.symlink_to(new)
    assert reader.look() == [b"2", b"3"]


def test_a_pipe_that_lies_there_is_not_waited_for(follow: Follow, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit.log")
    assert follow(tmp_path / "audit.log").look() == []


def test_text_that_is_no_utf8_is_handed_on(log: Log, reader: Reader) -> None:
    log.write(b"\xff\xfe", b'{"a":1}')
    assert reader.look() == [b"\xff\xfe", b'{"a":1}']


def test_lines_of_ten_megabytes_are_read_whole(log: Log, reader: Reader) -> None:
    long = b'{"a":"' + b"x" * (10 << 20) + b'"}'
    log.write(b"before", long, b"behind")
    assert reader.look() == [b"before", long, b"behind"]


def test_parts_of_a_line_are_kept_together(log: Log, reader: Reader) -> None:
    head = b"2026-11-23T18:00:00.000000000Z "
    log.write(head + b'stdout P {"a":', head + b"stderr F I1123 something else")
    assert reader.look() == []
    log.write(head + b"stdout F 1}")
    assert reader.look() == log.written


@contextmanager
def as_nobody() -> Iterator[None]:
    """Whoever tests as root may read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_who_may_not_read_says_so_once_and_tries_again(
    what: str, follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        log = Log(Path(folder) / "audit.log")
        log.numbered(1)
        log.path.chmod(0o644)
        reader = follow(log.path)
        locked = log.path if what == "file" else Path(folder)
        mode = locked.stat().st_mode
        locked.chmod(0)
        with as_nobody():
            assert reader.look() == reader.look() == []
        assert [record.message.partition(": ")[2] for record in caplog.records] in (
            ["cannot be read: permission denied"],
            ["nothing to follow yet: permission denied"],
        )
        locked.chmod(mode)
        with as_nobody():
            assert reader.look() == log.written
        reader.close()
        log.close()


def test_logs_that_begin_alike_are_told_apart(follow: Follow, tmp_path: Path) -> None:
    reader = follow(tmp_path)
    banner = b"# the same banner in every file\n" * 100
    (tmp_path / "a.log").write_bytes(banner + b"".join(b"a%d\n" % n for n in range(50)))
    reader.look()
    (tmp_path / "b.log").write_bytes(banner + b"".join(b"b%d\n" % n for n in range(60)))
    assert {b"b%d" % n for n in range(60)} <= set(reader.look())


# Where it goes on ------------------------------------------------------------------------------


def test_it_goes_on_where_it_was_left(log: Log, reader: Reader) -> None:
    log.numbered(20)
    reader.look()
    reader.restart()
    assert reader.look() == []
    log.numbered(1)
    assert reader.look() == log.written[20:]


def test_rotations_while_nobody_looked_are_read_in_order(log: Log, reader: Reader) -> None:
    log.numbered(20)
    reader.look()
    reader.restart()
    for _ in range(4):
        log.numbered(5)
        log.rotate()
    log.numbered(1)
    assert reader.look() == log.written[20:]


def test_an_inode_that_was_given_away_is_not_mistaken(log: Log, reader: Reader) -> None:
    log.numbered(20)
    reader.look()
    inode = log.path.stat().st_ino
    reader.restart()
    log.path.write_bytes(b"".join(b"other %d\n" % n for n in range(500)))  # the same inode
    assert log.path.stat().st_ino == inode
    assert reader.look() == [b"other %d" % n for n in range(500)]


def test_no_text_of_the_log_is_kept_with_the_position(log: Log, reader: Reader) -> None:
    log.write(b'{"token":"hunter2"}')
    reader.look()
    assert b"hunter2" not in msgspec.json.encode(reader.trail.marks())


# Cutting ---------------------------------------------------------------------------------------


def test_a_line_that_is_too_long_is_told_by_its_beginning_and_passed_over() -> None:
    cutter = Cutter(limit=100 << 10)
    blocks = [b"a\n" + b"x" * (60 << 10), b"y" * (60 << 10), b"z" * 10, b"z\nb\nc"]
    cuts = [cut for block in blocks for cut in cutter.cuts(block)]
    assert b"".join(cut.raw for cut in cuts) + b"c" == b"".join(blocks)
    bodies = [cut.body for cut in cuts if cut.body]
    assert [body[:2] for body in bodies] == [b"a\n", b"xx", b"b\n"]
    assert len(bodies[1]) <= 64 << 10


def test_bodies_are_bounded_where_lines_are_short() -> None:
    cutter = Cutter()
    cuts = list(cutter.cuts(b"line\n" * BODY))
    assert max(len(cut.body) for cut in cuts) <= BODY + 5
    assert b"".join(cut.body for cut in cuts) == b"line\n" * BODY


# The feed --------------------------------------------------------------------------------------


def feed(path: Path, spool: Spool, positions: Positions) -> FollowFeed:
    return FollowFeed("here", path, intake, spool, positions)


def test_every_line_arrives_once_while_the_log_is_rotated_at_full_speed(tmp_path: Path) -> None:
    log, spool = Log(tmp_path / "audit.log"), Spool()
    done = threading.Event()

    def write() -> None:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            rotation = time.monotonic() + 0.004
            while time.monotonic() < rotation:
                log.numbered(5)
            log.rotate()
        done.set()

    async def watch() -> None:
        threading.Thread(target=write).start()
        await until(done.is_set)
        await until(lambda: len(spool.lines) >= len(log.written))

    asyncio.run(running(feed(log.path, spool, Positions()).run(), watch()))
    assert log.rotations > 50
    assert sorted(spool.lines) == sorted(log.written)


def test_a_full_spool_is_waited_for(log: Log) -> None:
    spool, positions = Spool(full=True), Positions()
    log.numbered(10)

    async def watch() -> None:
        await until(lambda: spool.refused > 2)
        assert positions.kept == {}
        spool.full = False
        await until(lambda: spool.lines == log.written)

    asyncio.run(running(feed(log.path, spool, positions).run(), watch()))


def test_a_state_that_is_away_is_waited_for_at_the_start_and_missed_later(log: Log) -> None:
    spool, positions = Spool(), Positions(away=True)
    log.numbered(1)

    async def watch() -> None:
        await asyncio.sleep(0.3)
        assert spool.lines == []
        positions.away = False
        await until(lambda: bool(positions.kept))
        positions.away = True
        log.numbered(1)
        await until(lambda: spool.lines == log.written)

    asyncio.run(running(feed(log.path, spool, positions).run(), watch()))


def test_a_damaged_position_costs_reading_anew(log: Log) -> None:
    spool = Spool()
    log.numbered(1)
    followed = feed(log.path, spool, Positions({f"follow/here/{log.path}": b"\0"}))
    asyncio.run(running(followed.run(), until(lambda: spool.lines == log.written)))


_PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from feeding import intake, Positions
from kubewitness.service.feeds.follow import FollowFeed

log, out, kept = map(Path, sys.argv[1:])

class Spool:
    async def append(self, batch, /):
        with out.open("ab") as file:
            file.write(b"".join(line + b"\\n" for line in batch.lines))

class Stored(Positions):
    def get(self, feed, /):
        return kept.read_bytes() if kept.exists() else None

    def set(self, feed, value, /):
        new = kept.with_suffix(".new")
        new.write_bytes(value)
        new.rename(kept)

asyncio.run(FollowFeed("here", log, intake, Spool(), Stored()).run())
"""


def test_nothing_is_lost_to_kill_9(tmp_path: Path) -> None:
    log, out, kept = Log(tmp_path / "audit.log"), tmp_path / "out", tmp_path / "kept"
    command = [sys.executable, "-c", _PROGRAM, str(log.path), str(out), str(kept)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])

    def read() -> set[bytes]:
        # The line that was being written when the program was killed may be torn.
        return set(out.read_bytes().split(b"\n")) if out.exists() else set()

    for _ in range(5):
        before = len(read())
        with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}) as process:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and len(read()) < before + 200:
                log.numbered(50)
                if len(log.written) % 500 == 0:
                    log.rotate()
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        log.numbered(20)
        log.rotate()
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}) as process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not set(log.written) <= read():
            time.sleep(0.05)
        process.kill()
    assert set(log.written) <= read()
    lines = out.read_bytes().split(b"\n")
    assert len(lines) < 1.5 * len(log.written)  # it did not read everything again


# Standard input --------------------------------------------------------------------------------


def test_standard_input_is_read_to_its_end(tmp_path: Path) -> None:
    spool = Spool()
    given = tmp_path / "given"
    given.write_bytes(b'{"a":1}\n\xff\n{"last":1}')
    with given.open("rb") as file:
        asyncio.run(StandardInputFeed("here", file.fileno(), intake, spool, Positions()).run())
    assert spool.lines == [b'{"a":1}', b"\xff", b'{"last":1}']
    assert {batch.source for batch in spool.batches} == {"stdin"}


def test_a_line_in_a_pipe_is_taken_at_once_and_its_writer_kept_waiting() -> None:
    spool = Spool()
    out, into = os.pipe()
    sent = 0

    def write() -> None:
        nonlocal sent
        for n in range(1000):
            sent += os.write(into, b"%d" % n + b"x" * 1000 + b"\n")
        os.close(into)

    async def then() -> None:
        os.write(into, b"first\n")
        await until(lambda: spool.lines == [b"first"])
        spool.full = True
        writer = asyncio.create_task(asyncio.to_thread(write))
        await until(lambda: spool.refused > 1)
        await asyncio.sleep(0.2)
        assert sent < 900_000  # what a pipe holds, and one body
        spool.full = False
        await writer
        await until(lambda: len(spool.lines) == 1001)

    async def both() -> None:
        feed = StandardInputFeed("here", out, intake, spool, Positions())
        await asyncio.gather(feed.run(), then())

    asyncio.run(both())
    os.close(out)


def test_a_pipe_that_says_nothing_does_not_keep_the_program_from_ending() -> None:
    out, into = os.pipe()
    feed = StandardInputFeed("here", out, intake, Spool(), Positions())
    begun = time.monotonic()
    asyncio.run(running(feed.run(), asyncio.sleep(0.1)))
    assert time.monotonic() - begun < 5
    os.close(out)
    os.close(into)


# Which feeds there are -------------------------------------------------------------------------


def test_the_configuration_of_the_documentation_makes_the_feeds_it_says() -> None:
    page = (Path(__file__).parents[1] / "docs" / "serve.md").read_text(encoding="utf-8")
    section = page.partition("## Other sources")[2]
    example = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
    (cluster,) = msgspec.convert(
        example["clusters"], tuple[Cluster, ...], dec_hook=lambda kind, value: kind(value)
    )
    opened = feeds(cluster, intake, Spool(), Positions())
    assert [(type(one).__name__, one.name, one.behind) for one in opened] == [
        ("FollowFeed", "follow/prod//var/log/kubernetes/audit/audit.log", 0),
        ("BucketFeed", "bucket/prod/s3://company-audit/AWSLogs/prod", 0),
        ("KafkaFeed", "kafka/prod/audit", 0),
    ]


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "given").open("w+") as given:
        monkeypatch.setattr("sys.stdin", given)
        (feed,) = feeds(Cluster(name="a", follow=(Path("-"),)), intake, Spool(), Positions())
        assert isinstance(feed, StandardInputFeed)
        given.write("1\n")
        given.seek(0)
        spool = Spool()
        (feed,) = feeds(Cluster(name="a", follow=(Path("-"),)), intake, spool, Positions())
        asyncio.run(feed.run())
    assert spool.lines == [b"1"]
