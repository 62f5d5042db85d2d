"""How what is refused stands otherwise: was it permitted before, who took it away, who may do it.

Bindings are told by the API server itself (``authorization.k8s.io/reason``), so this is what was
in force, not what some file says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import numpy as np

from kubewitness.activity.table import Ints
from kubewitness.incidents.misconfiguration.refusals import Series

_BINDINGS = (
    "clusterrolebindings.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
)


@dataclass(frozen=True, slots=True)
class Permitted:
    """One thing, served before it was refused (``binding`` permitted it until ``until``) or after
    (``again``)."""

    binding: str = ""
    until: datetime | None = None
    again: datetime | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """Who deleted what was needed: the binding, or the object that is missing."""

    who: str
    what: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """``things`` by the key of what was refused. ``others``: how many of the same team or, where
    there are none, of the same class are served the same, and the binding that permits most of
    them. ``elsewhere``: namespaces in which the identity itself is served the same. ``bearers``:
    who was known at these addresses with this program before."""

    things: dict[Hashable, Permitted] = field(default_factory=dict)
    others: tuple[int, str, bool] = (0, "", False)
    elsewhere: tuple[str, ...] = ()
    removal: Removal | None = None
    bearers: tuple[str, ...] = ()


def standings(series: Sequence[Series], connection: duckdb.DuckDBPyConnection) -> list[Standing]:
    """One a series; looks into the table ``activity``."""
    if not series:
        return []
    things = _things(series)  # noqa: F841 (DuckDB finds it by its name)
    connection.execute("CREATE OR REPLACE TEMP TABLE lacking AS FROM things")
    permitted = _permitted(series, connection)
    others, elsewhere = _others(connection), _elsewhere(connection)
    bearers = _bearers(series, connection)
    found = []
    for number, told in enumerate(series):
        known = permitted.get(number, {})
        gone = {one.binding for one in known.values() if one.binding}
        found.append(
            Standing(
                known,
                others.get(number, (0, "", False)),
                elsewhere.get(number, ()),
                _removal(told, gone, connection),
                bearers.get(number, ()),
            )
        )
    return found


def _things(series: Sequence[Series]) -> dict[str, Any]:
    flat = [(number, one, thing) for number, one in enumerate(series) for thing in one.things]

    def texts(values: list[str]) -> Any:
        return np.array(values, dtype=object)

    def times(values: list[datetime]) -> Ints:
        return np.array(values, dtype="datetime64[us]").astype(np.int64)

    return {
        "number": np.array([number for number, _, _ in flat], dtype=np.int64),
        "failure": texts([one.failure for _, one, _ in flat]),
        "principal": texts([one.principal for _, one, _ in flat]),
        "acting_as": texts([one.acting_as for _, one, _ in flat]),
        "class": texts([one.whose for _, one, _ in flat]),
        "team": texts([one.team for _, one, _ in flat]),
        "action": texts([thing.action for _, _, thing in flat]),
        "namespace": texts([thing.namespace for _, _, thing in flat]),
        "sought": texts([thing.names[0] if thing.names else "" for _, _, thing in flat]),
        "begun": times([thing.first for _, _, thing in flat]),
        "ended": times([thing.last for _, _, thing in flat]),
    }


def _permitted(
    series: Sequence[Series], connection: duckdb.DuckDBPyConnection
) -> dict[int, dict[Hashable, Permitted]]:
    found: dict[int, dict[Hashable, Permitted]] = defaultdict(dict)
    for number, action, namespace, binding, until, again in connection.execute(
        """SELECT number, lacking.action, lacking.namespace,
            arg_max(binding, last) FILTER (epoch_us(last) <= begun),
            max(last) FILTER (epoch_us(last) <= begun),
            min(first) FILTER (epoch_us(first) >= ended)
        FROM lacking JOIN activity USING (principal, acting_as, action, namespace)
        WHERE outcome = 'ok' AND (failure <> 'missing' OR list_contains(name_samples, sought))
        GROUP BY number, lacking.action, lacking.namespace"""
    ).fetchall():
        thing = next(one for one in series[number].things if one.key == (action, namespace))
        before = thing.before is not None
        found[number][thing.key] = Permitted(
            binding if before else "", until if before else None, again
        )
    return found


def _others(connection: duckdb.DuckDBPyConnection) -> dict[int, tuple[int, str, bool]]:
    """Of those that are served any of it, only those that are served as much of it as anybody."""
    return {
        number: (members, binding, mates)
        for number, members, binding, mates in connection.execute(
            """WITH alike AS (
                SELECT number, activity.principal, activity.team = lacking.team AS mate,
                    count(DISTINCT (action, namespace)) AS things, mode(binding) AS binding
                FROM lacking JOIN activity USING (class, action, namespace)
                WHERE outcome = 'ok' AND failure = 'permission' AND lacking.class <> 'anonymous'
                    AND activity.principal <> lacking.principal
                    AND activity.principal <> lacking.acting_as
                GROUP BY ALL
            ), fullest AS (
                FROM alike QUALIFY things = max(things) OVER (PARTITION BY number, mate)
            )
            SELECT number, count(*), mode(binding), mate FROM fullest GROUP BY number, mate
            QUALIFY row_number() OVER (PARTITION BY number ORDER BY mate DESC) = 1"""
        ).fetchall()
    }


def _elsewhere(connection: duckdb.DuckDBPyConnection) -> dict[int, tuple[str, ...]]:
    return {
        number: tuple(namespaces)
        for number, namespaces in connection.execute(
            """SELECT number, array_agg(DISTINCT activity.namespace ORDER BY activity.namespace)
            FROM lacking JOIN activity USING (principal, acting_as, action)
            WHERE outcome = 'ok' AND failure = 'permission' AND activity.namespace <> ''
                AND lacking.namespace <> '' AND activity.namespace NOT IN (
                    SELECT namespace FROM lacking AS own WHERE own.number = lacking.number)
            GROUP BY number"""
        ).fetchall()
    }


def _bearers(
    series: Sequence[Series], connection: duckdb.DuckDBPyConnection
) -> dict[int, tuple[str, ...]]:
    found = {}
    for number, one in enumerate(series):
        if one.failure != "credential":
            continue
        rows = connection.execute(
            """SELECT principal FROM activity
            WHERE source_ip IN (SELECT unnest(?)) AND client = ? AND outcome = 'ok'
                AND class <> 'anonymous' AND first <= ?
            GROUP BY principal ORDER BY max(last) DESC LIMIT 3""",
            [list(one.source_ips), one.client, one.first],
        ).fetchall()
        found[number] = tuple(row[0] for row in rows)
    return found


def _removal(
    series: Series, bindings: set[str], connection: duckdb.DuckDBPyConnection
) -> Removal | None:
    """The deletion that explains it: the last one before it began, of one of ``bindings`` (since
    it last permitted something) or of the missing object."""
    thing = series.things[0]
    if series.failure == "missing":
        resources, since = [thing.resource], None
        wanted = [(name, thing.namespace) for name in thing.names]
    else:
        resources = list(_BINDINGS)
        since = min((one.before for one in series.things if one.before), default=None)
        # The API server writes a RoleBinding as NAME/NAMESPACE.
        wanted = [(name, space) for name, _, space in (b.partition("/") for b in sorted(bindings))]
    for name, namespace in wanted:
        row = connection.execute(
            """SELECT principal, last FROM activity
            WHERE verb = 'delete' AND outcome = 'ok' AND resource IN (SELECT unnest(?))
                AND namespace = ? AND list_contains(name_samples, ?)
                AND first <= ? AND (?::TIMESTAMP IS NULL OR last >= ?)
            ORDER BY last DESC LIMIT 1""",
            [resources, namespace, name, series.first, since, since],
        ).fetchone()
        if row:
            return Removal(row[0], f"{name}/{namespace}" if namespace else name, row[1])
    return None
