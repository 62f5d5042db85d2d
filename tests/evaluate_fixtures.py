"""A small labelled cluster: a week of habits, then a stolen credential and a busy colleague."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kubewitness.incidents.model import Incident

START = datetime(2026, 3, 2, tzinfo=UTC)
TEST_FROM = START + timedelta(days=7)
THEFT = TEST_FROM + timedelta(days=1, hours=2)
PEOPLE = ("ada", "ben", "cleo")
ROBOT = "system:serviceaccount:shop:robot"


def event(
    audit_id: str,
    at: datetime,
    user: str,
    verb: str,
    resource: str,
    *,
    namespace: str = "shop",
    name: str = "",
    ip: str = "10.8.0.4",
    agent: str = "kubectl/v1.36.2 (linux/amd64) kubernetes/98b3519",
    code: int = 200,
) -> dict[str, Any]:
    """One audit event as the API server writes it."""
    instant = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": audit_id,
        "stage": "ResponseComplete",
        "requestURI": f"/api/v1/namespaces/{namespace}/{resource}/{name}",
        "verb": verb,
        "user": {"username": user, "groups": ["dev", "system:authenticated"]},
        "sourceIPs": [ip],
        "userAgent": agent,
        "objectRef": {
            "resource": resource,
            "namespace": namespace,
            "name": name,
            "apiVersion": "v1",
        },
        "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": instant,
        "stageTimestamp": instant,
        "annotations": {"authorization.k8s.io/decision": "allow"},
    }


def habits(days: int) -> list[dict[str, Any]]:
    """People look at pods each working hour, a robot updates config maps around the clock."""
    events = []
    for hour in range(days * 24):
        at = START + timedelta(hours=hour)
        events += [
            event(f"robot-{hour}-{n}", at + timedelta(minutes=n), ROBOT, "update", "configmaps",
                  name="state", ip="10.244.1.7", agent="robot/v1.0 (linux/amd64)")
            for n in range(3)
        ]  # fmt: skip
        if 8 <= at.hour < 16:
            events += [
                event(
                    f"{who}-{hour}", at + timedelta(minutes=5 + n), who, "get", "pods", name="web"
                )
                for n, who in enumerate(PEOPLE)
            ]
    return events


def theft() -> list[dict[str, Any]]:
    """Somebody outside reads secrets as ada, with another program."""
    return [
        event(f"theft-{n}", THEFT + timedelta(seconds=20 * n), "ada", "get", "secrets",
              namespace=f"team-{n}", name="key", ip="203.0.113.9", agent="curl/8.5.0")
        for n in range(6)
    ]  # fmt: skip


def episode(**changes: Any) -> dict[str, Any]:
    """The truth about the theft."""
    return {
        "episode_id": "theft",
        "cluster": "small",
        "label": "attack",
        "family": "stolen_credential",
        "title": "ada's credential, used from outside",
        "start": THEFT.isoformat().replace("+00:00", "Z"),
        "end": (THEFT + timedelta(minutes=2)).isoformat().replace("+00:00", "Z"),
        "actors": ["ada"],
        "source_ips": ["203.0.113.9"],
        "audit_ids": [f"theft-{n}" for n in range(6)],
        **changes,
    }


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Rows as JSON Lines."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def small(folder: Path) -> Path:
    """The whole dataset: seven days of history and two to judge."""
    rows = sorted([*habits(9), *theft()], key=lambda row: row["stageTimestamp"])
    write(folder, "audit.jsonl", rows)
    write(folder, "truth.jsonl", [episode()])
    (folder / "test_from.txt").write_text("2026-03-09T00:00:00Z\n", encoding="utf-8")
    return folder


def incident(id_: str = "one", **changes: Any) -> Incident:
    """An incident that is right about the theft, unless changed."""
    fields: dict[str, Any] = {
        "id": id_,
        "cluster": "small",
        "score": 10.0,
        "severity": "high",
        "alert": True,
        "opened_at": THEFT,
        "updated_at": THEFT,
        "principals": ("ada",),
        "source_ips": ("203.0.113.9",),
        "title": "",
        "summary": "",
        "tactics": (),
        "techniques": (),
        "objects": (),
        "reasons": (),
        "timeline": (),
        "considered": (),
        "next_steps": (),
        "evidence": ("theft-0", "theft-1"),
        "events": (),
    }
    return Incident(**{**fields, **changes})
