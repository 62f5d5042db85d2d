"""What a query can ask about: the columns of an event, and what is told from several of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "texts", "map", "number", "time"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``texts`` has several values and matches if any of them does, a ``map`` is asked
    by key and has texts for each; the texts of an ``addresses`` field may be asked for networks.
    """

    name: str
    kind: Kind
    what: str
    addresses: bool = False


_FIELDS = (
    Field("principal", "texts", "who acted: `user`, and `impersonated_user` if there is one"),
    Field("user", "text", "who was authenticated: with impersonation the real caller"),
    Field("user_uid", "text", "`user.uid`"),
    Field("groups", "texts", "groups of `user`"),
    Field("impersonated_user", "text", "who `user` acted as"),
    Field("impersonated_groups", "texts", "groups of `impersonated_user`"),
    Field("extra", "map", "`user.extra` by key: credential ids, pod and node of a token"),
    Field("verb", "text", "`verb`, as logged: `exec` may be `get` or `create`, see `action`"),
    Field(
        "resource",
        "texts",
        "`secrets`; also as `roles.rbac.authorization.k8s.io`, `pods/exec` or both at once",
    ),
    Field("api_group", "text", "API group of the resource; empty for the core group"),
    Field("subresource", "text", "`exec`, `status`, `token` …"),
    Field("namespace", "text", "namespace of the object; empty at cluster scope"),
    Field("name", "text", "name of the object"),
    Field("object_uid", "text", "uid of the object"),
    Field(
        "action",
        "text",
        "the deed in one word for all clients: `list secrets`, `exec pods`, `get /healthz`",
    ),
    Field("source_ip", "text", "the TCP peer: the last of `source_ips`", addresses=True),
    Field("source_ips", "texts", "all of `sourceIPs`, what clients claimed included", True),
    Field("user_agent", "text", "`userAgent`"),
    Field("request_uri", "text", "`requestURI`, redacted"),
    Field("code", "number", "HTTP status of the answer"),
    Field("reason", "text", "reason of the answer: `Forbidden`, `NotFound` …"),
    Field("message", "text", "message of the answer, redacted"),
    Field("decision", "text", "what the authorizer said: `allow` or `forbid`"),
    Field("decision_reason", "text", "why: names the RBAC binding and role that allowed it"),
    Field("annotations", "map", "annotations of the event by key"),
    Field("traits", "text", "dangerous settings in what was written"),
    Field("images", "text", "images of a written workload, separated by spaces"),
    Field("level", "text", "`Metadata`, `Request`, `RequestResponse`"),
    Field("stage", "text", "`RequestReceived`, `ResponseStarted`, `ResponseComplete`, `Panic`"),
    Field("audit_id", "text", "`auditID`; clients may choose it"),
    Field("cluster", "text", "the cluster the log is of"),
    Field("source", "text", "the file that the event came from"),
    Field("time", "time", "when the request was received"),
    Field("stage_at", "time", "when this stage was reached"),
)

FIELDS: dict[str, Field] = {field.name: field for field in _FIELDS}
SORTABLE = tuple(name for name, field in FIELDS.items() if field.kind != "map")
"""Fields with one value for an event, or a first one, by which events can be sorted."""
