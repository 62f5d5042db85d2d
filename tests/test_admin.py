"""What an operator asks of the service: metrics, health and readiness."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kubewitness.errors import LakeError
from kubewitness.service import admin as module
from kubewitness.service import metrics
from kubewitness.service.admin import Check, Pulse, admin, writable

Answer = httpx2.Response


def asked(
    path: str,
    checks: Mapping[str, Check] | None = None,
    further: Mapping[str, Check] | None = None,
    *,
    times: int = 1,
) -> Answer:
    """What the application says of itself, the last of ``times`` answers."""

    async def ask() -> Answer:
        transport = httpx2.ASGITransport(app=admin(checks or {}, further))
        async with httpx2.AsyncClient(transport=transport, base_url="http://witness") as client:
            for _ in range(times - 1):
                await client.get(path)
            return await client.get(path)

    return asyncio.run(ask())


async def fine() -> str:
    return ""


async def poor() -> str:
    return "the disk is full"


def test_metrics_are_what_prometheus_reads() -> None:
    metrics.EVENTS_INGESTED.labels(source="webhook").inc(3)
    answer = asked("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {one.name: one for one in text_string_to_metric_families(answer.text)}
    assert families["kubewitness_events_ingested"].type == "counter"
    assert families["kubewitness_build_info"].samples[0].labels["version"]
    assert "process_resident_memory_bytes" in families


@pytest.mark.parametrize(
    ("metric", "given", "shown"),
    [
        (metrics.EVENTS_REJECTED, {"reason": "broken"}, {"reason": "broken"}),
        (metrics.EVENTS_REJECTED, {"reason": "kind Pod\n"}, {"reason": "other"}),
        (metrics.RECEIVER_REQUESTS, {"code": 418}, {"code": "other"}),
        (
            metrics.SINK_DELIVERIES,
            {"sink": "pager", "status": "eaten"},
            {"sink": "pager", "status": "other"},
        ),
    ],
)
def test_a_label_has_no_value_that_is_not_foreseen(
    metric: metrics.Counter, given: dict[str, object], shown: dict[str, str]
) -> None:
    metric.labels(**given).inc()
    metric.labels(*given.values()).inc()
    (family,) = metric.collect()
    labels = [sample.labels for sample in family.samples]
    assert shown in labels
    if given != shown:
        assert {name: str(value) for name, value in given.items()} not in labels


def test_names_from_the_configuration_are_told_apart_up_to_a_limit() -> None:
    for number in range(2 * metrics.MOST):
        metrics.CLOCK_SKEW.labels(cluster=f"c{number}").set(1)
    (family,) = metrics.CLOCK_SKEW.collect()
    assert len(family.samples) <= metrics.MOST + 1
    assert {"cluster": metrics.OTHER} in [sample.labels for sample in family.samples]


def test_no_label_is_a_user_or_a_namespace() -> None:
    for family in metrics.REGISTRY.collect():
        for sample in family.samples:
            if sample.name.startswith("kubewitness_") and not sample.name.endswith("_info"):
                assert set(sample.labels) <= {*metrics.KNOWN, *metrics.CONFIGURED, "le"}


def test_the_process_lives_as_long_as_it_answers() -> None:
    answer = asked("/healthz", {"disk": poor})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_ready_is_who_has_no_reason_not_to_be() -> None:
    assert asked("/readyz", {"disk": fine}).status_code == 200
    answer = asked("/readyz", {"disk": fine, "lake": poor, "state": poor})
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["lake: the disk is full", "state: the disk is full"]
    lines = answer.text.splitlines()
    assert sum("the disk is full" in line for line in lines) == 2


def test_what_takes_in_is_ready_while_what_comes_after_is_away() -> None:
    checks, further = {"spool": fine}, {"state": poor}
    assert asked("/readyz", checks, further).status_code == 200
    answer = asked("/statusz", checks, further)
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["state: the disk is full"]
    assert asked("/statusz", {"spool": poor}, {"state": fine}).status_code == 503
    assert asked("/statusz", checks, {"state": fine}).status_code == 200


def test_a_reason_holds_no_secret_and_nothing_that_acts(caplog: pytest.LogCaptureFixture) -> None:
    async def leaking() -> str:
        raise OSError("postgresql://witness:hunter2@db/state")

    async def telling() -> str:
        raise LakeError("the lake is \x1b[2J damaged", where="/somewhere")

    answer = asked("/readyz", {"state": leaking, "lake": telling})
    assert answer.json()["reasons"] == [
        "state: OSError, see the log",
        "lake: the lake is \\x1b[2J damaged",
    ]
    assert "the readiness check state failed" in caplog.text


def test_a_check_that_hangs_is_a_reason_and_holds_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "FRESH", 0.0)
    asking, release = [], threading.Event()

    def hang() -> str:
        asking.append(1)
        release.wait(10)
        return ""

    async def ask() -> list[Answer]:
        transport = httpx2.ASGITransport(app=admin({"disk": lambda: asyncio.to_thread(hang)}))
        async with httpx2.AsyncClient(transport=transport, base_url="http://witness") as client:
            answers = [await client.get("/readyz") for _ in range(3)]
            release.set()
            await asyncio.sleep(0.05)
            return [*answers, await client.get("/readyz"), await client.get("/readyz")]

    *hung, last, _ = asyncio.run(ask())
    assert [answer.status_code for answer in hung] == [503] * 3
    assert last.status_code == 200
    assert len(asking) == 2


def test_checks_are_not_asked_again_at_once() -> None:
    asking = []

    async def count() -> str:
        asking.append(1)
        return "no"

    assert asked("/readyz", {"one": count}, times=5).status_code == 503
    assert len(asking) == 1


def test_what_stalls_is_told() -> None:
    pulse = Pulse("the pipeline", stalled=0.05)
    assert asyncio.run(pulse.check()) == ""

    async def later() -> tuple[str, str]:
        await asyncio.sleep(0.06)
        still = await pulse.check()
        pulse.beat()
        return still, await pulse.check()

    assert asyncio.run(later()) == ("the pipeline has not moved for 0 seconds", "")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    assert asyncio.run(writable(tmp_path)()) == ""
    assert list(tmp_path.iterdir()) == []
    missing = asyncio.run(writable(tmp_path / "gone")())
    assert missing.endswith("gone is not writable: No such file or directory")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(method: str) -> None:
    async def ask() -> int:
        transport = httpx2.ASGITransport(app=admin({}))
        async with httpx2.AsyncClient(transport=transport, base_url="http://witness") as client:
            return (await client.request(method, "/readyz")).status_code

    assert asyncio.run(ask()) == 405
