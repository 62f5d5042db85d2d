"""The service as a whole: what receives, stores, judges and tells, begun and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial

from kubewitness.config.settings import Settings
from kubewitness.lake.store import Lake
from kubewitness.service import metrics
from kubewitness.service.admin import Check, admin, writable
from kubewitness.service.feeds.feed import Feed
from kubewitness.service.feeds.opening import feeds
from kubewitness.service.gauges import measure
from kubewitness.service.intake import Intake
from kubewitness.service.lookout import Lookout
from kubewitness.service.pipeline import Pipeline
from kubewitness.service.receiver import Receiver
from kubewitness.service.spool import Spool
from kubewitness.service.tls import Certificates
from kubewitness.service.transport import Transport
from kubewitness.sinks.courier import Courier
from kubewitness.sinks.sink import sink
from kubewitness.state.database import State

logger = logging.getLogger(__name__)

THREADS = 64


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    ready: Callable[[int | None, int | None], None] = lambda port, admin_port: None,
) -> None:
    """Run until ``stop`` is set.

    ``ready`` is called with the ports of receiver and admin once events are taken. Raises
    ``KubewitnessError`` for what keeps it from beginning: a folder, a port, a database, a setting.
    """
    # Threads wait for disks, databases and sinks; who is stuck there shall hold up nobody else.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    lake = Lake(settings.data / "lake", durable=True)
    state = State(settings.state or settings.data / "state.sqlite")
    sinks = [(wanted, sink(wanted)) for wanted in settings.sinks]
    async with AsyncExitStack() as cleanup:
        cleanup.callback(state.close)
        spool = Spool(settings.data / "spool", limit=settings.retention.spool_bytes)
        cleanup.push_async_callback(spool.close)
        most = settings.listen.unpacked_bytes if settings.listen else 128 << 20
        intake = Intake(lake.quarantine, lake.redactor, most_bytes=most)
        cleanup.callback(intake.close)
        # Others may share the state, each with its own clusters.
        clusters = {one.name for one in settings.clusters}
        courier = Courier(state, sinks, clusters=clusters, count=_count)
        lookout = Lookout(lake, state, {one.name for one in settings.clusters})
        pipeline = Pipeline(
            lake,
            spool,
            state,
            settings,
            settings.sinks,
            told=courier.wake,
            clusters=clusters,
            lookout=lookout,
        )

        receiver = _receiver(settings, intake, spool)
        observed = _admin(settings, pipeline, state)
        further = _feeds(settings, intake, spool, state)

        async with asyncio.TaskGroup() as tasks:
            working = [
                tasks.create_task(work)
                for work in (
                    *(pipeline.run(), courier.run(), lookout.run(pipeline.tell, pipeline.waiting)),
                    measure(spool, pipeline.waiting, lake, state, [one.name for one, _ in sinks]),
                    *(one.run() for one in further),
                )
            ]
            doors = [tasks.create_task(one.run(stop)) for one in (receiver, observed) if one]
            begun = [asyncio.ensure_future(one.wait()) for one in (pipeline.ready, stop)]
            await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
            if pipeline.ready.is_set():
                ready(*(one.port if one else None for one in (receiver, observed)))
            await stop.wait()
            for waiting in begun:
                waiting.cancel()
            # First nothing more comes in, then what came in is put away.
            await asyncio.gather(*doors)
            for task in working:
                task.cancel()


def _receiver(settings: Settings, intake: Intake, spool: Spool) -> Transport | None:
    listen = settings.listen
    if listen is None:
        return None
    return Transport(
        Receiver(listen, settings.clusters, intake, spool),
        listen.address,
        listen.port,
        certificates=Certificates(listen.tls) if listen.tls else None,
        connections=listen.connections,
    )


def _admin(settings: Settings, pipeline: Pipeline, state: State) -> Transport | None:
    if settings.admin is None:
        return None
    taking: dict[str, Check] = {"spool": writable(settings.data / "spool")}
    further: dict[str, Check] = {
        "lake": writable(settings.data / "lake"),
        "state": partial(_reachable, state),
        "pipeline": pipeline.check,
    }
    return Transport(admin(taking, further), settings.admin.address, settings.admin.port)


async def _reachable(state: State) -> str:
    await asyncio.to_thread(state.position, "")
    return ""


def _feeds(settings: Settings, intake: Intake, spool: Spool, state: State) -> list[Feed]:
    """What brings events besides the receiver."""
    positions = _Positions(state)
    found: list[Feed] = []
    for cluster in settings.clusters:
        found += feeds(cluster, partial(intake.read, cluster.name), spool, positions)
    return found


class _Positions:
    """How far feeds came, in the state."""

    def __init__(self, state: State) -> None:
        self.get = state.position
        self.set = state.set_position


def _count(name: str, outcome: str) -> None:
    metrics.SINK_DELIVERIES.labels(sink=name, status=outcome).inc()
