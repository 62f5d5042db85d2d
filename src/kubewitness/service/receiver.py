"""What the API servers' audit webhooks post, answered only once it is safe.

The webhook backend sends what was not answered with 2xx again, the whole body, until it gives up
and drops it (kube-apiserver, staging/src/k8s.io/apiserver/plugin/pkg/audit/webhook). So whatever
can be taken is taken: what is no event goes into the quarantine, of a body that is too long the
events at its beginning are kept, and either is answered with 200. Not taken is only what should
come again, or comes from somebody else: docs/serve.md lists the answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from kubewitness.config.settings import Cluster, Listen, audit_path
from kubewitness.errors import LakeError, SpoolFull
from kubewitness.service import metrics
from kubewitness.service.intake import Intake
from kubewitness.service.spool import Spool
from kubewitness.service.tls import Stamp, stamp

_log = logging.getLogger(__name__)

EVENTS_HEADER = "kubewitness-events"
"""How many events were taken."""
CUT_HEADER = "kubewitness-cut"
"""Tells a sender that only the beginning of what it sent was taken."""

_SOURCE = "webhook"
_TYPES = {
    "",
    "application/json",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/octet-stream",
    "text/plain",
}
_CODINGS = {"", "identity", "gzip", "x-gzip", "zstd"}
_RETRY_AFTER = {"retry-after": "5"}
_SMALL = 32 << 10
"""Bytes of a list of plain events that are read at once; more would keep others waiting."""
_HELD = 4
"""Bodies of the full length that may be in memory together."""


class _Refusal(Exception):  # noqa: N818 - an answer
    def __init__(self, code: int, why: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(why)
        self.response = Response(f"{why}\n", code, headers, "text/plain")


class Receiver:
    """An ASGI application: POST to the path of a cluster."""

    def __init__(
        self, listen: Listen, clusters: Sequence[Cluster], intake: Intake, spool: Spool
    ) -> None:
        self._listen = listen
        self._intake = intake
        self._spool = spool
        self._doors = {
            audit_path(one): _Door(one, loopback=_is_loopback(listen.address)) for one in clusters
        }
        self._held = 0
        self._heard: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        try:
            response = await self._answer(Request(scope, receive))
        except _Refusal as refusal:
            response = refusal.response
        except ClientDisconnect:
            return
        metrics.RECEIVER_REQUESTS.labels(code=str(response.status_code)).inc()
        metrics.RECEIVER_REQUEST_DURATION.observe(time.perf_counter() - began)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        door = self._doors.get(request.scope["path"])
        if door is None:
            raise _Refusal(404, "no cluster posts here")
        if request.method != "POST":
            raise _Refusal(405, "post audit events", {"allow": "POST"})
        door.admit(request)
        request.state.welcome()
        _check_form(request)
        if self._spool.full:
            raise _Refusal(429, "too much waits to be stored", _RETRY_AFTER)
        async with self._body(request) as (body, cut):
            return await self._take(door, body, cut=cut)

    def _tell_first(self, cluster: str, events: int) -> None:
        """Whoever connects a cluster waits for this line."""
        if cluster not in self._heard:
            self._heard.add(cluster)
            _log.info("%s: its log arrives, %d events to begin with", cluster, events)

    async def _take(self, door: _Door, body: bytes, *, cut: bool) -> Response:
        cluster = door.cluster.name
        try:
            batch = None
            if len(body) <= _SMALL and not cut:
                batch = self._intake.at_once(cluster, _SOURCE, body)
            if batch is None:
                read = partial(self._intake.read, cluster, _SOURCE, body, cut=cut)
                batch = await asyncio.get_running_loop().run_in_executor(door.reader, read)
            if batch.lines:
                await self._spool.append(batch)
                self._tell_first(cluster, len(batch.lines))
        except SpoolFull as refusal:
            raise _Refusal(429, refusal.what, _RETRY_AFTER) from None
        except LakeError as refusal:
            _log.error("%s: nothing can be taken: %s", cluster, refusal)
            raise _Refusal(503, refusal.what, _RETRY_AFTER) from None
        told = {EVENTS_HEADER: str(len(batch.lines)), **({CUT_HEADER: "1"} if cut else {})}
        return Response(headers=told)  # a body would cost a packet of its own

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[tuple[bytes, bool]]:
        """The body, or as much of it as may be taken, and whether that is not all."""
        parts: list[bytes] = []
        size = 0
        cut = False
        try:
            try:
                async with asyncio.timeout(self._listen.body_timeout):
                    async for part in request.stream():
                        if cut:
                            continue
                        if self._held + len(part) > _HELD * self._listen.body_bytes:
                            raise _Refusal(503, "too much at once", _RETRY_AFTER)
                        part = part[: self._listen.body_bytes - size + 1]  # noqa: PLW2901
                        parts.append(part)
                        size += len(part)
                        self._held += len(part)
                        cut = size > self._listen.body_bytes
            except TimeoutError:
                if not cut:
                    raise _Refusal(408, "too slow", {"connection": "close"}) from None
            body = b"".join(parts)
            parts.clear()
            yield body[: self._listen.body_bytes], cut
        finally:
            self._held -= size


class _Door:
    """Who may come in for one cluster. What takes time to read is read by its own ``reader``, so
    that no cluster waits for the deliveries of another."""

    def __init__(self, cluster: Cluster, *, loopback: bool) -> None:
        self.cluster = cluster
        self.reader = ThreadPoolExecutor(1, f"reading {cluster.name}")
        self._token = _Token(cluster.token_file) if cluster.token_file else None
        self._open = bool(self._token or cluster.client or loopback)
        if not self._open:
            _log.warning(
                "%s: takes nothing: no token_file, no client, and not on loopback", cluster.name
            )

    def admit(self, request: Request) -> None:
        """Raises ``_Refusal`` for anybody else."""
        if self._token is not None and not self._token.matches(request):
            _log.warning("%s: wrong token from %s", self.cluster.name, _peer(request))
            raise _Refusal(401, "wrong token", {"www-authenticate": "Bearer"})
        known = request.state.peer_names
        if not self._open or (self.cluster.client and self.cluster.client not in known):
            _log.warning("%s: wrong client from %s", self.cluster.name, _peer(request))
            raise _Refusal(403, "wrong client")


class _Token:
    """A bearer token in a file that is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp = ()
        self._digest = b""

    def matches(self, request: Request) -> bool:
        self._refresh()
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(given.strip().encode("latin-1")).digest()
        return hmac.compare_digest(digest, self._digest) and scheme.lower() == "bearer"

    def _refresh(self) -> None:
        now = stamp(self._path)
        if now == self._stamp:
            return
        try:
            token = self._path.read_bytes().strip()
        except OSError as error:
            _log.warning("%s: the old token stays: %s", self._path, error.strerror)
            return
        if token:
            self._digest, self._stamp = hashlib.sha256(token).digest(), now
        else:
            _log.warning("%s: empty, the old token stays", self._path)


def _check_form(request: Request) -> None:
    media, _, _ = request.headers.get("content-type", "").partition(";")
    if media.strip().lower() not in _TYPES:
        raise _Refusal(415, "send JSON")
    if request.headers.get("content-encoding", "").strip().lower() not in _CODINGS:
        raise _Refusal(415, "send it as it is, or packed with gzip or zstd")
    if not {"content-length", "transfer-encoding"} & set(request.headers):
        raise _Refusal(411, "say how long it is")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _peer(request: Request) -> str:
    return request.client.host if request.client else "somebody"
