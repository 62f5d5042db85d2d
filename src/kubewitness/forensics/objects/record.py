"""What a log says of one object: the requests about it, in the order in which they took effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import msgspec

from kubewitness.activity.action import outcome
from kubewitness.forensics.effect import dry_run
from kubewitness.forensics.objects.outline import (
    ANSWERED,
    ENTERING,
    WRITING,
    Seen,
    about,
    bare,
    last_whole,
    naive,
    turns,
)
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
        return dry_run(self.verb, self.subresource, self.uri, self.request)

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
_NOT_THE_OBJECT = frozenset({"Status", "Scale", "Table", "PartialObjectMetadata", None})

_HEAD = f"""audit_id, stage_at, verb, coalesce(subresource, '') AS subresource, level,
    coalesce("user", '') AS "user", coalesce(impersonated_user, '') AS acting_as, source_ips,
    coalesce(user_agent, '') AS user_agent, {_REASON} AS reason, code, stage, request_uri,
    coalesce(object_uid, '') AS object_uid"""
COLUMNS = f"""{_HEAD},
    CAST(request_object AS VARCHAR) AS request, CAST(response_object AS VARCHAR) AS response,
    CASE WHEN contains(CAST(annotations AS VARCHAR), 'patch.webhook.admission.k8s.io')
        THEN CAST(annotations AS VARCHAR) END AS admission"""

BARE = f"{_HEAD}, NULL AS request, NULL AS response, NULL AS admission"
"""As ``COLUMNS``, without bodies."""

# Enough to tell what began and ended. Writes of one object hardly end at the same instant.
_FEWEST = """CAST(stage_at AS VARCHAR) AS audit_id, stage_at, verb,
    coalesce(subresource, '') AS subresource, level, coalesce("user", '') AS "user",
    '' AS acting_as, NULL AS source_ips, '' AS user_agent, '' AS reason, code, stage, request_uri,
    coalesce(object_uid, '') AS object_uid, NULL AS request, NULL AS response, NULL AS admission"""

TELLING = f"({WRITING} OR (verb = 'get' AND (({ENTERING}) OR response_object IS NOT NULL)))"


def records(
    connection: duckdb.DuckDBPyConnection,
    target: Target,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    seen: Sequence[Seen] | None = None,
    sources: bool = True,
) -> list[Record]:
    """All that the view ``changes`` says of ``target`` until ``until``, in order.

    With ``since`` and what was ``seen`` of it (``outline``) little is read of what was before the
    last answer until then that holds the whole object, where there are many: no bodies, and only
    what tells how many objects had its name. Where no body is in the log before ``since``, that
    goes for all of it, unless the ``sources`` of a state are asked for: they would be all.
    """
    if seen is None or since is None:
        return in_order(_read(connection, target, until=until))
    whole = last_whole(seen, since)
    begin = since if whole is None and not sources and bare(seen, since) else whole
    if begin is None:
        return in_order(_read(connection, target, until=until))
    rest = list(_read(connection, target, since=begin, until=until))
    if whole and not any(one.at == whole and one.answered and not one.dry_run for one in rest):
        return in_order(_read(connection, target, until=until))
    return in_order([*_read(connection, target, before=begin, only=turns(seen, begin)), *rest])


def _read(
    connection: duckdb.DuckDBPyConnection,
    target: Target,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    before: datetime | None = None,
    only: Sequence[datetime] | None = None,
) -> Iterator[Record]:
    """With ``only`` the writes at these times, told by few columns."""
    where, parameters = about(target)
    for name, sign, at in (("since", ">=", since), ("until", "<=", until), ("before", "<", before)):
        if at is not None:
            where += f" AND stage_at {sign} ${name}"
            parameters[name] = naive(at)
    columns, telling = COLUMNS, TELLING
    if only is not None:
        columns, telling = _FEWEST, f"{WRITING} AND {_any_of(only)}"
    # Asked one by one: plain equalities are what lets the engine skip most of a lake.
    named = connection.execute(
        f"""SELECT {columns} FROM changes WHERE {where} AND {ANSWERED}
            AND name = $name AND {telling}""",
        parameters,
    ).fetchall()
    yield from map(record, named)
    if named:
        del parameters["name"]
        parameters["first"] = min(row[1] for row in named)
        swept = connection.execute(
            f"""SELECT {columns} FROM changes WHERE {where} AND {ANSWERED}
                AND verb = 'deletecollection' AND stage_at >= $first""",
            parameters,
        ).fetchall()
        yield from map(record, swept)


def _any_of(times: Iterable[datetime]) -> str:
    """SQL: whether it was answered at one of these times."""
    literals = ", ".join(f"TIMESTAMP '{naive(at)}'" for at in times)
    return f"stage_at IN ({literals})" if literals else "false"


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
