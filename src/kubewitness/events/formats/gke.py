"""GKE: a LogEntry of Cloud Audit Logs whose protoPayload the service ``k8s.io`` wrote.

It is another schema, converted here: the verb is the last word of ``methodName``
(``io.k8s.core.v1.pods.exec.create``), the object is ``resourceName``
(``core/v1/namespaces/<ns>/pods/<name>/exec``), the status is a gRPC code, the reason of RBAC is in
the entry's ``labels``. There are no groups. Requests that last are two entries of one operation,
the first before and the last after. ``gcloud logging read --format=json`` gives an array, a sink
to Cloud Storage JSON lines, Pub/Sub ``{"message":{"data":<base64>}}``.

https://cloud.google.com/kubernetes-engine/docs/how-to/audit-logging,
https://cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubewitness.events.formats.canonical import canonical
from kubewitness.events.formats.decoding import unbase64
from kubewitness.events.formats.outcome import Broken, Inner, Part, Skipped
from kubewitness.events.formats.request_info import request_info

_HTTP = {
    0: 200,
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}
"""gRPC status to HTTP status, as google.rpc.Code documents it."""


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    payload = value.get("protoPayload")
    if isinstance(payload, Mapping):
        if payload.get("serviceName") == "k8s.io":
            return (_event(value, payload),)
        return (Skipped("audit entry of another Google Cloud service"),)
    if "logName" in value and "insertId" in value:
        inner = value.get("jsonPayload")
        if isinstance(inner, Mapping):
            return (Inner(inner, _label(value, "cluster_name")),)
        return (Skipped("Google Cloud log entry without audit payload"),)
    message = value.get("message")
    if isinstance(message, Mapping) and isinstance(message.get("data"), str):
        content = unbase64(message["data"])
        return (Broken("malformed base64") if content is None else Inner(content),)
    return None


def _event(entry: Mapping[str, Any], payload: Mapping[str, Any]) -> Part:
    operation = _mapping(entry, "operation")
    who = _mapping(payload, "authenticationInfo")
    caller = _mapping(payload, "requestMetadata")
    verb, uri, ref = _request(payload)
    event: dict[str, Any] = {
        "cluster": _label(entry, "cluster_name"),
        "auditID": operation.get("id") or entry.get("insertId"),
        "stage": _stage(operation),
        "verb": verb,
        "requestURI": uri,
        "objectRef": ref,
        "user": {"username": who.get("principalEmail") or who.get("principalSubject")},
        "sourceIPs": [caller["callerIp"]] if caller.get("callerIp") else None,
        "userAgent": caller.get("callerSuppliedUserAgent"),
        "responseStatus": _status(entry, payload),
        "requestObject": _body(payload, "request"),
        "responseObject": _body(payload, "response"),
        "annotations": entry.get("labels"),
        "timestamp": entry.get("timestamp") or entry.get("receiveTimestamp"),
    }
    if who.get("authoritySelector"):
        event["impersonatedUser"] = {"username": who["authoritySelector"]}
    return canonical(event)


def _request(payload: Mapping[str, Any]) -> tuple[str, str, dict[str, str] | None]:
    method, resource = payload.get("methodName"), payload.get("resourceName")
    words = method.removeprefix("io.k8s.").split(".") if isinstance(method, str) else [""]
    verb = words[-1]
    path = resource.strip("/") if isinstance(resource, str) else ""
    if len(words) < 4:
        return verb, f"/{path}", None
    uri = f"/api/{path.removeprefix('core/')}" if path.startswith("core/") else f"/apis/{path}"
    return verb, uri, request_info("GET", uri).object_ref


def _stage(operation: Mapping[str, Any]) -> str:
    started = operation.get("first") is True and operation.get("last") is not True
    return "ResponseStarted" if started else "ResponseComplete"


def _status(entry: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    status = _mapping(payload, "status")
    grpc = status.get("code")
    code = _HTTP.get(grpc, 500) if isinstance(grpc, int) else 200
    decision = _mapping(entry, "labels").get("authorization.k8s.io/decision")
    if code == 200 and decision == "forbid":
        code = 403
    written: dict[str, Any] = {"code": code}
    if code != 200:
        written |= {"status": "Failure", "message": status.get("message")}
    return written


def _body(payload: Mapping[str, Any], name: str) -> Any:
    body = payload.get(name)
    if isinstance(body, Mapping):
        return {key: member for key, member in body.items() if key != "@type"} or None
    return body


def _label(entry: Mapping[str, Any], name: str) -> str:
    label = _mapping(_mapping(entry, "resource"), "labels").get(name)
    return label if isinstance(label, str) else ""


def _mapping(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}
