"""What is known of a cluster's roles and bindings at one time, and how well.

Four things tell of them, the better before the worse: a snapshot that the user has; objects that
were written or read while the log ran, where it holds bodies; what every API server makes for
itself; and the reasons of allowed requests, which name binding, role and subject at every audit
level. What was made before the log began and never used since, nothing tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec

from kubewitness.events.normalisation import quoted
from kubewitness.forensics.rbac.answer import Knowledge, Source
from kubewitness.forensics.rbac.manifest import manifests, read, snapshot_of
from kubewitness.forensics.rbac.policy import GROUP, Binding, Key, Policy, Role
from kubewitness.forensics.rbac.reason import SQL as REASON
from kubewitness.forensics.rbac.reason import granted

_KINDS = {
    "roles": "Role",
    "clusterroles": "ClusterRole",
    "rolebindings": "RoleBinding",
    "clusterrolebindings": "ClusterRoleBinding",
}
# Of requests that list roles, so many are read, the latest.
_LISTS = 200


@dataclass(frozen=True, slots=True)
class Grants:
    """``policy`` with where each object is known from. Bindings whose ``source`` is "reason" are
    known by the subjects that used them; there may be others. ``changed`` were written again and
    the log does not say to what; ``used`` are the bindings that allowed a request."""

    policy: Policy
    source: dict[Key, Source]
    used: frozenset[Key]
    changed: frozenset[Key] = frozenset()
    notes: tuple[str, ...] = field(default=())

    @property
    def knowledge(self) -> Knowledge:
        """How well all this is known."""
        stock = {one.key for one in defaults()}
        own = [b for key, b in self.policy.bindings.items() if key not in stock]
        roles = {binding.role for binding in own}
        unknown = {role for role in roles if self.policy.rules(role) is None}
        return Knowledge(
            "snapshot" if "snapshot" in self.source.values() else "log",
            len(own),
            sum(binding.key in self.used for binding in own),
            sum(self.source[binding.key] == "reason" for binding in own),
            len(roles),
            tuple(sorted(role.told for role in unknown)),
            tuple(sorted(key.told for key in self.changed)),
            self.notes,
        )


def grants(connection: duckdb.DuckDBPyConnection, *, snapshot: Path | None = None) -> Grants:
    """What the views ``events`` and ``changes`` (of one cluster) and a snapshot, if there is one,
    tell of its end.

    A snapshot (``kubectl get clusterroles,clusterrolebindings,roles,rolebindings -A -o yaml``)
    stands for the time that is asked about: what it does not have, there was not.
    """
    used = _used(connection)
    if snapshot is not None:
        found = _Known({key: (one, "snapshot") for key, one in snapshot_of(snapshot).items()})
    else:
        found = _logged(connection)
        for one in defaults():
            if one.key not in found.gone:
                found.objects.setdefault(one.key, (one, "default"))
    missing = [one for one in used if one.key not in found.objects and one.key not in found.gone]
    if snapshot is None:
        found.objects.update({one.key: (one, "reason") for one in missing})
    elif missing:
        found.notes.append(
            f"{len(missing)} bindings allowed requests in the log and are not in the snapshot:"
            " they were made or removed in between."
        )
    objects = [one for one, _ in found.objects.values()]
    return Grants(
        Policy(
            (one for one in objects if isinstance(one, Role)),
            (one for one in objects if isinstance(one, Binding)),
        ),
        {key: source for key, (_, source) in found.objects.items()},
        frozenset(binding.key for binding in used),
        frozenset(found.changed),
        tuple(found.notes),
    )


@cache
def defaults() -> tuple[Role | Binding, ...]:
    """The roles and bindings that an API server of ``DEFAULTS_OF`` makes when it first starts."""
    data = Path(__file__).with_name("defaults.json").read_bytes()
    return tuple(one for one in map(read, msgspec.json.decode(data)) if one is not None)


@dataclass(slots=True)
class _Known:
    objects: dict[Key, tuple[Role | Binding, Source]]
    gone: set[Key] = field(default_factory=set)
    changed: set[Key] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def _used(connection: duckdb.DuckDBPyConnection) -> list[Binding]:
    """The bindings that allowed requests, each with all subjects seen to use it."""
    rows = connection.execute(
        f"SELECT DISTINCT {REASON} FROM (SELECT DISTINCT annotations FROM events)"
    ).fetchall()
    merged: dict[Key, Binding] = {}
    for binding in filter(None, (granted(reason) for (reason,) in rows)):
        known = merged.get(binding.key)
        subjects = {*binding.subjects, *(known.subjects if known else ())}
        merged[binding.key] = msgspec.structs.replace(binding, subjects=tuple(sorted(subjects)))
    return list(merged.values())


class _Seen(NamedTuple):
    """A request that wrote, deleted or showed roles or bindings."""

    resource: str
    namespace: str
    name: str
    at: datetime
    verb: str
    body: str
    """The column that holds the object, '' where the log does not."""


class _Told(NamedTuple):
    """What the rest of such a request says."""

    uri: str
    request: str | None
    response: str | None


def _logged(connection: duckdb.DuckDBPyConnection) -> _Known:
    """The objects as they were last seen."""
    seen = [_Seen(*row) for row in connection.execute(_SEEN).fetchall()]
    told = _told(connection, seen)
    known = _Known({})
    unreadable = 0
    for one in sorted(seen, key=lambda one: one.at):
        key = Key(_KINDS[one.resource], one.namespace, one.name)
        detail = told.get(one[:4])
        body = (detail.response or detail.request) if detail and one.body else None
        if one.verb == "delete":
            _forget(known, [key])
        elif body is None and one.verb == "deletecollection":
            # what a selector chose to delete, only a body tells
            if detail is None or "Selector=" not in detail.uri:
                kind, namespace, _ = key
                _forget(known, [k for k in known.objects if k[:2] == (kind, namespace)])
        elif body is None:
            known.gone.discard(key)
            known.changed.add(key)
        else:
            unreadable += _learn(known, key.kind, body, gone=one.verb == "deletecollection")
    if unreadable:
        known.notes.append(f"{unreadable} roles or bindings in the log could not be read.")
    return known


def _learn(known: _Known, kind: str, body: str, *, gone: bool) -> int:
    """Take in the objects that a body shows; returns how many could not be read."""
    unreadable = 0
    for manifest in manifests(msgspec.json.decode(body)):
        try:
            found = read({"kind": kind, **manifest})
        except ValueError:
            unreadable += 1
            continue
        if found is None:
            continue
        _forget(known, [found.key])
        if not gone:
            known.objects[found.key] = (found, "log")
            known.gone.discard(found.key)
    return unreadable


def _forget(known: _Known, keys: Iterable[Key]) -> None:
    for key in keys:
        known.objects.pop(key, None)
        known.changed.discard(key)
        known.gone.add(key)


def _told(
    connection: duckdb.DuckDBPyConnection, seen: list[_Seen]
) -> dict[tuple[str, str, str, datetime], _Told]:
    """The rest of these requests."""
    if not seen:
        return {}
    times = ", ".join(sorted({f"TIMESTAMP {quoted(str(one.at))}" for one in seen}))
    rows = connection.execute(
        f"""SELECT resource, coalesce(namespace, ''), coalesce(name, ''), stage_at, request_uri,
            CASE WHEN level = 'Request' THEN CAST(request_object AS VARCHAR) END,
            CAST(response_object AS VARCHAR)
        FROM changes WHERE {_OF_RBAC} AND stage_at IN ({times})"""
    ).fetchall()
    return {row[:4]: _Told(*row[4:]) for row in rows}


_OF_RBAC = f"api_group = {quoted(GROUP)} AND resource IN ({', '.join(map(quoted, _KINDS))})"

# What an object was last is told by the newest body; a later write without one only says that it
# is no longer so.
_SEEN = f"""
WITH served AS MATERIALIZED (
    SELECT resource, coalesce(namespace, '') AS namespace, coalesce(name, '') AS name, verb,
        stage_at, CASE WHEN level = 'RequestResponse' THEN 'response_object'
            WHEN level = 'Request' AND verb IN ('create', 'update') THEN 'request_object'
            ELSE '' END AS body
    FROM changes
    WHERE {_OF_RBAC}
        AND (verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
            OR (verb IN ('get', 'list') AND level = 'RequestResponse'))
        AND stage = 'ResponseComplete' AND coalesce(code, 200) < 400 AND NOT dry_run
)
SELECT resource, namespace, name, max(stage_at), arg_max(verb, stage_at), body
FROM served WHERE verb <> 'list'
GROUP BY resource, namespace, name, body, verb IN ('delete', 'deletecollection')
UNION ALL (
    SELECT resource, namespace, name, stage_at, verb, body FROM served WHERE verb = 'list'
    ORDER BY stage_at DESC LIMIT {_LISTS})"""
