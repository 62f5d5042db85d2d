"""API servers that live through the same minutes over and over: their audit webhooks, to load a
service with.

What is sent is what an API server sends: EventLists of at most 400 items without kind and
apiVersion, its headers, one kept connection a server; what is answered with anything but 2xx is
sent again as it was, while the next batches wait (kube-apiserver 1.36 lets some pass).
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import httpx2

MOST_ITEMS = 400
HEADERS = {
    "User-Agent": "Go-http-client/1.1",
    "Accept": "application/json, */*",
    "Accept-Encoding": "gzip",
    "Content-Type": "application/json",
}
_HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
_KIND = b'"kind":"Event","apiVersion":"audit.k8s.io/v1",'
_EVENT = re.compile(
    rb'(?P<head>\{.*?"auditID":")(?P<id>[0-9a-f]{8})(?P<middle>.*)'
    rb'"requestReceivedTimestamp":"(?P<received>[^"]+)","stageTimestamp":"(?P<at>[^"]+)"'
    rb"(?P<tail>.*)\}",
    re.S,
)
_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Line:
    """An event in pieces: ``request`` numbers its auditID among those of the script, ``offset`` is
    its time since the script's beginning, ``took`` since the request arrived (seconds)."""

    head: bytes
    request: int
    middle: bytes
    took: float
    tail: bytes
    offset: float


class Script:
    """Lines of a log that can be said again: with other auditIDs and at other times, the stages of
    a request still together. ``Script(lines)[n].said(copy, at)`` is one of them."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        """``lines`` in order of time. Raises ``ValueError`` if one is no event."""
        self.lines: list[Line] = []
        numbers: dict[bytes, int] = {}
        first = None
        for line in lines:
            found = _EVENT.fullmatch(line.strip().replace(_KIND, b"", 1))
            if found is None:
                raise ValueError(f"no event: {line[:80]!r}")
            at, received = _seconds(found["at"]), _seconds(found["received"])
            first = at if first is None else first
            whole = found["id"] + found["middle"][:28]
            number = numbers.setdefault(whole, len(numbers))
            self.lines.append(
                Line(found["head"], number, found["middle"], at - received, found["tail"],
                     at - first)
            )  # fmt: skip
        if len(numbers) > 0xFFFF:
            raise ValueError("more than 65,535 requests: their auditIDs would not be told apart")
        self.requests = len(numbers)

    def said(self, number: int, copy: int, at: float) -> bytes:
        """Line ``number`` as it would be in copy ``copy`` (below 65,536), at ``at``."""
        line = self.lines[number]
        return b"".join(
            (
                line.head, b"%04x%04x" % (copy, line.request), line.middle,
                b'"requestReceivedTimestamp":"', _stamp(at - line.took),
                b'","stageTimestamp":"', _stamp(at), b'"', line.tail, b"}",
            )
        )  # fmt: skip


class Ledger:
    """When each request was acknowledged, for as long as somebody may ask: the last copies."""

    def __init__(self, keep: int = 200) -> None:
        self._keep = keep
        self._acked: dict[int, array[float]] = {}

    def acked(self, copy: int, requests: int, at: float, numbers: Iterator[int]) -> None:
        """The service has taken these requests of a copy of so many."""
        times = self._acked.get(copy)
        if times is None:
            times = self._acked[copy] = array("d", bytes(8 * requests))
            for old in [*self._acked][: -self._keep]:
                del self._acked[old]
        for number in numbers:
            times[number] = at

    def named(self, body: bytes) -> list[tuple[int, float]]:
        """The requests whose auditIDs are in ``body``: their copy, and when they were taken."""
        found = []
        for audit_id in set(_ID.findall(body)):
            copy, request = int(audit_id[:4], 16), int(audit_id[4:8], 16)
            times = self._acked.get(copy)
            if times is not None and request < len(times) and times[request]:
                found.append((copy, times[request]))
        return found


@dataclass
class Batch:
    """Items of one POST; of which copy of a script, and which requests they are."""

    items: list[bytes]
    copy: int
    script: Script
    requests: list[int]

    @property
    def body(self) -> bytes:
        return _HEAD + b",".join(self.items) + b"]}\n"


@dataclass
class ApiServer:
    """Sends batches one after the other and notes how that went: seconds until each answer, and
    how often it was not 2xx."""

    url: str
    token: str
    ledger: Ledger
    latencies: array[float] = field(default_factory=lambda: array("d"))
    accepted: int = 0
    refused: int = 0

    async def run(self, batches: asyncio.Queue[Batch | None]) -> None:
        """Send what comes until ``None`` does."""
        limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1)
        async with httpx2.AsyncClient(limits=limits, timeout=60.0) as client:
            while (batch := await batches.get()) is not None:
                await self.send(client, batch)

    async def send(self, client: httpx2.AsyncClient, batch: Batch) -> None:
        """Send a batch until it is taken."""
        body = batch.body
        headers = {**HEADERS, "Authorization": f"Bearer {self.token}"}
        wait = 0.2
        while True:
            began = time.perf_counter()
            try:
                answer = await client.post(f"{self.url}?timeout=30s", content=body, headers=headers)
            except httpx2.TransportError:
                taken, asked = False, wait
            else:
                taken = answer.is_success
                asked = float(answer.headers.get("retry-after", wait))
            if taken:
                break
            self.refused += 1
            await asyncio.sleep(asked)
            wait = min(2 * wait, 10.0)
        self.latencies.append(time.perf_counter() - began)
        self.accepted += len(batch.items)
        self.ledger.acked(batch.copy, batch.script.requests, time.time(), iter(batch.requests))


def batches(script: Script, copy: int, start: float) -> Iterator[Batch]:
    """One copy of a script at its own pace, as if it had begun at ``start``."""
    lines = script.lines
    for begin in range(0, len(lines), MOST_ITEMS):
        numbers = range(begin, min(begin + MOST_ITEMS, len(lines)))
        items = [script.said(number, copy, start + lines[number].offset) for number in numbers]
        yield Batch(items, copy, script, [lines[number].request for number in numbers])


def _seconds(text: bytes) -> float:
    return datetime.fromisoformat(text.decode()).timestamp()


def _stamp(at: float) -> bytes:
    whole, part = divmod(at, 1)
    return b"%s.%06dZ" % (_second(int(whole)), int(part * 1e6))


@lru_cache(maxsize=4096)
def _second(at: int) -> bytes:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
