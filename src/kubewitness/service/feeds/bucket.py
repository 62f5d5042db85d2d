"""Polls a prefix of an object store: what is new there, the oldest first.

Each poll lists the prefix, as an object may appear under any name, and late: a large upload carries
the time it began at, a copy that of its original. So those of the last week are known by name and
version (``seen``), and one that is written anew is read again; the lake drops what it has.

Try it without a cloud: ``url: file:///some/folder``.
"""

from __future__ import annotations

import heapq
import logging
import time
from asyncio import sleep
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec
import obstore
from obstore.store import from_url

from kubewitness.config.settings import Bucket
from kubewitness.report.inert import plain
from kubewitness.service import metrics
from kubewitness.service.feeds.feed import Inlet, Intake, Positions, Spool, delays, in_thread
from kubewitness.service.feeds.seen import Seen, version, written
from kubewitness.service.feeds.stored_object import (
    FAULTS,
    ObjectChangedError,
    ObjectUnreadableError,
    StoredObject,
    told,
)

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""Failures after which an object is given up, while others could be read."""

_PAGE = 1000
_SWEEP = 10_000
_TRIES = 3
_LONGEST = 900.0
_KEEP = 1.0

# Options that obstore does not take with those of a store.
_CLIENT = frozenset(
    {
        *("allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only"),
        *("http2_only", "pool_idle_timeout", "pool_max_idle_per_host", "proxy_url"),
        *("proxy_ca_certificate", "proxy_excludes", "randomize_addresses", "read_timeout"),
        *("root_certificate", "timeout", "user_agent"),
    }
)


@dataclass(slots=True)
class _Failing:
    """An object that could not be read: how often it was tried, and how often so while others
    could be read (``blamed``); when it is tried again, and when it was written."""

    written: float
    tries: int = 0
    blamed: int = 0
    due: float = 0.0


class BucketFeed:
    """Polls ``settings.url`` for a cluster. ``name`` is what its position is kept by."""

    def __init__(
        self,
        cluster: str,
        settings: Bucket,
        intake: Intake,
        spool: Spool,
        positions: Positions,
        *,
        store: ObjectStore | None = None,
    ) -> None:
        """``store`` is read instead of the one that the settings name."""
        self.name = f"bucket/{cluster}/{settings.url}"
        self.behind = 0
        """Objects that were there at the last poll and are not durable yet."""
        self.given_up = 0
        """Objects that could not be read and are no longer tried."""
        self._settings = settings
        self._store = store
        self._inlet = Inlet(intake, spool, positions)
        self._seen = Seen()
        self._failing: dict[bytes, _Failing] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        self._seen = await self._position()
        every = self._settings.every
        waits = delays(every, max(every, _LONGEST))
        trouble = ""
        while True:
            try:
                more = await self._sweep()
            except (ObjectUnreadableError, *FAULTS) as error:
                metrics.FEED_ERRORS.labels(source="bucket").inc()
                if told(error) != trouble:
                    trouble = told(error)
                    logger.warning("%s: cannot be read: %s", plain(self.name), plain(trouble))
                await sleep(next(waits).seconds)
                continue
            if trouble:
                logger.info("%s: is read again", plain(self.name))
                trouble = ""
                waits = delays(every, max(every, _LONGEST))
            await sleep(0 if more else every)

    async def _sweep(self) -> bool:
        """Reads what is new, and tells whether there is more of it. Raises what a fault of the
        store raises, also where every object has one."""
        if self._store is None:
            self._store = await in_thread(_opened, self._settings)
        found, more = await self._new(self._store)
        failed: list[tuple[ObjectMeta, ObjectUnreadableError]] = []
        read, kept = False, time.monotonic()
        for meta in found:
            try:
                await self._read(self._store, meta)
            except ObjectChangedError:
                pass  # the next sweep finds it as it is by then, or not
            except ObjectUnreadableError as error:
                failed.append((meta, error))
                if len(failed) == _TRIES and not read:
                    break
            else:
                read = True
                if time.monotonic() - kept > _KEEP:
                    await self._remember()
                    kept = time.monotonic()
        for meta, fault in failed:
            self._fail(meta, fault, blame=read)
        if failed and not read:
            raise failed[-1][1]
        if read:
            unread = [failing.written for failing in self._failing.values()]
            if more:
                unread.append(max(map(written, found)))
            self._seen.settle(min(unread, default=inf))
            await self._remember()
        return more

    async def _new(self, store: ObjectStore) -> tuple[list[ObjectMeta], bool]:
        """What was not read, the oldest first and what failed before last; whether that is not
        all."""
        now = time.monotonic()
        listing = obstore.list(store, chunk_size=_PAGE)
        found: list[ObjectMeta] = []
        listed: dict[bytes, _Failing] = {}
        self.behind = 0
        while page := await in_thread(next, listing, None):
            for meta in page:
                if meta in self._seen:
                    continue
                self.behind += 1
                failing = self._failing.get(version(meta))
                if failing is not None:
                    listed[version(meta)] = failing
                if failing is None or failing.due <= now:
                    found.append(meta)
            if len(found) > 2 * _SWEEP:
                found = heapq.nsmallest(_SWEEP, found, key=self._turn)
        self._failing = listed
        return sorted(found, key=self._turn)[:_SWEEP], len(found) > _SWEEP

    def _turn(self, meta: ObjectMeta) -> tuple[int, float, str]:
        failing = self._failing.get(version(meta))
        return failing.tries if failing else 0, written(meta), meta["path"]

    async def _read(self, store: ObjectStore, meta: ObjectMeta) -> None:
        source = f"bucket:{self._settings.url.rstrip('/')}/{meta['path']}"
        stored = StoredObject(store, meta)
        bodies = await in_thread(stored.bodies)
        while (body := await in_thread(next, bodies, None)) is not None:
            await self._inlet.take(source, body)
        if stored.problem:
            logger.warning("%s: %s", plain(source), stored.problem)
        self._done(meta)

    def _done(self, meta: ObjectMeta) -> None:
        self._seen.add(meta)
        self._failing.pop(version(meta), None)
        self.behind -= 1

    def _fail(self, meta: ObjectMeta, error: ObjectUnreadableError, *, blame: bool) -> None:
        failing = self._failing.setdefault(version(meta), _Failing(written(meta)))
        failing.tries += 1
        metrics.FEED_ERRORS.labels(source="bucket").inc()
        failing.blamed += blame
        name = plain(meta["path"])
        if failing.blamed < ATTEMPTS:
            wait = min(_LONGEST, self._settings.every * 2 ** min(failing.tries - 1, 20))
            failing.due = time.monotonic() + wait
            logger.warning("%s: %s cannot be read: %s", plain(self.name), name, plain(str(error)))
            return
        self.given_up += 1
        self._done(meta)
        logger.error(
            "%s: %s is given up after %d attempts, write it anew to have it read: %s",
            *(plain(self.name), name, failing.tries, plain(str(error))),
        )

    async def _remember(self) -> None:
        await self._inlet.remember(self.name, msgspec.msgpack.encode(self._seen))

    async def _position(self) -> Seen:
        kept = await self._inlet.position(self.name)
        try:
            return msgspec.msgpack.decode(kept, type=Seen) if kept else Seen()
        except msgspec.DecodeError as error:
            logger.warning("%s: position is damaged, reading anew: %s", plain(self.name), error)
            return Seen()


def _opened(settings: Bucket) -> ObjectStore:
    """Raises one of ``FAULTS``; nothing is asked of a store on the network yet."""
    client = {"connect_timeout": "5s", "timeout": "20s"}
    client |= {name: value for name, value in settings.options.items() if name in _CLIENT}
    config = {name: value for name, value in settings.options.items() if name not in _CLIENT}
    # This feed has its own patience, and nobody waits for a minute to end a program.
    retry: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
    if settings.url.startswith(("file:", "memory:")):
        return from_url(settings.url)
    chosen: Any = {"config": config, "client_options": client, "retry_config": retry}
    return from_url(settings.url, **chosen)
