"""What the tests of the state and of the courier share: an incident that grows, a sink, a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from kubewitness.config.settings import Sink
from kubewitness.incidents.model import Incident
from kubewitness.state.database import State
from report_fixtures import stolen_token

NOW = datetime(2026, 3, 16, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LATER = NOW + timedelta(days=3650)


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def sink(name: str = "pager", **wishes: Any) -> Sink:
    return Sink(name=name, type="webhook", url="http://localhost/", **wishes)


def incident(identity: str = "a1", **fields: Any) -> Incident:
    """Somebody's ordinary alert; ``fields`` replace what it has."""
    return msgspec.structs.replace(
        stolen_token(),
        **{
            "id": identity,
            "cluster": "prod",
            "alert": True,
            "severity": "high",
            "score": 20.0,
            "principals": ("ada",),
            "techniques": ("T1552",),
            "objects": ("secrets shop/db",),
            "evidence": ("e1", "e2"),
            **fields,
        },
    )


def sent(state: State, name: str = "pager", now: datetime = NOW) -> list[tuple[str, str, int]]:
    """Everything that is due for a sink, delivered: kind, incident and revision of each."""
    found: list[tuple[str, str, int]] = []
    while delivery := state.due(name, now):
        found.append((delivery.kind, delivery.incident.id, delivery.revision))
        state.delivered(delivery)
    return found
