"""Rancher's API audit log: another schema, converted.

``user.name`` and ``user.group``, an HTTP ``method`` instead of a verb, ``remoteAddr`` with a port,
``responseCode``. Requests that Rancher passes on to a cluster begin with ``/k8s/clusters/<id>``:
the id becomes the cluster, the rest the requestURI, from which verb and object are read; requests
to Rancher itself stay non-resource requests. Rancher acts on the cluster by impersonating the
caller, so ``Impersonate-User`` counts only where it names somebody else.
https://ranchermanager.docs.rancher.com/how-to-guides/advanced-user-guides/enable-api-audit-log
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kubewitness.events.formats.canonical import canonical
from kubewitness.events.formats.outcome import Part
from kubewitness.events.formats.request_info import request_info

_PROXIED = re.compile(r"/k8s/clusters/([^/?]+)")
_HOST_PORT = re.compile(r"(?:\[([^\]]+)\]|([^:]+)):\d+")


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    method, uri = value.get("method"), value.get("requestURI")
    if not isinstance(method, str) or not isinstance(uri, str) or "auditID" not in value:
        return None
    proxied = _PROXIED.match(uri)
    path = uri[proxied.end() :] or "/" if proxied else uri
    request = request_info(method, path)
    user = _mapping(value, "user")
    event: dict[str, Any] = {
        "auditID": value["auditID"],
        "stage": "ResponseComplete",
        "verb": request.verb,
        "requestURI": path,
        "objectRef": request.object_ref,
        "user": {
            "username": user.get("name"),
            "groups": user.get("group"),
            "extra": user.get("extra"),
        },
        "sourceIPs": _addresses(value),
        "userAgent": _header(value, "User-Agent"),
        "responseStatus": {"code": value.get("responseCode")},
        "requestObject": value.get("requestBody"),
        "responseObject": value.get("responseBody"),
        "requestReceivedTimestamp": value.get("requestTimestamp"),
        "stageTimestamp": value.get("responseTimestamp"),
    }
    impersonated = _header(value, "Impersonate-User")
    if impersonated and impersonated != user.get("name"):
        event["impersonatedUser"] = {"username": impersonated}
    return (canonical(event, cluster=proxied[1] if proxied else ""),)


def _addresses(value: Mapping[str, Any]) -> list[str]:
    """As the API server does: what the client claims first, its own address last."""
    claimed = _header(value, "X-Forwarded-For") or ""
    addresses = [part.strip() for part in claimed.split(",") if part.strip()]
    remote = value.get("remoteAddr")
    if isinstance(remote, str) and remote:
        match = _HOST_PORT.fullmatch(remote)
        addresses.append(match[1] or match[2] if match else remote)
    return addresses


def _header(value: Mapping[str, Any], name: str) -> str | None:
    header = _mapping(value, "requestHeader").get(name)
    if isinstance(header, list) and header:
        header = header[0]
    return header if isinstance(header, str) else None


def _mapping(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}
