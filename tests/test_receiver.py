"""What API servers post is answered once it is durable, and whatever else comes is dealt with."""

from __future__ import annotations

import asyncio
import errno
import gc
import gzip
import json
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import zstandard

from audit_log import event, lines
from kubewitness.config.settings import Cluster
from kubewitness.errors import SourceError
from kubewitness.events.redaction import Redactor
from kubewitness.service import metrics, receiver, transport
from kubewitness.service.intake import Intake
from kubewitness.service.spool import Batch
from receiving import (
    KEY,
    Reply,
    Served,
    connected,
    event_list,
    posted,
    request,
    serving,
    some_events,
)

CAPTURE = Path(__file__).parents[2] / "shared" / "data" / "capture" / "webhook"


def run(test: Coroutine[Any, Any, Any]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def ids(served: Served) -> list[str]:
    return [json.loads(line)["auditID"] for line in served.lines()]


def count(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(f"kubewitness_{name}", labels) or 0.0


# What a real API server sends. Its headers stand in tests/data, as it wrote them.

HEAD = (
    "POST {path}?timeout=30s HTTP/1.1\r\n"
    "Host: 127.0.0.1:9799\r\n"
    "User-Agent: Go-http-client/1.1\r\n"
    "Content-Length: {length}\r\n"
    "Accept: application/json, */*\r\n"
    "Content-Type: application/json\r\n"
    "Accept-Encoding: gzip\r\n"
    "\r\n"
)


def test_batches_on_one_connection_are_kept_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, connected(served) as connection:
            for number in range(5):
                body = event_list(*some_events(20, who=f"ada-{number}"))
                connection.send(HEAD.format(path="/audit/a", length=len(body)).encode() + body)
                reply = await connection.reply()
                assert reply.code == 200
                assert reply.head[receiver.EVENTS_HEADER] == "20"
            batches = served.batches()
            assert [len(one.lines) for one in batches] == [20] * 5
            assert {(one.cluster, one.source) for one in batches} == {("a", "webhook")}
            first = json.loads(batches[0].lines[0])
            assert first["kind"] == "Event"
            assert first["apiVersion"] == "audit.k8s.io/v1"
            assert first == some_events(1, who="ada-0")[0]

    run(test())


def test_that_a_cluster_is_connected_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            for n in (3, 2):
                assert (await posted(served, event_list(*some_events(n)))).code == 200

    with caplog.at_level("INFO", "kubewitness"):
        run(test())
    assert caplog.text.count("a: its log arrives, 3 events to begin with") == 1
    assert caplog.text.count("its log arrives") == 1


def test_one_event_a_post_over_many_connections(tmp_path: Path) -> None:
    async def test() -> None:
        events = some_events(120)
        async with serving(tmp_path) as served:

            async def send(some: list[Any]) -> None:
                async with connected(served) as connection:
                    for one in some:
                        assert (await connection.post(event_list(one))).code == 200

            await asyncio.gather(*(send(events[start::30]) for start in range(30)))
            assert sorted(ids(served)) == sorted(one["auditID"] for one in events)

    run(test())


def test_requests_that_do_not_wait_for_answers_are_answered_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, connected(served) as connection:
            bodies = [event_list(*some_events(number + 1)) for number in range(10)]
            connection.send(b"".join(map(request, bodies)))
            replies = [await connection.reply() for _ in bodies]
            told = [int(reply.head[receiver.EVENTS_HEADER]) for reply in replies]
            assert told == list(range(1, 11))
            assert len(served.lines()) == sum(told)

    run(test())


@pytest.mark.skipif(not CAPTURE.exists(), reason="the shared data is not here")
@pytest.mark.parametrize("name", ["http_batch_policy_a", "http_batch_policy_b"])
def test_a_real_api_servers_batches_are_taken_as_they_came(tmp_path: Path, name: str) -> None:
    run(replayed(tmp_path, CAPTURE / name, "/audit"))


@pytest.mark.skipif(not CAPTURE.exists(), reason="the shared data is not here")
def test_a_real_api_servers_single_events_are_taken_as_they_came(tmp_path: Path) -> None:
    run(replayed(tmp_path, CAPTURE / "http_blocking_policy_a", "/audit"))


@pytest.mark.skipif(not CAPTURE.exists(), reason="the shared data is not here")
def test_a_real_api_servers_token_lets_it_in(tmp_path: Path) -> None:
    folder = CAPTURE / "https_token_batch_policy_a"
    head = next(folder.glob("*.headers.txt")).read_text()
    (token,) = (line.split()[-1] for line in head.splitlines() if line.startswith("Authorization"))
    (tmp_path / "token").write_text(token)
    run(replayed(tmp_path, folder, "/v1/audit", token_file=tmp_path / "token"))


async def replayed(tmp_path: Path, folder: Path, path: str, **options: Any) -> None:
    """Every request of a capture, head and body as they were, connection by connection."""
    known = (json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines())
    rows = [row for row in known if (folder / f"{row['n']:03}.body.json").exists()]
    by_connection: dict[int, list[int]] = {}
    for row in rows:
        by_connection.setdefault(row["conn"], []).append(row["n"])
    async with serving(tmp_path, Cluster(name="real", path=path, **options)) as served:

        async def send(numbers: list[int]) -> None:
            async with connected(served) as connection:
                for number in numbers:
                    head = (folder / f"{number:03}.headers.txt").read_text()
                    body = (folder / f"{number:03}.body.json").read_bytes()
                    connection.send("\r\n".join([*head.splitlines(), "", ""]).encode() + body)
                    assert (await connection.reply()).code == 200

        await asyncio.gather(*map(send, by_connection.values()))
        kept = sorted(map(_told, served.lines()), key=repr)
        sent = [
            _told(json.dumps({"kind": "Event", "apiVersion": "audit.k8s.io/v1", **item}).encode())
            for row in rows
            for item in json.loads((folder / f"{row['n']:03}.body.json").read_bytes())["items"]
        ]
        assert len(kept) == sum(row["items"] for row in rows)
        assert kept == sorted(sent, key=repr)
        assert served.quarantined() == []


def _told(line: bytes) -> tuple[str, ...]:
    one = json.loads(line)
    return tuple(str(one[name]) for name in ("kind", "auditID", "stage", "verb", "stageTimestamp"))


# Retries


@pytest.mark.parametrize("code", [429, 503])
def test_what_was_refused_is_taken_when_it_comes_again(tmp_path: Path, code: int) -> None:
    """The API server sends the same bytes again, and other batches between."""

    async def test() -> None:
        first, second = event_list(*some_events(50)), event_list(*some_events(3, who="bob"))
        limit = len(first) // 2 if code == 429 else 1 << 30
        async with serving(tmp_path, limit=limit) as served, connected(served) as connection:
            assert (await connection.post(second)).code == 200
            if code == 429:
                refusal = await connection.post(first)
                at = served.spool.read(None, most_bytes=1)[-1][0]
                served.spool.discard(at)
            else:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(os, "pwrite", full_disk)
                    refusal = await connection.post(first)
                at = None
            assert refusal.code == code
            assert 0 < int(refusal.head["retry-after"]) <= 30
            assert (await connection.post(first)).code == 200
            assert len(served.spool.read(at, most_bytes=1 << 30)[-1][1].lines) == 50

    run(test())


def full_disk(*args: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_spool_refuses_before_the_body_is_read(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, limit=100) as served, connected(served) as connection:
            assert (await connection.post(event_list(*some_events(9)))).code == 200
            connection.send(request(b"", content_length="1000000"))
            reply = await connection.reply()
            assert reply.code == 429
            assert reply.head["retry-after"]

    run(test())


def test_a_batch_that_comes_twice_is_kept_twice(tmp_path: Path) -> None:
    """An answer may be lost; the lake knows its events again."""

    async def test() -> None:
        body = event_list(*some_events(4))
        async with serving(tmp_path) as served:
            for _ in range(2):
                assert (await posted(served, body)).code == 200
            one, other = served.batches()
            assert one.lines == other.lines

    run(test())


# Poison

LIST = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":%s}'
POISON: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half of a list": event_list(*some_events(2))[:-20],
    "another kind": b'{"kind":"Status","apiVersion":"v1","code":500}',
    "null": b"null",
    "items that are none": LIST % b'[1,{},"x"]',
    "items that are no list": LIST % b"{}",
    "depth": b'{"kind":"EventList","items":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "depth of an item": LIST % (b"[" + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"]"),
    "bytes": bytes(range(256)) * 50,
    "UTF-16": '{"kind":"EventList"'.encode("utf-16"),
    "half of a gzip": gzip.compress(event_list(*some_events(50)))[:-30],
    "an archive": b"PK\x03\x04" + b"\0" * 50,
    "half a pair": event_list(event()).replace(b'"ada"', rb'"\ud800"'),
    "a number beyond all": event_list(event(requestObject={})).replace(b"{}}", b'{"a":1e999}}'),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_taken_so_that_it_does_not_come_again(tmp_path: Path, name: str) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, connected(served) as connection:
            assert (await connection.post(POISON[name])).code == 200
            assert (await connection.post(event_list(*some_events(3)))).code == 200
            assert ids(served)[-3:] == ["id-0", "id-1", "id-2"]

    run(test())


def test_what_is_no_event_is_counted_and_kept_and_the_others_are_taken(tmp_path: Path) -> None:
    async def test() -> None:
        before = count("events_rejected_total", reason="broken")
        foreign = count("events_rejected_total", reason="foreign")
        taken = count("events_ingested_total", source="webhook")
        broken = {"verb": "get", "requestURI": "/x", "password": "hunter2hunter2"}
        body = event_list(event(auditID="1"), broken, {"a": 1}, event(auditID="2"))
        async with serving(tmp_path) as served:
            assert (await posted(served, body)).code == 200
            assert ids(served) == ["1", "2"]
            (kept,) = served.quarantined()
        assert kept["source"] == "a/webhook"
        assert kept["reason"] == "audit event without timestamp"
        assert "requestURI" in kept["text"]
        assert "hunter2" not in kept["text"]
        assert count("events_rejected_total", reason="broken") == before + 1
        assert count("events_rejected_total", reason="foreign") == foreign + 1
        assert count("events_ingested_total", source="webhook") == taken + 2

    run(test())


def test_what_takes_long_to_read_keeps_no_other_cluster_waiting(tmp_path: Path) -> None:
    """Small as they come, they may unpack to anything."""
    slow = threading.Event()

    class Slow(Intake):
        def read(self, cluster: str, *given: Any, **named: Any) -> Batch:
            if cluster == "a":
                slow.wait(20)
            return super().read(cluster, *given, **named)

    async def test() -> None:
        intake = Slow(tmp_path / "quarantine", Redactor(KEY))
        clusters = Cluster(name="a"), Cluster(name="b")
        body = event_list(*some_events(3))
        async with serving(tmp_path, *clusters, intake=intake) as served:
            packed = [gzip.compress(body), lines(some_events(3)), body + b" " * 40_000]
            waiting = [asyncio.create_task(posted(served, one)) for one in packed]
            await asyncio.sleep(0.1)
            try:
                for one in (body, *packed):
                    reply = await asyncio.wait_for(posted(served, one, "/audit/b"), 5)
                    assert reply.head[receiver.EVENTS_HEADER] == "3"
                assert not any(task.done() for task in waiting)
            finally:
                slow.set()
            assert [reply.code for reply in await asyncio.gather(*waiting)] == [200] * 3

    run(test())


def test_a_fault_of_ours_does_not_make_the_sender_send_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*args: object) -> None:
        raise RuntimeError("S3cr3t")

    monkeypatch.setattr("kubewitness.service.intake.plain", fault)

    async def test() -> None:
        async with serving(tmp_path) as served:
            assert (await posted(served, event_list(*some_events(3)))).code == 200
            (kept,) = served.quarantined()
            assert "fault" in kept["reason"]
            assert "id-0" in kept["text"]

    run(test())


def test_a_quarantine_that_cannot_be_written_is_no_reason_to_lose_anything(tmp_path: Path) -> None:
    async def test() -> None:
        blocked = tmp_path / "file"
        blocked.touch()
        intake = Intake(blocked / "quarantine", Redactor(KEY))
        async with serving(tmp_path, intake=intake) as served:
            reply = await posted(served, b"poison")
            assert reply.code == 503
            assert reply.head["retry-after"]
            assert (await posted(served, event_list(*some_events(1)))).code == 200

    run(test())


def test_secrets_are_on_no_disk(tmp_path: Path) -> None:
    async def test() -> None:
        secret = "S3cr3t-hunter2-S3cr3t"
        request_object = {"kind": "Secret", "stringData": {"x": secret}}
        body = event_list(
            event(resource="secrets", verb="create", requestObject=request_object),
            event(client=f"curl/8 Authorization: Bearer {secret}"),
        )
        async with serving(tmp_path) as served:
            for delivery in (body, body[:-1], b"[" + body, gzip.compress(body)[:-9]):
                assert (await posted(served, delivery)).code == 200
            assert len(served.lines()) >= 2
            assert not any(secret.encode() in line for line in served.lines())
        for path in tmp_path.rglob("*"):
            assert path.is_dir() or secret.encode() not in path.read_bytes()

    run(test())


# Packed, long, slow


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lambda body: body])
def test_packed_bodies_are_unpacked(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    async def test() -> None:
        coding = {gzip.compress: "gzip", zstandard.compress: "zstd"}.get(pack, "")
        async with serving(tmp_path) as served:
            body = pack(event_list(*some_events(7)))
            assert (await posted(served, body, content_encoding=coding)).code == 200
            assert len(served.lines()) == 7

    run(test())


def test_a_bomb_unpacks_to_so_much_and_no_more(tmp_path: Path) -> None:
    async def test() -> None:
        events = event_list(*some_events(3))
        bomb = gzip.compress(events[:-2] + b',{"x":"' + b"0" * (50 << 20) + b'"}]}')
        assert len(bomb) < 100_000
        cut = count("events_rejected_total", reason="oversize")
        async with serving(tmp_path, unpacked_bytes=1 << 20) as served:
            reply = await posted(served, bomb, content_encoding="gzip")
            assert reply.code == 200
            assert len(served.lines()) == 3
        assert count("events_rejected_total", reason="oversize") == cut + 1

    run(test())


@pytest.mark.parametrize("chunked", [False, True])
def test_of_a_body_that_is_too_long_the_beginning_is_taken(tmp_path: Path, chunked: bool) -> None:
    async def test() -> None:
        body = event_list(*some_events(400))
        sent = request(body)
        if chunked:
            head = request(b"", content_length="", transfer_encoding="chunked")
            parts = (body[at : at + 5000] for at in range(0, len(body), 5000))
            pieces = [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]
            sent = head + b"".join(pieces) + b"0\r\n\r\n"
        async with (
            serving(tmp_path, body_bytes=len(body) // 2) as served,
            connected(served) as connection,
        ):
            connection.send(sent)
            reply = await connection.reply()
            assert reply.code == 200
            assert reply.head[receiver.CUT_HEADER] == "1"
            assert 190 <= len(served.lines()) <= 200
            assert ids(served) == [f"id-{number}" for number in range(len(served.lines()))]
            reasons = [one["reason"] for one in served.quarantined()]
            assert "cut off" in reasons
            assert any("longer" in reason for reason in reasons)
            # the connection goes on
            assert (await connection.post(event_list(*some_events(1)))).code == 200

    run(test())


def test_many_long_bodies_at_once_do_not_fill_the_memory(tmp_path: Path) -> None:
    async def test() -> None:
        size = 20_000
        async with (
            serving(tmp_path, body_bytes=size, body_timeout=5.0) as served,
            AsyncExitStack() as stack,
        ):
            opened = [await stack.enter_async_context(connected(served)) for _ in range(8)]
            for one in opened:
                one.send(request(b"x" * (size - 10), content_length=str(size)))
            await asyncio.sleep(0.3)
            replies = [asyncio.create_task(one.reply()) for one in opened]
            await asyncio.sleep(0.3)
            codes = [task.result().code for task in replies if task.done()]
            assert codes == [503] * 4
            for one in opened:
                one.send(b"x" * 10)
            assert sorted([(await task).code for task in replies]) == [200] * 4 + [503] * 4
            assert (await posted(served, event_list(*some_events(1)))).code == 200

    run(test())


def test_a_body_that_does_not_come_to_an_end_is_not_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, body_timeout=0.3) as served, connected(served) as connection:
            body = event_list(*some_events(2))
            connection.send(request(body)[:-10])
            for _ in range(20):
                connection.send(b"")
                await asyncio.sleep(0.02)
            assert (await connection.reply()).code == 408
            assert await connection.closed()
            assert served.lines() == []

    run(test())


def test_a_sender_that_leaves_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            async with connected(served) as connection:
                connection.send(request(event_list(*some_events(2)))[:-10])
            assert (await posted(served, event_list(*some_events(1)))).code == 200
            assert len(served.lines()) == 1

    run(test())


# What is no delivery


async def answer(served: Served, raw: bytes) -> Reply:
    async with connected(served) as connection:
        connection.send(raw)
        return await connection.reply()


def test_other_requests_are_told_what_is_wrong(tmp_path: Path) -> None:
    body = event_list(*some_events(1))
    wrong: dict[bytes, int] = {
        request(body, "/"): 404,
        request(body, "/audit/b"): 404,
        request(body, "/audit/a/"): 404,
        request(body, content_type="application/vnd.kubernetes.protobuf"): 415,
        request(body, content_encoding="br"): 415,
        request(b"", content_length=""): 411,
        b"GET /audit/a HTTP/1.1\r\nHost: x\r\n\r\n": 405,
        b"PUT /audit/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n": 405,
        b"hello\r\n\r\n": 400,
        request(body, content_length="-1"): 400,
        request(body, content_length="9", transfer_encoding="chunked"): 400,
    }
    right = [
        request(body, content_type=""),
        request(body, content_type="application/json; charset=utf-8"),
        request(lines(some_events(1)), content_type="application/x-ndjson"),
        request(body, content_encoding="identity"),
        request(body).replace(b"/audit/a", b"/audit/%61"),
        request(body, expect="100-continue"),
    ]

    async def test() -> None:
        async with serving(tmp_path) as served:
            for raw, code in wrong.items():
                assert (await answer(served, raw)).code == code, raw[:80]
            assert served.lines() == []
            for raw in right:
                reply = await answer(served, raw)
                assert reply.code == (100 if b"expect" in raw else 200), raw[:80]

    run(test())


# Who may post


def test_each_cluster_has_a_token_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"token-of-{name}\n")
    clusters = [Cluster(name=name, token_file=tmp_path / name) for name in ("a", "b")]
    body = event_list(*some_events(1))

    async def test() -> None:
        async with serving(tmp_path, *clusters) as served:
            for given in ("", "Bearer", "Bearer token-of-b", "token-of-a", "Basic token-of-a",
                          "Bearer token-of-a x", "Bearer \xff"):  # fmt: skip
                reply = await posted(served, body, authorization=given)
                assert reply.code == 401
                assert reply.head["www-authenticate"] == "Bearer"
            assert served.lines() == []
            for given in ("Bearer token-of-a", "bearer  token-of-a "):
                assert (await posted(served, body, authorization=given)).code == 200
            reply = await posted(served, body, "/audit/b", authorization="Bearer token-of-b")
            assert reply.code == 200
            assert [one.cluster for one in served.batches()] == ["a", "a", "b"]

    run(test())


def test_a_new_token_is_used_at_once(tmp_path: Path) -> None:
    path = tmp_path / "token"
    body = event_list(*some_events(1))

    async def code(served: Served, token: str) -> int:
        return (await posted(served, body, authorization=f"Bearer {token}")).code

    async def test() -> None:
        async with serving(tmp_path, Cluster(name="a", token_file=path)) as served:
            assert await code(served, "first") == 401
            assert await code(served, "") == 401
            path.write_text("first")
            assert await code(served, "first") == 200
            renewed = tmp_path / "new"
            renewed.write_text("other")
            renewed.replace(path)
            assert await code(served, "first") == 401
            assert await code(served, "other") == 200
            for spoil in (lambda: path.write_text("\n"), path.unlink):
                spoil()
                assert await code(served, "other") == 200
                assert await code(served, "") == 401

    run(test())


def test_a_token_that_could_not_be_read_once_is_read_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    body = event_list(*some_events(1))
    path.write_text("first")

    def too_many_files(*given: object) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def test() -> None:
        async with serving(tmp_path, Cluster(name="a", token_file=path)) as served:
            assert (await posted(served, body, authorization="Bearer first")).code == 200
            path.write_text("second")
            with monkeypatch.context() as patch:
                patch.setattr(Path, "read_bytes", too_many_files)
                assert (await posted(served, body, authorization="Bearer first")).code == 200
            assert (await posted(served, body, authorization="Bearer second")).code == 200

    run(test())


def test_beyond_loopback_nobody_comes_in_without_a_credential(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "token").write_text("x")
        clusters = [Cluster(name="a"), Cluster(name="b", token_file=tmp_path / "token")]
        async with serving(tmp_path, *clusters, address="0.0.0.0") as served:
            body = event_list(*some_events(1))
            assert (await posted(served, body)).code == 403
            assert (await posted(served, body, "/audit/b", authorization="Bearer x")).code == 200

    run(test())


# Connections


def test_a_head_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "HEAD_TIMEOUT", 0.3)

    async def test() -> None:
        async with serving(tmp_path) as served:
            for begin in (b"", b"POST /audit/a HTTP/1.1\r\nHost: x\r\n", b"\r\n", b"\r\n\r\n"):
                async with connected(served) as connection:
                    connection.send(begin)
                    assert await connection.closed()
            # Nor is one that comes drop by drop, nor the second of a connection.
            async with connected(served) as connection:
                assert (await connection.post(event_list(*some_events(1)))).code == 200
                await asyncio.sleep(0.5)
                assert (await connection.post(event_list(*some_events(1)))).code == 200
                for byte in b"POST /audit/a HTTP/1.1\r\nX-Y: aaaaaaaaaaaaaaaaaa":
                    connection.send(bytes([byte]))
                    await asyncio.sleep(0.02)
                assert await connection.closed()
            # Nor a body whose request was refused already.
            async with connected(served) as connection:
                connection.send(request(b"x", "/nowhere", content_length="100000"))
                assert (await connection.reply()).code == 404
                for _ in range(40):
                    connection.send(b"x")
                    await asyncio.sleep(0.02)
                assert await connection.closed()

    run(test())


def test_a_head_without_end_is_cut(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, connected(served) as connection:
            connection.send(b"POST /audit/a HTTP/1.1\r\n" + b"X-Y: z\r\n" * 20_000)
            assert await connection.closed()

    run(test())


def test_trailers_without_end_are_not_kept(tmp_path: Path) -> None:
    async def test() -> None:
        head = request(b"", content_length="", transfer_encoding="chunked")
        async with serving(tmp_path, body_timeout=1.0) as served, connected(served) as connection:
            connection.send(head + b"0\r\n" + b"Trailing: z\r\n" * 20_000)
            assert (await connection.reply()).code == 408
            found = [one for one in gc.get_objects() if isinstance(one, transport._Protocol)]
            kept = [name for one in found for name, _ in one.headers]
            assert b"transfer-encoding" in kept
            assert b"trailing" not in kept

    run(test())


def test_there_are_only_so_many_connections(tmp_path: Path) -> None:
    async def test() -> None:
        body = event_list(*some_events(1))
        async with serving(tmp_path, connections=3) as served:
            async with AsyncExitStack() as stack:
                known = [await stack.enter_async_context(connected(served)) for _ in range(3)]
                for one in known:
                    assert (await one.post(body)).code == 200
                async with connected(served) as extra:
                    assert await extra.closed()
                for one in known:
                    assert (await one.post(body)).code == 200
            await asyncio.sleep(0.1)
            assert (await posted(served, body)).code == 200

    run(test())


def test_who_only_holds_connections_keeps_nobody_out(tmp_path: Path) -> None:
    async def test() -> None:
        body = event_list(*some_events(1))
        async with serving(tmp_path, connections=4) as served, AsyncExitStack() as stack:
            known = await stack.enter_async_context(connected(served))
            assert (await known.post(body)).code == 200
            held = [await stack.enter_async_context(connected(served)) for _ in range(20)]
            for one in held[-2:]:
                one.send(request(body, "/nowhere")[:-9])
            assert (await posted(served, body)).code == 200
            assert (await known.post(body)).code == 200
            assert [await one.closed() for one in held[:16]] == [True] * 16

    run(test())


def test_what_was_begun_is_finished_when_the_service_stops(tmp_path: Path) -> None:
    async def test() -> None:
        body = event_list(*some_events(2))
        async with serving(tmp_path) as served:
            async with connected(served) as busy, connected(served) as idle:
                assert (await idle.post(body)).code == 200
                busy.send(request(body)[:-5])
                await asyncio.sleep(0.1)
                served.stop.set()
                await asyncio.sleep(0.3)
                assert await idle.closed()
                busy.send(request(body)[-5:])
                assert (await busy.reply()).code == 200
                assert await busy.closed()
                with pytest.raises(OSError, match="Connect call failed"):
                    await posted(served, body)
            assert len(served.lines()) == 4

    run(test())


def test_a_receiver_that_ends_by_itself_is_no_quiet_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    async def fine(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def test() -> None:
        with pytest.raises(SourceError, match="nothing is answered any more"):
            await transport.Transport(failing, "127.0.0.1", 0).run(asyncio.Event())

        async def broken(listener: object) -> None:
            raise RuntimeError("no more")

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", broken)
        with pytest.raises(RuntimeError, match="no more"):
            await transport.Transport(fine, "127.0.0.1", 0).run(asyncio.Event())

    run(test())
