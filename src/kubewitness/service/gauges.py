"""Metrics of what is there now, which nobody else sets: looked up every now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kubewitness.errors import KubewitnessError
from kubewitness.lake.store import Lake
from kubewitness.report.inert import plain
from kubewitness.service import metrics
from kubewitness.service.feeds.feed import in_thread
from kubewitness.service.spool import Spool
from kubewitness.state.database import State

logger = logging.getLogger(__name__)

EVERY = 2.0
SELDOM = 15
"""Rounds of ``EVERY`` after which the lake and the state are asked again."""


async def measure(
    spool: Spool, waiting: Callable[[], float], lake: Lake, state: State, sinks: list[str]
) -> None:
    """Until it is cancelled. ``waiting``: for how many seconds events have waited to be stored."""
    rounds = 0
    while True:
        metrics.SPOOL_BACKLOG.set(spool.backlog_bytes)
        metrics.SPOOL_OLDEST.set(waiting())
        if rounds % SELDOM == 0:
            await in_thread(_ask, lake, state, sinks)
        rounds += 1
        await asyncio.sleep(EVERY)


def _ask(lake: Lake, state: State, sinks: list[str]) -> None:
    try:
        metrics.LAKE_PARTS.set(sum(1 for _ in lake.events.glob("cluster=*/date=*/*.parquet")))
        for severity, n in state.counted().items():
            metrics.INCIDENTS_OPEN.labels(severity=severity).set(n)
        waiting = {one.sink: one.waiting for one in state.backlog()}
        for sink in sinks:
            metrics.SINK_WAITING.labels(sink=sink).set(waiting.get(sink, 0))
    except (KubewitnessError, OSError) as error:
        logger.warning("some metrics are not up to date: %s", plain(str(error)))
