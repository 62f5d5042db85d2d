"""Alertmanager's API, version 2.

An alert is known by its labels, so they stay while an incident grows. The severity is one of
them, as routes ask for it: an incident that becomes worse is an alert of its own, which notifies
again. ``docs/serve.md`` has the rule that then inhibits the milder one. What is over is so for each
severity that it may have had.

Alertmanager keeps alerts in memory only, and expects whoever sends them to do so again and again as
long as they last: what stands is sent again every few minutes, all in one request.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from kubewitness.config import settings
from kubewitness.incidents.model import SEVERITIES
from kubewitness.report import exports, tactics
from kubewitness.report.inert import plain
from kubewitness.report.wording import rfc3339, utc
from kubewitness.sinks.posting import Message, Poster
from kubewitness.sinks.sink import Kind, Notice, Standing

ALERT = "KubewitnessIncident"
LASTS = timedelta(days=7)
"""An alert resolves that long after it was last announced: that nothing happens at night or over a
weekend ends no incident, but nobody else tells Alertmanager that it is over. A test is over sooner.
"""
AGAIN = 180.0
"""Seconds until all that stands is sent again, as often as Alertmanager's documentation asks."""
_LASTS: dict[Kind, timedelta] = {
    "opened": LASTS,
    "updated": LASTS,
    "resolved": timedelta(),
    "test": timedelta(minutes=5),
}


class Alertmanager(Poster):
    """A sink that is reminded of what it was told."""

    every = AGAIN
    lasts = LASTS

    async def remind(self, standing: Sequence[Standing]) -> None:
        body = exports.json_bytes([document(notice, at) for notice, at in standing])
        await self.post(lambda _: Message(body))


def sink(wanted: settings.Sink) -> Alertmanager:
    return Alertmanager(
        wanted,
        lambda notice, now: Message(exports.json_bytes(alerts(notice, now))),
        path="/api/v2/alerts",
    )


def alerts(notice: Notice, now: datetime) -> list[dict[str, Any]]:
    """What is posted: an alert, or the end of all that the incident has been."""
    alert = document(notice, now)
    if notice.kind != "resolved":
        return [alert]
    worst = SEVERITIES.index(notice.incident.severity)
    return [
        {**alert, "labels": {**alert["labels"], "severity": severity}}
        for severity in SEVERITIES[worst::-1]
    ]


def document(notice: Notice, now: datetime) -> dict[str, Any]:
    """The alert as plain values, of a notice that was given ``now``."""
    incident = notice.incident
    test = notice.kind == "test"
    labels = {
        "alertname": ALERT,
        "severity": incident.severity,
        "cluster": plain(incident.cluster),
        "incident": plain(incident.id),
        "test": "true" if test else "",
    }
    annotations = {
        # Not that it only grew: it is the same alert, and its state is Alertmanager's to tell.
        "summary": plain(notice.headline if test else incident.title, 300),
        "description": plain(incident.summary, 1500),
        "principals": ", ".join(plain(name, 100) for name in incident.principals[:8]),
        "source_ips": ", ".join(plain(address, 60) for address in incident.source_ips[:8]),
        "tactics": ", ".join(plain(name, 60) for name in tactics.touched(incident)),
        "techniques": ", ".join(plain(one, 20) for one in incident.techniques[:20]),
        "next_steps": "\n".join(plain(step, 300) for step in incident.next_steps[:5]),
        "score": f"{incident.score:.1f}",
        "merged_into": plain(incident.merged_into, 100),
    }
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {name: value for name, value in annotations.items() if value},
        # A clock ahead of ours: an alert that has not begun would wait.
        "startsAt": rfc3339(min(utc(incident.opened_at), now)),
        "endsAt": rfc3339(now + _LASTS[notice.kind]),
    }
