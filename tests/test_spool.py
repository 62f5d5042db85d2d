"""The spool: what was acknowledged is there, whatever happened to the process or to the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubewitness.errors import LakeError
from kubewitness.service import metrics
from kubewitness.service.segment import HEAD_BYTES
from kubewitness.service.spool import Batch, Position, Spool, SpoolFull

BIG = 1 << 30


def batch(*lines: bytes, cluster: str = "a") -> Batch:
    return Batch(cluster, "webhook", 1700000000.5, lines)


def numbered(count: int, size: int = 10) -> list[Batch]:
    """Batches that do not pack well."""
    noise = random.Random(size)
    return [
        batch(b"%d " % number + noise.randbytes(size).hex().encode()) for number in range(count)
    ]


def all_of(spool: Spool, after: Position | None = None, most_bytes: int = BIG) -> list[Batch]:
    return [found for _, found in spool.read(after, most_bytes=most_bytes)]


def run(folder: Path, do: Callable[[Spool], Awaitable[Any]], **options: Any) -> Any:
    """What ``do`` makes of a spool that is opened for it and closed again."""

    async def opened() -> Any:
        spool = Spool(folder, **{"limit": BIG, **options})
        try:
            return await do(spool)
        finally:
            await spool.close()

    return asyncio.run(opened())


async def keep(spool: Spool, batches: list[Batch]) -> list[Position]:
    return [await spool.append(one) for one in batches]


async def look(spool: Spool) -> list[Batch]:
    return all_of(spool)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def damaged(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.damaged"))]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
batches = st.lists(
    st.builds(
        Batch,
        texts,
        texts,
        st.floats(allow_nan=False),
        st.lists(st.binary(max_size=60), max_size=4).map(tuple),
    ),
    max_size=8,
)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(
    first=batches,
    second=batches,
    segment_bytes=st.sampled_from([1, 100, 1000]),
    most=st.integers(0, 100),
)
def test_batches_come_back_in_order_over_restarts_and_segments(
    first: list[Batch],
    second: list[Batch],
    segment_bytes: int,
    most: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("spool") / "spool"

    async def look_by_pieces(spool: Spool) -> list[Batch]:
        found: list[Batch] = []
        at: Position | None = None
        while piece := spool.read(at, most_bytes=most):
            assert all(position > (at or Position(0, 0)) for position, _ in piece)
            assert len(piece) == 1 or sum(len(b"".join(b.lines)) for _, b in piece) <= most
            at = piece[-1][0]
            found += [one for _, one in piece]
        return found

    for some in (first, second):
        positions = run(folder, partial(keep, batches=some), segment_bytes=segment_bytes)
        assert positions == sorted(set(positions))
    assert run(folder, look_by_pieces) == [*first, *second]
    assert damaged(folder) == []


def test_who_waits_together_shares_one_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = 0
    real = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        time.sleep(0.02)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    async def many(spool: Spool) -> list[Position]:
        return await asyncio.gather(*map(spool.append, numbered(500)))

    assert len(set(run(tmp_path, many))) == 500
    assert synced <= 4  # the folder, and a group while another is written


def test_what_else_waits_in_threads_does_not_keep_it_from_the_disk(tmp_path: Path) -> None:
    async def busy(spool: Spool) -> None:
        over = threading.Event()
        others = [asyncio.create_task(asyncio.to_thread(over.wait, 20)) for _ in range(50)]
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(spool.append(numbered(1)[0]), 5)
        finally:
            over.set()
            await asyncio.gather(*others)

    run(tmp_path, busy)


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("webhook", "webhook"),
        ("stdin", "stdin"),
        ("file:/var/log/kafka:x", "file"),
        ("bucket:s3://logs/a", "bucket"),
        ("kafka:audit/0", "kafka"),
        ("kafka:audit/0@17", "kafka"),
    ],
)
def test_events_are_counted_by_the_kind_of_their_feed(
    source: str, label: str, tmp_path: Path
) -> None:
    counted = metrics.EVENTS_INGESTED.labels(source=label)._value
    before = counted.get()
    run(tmp_path, lambda spool: keep(spool, [Batch("a", source, 1.0, (b"{}", b"{}"))]))
    assert counted.get() == before + 2


def test_nobody_sees_what_is_not_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, durable = threading.Event(), threading.Event()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.fstat(descriptor).st_size and not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            written.set()
            assert durable.wait(10)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    async def peek(spool: Spool) -> None:
        appending = asyncio.create_task(spool.append(batch(b"x")))
        waiting = asyncio.create_task(spool.wait(None))
        await asyncio.to_thread(written.wait, 10)
        assert all_of(spool) == []
        assert not appending.done()
        assert not waiting.done()
        durable.set()
        position = await appending
        await asyncio.wait_for(waiting, 10)
        assert spool.read(None, most_bytes=0) == [(position, batch(b"x"))]
        assert spool.read(position, most_bytes=0) == []

    run(tmp_path, peek)


def test_waiting_ends_with_the_next_batch_only(tmp_path: Path) -> None:
    async def follow(spool: Spool) -> None:
        first = await spool.append(batch(b"1"))
        await asyncio.wait_for(spool.wait(None), 1)
        waiting = asyncio.create_task(spool.wait(first))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await spool.append(batch(b"2"))
        await asyncio.wait_for(waiting, 10)

    run(tmp_path, follow)


# Damage


def written(folder: Path, some: list[Batch]) -> tuple[bytes, list[int]]:
    """The bytes of the one segment that holds ``some``, and where each of them ends."""
    ends = [position.offset for position in run(folder, lambda spool: keep(spool, some))]
    (path,) = segments(folder)
    return path.read_bytes(), ends


def test_a_torn_tail_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    some = numbered(4)
    data, ends = written(tmp_path, some)
    (path,) = segments(tmp_path)
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        assert run(tmp_path, look) == some[:whole]
        torn = data[max([0, *ends[:whole]]) : cut]
        assert damaged(tmp_path) == ([torn] if torn else [])
        assert path.exists() == bool(whole)
        for aside in tmp_path.glob("*.damaged"):
            aside.unlink()


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_costs_what_it_hit_and_nothing_else(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    some = numbered(6, size=40)
    content, ends = written(folder, some)
    begin = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(begin + 1, min(len(content), begin + 300)))
    noise = data.draw(st.binary(min_size=end - begin, max_size=end - begin))
    (path,) = segments(folder)
    hit = content[:begin] + noise + content[end:]
    path.write_bytes(hit)
    begins = [0, *ends[:-1]]
    safe = [b for b, at, to in zip(some, begins, ends, strict=True) if hit[at:to] == content[at:to]]

    found = run(folder, look)
    assert found == safe
    assert run(folder, look) == safe
    # Every byte that is no record was kept, once.
    sizes = sum(len(one) for one in damaged(folder))
    lost = [(at, to) for at, to in zip(begins, ends, strict=True) if hit[at:to] != content[at:to]]
    assert sizes == sum(to - at for at, to in lost)


def test_records_of_another_place_are_none(tmp_path: Path) -> None:
    some = numbered(3)
    data, ends = written(tmp_path, some)
    (path,) = segments(tmp_path)
    path.write_bytes(data[ends[0] :] + data[: ends[0]])
    assert run(tmp_path, look) == []
    other = path.with_name(f"{int(path.stem) + 5:020}.spool")
    other.write_bytes(data)
    assert run(tmp_path, look) == []


def test_behind_damage_in_an_old_segment_the_reading_goes_on(tmp_path: Path) -> None:
    some = numbered(9, size=100)
    run(tmp_path, lambda spool: keep(spool, some), segment_bytes=300)
    first, second, *_ = segments(tmp_path)
    data = bytearray(first.read_bytes())
    data[HEAD_BYTES + 3] ^= 4
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-1])

    async def drain(spool: Spool) -> tuple[list[Batch], int]:
        found = spool.read(None, most_bytes=BIG)
        await asyncio.wait_for(spool.wait(Position(0, 0)), 1)
        spool.discard(found[-1][0])
        return [one for _, one in found], spool.backlog_bytes

    found, left = run(tmp_path, drain, segment_bytes=300)
    assert len(found) == 7
    assert found == [one for one in some if one in found]
    assert left == 0
    assert len(damaged(tmp_path)) == 2


def test_sectors_that_cannot_be_read_cost_what_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = numbered(8, size=1000)
    _, ends = written(tmp_path, some)
    bad = range(ends[2] + 700, ends[2] + 900)
    real = os.pread

    def pread(file: int, size: int, offset: int) -> bytes:
        if offset < bad.stop and offset + size > bad.start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(file, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert run(tmp_path, look) == [*some[:3], *some[4:]]


def test_a_segment_that_somebody_deleted_is_not_waited_for(tmp_path: Path) -> None:
    some = numbered(9, size=100)
    run(tmp_path, lambda spool: keep(spool, some), segment_bytes=300)

    async def drain(spool: Spool) -> int:
        segments(tmp_path)[0].unlink()
        found = spool.read(None, most_bytes=BIG)
        assert [one for _, one in found] == [one for _, one in spool.read(None, most_bytes=BIG)]
        spool.discard(found[-1][0])
        return len(found) + spool.backlog_bytes

    assert 0 < run(tmp_path, drain) < 9


# Kills and full disks

WRITER = """
import asyncio, sys
from pathlib import Path
from kubewitness.service.spool import Batch, Spool

async def main() -> None:
    spool = Spool(Path(sys.argv[1]), limit=1 << 30, segment_bytes=20_000)

    async def write(one: int) -> None:
        for number in range(100_000):
            line = b"%d-%d" % (one, number)
            await spool.append(Batch("a", "webhook", 1.0, (line, b"x" * 500)))
            sys.stdout.write(line.decode() + "\\n")
            sys.stdout.flush()

    await asyncio.gather(*map(write, range(8)))

asyncio.run(main())
"""


def test_whatever_was_acknowledged_survives_kill(tmp_path: Path) -> None:
    chance = random.Random(4)
    acknowledged: set[bytes] = set()
    for number in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER.replace('b"%d-%d"', f'b"{number}-%d-%d"'), str(tmp_path)],
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        assert first
        time.sleep(chance.uniform(0, 0.3))
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate(timeout=30)
        lines = (first + rest).split(b"\n")[:-1]  # the last may be cut
        acknowledged.update(lines)
        kept = [one.lines[0] for one in run(tmp_path, look)]
        assert acknowledged <= set(kept)
        assert len(kept) == len(set(kept))
    assert len(acknowledged) > 50


async def refused(spool: Spool, some: Batch) -> str:
    with pytest.raises(LakeError) as refusal:
        await spool.append(some)
    assert not isinstance(refusal.value, SpoolFull)
    return refusal.value.what


def test_a_full_disk_is_told_and_recovered_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 200
    real = os.pwrite

    def pwrite(file: int, data: bytes, offset: int) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        size = real(file, bytes(data)[:room], offset)
        room -= size
        return size

    monkeypatch.setattr(os, "pwrite", pwrite)
    some = numbered(5, size=200)

    async def fill(spool: Spool) -> None:
        nonlocal room
        assert "no space left" in await refused(spool, some[0])
        assert all_of(spool) == []
        room = BIG
        await spool.append(some[1])
        room = 100
        for one in some[2:4]:
            assert "no space left" in await refused(spool, one)
        assert all_of(spool) == [some[1]]
        room = BIG
        await spool.append(some[4])
        assert all_of(spool) == [some[1], some[4]]

    run(tmp_path, fill)
    assert run(tmp_path, look) == [some[1], some[4]]
    assert damaged(tmp_path) == []


def test_after_a_failed_fsync_nothing_is_written_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that the kernel could not write may be gone, though it says so only once."""
    some = numbered(3)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def fail(spool: Spool) -> None:
        await spool.append(some[0])
        monkeypatch.setattr(os, "fsync", fsync)
        await refused(spool, some[1])
        await refused(spool, some[1])
        monkeypatch.setattr(os, "fsync", real)
        await spool.append(some[2])
        assert all_of(spool) == [some[0], some[2]]

    run(tmp_path, fail)
    assert run(tmp_path, look) == [some[0], some[2]]
    assert len(segments(tmp_path)) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_on_a_disk_that_is_really_full_nothing_acknowledged_is_lost(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (150 << 10))
    some = numbered(60, size=4 << 10)

    async def fill(spool: Spool) -> list[Batch]:
        kept: list[Batch] = []
        refusals = 0
        for one in some:
            try:
                await spool.append(one)
            except LakeError:
                refusals += 1
                if refusals == 3:
                    ballast.unlink()
            else:
                kept.append(one)
        assert refusals >= 3
        assert kept[-1] is some[-1] or refusals > 3
        assert all_of(spool) == kept
        return kept

    kept = run(small_disk / "spool", fill, segment_bytes=30_000)
    assert len(kept) > 12
    assert run(small_disk / "spool", look) == kept


# Limits


def test_more_than_the_limit_is_not_taken_until_something_was_stored(tmp_path: Path) -> None:
    some = numbered(50, size=1000)

    async def fill(spool: Spool) -> None:
        with suppress(SpoolFull):
            await keep(spool, some)
        assert 0 < len(all_of(spool)) < 50
        assert 0 < spool.backlog_bytes <= 20_000
        with pytest.raises(SpoolFull):
            await asyncio.gather(*map(spool.append, some))
        found = spool.read(None, most_bytes=BIG)
        spool.discard(found[-1][0])
        assert spool.backlog_bytes == 0
        assert not spool.full
        await spool.append(some[1])
        assert all_of(spool, found[-1][0]) == [some[1]]

    run(tmp_path, fill, limit=20_000)


def test_one_batch_is_always_taken(tmp_path: Path) -> None:
    some = numbered(2, size=5000)

    async def fill(spool: Spool) -> None:
        await spool.append(some[0])
        with pytest.raises(SpoolFull):
            await spool.append(some[1])

    run(tmp_path, fill, limit=100)


def test_what_was_stored_elsewhere_leaves_the_disk(tmp_path: Path) -> None:
    some = numbered(12, size=500)

    async def drain(spool: Spool) -> None:
        positions = await keep(spool, some)
        files = len(segments(tmp_path))
        assert files > 3
        spool.discard(positions[5])
        assert len(segments(tmp_path)) < files
        assert all_of(spool, positions[5]) == some[6:]
        spool.discard(positions[-1])
        assert len(segments(tmp_path)) <= 1
        assert spool.backlog_bytes == 0
        assert all_of(spool, positions[-1]) == []
        spool.discard(positions[0])  # an older one takes nothing back
        assert spool.backlog_bytes == 0

    run(tmp_path, drain, segment_bytes=1500)


def test_positions_grow_even_where_the_folder_was_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(tmp_path, lambda spool: keep(spool, numbered(3)), segment_bytes=1)
    for path in segments(tmp_path):
        path.unlink()
    monkeypatch.setattr(time, "time", lambda: float(before[-1].segment + 1))
    after = run(tmp_path, lambda spool: keep(spool, numbered(1)))
    assert after[0] > before[-1]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_comes_after_the_clock_was_put_back_is_kept_and_read(
    restarted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = numbered(2)
    now = time.time()

    async def drained(spool: Spool) -> None:
        (place,) = await keep(spool, [first])
        spool.discard(place)
        assert segments(tmp_path) == []

    async def taken(spool: Spool) -> None:
        await keep(spool, [second])
        spool.discard(spool.discarded)
        assert spool.backlog_bytes > 0
        assert all_of(spool, spool.discarded) == [second]

    async def both(spool: Spool) -> None:
        await drained(spool)
        monkeypatch.setattr(time, "time", lambda: now)
        await taken(spool)

    monkeypatch.setattr(time, "time", lambda: now + 3600)
    if restarted:
        run(tmp_path, drained, segment_bytes=1)
        monkeypatch.setattr(time, "time", lambda: now)
        run(tmp_path, taken)
    else:
        run(tmp_path, both, segment_bytes=1)


def test_one_spool_belongs_to_one_process(tmp_path: Path) -> None:
    async def second(spool: Spool) -> None:
        with pytest.raises(LakeError, match="another process"):
            Spool(tmp_path, limit=BIG)

    run(tmp_path, second)
    run(tmp_path, look)


def test_others_may_not_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    run(folder, lambda spool: keep(spool, numbered(1)))
    with suppress(StopIteration):
        segment = next(iter(segments(folder)))
        assert segment.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_who_stops_waiting_takes_nobody_along(tmp_path: Path) -> None:
    async def give_up(spool: Spool) -> None:
        tasks = [asyncio.create_task(spool.append(one)) for one in numbered(20)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert all(isinstance(one, Position) for one in done[1:])

    run(tmp_path, give_up)


@pytest.mark.parametrize("what", [None, b"", b"[1]", b"nonsense"])
def test_what_was_discarded_stays_so_after_a_restart_if_that_can_be_read(
    what: bytes | None, tmp_path: Path
) -> None:
    """A segment is deleted as a whole; what of it was stored already is not offered again."""

    async def discards(spool: Spool) -> Position:
        places = await keep(spool, numbered(5))
        spool.discard(places[2])
        return places[2]

    async def offers(spool: Spool) -> tuple[Position, list[Batch], int]:
        return spool.discarded, all_of(spool, spool.discarded), spool.backlog_bytes

    place = run(tmp_path, discards)
    if what is not None:
        (tmp_path / "discarded").write_bytes(what)
    known, batches, backlog = run(tmp_path, offers)
    if what is None:
        assert (known, batches) == (place, numbered(5)[3:])
    else:
        assert (known, batches) == (Position(0, 0), numbered(5))
    assert backlog > 0


def test_what_was_kept_aside_goes_when_it_is_old_or_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubewitness.service.spool.DAMAGED_BYTES", 250)
    now = time.time()
    for age, name in enumerate(("fresh", "newer", "older", "oldest", "ancient")):
        aside = tmp_path / f"{name}.damaged"
        aside.write_bytes(bytes(100))
        os.utime(aside, (now - age * 3600, now - age * 3600))

    async def tidied(spool: Spool) -> None:
        await keep(spool, numbered(3))
        spool.forget_damaged(now - 3.5 * 3600)

    run(tmp_path, tidied)
    assert sorted(path.stem for path in tmp_path.glob("*.damaged")) == ["fresh", "newer"]
    assert len(run(tmp_path, look)) == 3
