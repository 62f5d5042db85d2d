"""The service as a process of its own, and a sink on loopback that notes what it is told."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import httpx2

from api_server import Ledger
from kubewitness.lake.store import Lake

CLUSTER = "bench"


@dataclass
class Told:
    """What the sink was sent: when, what kind of notice, of which copies, and how long before that
    the newest of its evidence had been taken."""

    at: float
    kind: str
    title: str
    alert: bool
    copies: frozenset[int]
    latency: float


@dataclass
class Sink:
    """A webhook on loopback."""

    ledger: Ledger
    told: list[Told] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def listening(self) -> Iterator[Sink]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.take(body, time.time())
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def take(self, body: bytes, at: float) -> None:
        """Note a notice that arrived."""
        notice = json.loads(body)
        incident = notice["data"]
        named = self.ledger.named(json.dumps(incident["evidence"]).encode())
        if named:
            newest = max(acked for _, acked in named)
            copies = frozenset(copy for copy, _ in named)
            self.told.append(
                Told(at, notice["type"], incident["title"], incident["alert"], copies, at - newest)
            )


class Service:
    """``kubewitness serve`` as a process of its own."""

    def __init__(self, folder: Path, sink: str, *, learn: float, every: float) -> None:
        """``learn``: seconds of history after which the log is judged; ``every``: at least so many
        between two judgements of all."""
        self.folder = folder
        self.port, self.admin = _free_ports(2)
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text("bench-token-of-this-run\n", encoding="utf-8")
        self.settings = folder / "witness.yaml"
        settings = {
            "data": str(folder / "data"),
            "listen": {"port": self.port},
            "admin": {"port": self.admin},
            "clusters": [{"name": CLUSTER, "token_file": str(folder / "token")}],
            "detection": {"learn": f"{learn:.0f}s", "every": f"{every:.0f}s"},
            "sinks": [{"name": "bench", "type": "webhook", "url": sink, "per_minute": 6000}],
        }
        self.settings.write_text(json.dumps(settings), encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/audit/{CLUSTER}"

    def start(self) -> float:
        """Start it; returns the seconds until it is ready. Exits if it never is."""
        with (self.folder / "serve.log").open("ab") as log:
            command = [sys.executable, "-m", "kubewitness", "serve"]
            began = time.perf_counter()
            command += ["--config", str(self.settings)]
            self.process = subprocess.Popen(command, stderr=log, stdout=log)
        while time.perf_counter() - began < 600 and self.process.poll() is None:
            try:
                if httpx2.get(f"http://127.0.0.1:{self.admin}/statusz", timeout=5).is_success:
                    return time.perf_counter() - began
            except httpx2.TransportError:
                pass
            time.sleep(0.02)
        sys.exit(
            f"live: the service is not ready:\n{(self.folder / 'serve.log').read_text()[-2000:]}"
        )

    def stop(self) -> float:
        """End it as an operator does; returns the seconds that took."""
        assert self.process is not None
        began = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=300)
        return time.perf_counter() - began

    def metric(self, name: str) -> float:
        """A metric without labels."""
        text = httpx2.get(f"http://127.0.0.1:{self.admin}/metrics", timeout=30).text
        found = re.search(rf"^kubewitness_{name} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else float("nan")

    def mean(self, name: str) -> float:
        """Of what a histogram counted."""
        return self.metric(f"{name}_sum") / max(self.metric(f"{name}_count"), 1.0)

    def resident(self) -> float:
        """Bytes in memory, its children's too."""
        sizes = [_read(f"/proc/{pid}/statm").split() for pid in self._processes()]
        return sum(int(size[1]) for size in sizes if size) * os.sysconf("SC_PAGESIZE")

    def processor(self) -> float:
        """Seconds of processor time so far, its children's too, also of those that have ended."""
        ticks = 0
        for pid in self._processes():
            fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _processes(self) -> list[int]:
        assert self.process is not None
        parent = str(self.process.pid)
        return [self.process.pid] + [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and _read(f"{entry}/stat").rpartition(")")[2].split()[1:2] == [parent]
        ]


def _read(path: str) -> str:
    """A file of /proc, '' where the process is gone."""
    try:
        return Path(path).read_text(encoding="latin-1")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def in_lake(folder: Path) -> tuple[int, int]:
    """Events in the lake, and how many of them are there more than once."""
    # Not simply all files: what was merged stays there for some minutes.
    parts = Lake(folder / "data" / "lake").parts()
    with duckdb.connect(config={"memory_limit": "1GB", "threads": "2"}) as connection:
        ((n, distinct),) = connection.execute(
            f"SELECT count(*), count(DISTINCT hash(audit_id, stage)) FROM ({Lake.relation(parts)})"
        ).fetchall()
    return n, n - distinct


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
