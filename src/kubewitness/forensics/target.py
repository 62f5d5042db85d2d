"""From ``KIND/NAME`` as somebody types it to the one object in the log that is meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import duckdb

from kubewitness.errors import KubewitnessError
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.kind import Kind, kind_named, of

_CLOSE = 0.6
# Whoever asks for what is not there gets this answer.
_THERE = "(code IS NULL OR code <> 404)"


@dataclass(frozen=True, slots=True)
class Target:
    """An object by name: one cluster, kind, namespace ('' at cluster scope) and name."""

    cluster: str
    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def find(
    connection: duckdb.DuckDBPyConnection,
    reference: str,
    *,
    namespace: str | None = None,
    cluster: str | None = None,
) -> Target:
    """The object that ``reference`` (``KIND/NAME``) means in the view ``events``.

    Without ``namespace`` every one is looked in. Raises ``KubewitnessError`` where there is none
    of that name (and says what comes close) or several.
    """
    # An argument that is no UTF-8 names nothing that a log can hold.
    kind_text, _, name = reference.encode("utf-8", "replace").decode().partition("/")
    if not kind_text or not name:
        raise KubewitnessError(
            f"{reference!r} names no object", remedy="write KIND/NAME, for instance deploy/web"
        )
    kind = kind_named(kind_text, connection)
    # objectRef.namespace of a Namespace is its own name; with -n, cluster-scoped kinds are found
    # all the same, as kubectl does.
    within = namespace if kind.namespaced is not False else None
    # Where only one is possible, the first event tells that it is.
    known = [cluster] if cluster else _clusters(connection)
    only = len(known) == 1 and (within is not None or kind.namespaced is False)
    # Literals, by which the engine leaves out parts of the lake.
    found = connection.execute(
        f"""SELECT DISTINCT cluster, coalesce(namespace, '') AS namespace FROM (
            SELECT cluster, namespace FROM events
            WHERE resource = {quoted(kind.resource)} AND api_group = {quoted(kind.group)}
            AND name = {quoted(name)} AND {_THERE}{_in("cluster", cluster)}
            {_in("namespace", within)}{" LIMIT 1" if only else ""}) ORDER BY 1, 2"""
    ).fetchall()
    if kind.namespaced is False:
        found = [(home, "") for home in dict.fromkeys(row[0] for row in found)]
    if len(found) == 1:
        return Target(found[0][0], kind, found[0][1], name)
    if found:
        clusters = {row[0] for row in found}
        if len(clusters) > 1:
            raise KubewitnessError(
                f"{len(clusters)} clusters have {kind}/{name}",
                remedy=f"say which with --cluster: {', '.join(sorted(clusters))}",
            )
        homes = ", ".join(row[1] or "(none)" for row in found[:12])
        raise KubewitnessError(
            f"{len(found)} namespaces have {kind}/{name}", remedy=f"say which with -n: {homes}"
        )
    raise _missing(connection, kind, name, within, cluster)


def _clusters(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute("SELECT DISTINCT cluster FROM events ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def _in(column: str, wanted: str | None) -> str:
    return "" if wanted is None else f" AND {column} = {quoted(wanted)}"


def only_cluster(connection: duckdb.DuckDBPyConnection) -> str:
    """The cluster of the view ``events``, '' of an empty one. Raises ``KubewitnessError`` where
    there are several."""
    clusters = _clusters(connection)
    if len(clusters) > 1:
        raise several(clusters)
    return clusters[0] if clusters else ""


def several(clusters: Sequence[str]) -> KubewitnessError:
    """What to say of a question that can only be asked of one cluster."""
    return KubewitnessError(
        f"the logs are of {len(clusters)} clusters",
        remedy=f"say which with --cluster: {', '.join(clusters[:8])}",
    )


def bounds(
    connection: duckdb.DuckDBPyConnection, cluster: str | None = None
) -> tuple[datetime, datetime] | None:
    """When the view ``events`` (or a cluster in it) begins and ends, ``None`` if it is empty: only
    the first and the last day are read for it."""
    own = _in("cluster", cluster)
    row = connection.execute(f"SELECT min(date), max(date) FROM events WHERE true{own}").fetchone()
    if not row or row[0] is None:
        return None
    return _edge(connection, "min", row[0], own), _edge(connection, "max", row[1], own)


def _edge(connection: duckdb.DuckDBPyConnection, which: str, day: date, own: str = "") -> datetime:
    """The first or last time of a day."""
    ((at,),) = connection.execute(
        f"SELECT {which}(stage_at) FROM events WHERE date = DATE '{day}'{own}"
    ).fetchall()
    edge: datetime = at
    return edge.replace(tzinfo=UTC)


def one_log(connection: duckdb.DuckDBPyConnection) -> tuple[str, datetime, datetime]:
    """The one cluster of the view ``events`` and its first and last time.

    Raises ``KubewitnessError`` where there are several clusters, or no events at all.
    """
    cluster = only_cluster(connection)
    known = bounds(connection)
    if known is None:
        raise KubewitnessError("no events", remedy="give a PATH to audit logs, or another --lake")
    return cluster, *known


def last_event(connection: duckdb.DuckDBPyConnection) -> datetime:
    """When the log ends: durations count back from there. Raises ``KubewitnessError`` for an empty
    one."""
    ((day,),) = connection.execute("SELECT max(date) FROM events").fetchall()
    if day is None:
        raise KubewitnessError(
            "there are no events", remedy="give a PATH to read, or another --lake"
        )
    return _edge(connection, "max", day)


def _missing(
    connection: duckdb.DuckDBPyConnection,
    kind: Kind,
    name: str,
    namespace: str | None,
    cluster: str | None,
) -> KubewitnessError:
    where = f" in namespace {namespace}" if namespace else ""
    what = f"no {kind}/{name}{where} in this log"
    elsewhere = connection.execute(
        """SELECT DISTINCT resource, api_group, coalesce(namespace, '') FROM events
        WHERE name = ? AND resource IS NOT NULL AND (? IS NULL OR cluster = ?)
            AND (code IS NULL OR code <> 404) ORDER BY ALL LIMIT 8""",
        [name, cluster, cluster],
    ).fetchall()
    if elsewhere:
        told = ", ".join(
            f"{of(resource, group)}/{name}" + (f" -n {home}" if home else "")
            for resource, group, home in elsewhere
        )
        return KubewitnessError(what, remedy=f"there is: {told}")
    names = connection.execute(
        """SELECT name, any_value(coalesce(namespace, '')) FROM events
        WHERE resource = ? AND api_group = ? AND nullif(name, '') IS NOT NULL
            AND (? IS NULL OR namespace = ?) AND (? IS NULL OR cluster = ?)
            AND (code IS NULL OR code <> 404)
        GROUP BY name
        ORDER BY contains(name, ?) DESC, jaro_winkler_similarity(name, ?) DESC LIMIT 40""",
        [kind.resource, kind.group, namespace, namespace, cluster, cluster, name, name],
    ).fetchall()
    homes = dict(names)
    close = [one for one in homes if name in one] or difflib.get_close_matches(
        name, homes, n=8, cutoff=_CLOSE
    )
    if close:
        told = ", ".join(
            one + (f" -n {homes[one]}" if homes[one] else "") for one in sorted(close)[:8]
        )
        return KubewitnessError(what, remedy=f"of similar name: {told}")
    if homes:
        return KubewitnessError(what, remedy=f"there are: {', '.join(sorted(homes)[:8])}")
    return KubewitnessError(what, remedy=f"the log says nothing of any {kind}{where}")
