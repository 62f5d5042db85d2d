"""Real and published samples, where they are at hand; they are not part of the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubewitness.events.formats import Found, outcomes
from kubewitness.sources.reading import Reader

SHARED = Path(__file__).parents[2] / "shared" / "data"
PUBLIC = SHARED / "public"
WEBHOOK = SHARED / "capture" / "webhook"

pytestmark = pytest.mark.skipif(not PUBLIC.is_dir(), reason="the public samples are not here")

SAMPLES = {
    "falco-traces/k8s_audit": (55, 1, 0),  # one file is {"kind": 0}
    "falco-traces/psp": (29, 0, 0),
    "audit2rbac/demo.log": (37, 0, 0),
    "audit2rbac/demo.cac991da.log": (757, 0, 0),
    "aks-audit-log/event.json": (22, 0, 0),
    "aks-audit-log/sample_EventHubs_event.json": (1, 0, 0),
    "aks-audit-log/sample_KubeAuditLog_event.json": (1, 0, 0),
    "gke-khi": (4, 3, 0),  # three are manifests
    "openshift/single-event.json": (1, 0, 0),
    "helm-churn/audit-logs.csv.gz": (16_563, 0, 1),  # the last row is cut
}


def events(path: Path, directory: Path) -> Iterator[dict[str, Any]]:
    with Reader([path], quarantine=directory / "q", spool=directory / "s", sift=True) as reader:
        for chunk in reader.chunks():
            for line in chunk.path.read_bytes().splitlines():
                yield json.loads(line)


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name: str, tmp_path: Path) -> None:
    with Reader([PUBLIC / name], quarantine=tmp_path / "q", spool=tmp_path / "s", sift=True) as r:
        for chunk in r.chunks():
            assert chunk.lines == len(chunk.path.read_bytes().splitlines())
    tally = r.tally
    skipped, broken = (sum(each.n for each in kind) for kind in (tally.skipped, tally.broken))
    assert (tally.events, skipped, broken) == SAMPLES[name]


def test_gke_sample(tmp_path: Path) -> None:
    path = PUBLIC / "gke-khi" / "k8s_audit" / "container_recorder_test_1_2.yaml"
    (event,) = events(path, tmp_path)
    assert event["cluster"] == "sample-cluster"
    assert (event["verb"], event["objectRef"]["subresource"]) == ("patch", "status")
    assert event["responseStatus"]["code"] == 200


def test_helm_churn(tmp_path: Path) -> None:
    rows = list(events(PUBLIC / "helm-churn" / "audit-logs.csv.gz", tmp_path))
    assert sum(row["responseStatus"]["code"] == 403 for row in rows) == 71
    assert sum(row["user"].get("username") == "system:anonymous" for row in rows) == 262
    bindings = [row for row in rows if row.get("objectRef", {}).get("subresource") == "binding"]
    assert bindings
    assert all(row["objectRef"]["namespace"] for row in bindings)


@pytest.mark.skipif(not WEBHOOK.is_dir(), reason="the webhook bodies are not here")
def test_webhook_bodies() -> None:
    bodies = sorted(WEBHOOK.glob("*/*.body.json"))
    assert bodies
    for path in bodies:
        body = json.loads(path.read_bytes())
        found = list(outcomes(body))
        assert len(found) == len(body["items"])
        for outcome, item in zip(found, body["items"], strict=True):
            assert isinstance(outcome, Found)
            assert outcome.notes == ()
            for name in ("auditID", "stage", "verb", "requestURI", "user", "stageTimestamp"):
                assert outcome.event[name] == item[name]
