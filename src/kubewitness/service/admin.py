"""What an operator and a kubelet ask of the service: ``/metrics``, ``/healthz``, ``/readyz``,
``/statusz``.

Answers hold no secrets and nothing of any event; an error of a check is told by its kind, as the
text of one of a database may hold its URL.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kubewitness.errors import KubewitnessError
from kubewitness.report.inert import plain
from kubewitness.service import metrics

Check = Callable[[], Coroutine[Any, Any, str]]
"""Says why the service cannot do its work, or ''. What it raises is a reason, too."""

PATIENCE = 3.0
"""Seconds that an answer waits for a check."""
FRESH = 1.0
"""Seconds that an answer is given again: asking often costs nothing."""
STALLED = 60.0

_log = logging.getLogger(__name__)


class Pulse:
    """Beats as long as something goes on. ``check`` fails after ``stalled`` seconds without."""

    def __init__(self, what: str, stalled: float = STALLED) -> None:
        self._what = what
        self._stalled = stalled
        self._last = time.monotonic()

    def beat(self) -> None:
        """Say that it goes on: after each piece of work, and while waiting for the next."""
        self._last = time.monotonic()

    async def check(self) -> str:
        still = time.monotonic() - self._last
        if still < self._stalled:
            return ""
        return f"{self._what} has not moved for {still:.0f} seconds"


def writable(folder: Path) -> Check:
    """A check that a file can be made in ``folder``, written to the disk and deleted."""

    def write() -> str:
        probe = folder / f".probe-{os.getpid()}"
        try:
            with probe.open("wb", buffering=0) as file:
                file.write(b"\0" * 4096)
                os.fsync(file.fileno())
        except OSError as error:
            return f"{plain(str(folder))} is not writable: {error.strerror or 'unknown error'}"
        finally:
            with suppress(OSError):
                probe.unlink()
        return ""

    return lambda: asyncio.to_thread(write)


def admin(checks: Mapping[str, Check], further: Mapping[str, Check] | None = None) -> Starlette:
    """The application; it is ready when all ``checks`` are, and all is well if the ``further``
    ones are, too: what takes in and puts off must not be passed by for what is put off.

    ``/healthz`` answers as long as the event loop comes to it: whoever blocks the loop makes the
    probe time out, which is what it is for.
    """
    readiness = _Readiness(checks)
    everything = _Readiness({**checks, **(further or {})})

    async def measured(request: Request) -> Response:
        body = await asyncio.to_thread(generate_latest, metrics.REGISTRY)
        return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def healthy(request: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(request: Request) -> Response:
        return _told(await readiness.reasons(), "not ready")

    async def well(request: Request) -> Response:
        return _told(await everything.reasons(), "not well")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        lag = asyncio.create_task(_measure_lag())
        yield
        lag.cancel()

    routes = [
        Route("/metrics", measured),
        Route("/healthz", healthy),
        Route("/readyz", ready),
        Route("/statusz", well),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _Readiness:
    """Asks all checks at once, and not again within ``FRESH`` seconds."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._lock = asyncio.Lock()
        self._asked = -FRESH
        self._reasons: list[str] = []
        self._asking: dict[str, asyncio.Task[str]] = {}

    async def reasons(self) -> list[str]:
        async with self._lock:
            if time.monotonic() - self._asked >= FRESH:
                told = await asyncio.gather(*(self._ask(name) for name in self._checks))
                self._reasons = [reason for reason in told if reason]
                self._asked = time.monotonic()
            return self._reasons

    async def _ask(self, name: str) -> str:
        """One check, or how it failed. One that hangs is not asked a second time meanwhile: each
        may hold a thread."""
        task = self._asking.get(name) or asyncio.create_task(_reason(name, self._checks[name]))
        self._asking[name] = task
        done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        if not done:
            return f"{name}: no answer within {PATIENCE:.0f} seconds"
        del self._asking[name]
        reason = task.result()
        return f"{name}: {plain(reason)}" if reason else ""


async def _reason(name: str, check: Check) -> str:
    try:
        return await check()
    except KubewitnessError as error:
        return error.what
    except Exception as error:
        _log.warning("the readiness check %s failed", name, exc_info=error)
        return f"{type(error).__name__}, see the log"


async def _measure_lag() -> None:
    """Once a second, how much later than asked for the loop woke us."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(1)
        metrics.LOOP_LAG.set(max(time.monotonic() - before - 1, 0))


def _told(reasons: list[str], status: str) -> Response:
    if not reasons:
        return _json({"status": "ok"})
    return _json({"status": status, "reasons": reasons}, 503)


def _json(document: object, status: int = 200) -> Response:
    # One reason a line, for whoever reads it with curl.
    body = json.dumps(document, indent=1) + "\n"
    return Response(body, status, media_type="application/json")
