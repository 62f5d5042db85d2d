"""What a request asks for, read from its method and URI as the API server does.

The rules are those of RequestInfoFactory
(https://github.com/kubernetes/apiserver/blob/master/pkg/endpoints/request/requestinfo.go), for the
sources that give only a URI.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_NAMESPACE_SUBRESOURCES = ("status", "finalize")


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """A verb and an objectRef (``None`` for a non-resource request)."""

    verb: str
    object_ref: dict[str, str] | None


def request_info(method: str, uri: str) -> RequestInfo:
    """
    >>> request_info("GET", "/api/v1/namespaces/x/pods/p/log").object_ref
    {'apiVersion': 'v1', 'resource': 'pods', 'namespace': 'x', 'name': 'p', 'subresource': 'log'}
    >>> request_info("GET", "/apis/apps/v1/deployments?watch=true").verb
    'watch'
    >>> request_info("GET", "/healthz")
    RequestInfo(verb='get', object_ref=None)
    """
    ref, query = _object_ref(uri)
    if ref is None:
        return RequestInfo(method.lower(), None)
    verb = _VERBS.get(method.upper(), method.lower())
    if "name" not in ref:
        selected = _selected_name(query)
        if selected:
            ref["name"] = selected
        if verb == "get":
            watch = query.get("watch", ["false"])[0].lower() not in ("false", "0")
            verb = "watch" if watch else "list"
        elif verb == "delete":
            verb = "deletecollection"
    return RequestInfo(verb, ref)


def _object_ref(uri: str) -> tuple[dict[str, str] | None, dict[str, list[str]]]:
    try:
        split = urlsplit(uri)
        query = parse_qs(split.query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return None, {}
    parts = [unquote(part) for part in split.path.split("/") if part]
    if not parts or parts[0] not in ("api", "apis"):
        return None, query
    ref: dict[str, str] = {}
    depth = 2
    if parts[0] == "apis":
        depth = 3
        if len(parts) > 1:
            ref["apiGroup"] = parts[1]
    if len(parts) <= depth:
        return None, query
    ref["apiVersion"] = parts[depth - 1]
    rest = parts[depth:]
    if rest[0] in ("watch", "proxy") and len(rest) > 1:
        rest = rest[1:]
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, rest = rest[1], rest[2:]
        ref |= {"resource": rest[0], "namespace": namespace}
    else:
        ref["resource"] = rest[0]
        if rest[0] == "namespaces" and len(rest) > 1:
            ref["namespace"] = rest[1]
    if len(rest) > 1:
        ref["name"] = rest[1]
    if len(rest) > 2:
        ref["subresource"] = rest[2]
    return ref, query


def _selected_name(query: dict[str, list[str]]) -> str:
    for selector in query.get("fieldSelector", []):
        for term in selector.split(","):
            key, equals, name = term.partition("=")
            if key == "metadata.name" and equals and name:
                return name.removeprefix("=")
    return ""
