"""The lookout: notices when the witness is blindfolded, and says so in metrics, log and notices."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import duckdb

from kubewitness.errors import KubewitnessError
from kubewitness.incidents.model import Incident
from kubewitness.lake.store import Lake
from kubewitness.report.inert import plain
from kubewitness.service import metrics
from kubewitness.service.feeds.feed import in_thread
from kubewitness.service.gaps.model import Gap, Kind
from kubewitness.service.gaps.survey import survey
from kubewitness.service.gaps.telling import notice
from kubewitness.service.gaps.vigil import Vigil
from kubewitness.state.database import State

logger = logging.getLogger(__name__)

LOOK_EVERY = 5.0
SAVE_EVERY = 60.0
# Times are UTC without a zone, as in the lake.
_ENDLESS = datetime(2200, 1, 1)  # noqa: DTZ001


class Lookout:
    """``see`` is told of new parts of the lake; ``run`` looks at them and tells what follows from
    them, and from nothing being new.

    Of ``clusters`` only it is known what was seen before: others are watched by who else shares the
    state, or by nobody any more.
    """

    def __init__(self, lake: Lake, state: State, clusters: Iterable[str]) -> None:
        self._lake = lake
        self._state = state
        self._clusters = tuple(clusters)
        self._vigil = Vigil()
        self._late = 0
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._new: list[Path] = []
        self._received = 0.0
        self._lock = threading.Lock()

    def begin(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Go on where the last run was saved, and look at what it took in after that. Everything
        is asked through ``connection``, which nobody else uses."""
        self._connection = connection
        for cluster in self._clusters:
            try:
                saved = self._state.position(_position(cluster))
                if saved is not None:
                    self._vigil.restore(cluster, saved)
            except (ValueError, KubewitnessError) as error:
                logger.warning(
                    "cluster %s: %s: what is usual in its log is learnt anew",
                    *(plain(cluster), plain(str(error))),
                )
        self._late = self._vigil.late
        for cluster, since in self._vigil.surveyed().items():
            self._survey(self._parts(cluster, since, connection), time.time(), since)

    def see(self, parts: Sequence[Path], received: float) -> None:
        """Take note of new parts of the lake, whose events arrived by ``received`` (unix
        seconds)."""
        with self._lock:
            self._new += parts
            self._received = max(self._received, received)

    async def run(
        self,
        tell: Callable[[str, Sequence[Incident]], Awaitable[None]],
        waiting: Callable[[], float],
    ) -> None:
        """Look again every few seconds, and save what is known. ``tell`` takes what is told of a
        cluster; ``waiting`` says for how long events have waited to be stored."""
        saved = time.monotonic()
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY)
                await in_thread(self._survey_new)
                changes = self._look(waiting())
                for gap in changes:
                    if gap.cluster:
                        await tell(gap.cluster, [notice(gap)])
                # What was told to be open has to be known after a crash, for its end to be told.
                if changes or time.monotonic() - saved >= SAVE_EVERY:
                    await in_thread(self._save)
                    saved = time.monotonic()
        finally:
            self._save()

    def _look(self, waiting: float) -> list[Gap]:
        now = time.time()
        with self._lock:
            self._vigil.backlog(waiting, now)
            changes = self._vigil.changes(now)
            gaps, skews, late = self._vigil.open, self._vigil.skews(), self._vigil.late
            arrived = self._vigil.arrived()
        for kind in get_args(Kind):
            metrics.GAPS_OPEN.labels(kind=kind).set(sum(gap.kind == kind for gap in gaps))
        for cluster, seconds in skews.items():
            metrics.CLOCK_SKEW.labels(cluster=cluster).set(seconds)
        for cluster, (at, _) in arrived.items():
            metrics.LAST_EVENT.labels(cluster=cluster).set(at)
        metrics.INGEST_LAG.set(max((lag for _, lag in arrived.values()), default=0.0))
        metrics.EVENTS_LATE.inc(max(late - self._late, 0))
        self._late = late
        for gap in changes:
            _log(gap)
        return changes

    def _survey_new(self) -> None:
        with self._lock:
            parts, received = self._new, self._received
            self._new, self._received = [], 0.0
        self._survey(parts, received)

    def _survey(self, parts: list[Path], received: float, since: float | None = None) -> None:
        """``since``: only later events, which came before we began."""
        if not parts or self._connection is None:
            return
        table = f"({Lake.relation(parts)})"
        if since is not None:
            table = f"(FROM {table} WHERE epoch(stage_at) > {since})"
        try:
            found = survey(self._connection, table)
            with self._lock:
                self._vigil.observe(found, received, before=since is not None)
        except Exception:  # detection goes on without
            logger.exception("gaps were not looked for in new events")

    def _parts(
        self, cluster: str, since: float, connection: duckdb.DuckDBPyConnection
    ) -> list[Path]:
        begin = datetime.fromtimestamp(since, UTC).replace(tzinfo=None)
        span = (begin, _ENDLESS)
        return [
            part
            for day in self._lake.days()
            if unquote(day.folder.parent.name.partition("=")[2]) == cluster
            and day.folder.name >= f"date={begin.date()}"
            for part in day.overlapping([span], connection)
        ]

    def _save(self) -> None:
        with self._lock:
            saved = self._vigil.saved()
        try:
            for cluster, known in saved.items():
                self._state.set_position(_position(cluster), known)
        except KubewitnessError as error:
            logger.warning("what is known of gaps is not saved: %s", plain(str(error)))


def _position(cluster: str) -> str:
    return f"gaps/{cluster}"


def _log(gap: Gap) -> None:
    where = f"cluster {plain(gap.cluster)}: " if gap.cluster else ""
    fields = {"gap": gap.id, "kind": gap.kind}
    if gap.until is not None and gap.kind != "hole":
        logger.info("%sover: %s (%s)", where, gap.title, gap.why, extra=fields)
        return
    metrics.GAPS.labels(kind=gap.kind).inc()
    logger.warning("%s%s: %s; %s", where, gap.title, gap.why, gap.remedy, extra=fields)
