"""What falcosidekick takes: an alert as Falco writes it, with the fields of its k8saudit plugin.

falcosidekick refuses an alert without priority, rule, time or output_fields, cuts texts where
everything together is longer than 4096 characters, and counts alerts by rule and hostname.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from kubewitness.config import settings
from kubewitness.incidents.model import Incident, Moment, Severity
from kubewitness.report import exports, tactics
from kubewitness.report.headline import folded
from kubewitness.report.inert import plain
from kubewitness.report.wording import deed, rfc3339, utc
from kubewitness.sinks.posting import Message, Poster
from kubewitness.sinks.sink import Notice

PRIORITIES: dict[Severity, str] = {
    "low": "Notice",
    "medium": "Warning",
    "high": "Error",
    "critical": "Critical",
}
RULE, OVER_RULE, TEST_RULE = "Kubewitness incident", "Kubewitness resolved", "Kubewitness test"
"""What answers to rules by itself must not answer to a test, or to an end."""
_OVER = "Informational"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TECHNIQUE = re.compile(r"T\d{4}(\.\d{3})?")


def sink(wanted: settings.Sink) -> Poster:
    return Poster(wanted, lambda notice, _: Message(exports.json_bytes(document(notice))))


def document(notice: Notice) -> dict[str, Any]:
    """The alert as plain values."""
    incident = notice.incident
    priority = _OVER if notice.kind == "resolved" else PRIORITIES[incident.severity]
    # Go has no time before the year 1, and takes that one for none.
    at = max(utc(incident.updated_at), _EPOCH)
    said = f"{plain(notice.headline, 300)}. {plain(incident.summary, 900)}"
    return {
        "uuid": notice.uid,
        "output": f"{at:%H:%M:%S.%f}000: {priority} {said}",
        "priority": priority,
        "rule": {"test": TEST_RULE, "resolved": OVER_RULE}.get(notice.kind, RULE),
        "time": rfc3339(at),
        "output_fields": _fields(notice),
        "source": "k8s_audit",
        "tags": _tags(notice),
        "hostname": plain(incident.cluster) or "kubewitness",
    }


def _fields(notice: Notice) -> dict[str, str | float]:
    """Texts, as lists reach few of falcosidekick's outputs: the first deed that made this an
    incident under Falco's names, the incident itself under ours."""
    incident = notice.incident
    deeds = folded(incident.timeline, 1)
    fields: dict[str, str | float] = _deed(deeds[0]) if deeds else {}
    fields |= {
        "kubewitness.incident": plain(incident.id),
        "kubewitness.cluster": plain(incident.cluster),
        "kubewitness.kind": notice.kind,
        "kubewitness.merged_into": plain(incident.merged_into, 100),
        "kubewitness.severity": incident.severity,
        "kubewitness.score": incident.score,
        "kubewitness.principals": _joined(incident.principals),
        "kubewitness.source_ips": _joined(incident.source_ips),
        "kubewitness.objects": _joined(incident.objects),
        "kubewitness.tactics": _joined(tactics.touched(incident)),
        "kubewitness.techniques": _joined(incident.techniques),
    }
    return {name: value for name, value in fields.items() if value != ""}


def _deed(event: Moment) -> dict[str, str | float]:
    action, name = deed(event)
    verb, _, target = action.partition(" ")
    kind, _, subresource = target.partition("/")
    resource = kind.partition(".")[0]  # its API group has no field
    if verb in ("exec", "attach", "portforward"):
        # One deed, whichever verb the client used for it.
        verb, subresource = "", verb
    if target.startswith("/"):
        resource, subresource = "", ""
    return {
        "ka.auditid": plain(event.audit_ids[0]) if event.audit_ids else "",
        "ka.user.name": plain(event.principal),
        "ka.impuser.name": plain(event.acting_as),
        "ka.verb": plain(verb),
        "ka.uri": plain(target) if target.startswith("/") else "",
        "ka.target.resource": plain(resource),
        "ka.target.subresource": plain(subresource),
        "ka.target.name": plain(name),
        "ka.target.namespace": plain(event.namespace),
        "ka.sourceips": plain(event.source_ip),
        "ka.useragent": plain(event.client),
    }


def _joined(texts: tuple[str, ...]) -> str:
    return plain(", ".join(plain(text, 100) for text in texts[:8]), 400)


def _tags(notice: Notice) -> list[str]:
    return [
        "k8s",
        "kubewitness",
        *(["test"] if notice.kind == "test" else []),
        *(f"mitre_{name.lower().replace(' ', '_')}" for name in _known(notice.incident)),
        *filter(_TECHNIQUE.fullmatch, notice.incident.techniques),
    ]


def _known(incident: Incident) -> list[str]:
    return [name for name in tactics.touched(incident) if name in tactics.KILL_CHAIN]
