"""How the service bears load: measure it, and write the figures into bench/README.md.

    python bench/live.py [--seconds 300] [--rate 5200] [--servers 3] [--history 28] [--attacks 40]

Starts ``kubewitness serve`` with a folder of its own and posts to it what API servers would: the
quiet half of the example log (``api_server.py``), first one copy a day for ``--history`` days, then
``--rate`` events a second for ``--seconds``, with rehearsed attacks (``kubewitness rehearse``) at
known times. A webhook on loopback is the sink. Measured are how long answers take, from an event's
answer to the incident it is evidence of, memory and processor time of the service, and how long a
restart takes; and whether every event that was taken is in the lake once. Rewrites what stands
between ``<!-- live:begin -->`` and ``<!-- live:end -->``; not with ``--print``.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from array import array
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import zstandard

from api_server import MOST_ITEMS, ApiServer, Batch, Ledger, Script, batches
from throughput import ROOT, machine, rewrite, table
from witness import Service, Sink, in_lake

EXAMPLE = ROOT / "examples" / "audit.jsonl.zst"
# Where the attacks of the example begin (docs/example.md).
QUIET_UNTIL = datetime.fromisoformat("2026-11-23T18:30:00Z")
DAY = 86_400.0
ATTACK_COPIES = 0xF000
"""Copies from here on are attacks, one each."""
BURST = 3
"""So many copies come at once in the end."""
BURST_COPY = ATTACK_COPIES - BURST
LONG = 1800.0
BUDGET = {"rate": 5000, "latency": 2.0, "restart": 5.0}


@dataclass
class Attack:
    """An attack to be played as copy ``copy``."""

    family: str
    script: Script
    copy: int


@dataclass
class Run:
    """What was measured. ``resident``: (seconds since the start, bytes) of every second."""

    seconds: float = 0.0
    events: int = 0
    behind: float = 0.0
    resident: list[tuple[float, float]] = field(default_factory=list)
    processor: float = 0.0
    backlog: float = 0.0
    drained: float = 0.0
    chunk: float = 0.0
    judgement: float = 0.0
    first: float = 0.0
    burst: tuple[int, float, float] = (0, 0.0, 0.0)


def cast(folder: Path, attacks: int) -> tuple[Script, list[Attack]]:
    """The quiet half of the example log, and attacks rehearsed in it."""
    with EXAMPLE.open("rb") as file:
        text = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)).read()
    at = re.compile(rb'"stageTimestamp":"([^"]+)"')
    limit = QUIET_UNTIL.isoformat().encode()[:19]
    quiet = [line for line in text.splitlines() if at.findall(line)[-1] < limit]
    quiet.sort(key=lambda line: at.findall(line)[-1])
    log = folder / "quiet.jsonl"
    log.write_bytes(b"\n".join(quiet) + b"\n")
    played = folder / "rehearsed"
    command = [sys.executable, "-m", "kubewitness", "rehearse", str(log), "--out", str(played)]
    subprocess.run([*command, "--attacks", str(attacks)], check=True, stdout=subprocess.DEVNULL)
    episodes = [
        json.loads(line) for line in (played / "truth.jsonl").read_text("utf-8").splitlines()
    ]
    owner = {audit_id: n for n, one in enumerate(episodes) for audit_id in one["audit_ids"]}
    lines: list[list[bytes]] = [[] for _ in episodes]
    name = re.compile(rb'"auditID":"([^"]+)"')
    for part in sorted(played.glob("*.jsonl*")):
        if part.name != "truth.jsonl":
            for line in _unpacked(part).splitlines():
                number = owner.get(name.findall(line)[0].decode())
                if number is not None:
                    lines[number].append(line)
    return Script(quiet), [
        Attack(one["family"], Script(sorted(its, key=lambda line: at.findall(line)[-1])), copy)
        for copy, (one, its) in enumerate(zip(episodes, lines, strict=True), ATTACK_COPIES)
        if its
    ]


async def pour(script: Script, servers: list[ApiServer], starts: dict[int, float]) -> None:
    """Post copies that begin at some times, as fast as they are taken."""
    queue: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=2 * len(servers))
    sending = [asyncio.create_task(server.run(queue)) for server in servers]
    for copy, start in starts.items():
        for batch in batches(script, copy, start):
            await queue.put(batch)
    for _ in servers:
        await queue.put(None)
    await asyncio.gather(*sending)


async def load(
    script: Script,
    attacks: list[Attack],
    servers: list[ApiServer],
    service: Service,
    *,
    rate: float,
    seconds: float,
    first_copy: int,
) -> Run:
    """Post ``rate`` events a second, and each attack at its time."""
    run = Run()
    queues: list[asyncio.Queue[Batch | None]] = [asyncio.Queue() for _ in servers]
    sending = [
        asyncio.create_task(one.run(queue)) for one, queue in zip(servers, queues, strict=True)
    ]
    watching = asyncio.create_task(_watch(service, run))
    before = service.processor()
    began = time.time()
    playing = asyncio.create_task(_play(attacks, servers[0], began, seconds))
    sent, copy, place = 0, first_copy, 0
    while (elapsed := time.time() - began) < seconds:
        due = min(int(elapsed * rate), int(seconds * rate))
        if due - sent < MOST_ITEMS:
            await asyncio.sleep(MOST_ITEMS / rate / 2)
            continue
        numbers = range(place, min(place + MOST_ITEMS, len(script.lines)))
        made = began + np.arange(sent, sent + len(numbers)) / rate
        items = [script.said(n, copy, at) for n, at in zip(numbers, made.tolist(), strict=True)]
        batch = Batch(items, copy, script, [script.lines[n].request for n in numbers])
        queues[(sent // MOST_ITEMS) % len(queues)].put_nowait(batch)
        sent += len(numbers)
        place += len(numbers)
        if place == len(script.lines):
            place, copy = 0, (copy + 1) % BURST_COPY
        await asyncio.sleep(0)
    run.behind = sum(queue.qsize() for queue in queues) * MOST_ITEMS
    await playing
    for queue in queues:
        queue.put_nowait(None)
    await asyncio.gather(*sending)
    run.seconds = time.time() - began
    run.events = sent
    run.backlog = service.metric("spool_backlog_bytes")
    run.drained = await drained(service)
    run.processor = service.processor() - before
    run.chunk = service.mean("chunk_duration_seconds")
    run.judgement = service.mean("judgement_duration_seconds")
    watching.cancel()
    return run


async def drained(service: Service) -> float:
    """Wait until all that was taken is in the lake; seconds."""
    began = time.time()
    while await asyncio.to_thread(service.metric, "spool_backlog_bytes") > 0:
        if time.time() - began > 600:
            sys.exit("live: the service does not come to an end of what it was sent")
        await asyncio.sleep(0.2)
    return time.time() - began


async def judged(service: Service) -> None:
    """Wait until all was judged once: from then on alerts are told at once."""
    began = time.time()
    while await asyncio.to_thread(service.metric, "judgement_duration_seconds_count") < 1:
        if time.time() - began > 600:
            sys.exit("live: the service does not judge")
        await asyncio.sleep(0.2)


async def _play(attacks: list[Attack], server: ApiServer, began: float, seconds: float) -> None:
    """The attacks, evenly over the middle of the time, each within a tenth of it at most."""
    pause = seconds * 0.8 / max(len(attacks), 1)
    for number, attack in enumerate(attacks):
        start = began + seconds * 0.1 + number * pause
        lines = attack.script.lines
        pace = min(1.0, 0.5 * pause / max(lines[-1].offset, 0.001))
        async with httpx2.AsyncClient(timeout=60.0) as client:
            for n, line in enumerate(lines):
                at = start + line.offset * pace
                await asyncio.sleep(max(at - time.time(), 0))
                said = attack.script.said(n, attack.copy, time.time())
                await server.send(client, Batch([said], attack.copy, attack.script, [line.request]))


async def _watch(service: Service, run: Run) -> None:
    began = time.time()
    while True:
        run.resident.append((time.time() - began, service.resident()))
        await asyncio.sleep(1)


def report(
    run: Run, servers: list[ApiServer], attacks: list[Attack], sink: Sink, restart: float,
    taken: int, stored: tuple[int, int], options: argparse.Namespace,
) -> str:  # fmt: skip
    """The figures as a table."""
    answers = np.array([one for server in servers for one in server.latencies]) * 1000
    opened = np.array(
        [one.latency for one in sink.told if one.kind == "incident.opened" and one.alert]
    )
    first = {attack.copy: [one for one in sink.told if attack.copy in one.copies]
             for attack in attacks}  # fmt: skip
    found = [told[0].latency for told in first.values() if told]
    for attack in attacks:
        told = first[attack.copy]
        what = f"{told[0].title} ({told[0].latency:.1f} s)" if told else "not told"
        print(f"{attack.family}: {what}", file=sys.stderr)
    warm = [(at, size) for at, size in run.resident if at > run.seconds / 3]
    times, sizes = np.array(warm or [(0.0, 0.0)]).T
    # Of less time a slope says nothing.
    long = len(warm) > 2 and run.seconds >= LONG
    growth = f", {np.polyfit(times, sizes, 1)[0] * 3600 / 1e6:+,.0f} MB/h" if long else ""
    return table(
        ("", "measured", "budget"),
        [
            (f"events/s for {run.seconds:,.0f} s", f"{run.events / run.seconds:,.0f}",
             f"≥ {BUDGET['rate']:,.0f}"),
            ("answer to a batch, median, p99", f"{_quantiles(answers)} ms", ""),
            ("refused batches, sent again", f"{sum(one.refused for one in servers)}", ""),
            ("taken and not yet stored at the end, stored after",
             f"{run.backlog / 1e6:,.1f} MB, {run.drained:.1f} s", ""),
            (f"attacks that were told, of {len(attacks)}; how long after their evidence was taken,"
             " median, p99",
             f"{len(found)}; {_quantiles(np.array(found))} s",
             f"p99 ≤ {BUDGET['latency']:.0f} s"),
            (f"all alerts, what only a later judgement opens among them ({len(opened)});"
             " median, p99", f"{_quantiles(opened)} s", ""),
            ("a chunk into the lake, a judgement of all, mean",
             f"{run.chunk:.2f} s, {run.judgement:.1f} s", ""),
            ("memory after warm-up, at the end, growth",
             f"{sizes[0] / 1e6:,.0f} MB, {sizes[-1] / 1e6:,.0f} MB{growth}", "flat"),
            (f"a burst of {run.burst[0]:,} events: taken, and stored after",
             f"{run.burst[1]:.1f} s ({run.burst[0] / max(run.burst[1], 1e-9):,.0f} events/s),"
             f" {run.burst[2]:.1f} s", ""),
            ("processor time, an event until it is stored",
             f"{run.processor / (run.seconds + run.drained):.2f} cores,"
             f" {run.processor / max(run.events, 1) * 1e6:,.0f} µs", "2 cores"),
            (f"restart to ready with {options.history} days of history", f"{restart:.1f} s",
             f"≤ {BUDGET['restart']:.0f} s"),
            ("restart to the first judgement of all, before which nothing is told at once",
             f"{run.first:.1f} s", ""),
            ("events taken, in the lake, there twice", f"{taken:,}, {stored[0]:,}, {stored[1]:,}",
             "equal, 0"),
        ],
    )  # fmt: skip


def _quantiles(values: np.ndarray[Any, Any]) -> str:
    if not len(values):
        return "–"
    return ", ".join(f"{value:,.2f}" for value in np.quantile(values, (0.5, 0.99)))


def _unpacked(path: Path) -> bytes:
    with path.open("rb") as file:
        if path.suffix != ".zst":
            return file.read()
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)).read()


def main() -> None:
    """Measure and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rate", type=float, default=5200, help="events a second")
    parser.add_argument("--servers", type=int, default=3, help="API servers, a connection each")
    parser.add_argument("--history", type=int, default=28, help="days, a copy of half an hour each")
    parser.add_argument("--attacks", type=int, default=40)
    parser.add_argument("--every", type=float, default=60, help="seconds between judgements of all")
    parser.add_argument("--print", action="store_true", help="do not rewrite bench/README.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kubewitness-bench-") as name:
        folder, ledger = Path(name), Ledger()
        script, attacks = cast(folder, options.attacks)
        with Sink(ledger).listening() as sink:
            # What came before the last day is learnt from.
            learn = max((options.history - 1.1) * DAY, 1.0)
            service = Service(folder, sink.url, every=options.every, learn=learn)
            service.start()
            try:
                text = asyncio.run(_measured(service, script, attacks, sink, options))
            finally:
                if service.process is not None and service.process.poll() is None:
                    service.stop()
    told = machine() + (
        f" Input: the first half hour of the example log ({len(script.lines):,} events) over and"
        f" over in batches of {MOST_ITEMS}, {options.servers} connections, one machine for sender"
        f" and service. One-minute load of the machine at the end: {os.getloadavg()[0]:.1f}."
    )
    if options.print:
        print(f"{told}\n\n{text}")
    else:
        rewrite("live", [told, text])


async def _measured(
    service: Service,
    script: Script,
    attacks: list[Attack],
    sink: Sink,
    options: argparse.Namespace,
) -> str:
    token = (service.folder / "token").read_text(encoding="utf-8").strip()
    servers = [ApiServer(service.url, token, sink.ledger) for _ in range(options.servers)]
    print(f"{options.history} days of history", file=sys.stderr)
    start = time.time() - options.history * DAY
    await pour(script, servers, {day: start + day * DAY for day in range(options.history)})
    await drained(service)
    await asyncio.to_thread(service.stop)
    began = time.time()
    await asyncio.to_thread(service.start)
    await judged(service)
    first = time.time() - began
    for server in servers:
        server.latencies = array("d")
    print(f"{options.rate:,.0f} events/s for {options.seconds:,.0f} s", file=sys.stderr)
    run = await load(
        script, attacks, servers, service,
        rate=options.rate, seconds=options.seconds, first_copy=options.history,
    )  # fmt: skip
    run.first = first
    began = time.time()
    span = script.lines[-1].offset
    await pour(script, servers, dict.fromkeys(range(BURST_COPY, ATTACK_COPIES), began - span))
    run.burst = BURST * len(script.lines), time.time() - began, await drained(service)
    await asyncio.sleep(3)
    await asyncio.to_thread(service.stop)
    restart = await asyncio.to_thread(service.start)
    await asyncio.to_thread(service.stop)
    taken = sum(server.accepted for server in servers)
    stored = await asyncio.to_thread(in_lake, service.folder)
    return report(run, servers, attacks, sink, restart, taken, stored, options)


if __name__ == "__main__":
    main()
