"""From the spool to incidents: the one writer of the lake, and what it makes of what it wrote.

Two tasks take turns. One takes what has arrived, puts it into the lake and lets the witness of each
cluster hear it; the other has a witness judge all it knows, most of it in a process of its own.
Nothing is lost by a fault: entries stay in the spool until the lake has them, what the lake has is
heard again after a restart, and incidents that the state cannot take yet wait here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import duckdb
import msgspec

from kubewitness.config.settings import Settings
from kubewitness.errors import LakeError, StateError
from kubewitness.incidents.model import Incident, Misconfiguration
from kubewitness.lake.adding import add
from kubewitness.lake.arranging import arrange
from kubewitness.lake.compaction import compact
from kubewitness.lake.engine import engine
from kubewitness.lake.retention import expire
from kubewitness.lake.settling import Added
from kubewitness.lake.store import Lake, synced
from kubewitness.report.inert import plain
from kubewitness.service import metrics
from kubewitness.service.admin import Pulse
from kubewitness.service.feeds.feed import in_thread
from kubewitness.service.judgement import all_of
from kubewitness.service.judging import Judging
from kubewitness.service.lookout import Lookout
from kubewitness.service.spool import Batch, Position, Spool
from kubewitness.service.witness import Witness
from kubewitness.sources.reading import Chunk
from kubewitness.state.database import State
from kubewitness.state.keeping import Wanted

logger = logging.getLogger(__name__)

# What has arrived within this time is taken together: Parquet and SQL cost per piece.
GATHER = 0.2
# … up to so much, which bounds how long a piece takes and what it holds.
MOST_BYTES = 16 << 20
# A judgement may take this share of the time.
JUDGING_SHARE = 0.2
_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0
_BEAT = 10.0
# Seconds between two looks at what may be merged, and at what may be deleted.
HOUSEKEEPING, EXPIRING = 60.0, 3600.0
MERGES = 10
# After these the engine answers nothing any more: only a restart helps.
_DEAD = (duckdb.FatalException, duckdb.InternalException)
_T = TypeVar("_T")


@dataclass(slots=True)
class _Clock:
    """When a witness judged all it knew, and how long that took; seconds of the monotonic clock."""

    ended: float = -math.inf
    took: float = 0.0
    heard: bool = False


class Pipeline:
    """Runs until it is cancelled. ``state`` may be gone for a while, the disk may be full: what is
    wrong at present is ``trouble``."""

    def __init__(
        self,
        lake: Lake,
        spool: Spool,
        state: State,
        settings: Settings,
        wanted: Sequence[Wanted] = (),
        *,
        told: Callable[[], None] = lambda: None,
        clusters: set[str] | None = None,
        lookout: Lookout | None = None,
    ) -> None:
        """``told`` is called when there is something in the state that ``wanted`` sinks want;
        to ``clusters`` are added those that are heard here;
        ``lookout`` sees what is new in the lake."""
        self._lake = lake
        self._spool = spool
        self._state = state
        self._settings = settings
        self._wanted = tuple(wanted)
        self._told = told
        self._clusters = set() if clusters is None else clusters
        self._lookout = lookout
        self._pulse = Pulse("taking what arrives")
        # What a killed service has left here is nobody's: the spool has one owner.
        self._scratch = settings.data / "scratch"
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(mode=0o700, parents=True)
        self._turn = asyncio.Lock()
        self._witnesses: dict[str, Witness] = {}
        self._clocks: dict[str, _Clock] = defaultdict(_Clock)
        # Incidents that the state has not taken yet, by cluster and id.
        self._untold: dict[str, dict[str, Incident]] = defaultdict(dict)
        self._taking: float | None = None
        self.ready = asyncio.Event()
        self.trouble = ""

    async def run(self) -> None:
        """Take and judge; ``ready`` is set once what the lake holds has been heard."""
        with engine(self._scratch / "spill", self._lake.redactor) as self._database:
            self._loop = asyncio.get_running_loop()
            self._writer = self._database.cursor()
            await self._patiently(self._begin)
            self.ready.set()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._take_all())
                    tasks.create_task(self._judge_all())
                    tasks.create_task(self._keep_house())
            finally:
                async with self._turn:
                    self._end()

    async def check(self) -> str:
        """Why events do not get into the lake, or ''."""
        if not self.ready.is_set():
            return self.trouble or "what the lake holds is being heard"
        return self.trouble or await self._pulse.check()

    def waiting(self) -> float:
        """For how many seconds the oldest of what arrived has not been put into the lake."""
        return 0.0 if self._taking is None else max(time.time() - self._taking, 0.0)

    async def tell(self, cluster: str, incidents: Sequence[Incident]) -> None:
        """Have the state keep what somebody else has found, and the sinks hear of it."""
        async with self._turn:
            await in_thread(self._tell, cluster, incidents)

    async def _take_all(self) -> None:
        after = self._spool.discarded
        while True:
            self._pulse.beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(_BEAT):
                    await self._spool.wait(after)
            await asyncio.sleep(GATHER)
            entries = await self._patiently(partial(self._spool.read, after, most_bytes=MOST_BYTES))
            if entries:
                begun = time.monotonic()
                self._taking = min(batch.received for _, batch in entries)
                await self._take_each(entries)
                self._taking = None
                after = entries[-1][0]
                self._spool.discard(after)
                metrics.CHUNK_DURATION.observe(time.monotonic() - begun)

    async def _judge_all(self) -> None:
        while True:
            for cluster, witness in list(self._witnesses.items()):
                if self._due(cluster):
                    await self._judge(cluster, witness)
            if any(self._untold.values()):
                async with self._turn:
                    await in_thread(self._tell_again)
            await asyncio.sleep(1)

    async def _keep_house(self) -> None:
        """Keep the lake in few files and as long as it shall be kept, and where witnesses stand."""
        expired = -math.inf
        while True:
            await asyncio.sleep(HOUSEKEEPING)
            try:
                async with self._turn:
                    await in_thread(self._look_around)
                merged = await in_thread(self._compact)
                async with self._turn:
                    for part in merged:
                        cluster = unquote(part.parent.parent.name.partition("=")[2])
                        self._witness(cluster).merged(part)
                if time.monotonic() - expired >= EXPIRING:
                    await in_thread(self._expire)
                    expired = time.monotonic()
            except (LakeError, OSError, duckdb.Error) as error:
                logger.warning("the lake is not tidied up now: %s", plain(str(error)))

    def _look_around(self) -> None:
        """Hear what others have added, and save where witnesses stand."""
        for cluster, witness in self._witnesses.items():
            self._tell(cluster, self._heard(cluster, witness.catch_up))
            witness.save()

    def _heard(
        self, cluster: str, hear: Callable[[], tuple[Incident, ...]]
    ) -> tuple[Incident, ...]:
        """What comes of ``hear``, if that can be told at once."""
        witness = self._witnesses[cluster]
        before = len(witness.standing.heard)
        try:
            return hear()
        except _DEAD:
            raise
        except Exception as error:
            # It is in the lake, and the next judgement is of all that is there.
            if isinstance(error, LakeError | OSError):
                logger.warning("%s is judged later: %s", plain(cluster), plain(str(error)))
            else:
                logger.exception("what has arrived of %s is judged later", plain(cluster))
            witness.dismiss()
            self._clocks[cluster].heard = True
            return ()
        finally:
            self._clocks[cluster].heard |= len(witness.standing.heard) != before

    def _end(self) -> None:
        for witness in self._witnesses.values():
            witness.dismiss()
        for cluster, witness in self._witnesses.items():
            try:
                witness.save()
            except LakeError as error:
                logger.warning("where %s stands is not saved: %s", plain(cluster), error)

    def _compact(self) -> list[Path]:
        """Merge parts that have been heard, as was saved by now, and put large ones in the order
        of objects; returns what merged ones became."""
        found: list[Path] = []
        settled = timedelta(seconds=2 * HOUSEKEEPING)
        with engine(self._scratch / "merging") as connection:
            while len(found) < MERGES and (one := compact(self._lake, connection, settled=settled)):
                found.append(one.part)
            if len(found) < MERGES:
                connection.execute("SET threads = 1")
                connection.execute("SET memory_limit = '256MB'")
                arrange(self._lake, connection, most=1)
        return found

    def _expire(self) -> None:
        kept = self._settings.retention
        for gone in expire(
            self._lake,
            events=timedelta(seconds=kept.events),
            activity=timedelta(seconds=kept.activity),
        ):
            logger.info("%s is older than it shall be and was deleted", plain(str(gone.path)))
        self._spool.forget_damaged(time.time() - kept.events)
        with suppress(StateError):
            self._state.forget(timedelta(seconds=kept.activity))

    def _due(self, cluster: str) -> bool:
        """Whether a witness has heard something since it judged, and judging is not all it does."""
        clock = self._clocks[cluster]
        pause = max(self._settings.detection.every, clock.took / JUDGING_SHARE)
        return clock.heard and time.monotonic() - clock.ended >= pause

    async def _take_each(self, entries: Sequence[tuple[Position, Batch]]) -> None:
        """Take entries; one that the lake cannot take for reasons of its own is set aside."""
        try:
            await self._patiently(self._take, entries)
        except _DEAD:
            # What is in the spool is taken after a restart.
            raise
        except Exception:
            if len(entries) > 1:
                for entry in entries:
                    await self._take_each([entry])
            else:
                logger.exception("%d events cannot be stored", len(entries[0][1].lines))
                await self._patiently(self._set_aside, entries[0][1])

    async def _judge(self, cluster: str, witness: Witness) -> None:
        clock = self._clocks[cluster]
        begun = time.monotonic()
        try:
            async with self._turn:
                work = await in_thread(witness.snapshot)
            clock.heard = False
            try:
                # Not waited for where this is cancelled: ``abandon`` ends it.
                await asyncio.to_thread(work.reach)
            except BaseException:
                async with self._turn:
                    await in_thread(witness.abandon, work)
                raise
            async with self._turn:
                await in_thread(self._adopt, cluster, witness, work)
            metrics.JUDGEMENT_LAST.set_to_current_time()
        except _DEAD:
            raise
        except Exception as error:
            clock.heard = True
            if isinstance(error, LakeError | OSError):
                logger.warning("%s is judged later: %s", plain(cluster), plain(str(error)))
            else:
                logger.exception("%s could not be judged", plain(cluster))
                await self._patiently(witness.mend)
        clock.ended, clock.took = time.monotonic(), time.monotonic() - begun
        metrics.JUDGEMENT_DURATION.observe(clock.took)

    async def _patiently(self, work: Callable[..., _T], *given: object) -> _T:
        """Do ``work`` in a thread when it is its turn, again and again while the disk is full or
        not there."""
        pause = _FIRST_RETRY
        while True:
            try:
                async with self._turn:
                    done = await in_thread(work, *given)
            except (LakeError, OSError) as error:
                if self.trouble != str(error):
                    logger.warning("%s", error)
                self.trouble = str(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LAST_RETRY)
            else:
                if self.trouble:
                    logger.warning("it works again")
                self.trouble = ""
                return done

    def _begin(self) -> None:
        """A witness for each cluster that is configured or in the lake, which hears that."""
        known = {unquote(day.folder.parent.name.partition("=")[2]) for day in self._lake.days()}
        configured = {one.name for one in self._settings.clusters}
        for cluster in sorted(configured | known):
            witness = self._witness(cluster)
            before = len(witness.standing.heard)
            witness.catch_up()
            # Of what only lies in the lake all has been told before.
            heard = cluster in configured or len(witness.standing.heard) != before
            self._clocks[cluster].heard |= heard
        if self._lookout is not None:
            self._lookout.begin(self._database.cursor())

    def _witness(self, cluster: str) -> Witness:
        self._clusters.add(cluster)
        if cluster not in self._witnesses:
            detection = self._settings.detection
            self._witnesses[cluster] = Witness(
                cluster, self._lake, self._database, detection, self._scratch
            )
        return self._witnesses[cluster]

    def _take(self, entries: Sequence[tuple[Position, Batch]]) -> None:
        """Put entries of the spool into the lake, and have them heard."""
        arrived: dict[str, list[Batch]] = defaultdict(list)
        for _, batch in entries:
            if batch.lines:
                arrived[batch.cluster].append(batch)
        for cluster, batches in arrived.items():
            added = self._added(cluster, batches)
            metrics.EVENTS_DUPLICATE.inc(added.duplicates)
            if not added.parts:
                continue
            if self._lookout is not None:
                received = max(batch.received for batch in batches)
                self._lookout.see(added.parts, received)
            hear = partial(self._witness(cluster).hear, added.parts)
            alerts = self._heard(cluster, hear)
            self._tell(cluster, alerts)
            if alerts:
                received = min(batch.received for batch in batches)
                metrics.INCIDENT_LATENCY.observe(max(0.0, time.time() - received))

    def _added(self, cluster: str, batches: Sequence[Batch]) -> Added:
        with tempfile.NamedTemporaryFile(dir=self._scratch, suffix=".jsonl") as file:
            n = 0
            for batch in batches:
                for line in batch.lines:
                    file.write(line + b"\n")
                    n += 1
            file.flush()
            source = batches[0].source
            chunk = Chunk(Path(file.name), "none", source, verbatim=False, lines=n)
            return add([chunk], self._lake, self._writer, cluster=cluster)

    def _set_aside(self, batch: Batch) -> None:
        """Keep in the quarantine what cannot be stored."""
        self._lake.quarantine.mkdir(exist_ok=True)
        path = self._lake.quarantine / f"unstored-{uuid.uuid4()}.jsonl"
        path.touch(mode=0o600)
        path.write_bytes(b"".join(line + b"\n" for line in batch.lines))
        synced(path)
        metrics.QUARANTINE_LINES.inc(len(batch.lines))

    def _adopt(self, cluster: str, witness: Witness, work: Judging) -> None:
        assert work.verdict is not None
        found = work.verdict.incidents
        if work.task.since is None:  # nobody knows yet what is usual
            found = tuple(msgspec.structs.replace(one, alert=False) for one in found)
        judged = all_of(found, witness.adopt(work))
        self._tell(cluster, judged)
        self._review(cluster, judged, work.verdict.detection.misconfigurations)

    def _tell(self, cluster: str, incidents: Sequence[Incident]) -> None:
        """Have the state keep incidents, now or when it is back."""
        waiting = self._untold[cluster]
        waiting.update((one.id, one) for one in incidents)
        if not waiting:
            return
        try:
            self._state.keep(cluster, [*waiting.values()], self._wanted)
        except StateError as error:
            logger.warning("%d incidents wait for the state: %s", len(waiting), error)
        else:
            waiting.clear()
            self._loop.call_soon_threadsafe(self._told)

    def _review(
        self, cluster: str, judged: Sequence[Incident], broken: Sequence[Misconfiguration]
    ) -> None:
        """Have the state know what follows from all that was ``judged``; the next time, if it
        cannot now."""
        try:
            self._state.keep_misconfigurations(cluster, broken)
            merged = self._state.merge(cluster, judged)
        except StateError as error:
            logger.warning("what is broken, and part of what, is written down later: %s", error)
            return
        for part, whole in merged:
            logger.info("%s: incident %s is part of %s", plain(cluster), part, whole)
        if merged:
            self._loop.call_soon_threadsafe(self._told)

    def _tell_again(self) -> None:
        for cluster in list(self._untold):
            self._tell(cluster, ())
