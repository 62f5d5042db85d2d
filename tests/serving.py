"""``kubewitness serve`` as a process: begun, posted to, stopped, killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import httpx2
import yaml

from kubewitness.lake.store import Lake

CLUSTER = "prod"
PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def event_list(lines: Iterable[bytes]) -> bytes:
    """A body as the webhook backend posts it: items without kind and apiVersion."""
    items = [json.loads(line) for line in lines]
    for item in items:
        item.pop("kind", None)
        item.pop("apiVersion", None)
    document = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}}
    return json.dumps(document | {"items": items}).encode()


class Service:
    """A service of one cluster in a folder; ``settings`` are laid over the usual ones."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.data = root / "data"
        self.told = root / "told.jsonl"
        self.port, self.admin = free_port(), free_port()
        self.file = root / "kubewitness.yaml"
        self.log = root / "service.log"
        usual: dict[str, Any] = {
            "data": str(self.data),
            "listen": {"port": self.port},
            "admin": {"port": self.admin},
            "clusters": [{"name": CLUSTER}],
            "detection": {"learn": "1d", "every": "2s"},
            "sinks": [{"name": "told", "type": "file", "path": str(self.told)}],
        }
        self.file.write_text(yaml.safe_dump(usual | settings), encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self, **options: Any) -> Iterator[Service]:
        """Up and ready; whatever happens, it is gone at the end."""
        self.begin(**options)
        try:
            self.wait_until_ready()
            yield self
        finally:
            self.kill()

    def begin(self, *arguments: str, stdin: Any = subprocess.DEVNULL, **options: Any) -> None:
        command = [sys.executable, "-m", "kubewitness", "serve", "--config", str(self.file)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=stdin,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONWARNINGS": "default"},
                **options,
            )

    def wait_until_ready(self) -> float:
        """Until events are taken; returns how many seconds that took."""
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx2.get(f"http://127.0.0.1:{self.admin}/readyz", timeout=5).is_success:
                    return time.monotonic() - begun
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready:\n{self.log.read_text()}")

    def stop(self) -> int:
        """As an orchestrator does; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """``kill -9``."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def children(self) -> list[int]:
        """The processes that it has begun and that live."""
        assert self.process is not None
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(FileNotFoundError, ProcessLookupError):
                state, parent = path.read_text("latin-1").rpartition(")")[2].split()[:2]
                if int(parent) == self.process.pid and state != "Z":
                    found.append(int(path.parent.name))
        return found

    def post(self, lines: Sequence[bytes], timeout: float = 10) -> int:
        """Post a batch; returns the status, 0 where nobody answered."""
        url = f"http://127.0.0.1:{self.port}/audit/{CLUSTER}?timeout=30s"
        try:
            answer = httpx2.post(
                url,
                content=event_list(lines),
                headers={"content-type": "application/json"},
                timeout=timeout,
            )
        except httpx2.TransportError:
            return 0
        return answer.status_code

    def check(self, name: str) -> int:
        """The status of a check that an orchestrator asks for."""
        return httpx2.get(f"http://127.0.0.1:{self.admin}/{name}", timeout=5).status_code

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = httpx2.get(f"http://127.0.0.1:{self.admin}/metrics", timeout=5).text
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] == f"kubewitness_{name}"
        )

    def until(self, holds: Any, what: str) -> None:
        """Wait until ``holds()``."""
        begun = time.monotonic()
        while not holds():
            assert time.monotonic() - begun < PATIENCE, f"{what}:\n{self.log.read_text()}"
            time.sleep(0.1)

    def settled(self) -> None:
        """Wait until all that was taken is in the lake and judged."""
        self.until(lambda: self.metric("spool_backlog_bytes") == 0, "the spool is not emptied")
        judged = self.metric("judgement_duration_seconds_count")
        self.until(
            lambda: self.metric("judgement_duration_seconds_count") > judged,
            "nothing is judged",
        )

    def stored(self) -> Counter[str]:
        """How often each auditID and stage is in the lake."""
        parts = Lake(self.data / "lake").parts()
        with duckdb.connect() as connection:
            found = connection.execute(
                f"SELECT audit_id || ' ' || stage FROM ({Lake.relation(parts)})"
            ).fetchall()
        return Counter(identity for (identity,) in found)

    def notices(self) -> list[dict[str, Any]]:
        """The incidents that were told, each time."""
        if not self.told.exists():
            return []
        return [json.loads(line)["data"] for line in self.told.read_bytes().splitlines()]


def identities(lines: Iterable[bytes]) -> set[str]:
    return {f"{one['auditID']} {one['stage']}" for one in map(json.loads, lines)}
