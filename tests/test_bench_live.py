"""The load generator sends what an API server would, and measures what it says it does."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audit_log import event

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The modules of ``bench/``, which is a folder of scripts and no package."""
    sys.path.insert(0, str(BENCH))
    try:
        names = {"server": "api_server", "run": "live"}
        yield SimpleNamespace(**{key: import_module(name) for key, name in names.items()})
    finally:
        sys.path.remove(str(BENCH))


@dataclass
class Stub:
    """A receiver that answers what it is told to."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    delay: float = 0.0
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[tuple[str, int]] = field(default_factory=set)

    def items(self) -> list[dict[str, Any]]:
        return [item for body in self.bodies for item in json.loads(body)["items"]]


@contextmanager
def receiving(**how: Any) -> Iterator[Stub]:
    stub = Stub(**how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            stub.connections.add(self.client_address)
            stub.headers.append(dict(self.headers))
            stub.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(stub.delay)
            status = stub.answers.pop(0) if stub.answers else 200
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "0.05")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/audit/bench"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def a_log(requests: int = 700) -> list[bytes]:
    """Requests a second apart, each with two stages."""
    start = datetime(2026, 3, 2, 8, tzinfo=UTC)
    lines = []
    for number in range(requests):
        audit_id = f"{number:08x}-0000-4000-8000-{number:012x}"
        at = start + timedelta(seconds=number)
        for stage in ("ResponseStarted", "ResponseComplete"):
            made = event(at, verb="watch", auditID=audit_id, stage=stage, note='"auditID":"no"')
            made["annotations"] = made.pop("annotations")
            order = ("kind", "apiVersion", "level", "auditID", "stage")
            last = ("requestReceivedTimestamp", "stageTimestamp", "annotations")
            made = (
                {key: made[key] for key in order}
                | {key: value for key, value in made.items() if key not in last}
                | {key: made[key] for key in last}
            )
            lines.append(json.dumps(made, separators=(",", ":")).encode())
    return lines


class Watched:
    """Stands for the service where the load is measured."""

    def resident(self) -> float:
        return 1e8

    def processor(self) -> float:
        return 1.0

    def metric(self, name: str) -> float:
        return 0.0

    mean = metric


def loaded(bench: Any, stub: Stub, seconds: float = 1.0, rate: float = 4000) -> Any:
    script = bench.server.Script(a_log())
    ledger = bench.server.Ledger()
    servers = [bench.server.ApiServer(stub.url, "s3cret", ledger) for _ in range(2)]
    attack = bench.run.Attack("theft", bench.server.Script(a_log(3)), bench.run.ATTACK_COPIES)
    run = asyncio.run(
        bench.run.load(
            script, [attack], servers, Watched(), rate=rate, seconds=seconds, first_copy=5
        )
    )
    return run, servers, attack, ledger


def test_what_is_sent_is_what_an_api_server_sends(bench: Any) -> None:
    with receiving() as stub:
        began = time.time()
        run, servers, attack, _ = loaded(bench, stub)
    # Two servers with a kept connection each, and whoever plays the attack.
    assert len(stub.connections) == 3
    sizes = Counter(len(json.loads(body)["items"]) for body in stub.bodies)
    assert max(sizes) == bench.server.MOST_ITEMS
    first = json.loads(stub.bodies[0])
    assert (first["kind"], first["apiVersion"]) == ("EventList", "audit.k8s.io/v1")
    assert all("kind" not in item and "apiVersion" not in item for item in stub.items())
    assert {head["Authorization"] for head in stub.headers} == {"Bearer s3cret"}
    assert {head["User-Agent"] for head in stub.headers} == {"Go-http-client/1.1"}

    items = stub.items()
    assert len(items) == run.events + len(attack.script.lines) == sum(s.accepted for s in servers)
    assert run.events == pytest.approx(4000, rel=0.15)
    stages = Counter((item["auditID"], item["stage"]) for item in items)
    assert set(stages.values()) == {1}
    for item in items:
        at = datetime.fromisoformat(item["stageTimestamp"]).timestamp()
        received = datetime.fromisoformat(item["requestReceivedTimestamp"]).timestamp()
        assert began - 0.1 <= at <= time.time()
        assert at - received == pytest.approx(0.003, abs=1e-4)


def test_the_stages_of_a_request_stay_together(bench: Any) -> None:
    script = bench.server.Script(a_log(2))
    said = [json.loads(script.said(n, 7, 1e9))["auditID"] for n in range(4)]
    assert said[0] == said[1] != said[2] == said[3]
    assert said[0].startswith("00070000")


def test_what_is_refused_is_sent_again_as_it_was(bench: Any) -> None:
    with receiving(answers=[503, 429, 500]) as stub:
        _, servers, _, _ = loaded(bench, stub, seconds=0.5)
    assert sum(server.refused for server in servers) == 3
    repeated = [body for body, n in Counter(stub.bodies).items() if n > 1]
    assert repeated
    assert sum(Counter(stub.bodies)[body] - 1 for body in repeated) == 3


def test_a_receiver_that_cannot_keep_up_shows(bench: Any) -> None:
    with receiving(delay=0.4) as stub:
        run, servers, _, _ = loaded(bench, stub, seconds=1.0)
    assert run.behind > 0
    assert run.events / run.seconds < 0.9 * 4000
    assert min(min(server.latencies) for server in servers) > 0.35


def test_the_time_to_an_incident_counts_from_the_newest_evidence(bench: Any) -> None:
    ledger = bench.server.Ledger()
    script = bench.server.Script(a_log(10))
    now = time.time()
    ledger.acked(3, script.requests, now - 9, iter([0, 1]))
    ledger.acked(3, script.requests, now - 2, iter([2]))
    ids = [json.loads(script.said(2 * n, 3, now))["auditID"] for n in (0, 2)]
    sink = bench.run.Sink(ledger)
    incident = {"title": "t", "alert": True, "evidence": ids}
    sink.take(json.dumps({"type": "incident.opened", "data": incident}).encode(), now)
    (told,) = sink.told
    assert told.latency == pytest.approx(2.0, abs=0.01)
    assert told.copies == {3}
    # Evidence that was never sent says nothing.
    incident["evidence"] = ["ffffffff-0000-4000-8000-000000000000"]
    sink.take(json.dumps({"type": "incident.opened", "data": incident}).encode(), now)
    assert len(sink.told) == 1


def test_what_was_taken_long_ago_is_forgotten(bench: Any) -> None:
    ledger = bench.server.Ledger(keep=2)
    script = bench.server.Script(a_log(1))
    said = [script.said(0, copy, 1e9) for copy in range(3)]
    for copy in range(3):
        ledger.acked(copy, script.requests, float(copy + 1), iter([0]))
    assert [ledger.named(one) for one in said] == [[], [(1, 2.0)], [(2, 3.0)]]


def test_what_is_no_event_is_refused(bench: Any) -> None:
    with pytest.raises(ValueError, match="no event"):
        bench.server.Script([b'{"kind":"Pod"}'])


def test_the_figures_are_a_table(bench: Any) -> None:
    with receiving() as stub:
        run, servers, attack, ledger = loaded(bench, stub, seconds=0.5)
    options = SimpleNamespace(history=30)
    taken = sum(server.accepted for server in servers)
    text = bench.run.report(
        run, servers, [attack], bench.run.Sink(ledger), 1.25, taken, (taken, 0), options
    )
    assert (
        f"| events taken, in the lake, there twice | {taken:,}, {taken:,}, 0 | equal, 0 |" in text
    )
    assert "1.2 s | ≤ 5 s |" in text
