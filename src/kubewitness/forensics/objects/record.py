"""What a log says of one object: the requests about it, in the order in which they took effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import msgspec

from kubewitness.activity.action import outcome
from kubewitness.forensics.target import Target

WRITES = ("create", "update", "patch", "delete", "deletecollection")
TOUCHES = frozenset({"exec", "attach", "portforward", "proxy", "token", "eviction"})
"""Subresources through which an object is used; none of them answers with the object."""


@dataclass(frozen=True, slots=True)
class Record:
    """One request about an object: the columns of its event, bodies decoded."""

    audit_id: str
    at: datetime
    verb: str
    subresource: str
    level: str
    user: str
    acting_as: str
    source_ips: tuple[str, ...]
    user_agent: str
    reason: str
    code: int | None
    stage: str
    uri: str
    uid: str
    request: Any = None
    response: Any = None
    mutations: tuple[Any, ...] = ()

    @property
    def outcome(self) -> str:
        return outcome(self.code, self.stage)

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.uri).query, keep_blank_values=True)

    @property
    def dry_run(self) -> bool:
        body = self.request if isinstance(self.request, dict) else {}
        options = body.get("deleteOptions") or body
        return "dryRun" in self.query or (isinstance(options, dict) and bool(options.get("dryRun")))

    @property
    def touches(self) -> bool:
        """Whether it uses the object without a change to it."""
        return self.subresource in TOUCHES

    @property
    def answered(self) -> dict[str, Any] | None:
        """The object itself, where the answer is the object."""
        answer = self.response
        if not isinstance(answer, dict) or answer.get("kind") in _NOT_THE_OBJECT:
            return None
        if self.subresource in TOUCHES or self.verb == "deletecollection":
            return None
        return answer if isinstance(answer.get("metadata"), dict) else None

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The metadata in the answer, of which some clients want no more."""
        answer = self.response
        if isinstance(answer, dict) and answer.get("kind") == "PartialObjectMetadata":
            found = answer.get("metadata")
            return found if isinstance(found, dict) else None
        return self.answered["metadata"] if self.answered else None

    @property
    def version(self) -> int | None:
        """The resource version after it: the order in which the cluster stored its objects."""
        scaled = self.subresource == "scale" and isinstance(self.response, dict)
        metadata = self.response.get("metadata") if scaled else self.metadata
        text = (metadata or {}).get("resourceVersion")
        return int(text) if isinstance(text, str) and text.isdecimal() else None


_REASON = """coalesce(json_extract_string(annotations, '$."authorization.k8s.io/reason"'), '')"""
# So many answers are read sooner than it is found out which of them are needed.
_FEW = 50
_NOT_THE_OBJECT = frozenset({"Status", "Scale", "Table", "PartialObjectMetadata", None})

_BODIES = "CAST(request_object AS VARCHAR) AS request, CAST(response_object AS VARCHAR) AS response"
_NO_BODIES = "NULL AS request, NULL AS response"
COLUMNS = f"""audit_id, stage_at, verb, coalesce(subresource, '') AS subresource, level,
    coalesce("user", '') AS "user", coalesce(impersonated_user, '') AS acting_as, source_ips,
    coalesce(user_agent, '') AS user_agent, {_REASON} AS reason, code, stage, request_uri,
    coalesce(object_uid, '') AS object_uid,
    {_BODIES},
    CASE WHEN contains(CAST(annotations AS VARCHAR), 'patch.webhook.admission.k8s.io')
        THEN CAST(annotations AS VARCHAR) END AS admission"""

# Of the stages of a request the last says most; RequestReceived knows no answer.
ANSWERED = "stage IN ('ResponseComplete', 'Panic', 'ResponseStarted')"
WRITING = "verb IN ('create', 'update', 'patch', 'delete')"
TELLING = f"""({WRITING} OR (verb = 'get' AND
    (subresource IN ('exec', 'attach', 'portforward', 'proxy') OR response_object IS NOT NULL)))"""
# Answered with the whole object, as far as that can be told without a look at the answer.
WHOLE = """(level = 'RequestResponse' AND verb IN ('create', 'update', 'patch') AND code < 300
    AND coalesce(subresource, '') NOT IN
        ('scale', 'binding', 'eviction', 'token', 'exec', 'attach', 'portforward', 'proxy'))"""


def records(
    connection: duckdb.DuckDBPyConnection,
    target: Target,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Record]:
    """All that the view ``events`` says of ``target`` until ``until``, in order.

    Bodies are most of what there is to read: with ``since``, those from before the last answer
    until then that holds the whole object are left out where there are many.
    """
    whole = _last_whole(connection, target, since) if since else None
    if whole is None:
        return in_order(_read(connection, target, until=until))
    rest = list(_read(connection, target, since=whole, until=until))
    if not any(one.at == whole and one.answered and not one.dry_run for one in rest):
        return in_order(_read(connection, target, until=until))
    return in_order([*_read(connection, target, before=whole, bodies=False), *rest])


def _last_whole(
    connection: duckdb.DuckDBPyConnection, target: Target, at: datetime
) -> datetime | None:
    where, parameters = _about(target)
    row = connection.execute(
        f"SELECT count(*), max(stage_at) FROM events WHERE {where} AND name = $name AND {WHOLE}"
        " AND stage_at <= $at",
        {**parameters, "at": _naive(at)},
    ).fetchone()
    return row[1].replace(tzinfo=UTC) if row and row[0] > _FEW else None


def _read(
    connection: duckdb.DuckDBPyConnection,
    target: Target,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    before: datetime | None = None,
    bodies: bool = True,
) -> Iterator[Record]:
    where, parameters = _about(target)
    for name, sign, at in (("since", ">=", since), ("until", "<=", until), ("before", "<", before)):
        if at is not None:
            where += f" AND stage_at {sign} ${name}"
            parameters[name] = _naive(at)
    columns = COLUMNS if bodies else COLUMNS.replace(_BODIES, _NO_BODIES)
    # Asked one by one: plain equalities are what lets the engine skip most of a lake.
    named = connection.execute(
        f"""SELECT {columns} FROM events WHERE {where} AND {ANSWERED}
            AND name = $name AND {TELLING if bodies else WRITING}""",
        parameters,
    ).fetchall()
    yield from map(record, named)
    if named:
        del parameters["name"]
        parameters["first"] = min(row[1] for row in named)
        swept = connection.execute(
            f"""SELECT {columns} FROM events WHERE {where} AND {ANSWERED}
                AND verb = 'deletecollection' AND stage_at >= $first""",
            parameters,
        ).fetchall()
        yield from map(record, swept)


def _about(target: Target) -> tuple[str, dict[str, Any]]:
    where = "cluster = $cluster AND resource = $resource AND api_group = $api_group"
    parameters = {
        "cluster": target.cluster,
        "resource": target.kind.resource,
        "api_group": target.kind.group,
        "name": target.name,
    }
    # objectRef.namespace of a Namespace is its own name.
    if target.namespace and target.kind.resource != "namespaces":
        where += " AND namespace = $namespace"
        parameters["namespace"] = target.namespace
    return where, parameters


def record(row: tuple[Any, ...]) -> Record:
    """A row of ``COLUMNS``."""
    request, response = _decoded(row[14]), _decoded(row[15])
    return Record(
        audit_id=row[0],
        at=row[1].replace(tzinfo=UTC),
        verb=row[2],
        subresource=row[3],
        level=row[4],
        user=row[5],
        acting_as=row[6],
        source_ips=tuple(row[7] or ()),
        user_agent=row[8],
        reason=row[9],
        code=row[10],
        stage=row[11],
        uri=row[12],
        uid=row[13] or _uid(row[3], request, response),
        request=request,
        response=response,
        mutations=tuple(_mutations(_decoded(row[16]) or {})),
    )


def in_order(found: Iterable[Record]) -> list[Record]:
    """Each request once, as they took effect: by resource version where answers have one, else
    by the time of the answer (two requests at once may be logged either way round)."""
    # The stages of an exec have one auditID; a forged one stands on another request.
    once = {(one.audit_id, one.verb, one.uri, one.user): one for one in sorted(found, key=_stage)}
    ordered = sorted(once.values(), key=lambda one: (one.at, one.audit_id))
    places = [n for n, one in enumerate(ordered) if one.version is not None]
    versions = sorted((ordered[n] for n in places), key=lambda one: one.version or 0)
    for place, one in zip(places, versions, strict=True):
        ordered[place] = one
    return ordered


def _stage(one: Record) -> tuple[bool, datetime]:
    return one.stage != "ResponseStarted", one.at


def _decoded(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _uid(subresource: str, request: Any, response: Any) -> str:
    """The uid that the bodies tell, of this object and no other."""
    for body in (response, request):
        if not isinstance(body, dict):
            continue
        metadata = body.get("metadata")
        places = [metadata, body.get("details"), body.get("preconditions")]
        if subresource in ("token", "exec"):
            places = []
        for place in places:
            uid = place.get("uid") if isinstance(place, dict) else None
            if isinstance(uid, str) and uid:
                return uid
    return ""


def _mutations(annotations: dict[str, Any]) -> Iterator[Any]:
    """The JSON patches of mutating webhooks, in order (annotation ``patch.webhook.admission…``,
    level Request and above)."""
    for key in sorted(annotations):
        if key.startswith("patch.webhook.admission.k8s.io/"):
            told = _decoded(annotations[key])
            if isinstance(told, dict) and isinstance(told.get("patch"), list):
                yield told["patch"]


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)
