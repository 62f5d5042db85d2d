"""The columns of an event: what the API server wrote, and what the lake keeps.

``JSON_COLUMNS`` is the typed shape in which DuckDB reads one line of audit.k8s.io JSON
(https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/). ``EVENT_COLUMNS`` is the
schema of the lake's event files, in order: one row an event at one stage, names as Kubernetes
spells them in snake_case.
"""

from __future__ import annotations

from datetime import UTC, datetime

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
"""What lies outside is a broken clock or a forgery; it would stretch every chart to nothing."""

# Maps stay JSON text: building MAP vectors costs more than all other columns together, and only
# a few keys of them are ever read, mostly of few distinct texts (bench/README.md).
_USER = 'STRUCT(username VARCHAR, uid VARCHAR, "groups" VARCHAR[], extra JSON)'

JSON_COLUMNS: dict[str, str] = {
    "kind": "VARCHAR",
    "apiVersion": "VARCHAR",
    "cluster": "VARCHAR",
    "level": "VARCHAR",
    "auditID": "VARCHAR",
    "stage": "VARCHAR",
    "requestURI": "VARCHAR",
    "verb": "VARCHAR",
    "user": _USER,
    "impersonatedUser": _USER,
    "sourceIPs": "VARCHAR[]",
    "userAgent": "VARCHAR",
    "objectRef": (
        "STRUCT(resource VARCHAR, namespace VARCHAR, name VARCHAR, uid VARCHAR, apiGroup VARCHAR,"
        " apiVersion VARCHAR, resourceVersion VARCHAR, subresource VARCHAR)"
    ),
    "responseStatus": "STRUCT(status VARCHAR, reason VARCHAR, message VARCHAR, code INTEGER)",
    "requestObject": "JSON",
    "responseObject": "JSON",
    "requestReceivedTimestamp": "TIMESTAMP",
    "stageTimestamp": "TIMESTAMP",
    "annotations": "JSON",
}

EVENT_COLUMNS: dict[str, str] = {
    "cluster": "VARCHAR",
    "audit_id": "VARCHAR",
    "stage": "VARCHAR",
    "level": "VARCHAR",
    "verb": "VARCHAR",
    "request_uri": "VARCHAR",
    "user": "VARCHAR",
    "user_uid": "VARCHAR",
    "groups": "VARCHAR[]",
    "extra": "JSON",
    "impersonated_user": "VARCHAR",
    "impersonated_groups": "VARCHAR[]",
    "source_ips": "VARCHAR[]",
    "user_agent": "VARCHAR",
    "api_group": "VARCHAR",
    "api_version": "VARCHAR",
    "resource": "VARCHAR",
    "subresource": "VARCHAR",
    "namespace": "VARCHAR",
    "name": "VARCHAR",
    "object_uid": "VARCHAR",
    "resource_version": "VARCHAR",
    "code": "INTEGER",
    "reason": "VARCHAR",
    "message": "VARCHAR",
    "request_object": "JSON",
    "response_object": "JSON",
    "received_at": "TIMESTAMP",
    "stage_at": "TIMESTAMP",
    "annotations": "JSON",
    "traits": "VARCHAR",
    "images": "VARCHAR",
    "source": "VARCHAR",
}
