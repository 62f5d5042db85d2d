"""What was asked: one word for the same deed, whatever verb or client version did it."""

from __future__ import annotations

import re

_INTERACTIVE = frozenset({"exec", "attach", "portforward"})
_OUTCOMES = {
    401: "unauthenticated",
    403: "denied",
    404: "missing",
    409: "conflict",
    429: "throttled",
}
_VERSION = re.compile(r"^v\d+((alpha|beta)\d+)?$")


def action(verb: str, resource: str, subresource: str, uri: str) -> str:
    """The action of a request: ``verb resource[/subresource]``; ``resource`` may carry a group.

    ``kubectl exec`` is ``get`` since 1.31 (WebSocket) and ``create`` before: one action for both,
    as for attach and port-forward. A request that names no resource is told by its path.

    >>> action("get", "pods", "exec", ""), action("create", "pods", "exec", "")
    ('exec pods', 'exec pods')
    >>> action("watch", "deployments.apps", "", ""), action("get", "", "", "/api/v1?timeout=32s")
    ('list deployments.apps', 'get /api')
    """
    if subresource in _INTERACTIVE:
        return f"{subresource} {resource}"
    # An informer lists, then watches, and shows the same objects either way.
    verb = "list" if verb == "watch" else verb
    if resource:
        return f"{verb} {resource}/{subresource}" if subresource else f"{verb} {resource}"
    return f"{verb} {path_template(uri)}"


def path_template(uri: str) -> str:
    """The path of a non-resource URI, short enough to be a class of requests.

    Discovery (``/api``, ``/apis/GROUP/VERSION``, ``/openapi``) is one thing each, as every
    client walks it.

    >>> path_template("/apis/apps/v1?timeout=32s"), path_template("/readyz/etcd")
    ('/apis', '/readyz')
    >>> path_template("/../../etc/passwd")
    '/..'
    """
    path = uri.partition("?")[0]
    parts = [part for part in path.split("/") if part]
    return "/" + parts[0][:64] if parts else "/"


def outcome(code: int | None, stage: str) -> str:
    """How the API server answered: ok, denied, unauthenticated, missing, conflict, invalid,
    throttled, error, panic or unknown (no answer logged).

    >>> outcome(201, "ResponseComplete"), outcome(403, "ResponseComplete"), outcome(None, "Panic")
    ('ok', 'denied', 'panic')
    """
    if stage == "Panic":
        return "panic"
    if code is None:
        return "unknown"
    if code < 400:
        return "ok"
    return _OUTCOMES.get(code, "error" if code >= 500 else "invalid")
