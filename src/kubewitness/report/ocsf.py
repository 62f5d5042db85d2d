"""An incident as a Detection Finding of OCSF, for security lakes and SIEMs.

Class 2004 of the Open Cybersecurity Schema Framework 1.8.0. Times are milliseconds since 1970, as
the schema wants them. What the schema has no place for stands in ``unmapped``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from kubewitness import __version__
from kubewitness.incidents.model import Incident, Moment, Reason, Severity
from kubewitness.report import tactics
from kubewitness.report.headline import folded
from kubewitness.report.wording import deed, percent, unremarkable, utc

VERSION = "1.8.0"
SEVERITY_IDS: dict[Severity, int] = {"low": 2, "medium": 3, "high": 4, "critical": 5}
_ACTIVITIES = {1: "Create", 2: "Update", 3: "Close"}
_STATUSES = {1: "New", 4: "Resolved", 5: "Archived"}
_LEARNING, _STATISTICAL = 4, 3
_USER_NAME, _IP_ADDRESS = 4, 2
_EVIDENCES = 25
_TECHNIQUE = re.compile(r"T\d{4}(\.\d{3})?")


def finding(
    incident: Incident, *, activity: int = 1, revision: int = 0, uid: str = "", test: bool = False
) -> dict[str, Any]:
    """The finding as plain values: ``activity`` 1 creates it, 2 updates it, 3 closes it, which is
    no alert any more. What became part of another is archived, as nobody resolved it.

    ``uid`` names this message (the finding itself is named by the incident's id), and
    ``revision`` counts the messages on one incident.
    """
    class_uid = 2004
    closes = activity == 3
    status = (5 if incident.merged_into else 4) if closes else 1
    return {
        "activity_id": activity,
        "activity_name": _ACTIVITIES[activity],
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": class_uid,
        "class_name": "Detection Finding",
        "type_uid": class_uid * 100 + activity,
        "type_name": f"Detection Finding: {_ACTIVITIES[activity]}",
        "time": _milliseconds(incident.updated_at),
        "start_time": _milliseconds(incident.opened_at),
        "end_time": _milliseconds(incident.updated_at),
        "severity_id": SEVERITY_IDS[incident.severity],
        "severity": incident.severity.capitalize(),
        "status_id": status,
        "status": _STATUSES[status],
        **({"status_detail": f"part of {incident.merged_into}"} if incident.merged_into else {}),
        "is_alert": incident.alert and not closes,
        "message": incident.title,
        "metadata": _metadata(revision, uid, test),
        "finding_info": _info(incident),
        "evidences": [_evidence(event) for event in folded(incident.timeline, _EVIDENCES)],
        "anomaly_analyses": [_analysis(incident, reason) for reason in incident.reasons],
        "resources": [
            {"name": incident.cluster, "type": "Kubernetes cluster"},
            *({"name": name, "type": "Kubernetes object"} for name in incident.objects),
        ],
        "observables": list(_observables(incident)),
        "remediation": {"desc": "\n".join(incident.next_steps)},
        "unmapped": {"score": incident.score, "considered": list(incident.considered)},
    }


def _metadata(revision: int, uid: str, test: bool) -> dict[str, Any]:
    return {
        "version": VERSION,
        "product": {"name": "kubewitness", "vendor_name": "kubewitness", "version": __version__},
        "log_name": "Kubernetes audit log",
        **({"sequence": revision} if revision else {}),
        **({"uid": uid} if uid else {}),
        **({"labels": ["test"]} if test else {}),
    }


def _info(incident: Incident) -> dict[str, Any]:
    return {
        "uid": incident.id,
        "title": incident.title,
        "desc": incident.summary,
        "created_time": _milliseconds(incident.opened_at),
        "modified_time": _milliseconds(incident.updated_at),
        "first_seen_time": _milliseconds(incident.opened_at),
        "last_seen_time": _milliseconds(incident.updated_at),
        "types": list(tactics.touched(incident)),
        "data_sources": ["Kubernetes audit log"],
        "analytic": _analytic("kubewitness", _LEARNING, "Learning (ML/DL)", version=__version__),
        "related_analytics": [
            _analytic(reason.factor, _STATISTICAL, "Statistical", desc=reason.question)
            for reason in incident.reasons
        ],
        "related_events_count": len(incident.evidence) + len(incident.events),
        "attacks": list(_attacks(incident)),
    }


def _analytic(name: str, type_id: int, kind: str, **more: str) -> dict[str, Any]:
    return {"name": name, "uid": name, "type_id": type_id, "type": kind, **more}


def _attacks(incident: Incident) -> Iterator[dict[str, Any]]:
    """Tactics and techniques, each by itself: an incident does not tell which belong together."""
    for name in tactics.touched(incident):
        uid = tactics.uid(name)
        yield {"tactic": {"name": name, **({"uid": uid} if uid else {})}}
    for technique in filter(_TECHNIQUE.fullmatch, incident.techniques):
        whole = technique.partition(".")[0]
        sub = {"sub_technique": {"uid": technique}} if technique != whole else {}
        yield {"technique": {"uid": whole}, **sub}


def _evidence(event: Moment) -> dict[str, Any]:
    action, name = deed(event)
    api: dict[str, Any] = {"operation": action}
    if event.audit_ids:
        api["request"] = {"uid": event.audit_ids[0]}
    if not unremarkable(event.outcome):
        api["response"] = {"error": event.outcome}
    found: dict[str, Any] = {
        "name": f"{action} {name}".strip(),
        "actor": {"user": {"name": event.principal}},
        "api": api,
        "http_request": {"user_agent": event.client},
        "data": {
            "start_time": _milliseconds(event.at),
            "end_time": _milliseconds(event.until),
            "count": event.n,
            "audit_ids": list(event.audit_ids),
        },
    }
    if event.source_ip:
        found["src_endpoint"] = {_address(event.source_ip): event.source_ip}
    if event.acting_as:
        found["user"] = {"name": event.acting_as}
    if name or event.namespace:
        found["resources"] = [{"name": name or event.namespace, "namespace": event.namespace}]
    return found


def _address(text: str) -> str:
    """Whether this is an ``ip``, or whatever stood in its place: a ``name``."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "name"
    # Behind a % may stand anything.
    return "name" if "%" in text else "ip"


def _analysis(incident: Incident, reason: Reason) -> dict[str, Any]:
    """What was observed instead of what was expected; a baseline counts active days."""
    found: dict[str, Any] = {
        "analysis_targets": [
            {"name": name, "type": "principal"} for name in incident.principals[:10]
        ]
        or [{"name": incident.cluster, "type": "cluster"}],
        "anomalies": [
            {
                "observation_parameter": reason.factor,
                "observation_type": reason.question,
                "observations": [{"value": reason.observed}],
                "observed_pattern": reason.sentence,
            }
        ],
    }
    if reason.expected:
        usual = ", ".join(f"{one.value} ({percent(one.share)})" for one in reason.expected)
        found["baselines"] = [
            {
                "observation_parameter": reason.factor,
                "observation_type": reason.question,
                "observations": [
                    {"value": one.value, "count": round(one.share * reason.days_active)}
                    for one in reason.expected
                ],
                "observed_pattern": usual,
            }
        ]
    return found


def _observables(incident: Incident) -> Iterator[dict[str, Any]]:
    for name in incident.principals:
        yield {"name": "evidences.actor.user.name", "type_id": _USER_NAME, "value": name}
    for address in incident.source_ips:
        if _address(address) == "ip":
            yield {"name": "evidences.src_endpoint.ip", "type_id": _IP_ADDRESS, "value": address}


def _milliseconds(at: datetime) -> int:
    return round(utc(at).timestamp() * 1000)
