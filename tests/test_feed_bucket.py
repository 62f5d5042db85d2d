"""Object stores that are polled: in memory, in a folder, and an S3 server on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import shutil
import time
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from obstore.store import LocalStore, MemoryStore

from feeding import Positions, Spool, intake, running, until
from kubewitness.config.settings import Bucket
from kubewitness.service.feeds.bucket import ATTEMPTS, BucketFeed
from kubewitness.service.feeds.seen import Seen, written

EVERY = 0.02


class Polled:
    """A feed of a store and what came of it."""

    def __init__(self, store: Any = None, url: str = "memory:///", **options: str) -> None:
        self.spool = Spool()
        self.positions = Positions()
        self._settings = Bucket(url=url, every=EVERY, options=options)
        self._store = store
        self.restart()

    def restart(self) -> None:
        self.feed = BucketFeed(
            "here", self._settings, intake, self.spool, self.positions, store=self._store
        )

    @property
    def lines(self) -> list[bytes]:
        return self.spool.lines

    def run(self, then: Awaitable[None]) -> None:
        asyncio.run(running(self.feed.run(), then))

    def until(self, *lines: bytes) -> None:
        """Polls until these lines are there, whatever the order, and twice more."""

        async def then() -> None:
            await until(lambda: len(self.lines) >= len(lines))
            await asyncio.sleep(3 * EVERY)

        self.run(then())
        assert sorted(self.lines) == sorted(lines)

    @property
    def seen(self) -> Seen:
        return msgspec.msgpack.decode(self.positions.kept[self.feed.name], type=Seen)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def polled(store: MemoryStore) -> Polled:
    return Polled(store)


# What is read ----------------------------------------------------------------------------------


def test_objects_are_read_in_the_order_they_were_written(
    store: MemoryStore, polled: Polled
) -> None:
    for name in ("c", "a", "b"):
        store.put(name, name.encode())
        time.sleep(0.002)
    polled.until(b"c", b"a", b"b")
    assert polled.lines == [b"c", b"a", b"b"]
    assert polled.spool.batches[0].source == "bucket:memory:/c"
    assert polled.feed.behind == 0


def test_an_object_is_read_once_and_again_when_it_is_written_anew(
    store: MemoryStore, polled: Polled
) -> None:
    store.put("a", b"1")
    polled.until(b"1")
    polled.restart()
    polled.until(b"1")
    store.put("a", b"2")
    polled.until(b"1", b"2")


def test_an_object_that_appears_late_under_an_older_name_is_read(
    store: MemoryStore, polled: Polled
) -> None:
    store.put("2026/11/23", b"1")
    polled.until(b"1")
    store.put("2026/11/22", b"2")
    polled.until(b"1", b"2")


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(b"1\n") + gzip.compress(b"2\n"),
        zstandard.ZstdCompressor().compress(b"1\n2\n"),
        b"1\n2\n",
        b"\xef\xbb\xbf1\n2",
        "1\n2".encode("utf-16"),
    ],
    ids=["gzip members", "zstd", "plain", "mark", "utf-16"],
)
def test_packed_objects_are_unpacked(store: MemoryStore, polled: Polled, packed: bytes) -> None:
    store.put("object", packed)
    polled.until(b"1", b"2")


def test_an_object_is_cut_where_values_end(store: MemoryStore, polled: Polled) -> None:
    events = [{"number": n, "pad": "x" * 1000} for n in range(5000)]
    store.put("lines", "\n".join(map(json.dumps, events)).encode())
    store.put("joined", "".join(map(json.dumps, events)).encode())
    store.put("array", json.dumps(events, indent=None).encode())
    polled.until(*(json.dumps(event).encode() for event in events * 3))
    assert len(polled.spool.batches) > 12


def test_what_is_broken_takes_nothing_with_it(store: MemoryStore, polled: Polled) -> None:
    store.put("a", b'{"a":1}\n{"broken":\xff\n{"b":2}\n{"cut":"')
    polled.until(b'{"a":1}', b'{"broken":\xff', b'{"b":2}', b'{"cut":"')
    assert len(polled.spool.batches) == 4


def test_a_table_is_handed_on_whole(store: MemoryStore, polled: Polled) -> None:
    table = b"timestamp,message\n" + b"1,x\n" * 500_000
    store.put("export.csv", table)

    async def then() -> None:
        await until(lambda: bool(polled.spool.batches))

    polled.run(then())
    (batch,) = polled.spool.batches
    assert len(batch.lines) == 500_001


def test_a_damaged_object_gives_what_can_be_read_and_says_so(
    store: MemoryStore, polled: Polled, caplog: pytest.LogCaptureFixture
) -> None:
    store.put("a.gz", gzip.compress(b"1\n" * 1000)[:-8])
    polled.until(*[b"1"] * 1000)
    assert "bucket:memory:/a.gz: cut off: the gzip stream does not end" in caplog.text


def test_more_objects_than_a_sweep_takes_are_read_at_once(
    store: MemoryStore, polled: Polled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubewitness.service.feeds.bucket._SWEEP", 10)
    monkeypatch.setattr("kubewitness.service.feeds.bucket._PAGE", 7)
    for n in range(45):
        store.put(f"{n}", b"%d" % n)
        time.sleep(0.0005)
    polled.until(*(b"%d" % n for n in range(45)))
    assert polled.lines == [b"%d" % n for n in range(45)]
    assert len(polled.seen.known) == 45


def test_many_objects_are_read_page_by_page(store: MemoryStore, polled: Polled) -> None:
    for n in range(2500):
        store.put(f"{n}", b"%d" % n)
    polled.until(*(b"%d" % n for n in range(2500)))


def test_a_full_spool_is_waited_for(store: MemoryStore, polled: Polled) -> None:
    store.put("a", b"1")
    polled.spool.full = True

    async def then() -> None:
        await until(lambda: polled.spool.refused > 1)
        assert polled.positions.kept == {}
        polled.spool.full = False
        await until(lambda: polled.lines == [b"1"])

    polled.run(then())


# What cannot be read ---------------------------------------------------------------------------


class Refusing:
    """obstore, which does not give some objects and may not be there at all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import obstore

        self.refused: set[str] = set()
        self.away = False
        real_get, real_list = obstore.get, obstore.list

        def get(store: Any, path: str, **rest: Any) -> Any:
            if self.away or path in self.refused:
                raise obstore.exceptions.PermissionDeniedError(f"{path}: denied\n\nDebug: …")
            return real_get(store, path, **rest)

        def listed(store: Any, **rest: Any) -> Any:
            if self.away:
                raise obstore.exceptions.GenericError("no such bucket\n\nDebug: …")
            return real_list(store, **rest)

        monkeypatch.setattr("obstore.get", get)
        monkeypatch.setattr("obstore.list", listed)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    return Refusing(monkeypatch)


def test_an_object_that_cannot_be_read_is_given_up_while_others_can(
    store: MemoryStore, polled: Polled, refusing: Refusing, caplog: pytest.LogCaptureFixture
) -> None:
    refusing.refused = {"poison"}
    store.put("poison", b"never")

    async def then() -> None:
        for n in range(1000):
            if polled.feed.given_up:
                break
            store.put(f"{n}", b"%d" % n)
            await asyncio.sleep(EVERY)
        assert polled.feed.given_up == 1

    polled.run(then())
    last = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(last) == 1
    assert last[0].message.startswith("bucket/here/memory:///: poison is given up after ")
    assert last[0].message.endswith("write it anew to have it read: poison: denied")
    refusing.refused = set()
    polled.restart()
    read = len(polled.lines)
    store.put("poison", b"now")

    async def again() -> None:
        await until(lambda: b"now" in polled.lines[read:])

    polled.run(again())
    assert b"never" not in polled.lines


def test_nothing_is_given_up_while_nothing_can_be_read(
    store: MemoryStore, polled: Polled, refusing: Refusing, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(10):
        store.put(f"{n}", b"%d" % n)
    refusing.refused = {f"{n}" for n in range(10)}

    async def then() -> None:
        denied = 2 * ATTEMPTS
        await until(lambda: caplog.text.count("cannot be read") > denied)
        refusing.refused = set()
        await until(lambda: len(polled.lines) == 10)

    polled.run(then())
    assert polled.feed.given_up == 0


def test_three_poisoned_objects_do_not_hold_up_the_rest(
    store: MemoryStore, polled: Polled, refusing: Refusing
) -> None:
    refusing.refused = {f"poison{n}" for n in range(4)}
    for name in sorted(refusing.refused):
        store.put(name, b"never")
    time.sleep(0.002)
    store.put("good", b"good")
    polled.until(b"good")


def test_a_bucket_may_disappear_and_come_back(
    store: MemoryStore, polled: Polled, refusing: Refusing, caplog: pytest.LogCaptureFixture
) -> None:
    async def then() -> None:
        store.put("a", b"1")
        await until(lambda: polled.lines == [b"1"])
        refusing.away = True
        await asyncio.sleep(5 * EVERY)
        store.put("b", b"2")
        refusing.away = False
        await until(lambda: polled.lines == [b"1", b"2"])
        await until(lambda: any("is read again" in one.message for one in caplog.records))

    caplog.set_level(logging.INFO)
    polled.run(then())
    assert [record.message for record in caplog.records if "feeds" in record.name] == [
        "bucket/here/memory:///: cannot be read: no such bucket",
        "bucket/here/memory:///: is read again",
    ]


# What is remembered ----------------------------------------------------------------------------


def meta(path: str, at: float, tag: str | None = "1") -> Any:
    when = datetime.fromtimestamp(at, UTC)
    return {"path": path, "last_modified": when, "size": 1, "e_tag": tag, "version": None}


def test_what_is_old_is_forgotten_and_still_counts_as_read() -> None:
    seen, now = Seen(), time.time()
    objects = [meta(f"{n}", now - 100 + n) for n in range(100)]
    for one in objects:
        seen.add(one)
    seen.settle(unread=now, overlap=10)
    assert len(seen.known) < 12
    assert all(one in seen for one in objects)
    assert meta("late", now - 5) not in seen
    assert meta("99", now - 1, "2") not in seen


def test_memory_is_bounded_however_many_objects_there_are() -> None:
    seen, now = Seen(), time.time()
    objects = [meta(f"{n}", now - 1000 + n) for n in range(1000)]
    for one in objects:
        seen.add(one)
    seen.settle(unread=now, most=100)
    assert len(seen.known) == 100
    assert all(one in seen for one in objects)


def test_what_was_not_read_is_never_taken_for_old() -> None:
    seen, now = Seen(), time.time()
    unread = meta("unread", now - 900)
    for n in range(1000):
        seen.add(meta(f"{n}", now - 1000 + n))
    seen.settle(unread=written(unread), overlap=10, most=100)
    assert unread not in seen


def test_an_object_from_the_future_does_not_make_the_present_old() -> None:
    seen, now = Seen(), time.time()
    seen.add(meta("future", now + 1e9))
    seen.settle(unread=now + 1e10)
    assert meta("present", now) not in seen
    assert meta("future", now + 1e9) in seen


def test_a_damaged_position_costs_reading_anew(store: MemoryStore, polled: Polled) -> None:
    store.put("a", b"1")
    polled.positions.kept[polled.feed.name] = b"\xc1"
    polled.until(b"1")
    assert len(polled.seen.known) == 1


# Real stores -----------------------------------------------------------------------------------


def test_a_folder_is_a_store(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "a").write_bytes(b"1\n")
    polled = Polled(url=f"file://{folder}")
    polled.until(b"1")
    assert polled.spool.batches[0].source == f"bucket:file://{folder}/a"
    (folder / "below").mkdir()
    (folder / "below" / "b").write_bytes(b"2\n")
    polled.until(b"1", b"2")


def test_a_folder_may_be_missing_and_go_away(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    polled = Polled(url=f"file://{folder}")

    async def then() -> None:
        await asyncio.sleep(3 * EVERY)
        folder.mkdir()
        (folder / "a").write_bytes(b"1\n")
        await until(lambda: polled.lines == [b"1"])
        shutil.rmtree(folder)
        await asyncio.sleep(3 * EVERY)
        folder.mkdir()
        (folder / "b").write_bytes(b"2\n")
        await until(lambda: polled.lines == [b"1", b"2"])

    polled.run(then())


def test_an_object_that_is_written_anew_while_it_is_read_is_read_anew(tmp_path: Path) -> None:
    line = b'{"n":%d,"pad":"' + b"x" * 1000 + b'"}\n'
    old, new = (b"".join(line % n for n in range(k, k + 10_000)) for k in (0, 20_000))
    store = LocalStore(tmp_path)
    store.put("a", old)
    polled = Polled(store)
    append = polled.spool.append

    async def then() -> None:
        await until(lambda: polled.lines[-1:] == new.splitlines()[-1:])

    async def slow(batch: Any, /) -> None:
        if len(polled.spool.batches) == 1:
            (tmp_path / "b").write_bytes(new)
            (tmp_path / "b").rename(tmp_path / "a")
        await append(batch)

    polled.spool.append = slow  # type: ignore[method-assign]
    polled.run(then())
    assert set(new.splitlines()) <= set(polled.lines) <= set((old + new).splitlines())


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A real S3 server on loopback; ``moto_server -p 5000`` is the same by hand."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    boto3 = pytest.importorskip("boto3")
    return boto3.resource(
        "s3",
        endpoint_url=s3,
        region_name="eu-central-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ).Bucket(f"audit-{time.time_ns()}")


@pytest.fixture
def s3_polled(s3: str, bucket: Any) -> Polled:
    return Polled(
        url=f"s3://{bucket.name}/AuditLogs",
        endpoint=s3,
        region="eu-central-1",
        access_key_id="key",
        secret_access_key="secret",
        allow_http="true",
    )


def create(bucket: Any) -> None:
    bucket.create(CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})


def test_s3_is_read_below_the_prefix_only(bucket: Any, s3_polled: Polled) -> None:
    create(bucket)
    for key in ("AuditLogs/2026/11/23/a.gz", "AuditLogs/b.gz", "Other/c.gz"):
        bucket.put_object(Key=key, Body=gzip.compress(key.encode()))
    s3_polled.until(b"AuditLogs/2026/11/23/a.gz", b"AuditLogs/b.gz")
    assert {batch.source.rpartition("/")[2] for batch in s3_polled.spool.batches} == {
        "a.gz",
        "b.gz",
    }


def test_s3_is_listed_in_pages_and_large_objects_are_read_in_ranges(
    bucket: Any, s3_polled: Polled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    create(bucket)
    many = [b"%d" % n for n in range(35)]
    for body in many:
        bucket.put_object(Key=f"AuditLogs/{body.decode()}", Body=body)
    large = [b'{"large":%d,"pad":"%s"}' % (n, b"x" * 1000) for n in range(10_000)]
    bucket.put_object(Key="AuditLogs/large", Body=b"\n".join(large))
    s3_polled.until(*many, *large)


def test_an_s3_bucket_may_come_later_and_go_away(bucket: Any, s3_polled: Polled) -> None:
    async def then() -> None:
        await asyncio.sleep(5 * EVERY)
        await asyncio.to_thread(create, bucket)
        await asyncio.to_thread(bucket.put_object, Key="AuditLogs/a", Body=b"1")
        await until(lambda: s3_polled.lines == [b"1"])
        await asyncio.to_thread(bucket.objects.delete)
        await asyncio.to_thread(bucket.delete)
        await asyncio.sleep(5 * EVERY)
        await asyncio.to_thread(create, bucket)
        await asyncio.to_thread(bucket.put_object, Key="AuditLogs/b", Body=b"2")
        await until(lambda: s3_polled.lines == [b"1", b"2"])

    s3_polled.run(then())


def test_an_s3_server_that_is_not_there_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    polled = Polled(
        *(None, "s3://audit/"), endpoint="http://127.0.0.1:9", allow_http="true", region="x"
    )

    async def then() -> None:
        await until(lambda: "cannot be read" in caplog.text)
        await asyncio.sleep(1)

    polled.run(then())
    (record,) = caplog.records  # the same is told once
    assert "\n" not in record.message


def test_an_unknown_option_is_named(caplog: pytest.LogCaptureFixture) -> None:
    polled = Polled(url="s3://audit/", endpiont="x")

    async def then() -> None:
        await until(lambda: "cannot be read" in caplog.text)

    polled.run(then())
    assert "endpiont" in caplog.text
