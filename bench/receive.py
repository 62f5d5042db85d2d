"""Measure how fast deliveries are taken, and write it into bench/README.md.

    python bench/receive.py [--seconds 10] [--bodies FOLDER]

Real HTTP on loopback, redaction, spool, fsync; nothing reads the spool. Deliveries are made of the
example log; with ``--bodies`` they are files ``*.body.json``, as an API server's webhook posted
them, and the result is printed only. The clients are a process of their own, as API servers are,
and share the processors. Rewrites what stands between ``<!-- receive:begin -->`` and
``<!-- receive:end -->``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import zstandard

from kubewitness.config.settings import Cluster, Listen
from kubewitness.events.redaction import Redactor
from kubewitness.service.intake import Intake
from kubewitness.service.receiver import Receiver
from kubewitness.service.spool import Spool
from kubewitness.service.transport import Transport
from throughput import machine, rewrite, table

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "audit.jsonl.zst"


def deliveries(folder: Path | None, size: int) -> list[tuple[int, bytes]]:
    """Bodies, with the number of events in each."""
    if folder is not None:
        bodies = [path.read_bytes() for path in sorted(folder.rglob("*.body.json"))]
        return [(len(json.loads(body)["items"]), body) for body in bodies]
    with zstandard.open(EXAMPLE, "rb") as file:
        lines = file.read().splitlines()[: max(50 * size, 2000)]
    begin = b'{"kind":"Event","apiVersion":"audit.k8s.io/v1",'
    items = [b"{" + line.removeprefix(begin) for line in lines if line.startswith(begin)]
    head = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
    groups = (items[at : at + size] for at in range(0, len(items), size))
    return [(len(group), head + b",".join(group) + b"]}") for group in groups]


def send(
    port: int, bodies: list[tuple[int, bytes]], connections: int, seconds: float, told: Connection
) -> None:
    """Post for so long, over so many connections; tells what was taken and how long each took."""
    asyncio.run(_send(port, bodies, connections, seconds, told))


async def _send(
    port: int, bodies: list[tuple[int, bytes]], connections: int, seconds: float, told: Connection
) -> None:
    until = time.perf_counter() + seconds
    taken: list[tuple[int, int, float]] = []
    refused = 0

    async def client(number: int) -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            events, body = bodies[number % len(bodies)]
            number += 1
            began = time.perf_counter()
            head = (
                f"POST /audit/bench?timeout=30s HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
            )
            writer.write(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
            await reader.readexactly(int(fields[b"content-length"]))
            if b" 200 " in answer[:16]:
                taken.append((events, len(body), time.perf_counter() - began))
            else:
                refused += 1
        writer.close()

    await asyncio.gather(*map(client, range(connections)))
    told.send((taken, refused))


async def receive(
    folder: Path, bodies: list[tuple[int, bytes]], connections: int, seconds: float
) -> tuple[str, ...]:
    """Run the receiver until the client is done; the row that tells of it."""
    listen = Listen(port=0)
    spool = Spool(folder / "spool", limit=1 << 40)
    intake = Intake(folder / "quarantine", Redactor(os.urandom(32)))
    receiver = Receiver(listen, [Cluster(name="bench")], intake, spool)
    transport = Transport(receiver, listen.address, listen.port)
    stop = asyncio.Event()
    running = asyncio.create_task(transport.run(stop))
    ours, theirs = multiprocessing.Pipe()
    client = multiprocessing.get_context("spawn").Process(
        target=send, args=(transport.port, bodies, connections, seconds, theirs)
    )
    client.start()
    cpu, began = time.process_time(), 0.0
    while not ours.poll():
        await asyncio.sleep(0.05)
        if not began and spool.backlog_bytes:
            cpu, began = time.process_time(), time.perf_counter()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    taken, refused = ours.recv()
    client.join()
    stop.set()
    await running
    await spool.close()
    intake.close()
    events = sum(one[0] for one in taken)
    took = sorted(one[2] * 1000 for one in taken)
    return (
        f"{sum(n for n, _ in bodies) / len(bodies):.0f}",
        str(connections),
        f"{sum(one[1] for one in taken) / events:,.0f}",
        f"{events / wall:,.0f}",
        f"{events / cpu:,.0f}",
        f"{took[len(took) // 2]:.1f} ms",
        f"{took[len(took) * 99 // 100]:.1f} ms",
        str(refused),
    )


HEAD = (
    *("events a delivery", "connections", "bytes an event", "events/s"),
    *("a second of the receiver's processor", "p50", "p99", "refused"),
)
LOADS = ((400, 1), (400, 8), (1, 64))


def main() -> None:
    """Measure each load and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bodies", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    rows = []
    for size, connections in LOADS[-2:-1] if options.bodies else LOADS:
        bodies = deliveries(options.bodies, size)
        with tempfile.TemporaryDirectory() as folder:
            measure = receive(Path(folder), bodies, connections, options.seconds)
            rows.append(asyncio.run(measure))
    block = table(HEAD, rows)
    if options.bodies:
        print(block)
        return
    load = f"One-minute load of the machine at the end: {os.getloadavg()[0]:.1f}."
    rewrite("receive", [f"{machine()} {load}", block])


if __name__ == "__main__":
    main()
