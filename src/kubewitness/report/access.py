"""Who touched what is sensitive, and who was refused what."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import duckdb
import numpy as np

from kubewitness.activity.technique import IMPERSONATION, technique
from kubewitness.report.model import Access, Denied

MOST_DENIED, MOST_SENSITIVE = 20, 25
MACHINERY = "nodes and control plane"
"""Whose sensitive requests are only counted: it is their job, all day."""

# The weight from which a technique (activity.technique) is sensitive: deploying and deleting
# workloads weighs less, and is what clusters are for. Whatever touches secrets counts.
_SENSITIVE = 1.5


def weigh(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table ``weighed``: what each kind of request in ``activities`` could serve."""
    deeds = connection.execute("SELECT DISTINCT verb, resource, subresource FROM activities")
    rows = [(*deed, technique(*deed)) for deed in deeds.fetchall()]
    columns: dict[str, Any] = {
        name: np.array([row[i] for row in rows], dtype=object)
        for i, name in enumerate(("verb", "resource", "subresource"))
    }
    columns["weight"] = np.array([row[3].weight for row in rows], dtype=np.float64)
    columns["did"] = np.array([row[3].did for row in rows], dtype=object)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE weighed (verb VARCHAR, resource VARCHAR,"
        " subresource VARCHAR, weight DOUBLE, did VARCHAR)"
    )
    if rows:
        connection.execute("INSERT INTO weighed SELECT * FROM columns")


def denied_requests(connection: duckdb.DuckDBPyConnection) -> tuple[Denied, ...]:
    """Refused requests by principal and action, most first; all nodes as their group.

    Nobody has authenticated an anonymous caller: there the address tells one from another, and
    all that one address tried is one row.
    """
    rows = connection.execute(_DENIED).fetchall()
    return tuple(
        Denied(
            who,
            action if others == 0 else f"{action}, +{others} more",
            _places(namespaces),
            n,
            first.replace(tzinfo=UTC),
            last.replace(tzinfo=UTC),
        )
        for who, action, others, namespaces, n, first, last in rows
    )


def sensitive_access(connection: duckdb.DuckDBPyConnection) -> tuple[Access, ...]:
    """Served requests for secrets, tokens, containers, permissions, admission, certificates.

    One row a principal and kind of access, in rounds: of each kind the person and the program with
    most requests, then those with second most, so that no kind hides another. Heavy kinds first.
    ``action`` completes "somebody …" (activity.technique). Last, in one row, the cluster's own
    machinery.
    """
    rows = connection.execute(_ACCESS).fetchall()
    return tuple(
        Access(who, did, _places(namespaces), objects, n, last.replace(tzinfo=UTC))
        for who, did, namespaces, objects, n, last in rows
    )


def _places(namespaces: list[str]) -> str:
    """
    >>> _places(["a", "b"]), _places(["a", "b", "c"]), _places(["*", "a"]), _places([""])
    ('a, b', '3 namespaces', '*', '')
    """
    if "*" in namespaces:
        return "*"
    named = sorted(filter(None, namespaces))
    return ", ".join(named) if len(named) <= 2 else f"{len(named)} namespaces"


# A request for all namespaces at once names none, like one for something outside of them.
_PLACE = """CASE WHEN namespace = '' AND resource IN (
    SELECT resource FROM activities WHERE namespace <> '') THEN '*' ELSE namespace END AS place"""

_DENIED = f"""
WITH refused AS (
    SELECT CASE WHEN class = 'anonymous' AND source_ip <> ''
            THEN principal || ' from ' || source_ip
            WHEN class = 'node' THEN 'system:nodes' ELSE principal END AS who,
        CASE WHEN class = 'anonymous' THEN '' ELSE action END AS kind,
        action, {_PLACE}, n, first, last
    FROM activities WHERE outcome IN ('denied', 'unauthenticated')
), counted AS (
    SELECT who, kind, action, list(DISTINCT place) AS places, sum(n) AS n,
        min(first) AS first, max(last) AS last
    FROM refused GROUP BY ALL
)
SELECT who, arg_max(action, (n, action)), count(*) - 1, list_distinct(flatten(list(places))),
    sum(n)::BIGINT AS requests, min(first), max(last)
FROM counted GROUP BY who, kind ORDER BY requests DESC, who, kind LIMIT {MOST_DENIED}"""

_ACCESS = f"""
WITH sensitive AS (
    SELECT * FROM weighed WHERE weight >= {_SENSITIVE} OR resource = 'secrets'
), touched AS (
    SELECT principal, class, did, weight, resource, namespace, name_samples AS names,
        names AS many, n, last
    FROM activities JOIN sensitive USING (verb, resource, subresource)
    WHERE outcome IN ('ok', 'unknown')
    UNION ALL
    SELECT principal, class, '{IMPERSONATION.did}', {IMPERSONATION.weight}, resource,
        namespace, [acting_as], 1, n, last
    FROM activities WHERE acting_as <> ''
), told AS MATERIALIZED (
    SELECT principal, did, weight, class = 'workload' AS program, false AS machinery,
        {_PLACE}, names, many, n, last
    FROM touched WHERE class NOT IN ('node', 'control-plane')
    UNION ALL
    SELECT '{MACHINERY}', 'did what their job is', 0, true, true, '*', [], 0, sum(n), max(last)
    FROM touched WHERE class IN ('node', 'control-plane') HAVING count(*) > 0
), objects AS (
    SELECT principal, did, count(DISTINCT (place, name)) AS objects
    FROM (SELECT principal, did, place, unnest(names) AS name FROM told)
    WHERE name <> '' GROUP BY ALL
), rows AS (
    SELECT principal, did, machinery, program, max(weight) AS weight,
        list(DISTINCT place) AS places, sum(n)::BIGINT AS n, max(last) AS last,
        -- samples are eight at most
        coalesce(max(many) FILTER (many > 8), 0) AS many
    FROM told GROUP BY ALL
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY did, program ORDER BY n DESC, principal) AS round
    FROM rows
), chosen AS (
    SELECT * FROM ranked
    ORDER BY machinery DESC, round, weight DESC, did, program LIMIT {MOST_SENSITIVE}
)
SELECT principal, did, places, greatest(coalesce(objects, 0), many)::BIGINT, n, last
FROM chosen LEFT JOIN objects USING (principal, did)
ORDER BY machinery, round, weight DESC, did, program"""
