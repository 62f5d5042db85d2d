"""When an object was written, told by few columns: which of its requests have to be read whole.

Bodies are most of a lake, and an object that is written every minute has some in each part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import duckdb

from kubewitness.forensics.target import Target

# Of the stages of a request the last says most; RequestReceived knows no answer.
ANSWERED = "stage IN ('ResponseComplete', 'Panic', 'ResponseStarted')"
WRITING = "verb IN ('create', 'update', 'patch', 'delete')"
ENTERING = "verb = 'get' AND subresource IN ('exec', 'attach', 'portforward', 'proxy')"
# Answered with the whole object, as far as that can be told without a look at the answer.
WHOLE = """(level = 'RequestResponse' AND verb IN ('create', 'update', 'patch') AND code < 300
    AND coalesce(subresource, '') NOT IN
        ('scale', 'binding', 'eviction', 'token', 'exec', 'attach', 'portforward', 'proxy'))"""

# So many answers are read sooner than it is found out which of them are needed.
_FEW = 50


class Seen(NamedTuple):
    """A request that wrote or entered an object; ``whole`` where it is answered with all of it,
    ``bare`` where its bodies were not logged."""

    at: datetime
    verb: str
    subresource: str
    code: int | None
    uid: str
    whole: bool
    bare: bool


def outline(
    connection: duckdb.DuckDBPyConnection, target: Target, until: datetime | None = None
) -> list[Seen]:
    """All that wrote or entered ``target`` until ``until``, in the order of time."""
    where, parameters = about(target)
    if until is not None:
        where += " AND stage_at <= $until"
        parameters["until"] = naive(until)
    rows = connection.execute(
        f"""SELECT stage_at, verb, coalesce(subresource, ''), code, coalesce(object_uid, ''),
            {WHOLE} IS TRUE, level = 'Metadata' IS TRUE FROM changes
        WHERE {where} AND name = $name AND {ANSWERED} AND ({WRITING} OR ({ENTERING}))
        ORDER BY stage_at""",
        parameters,
    ).fetchall()
    return [Seen(at.replace(tzinfo=UTC), *rest) for at, *rest in rows]


def latest(seen: Sequence[Seen], n: int) -> datetime | None:
    """Since when the ``n`` latest were made, ``None`` if there are no more than these."""
    return seen[-n].at if len(seen) > n else None


def last_whole(seen: Sequence[Seen], at: datetime) -> datetime | None:
    """When the object was last seen whole until ``at``, if that was often."""
    found = [one.at for one in seen if one.whole and one.at <= at]
    return found[-1] if len(found) > _FEW else None


def bare(seen: Sequence[Seen], before: datetime) -> bool:
    """Whether no body tells of what was before, and there is much of it."""
    found = [one.bare for one in seen if one.at < before]
    return all(found) and len(found) > _FEW


def turns(seen: Sequence[Seen], before: datetime) -> list[datetime]:
    """When the object may have begun, ended or become another of its name. Of writes that follow
    each other without that, the first of each subresource tells that it was there, and the others
    no more."""
    found = []
    told: set[str] = set()
    uid = ""
    for one in seen:
        if one.at >= before:
            break
        if one.verb == "get" or (one.code is not None and one.code >= 400):
            continue
        plain = one.verb in ("update", "patch") and one.code is not None and one.code != 201
        if not plain or one.uid not in ("", uid):
            told = set()
        if not plain or one.subresource not in told:
            found.append(one.at)
        if plain:
            told.add(one.subresource)
        uid = one.uid or (uid if plain else "")
    return found


def about(target: Target) -> tuple[str, dict[str, Any]]:
    """SQL for events about ``target`` and those that name none, with its parameters by name."""
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


def naive(at: datetime) -> datetime:
    """As the lake has it."""
    return at.astimezone(UTC).replace(tzinfo=None)
