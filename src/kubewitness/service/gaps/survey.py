"""What the newest events say about themselves, in counts: one pass over a chunk, no history."""

from __future__ import annotations

from typing import NamedTuple

import duckdb

LEVELS = ("Metadata", "Request", "RequestResponse")


class Sighting(NamedTuple):
    """Alike events of one minute: ``minute`` and times are unix seconds.

    ``kind`` is verb and resource, '' where none is named or the request failed, as anybody can ask
    for anything; ``rank`` the audit level as an index of ``LEVELS``; all nodes are one ``user``.
    """

    cluster: str
    minute: float
    user: str
    kind: str
    namespace: str
    rank: int
    stage: str
    n: int
    first: float
    last: float


class Mark(NamedTuple):
    """A sign of life of somebody by ``name``: ``what`` is

    - ``node``, ``leader``, ``server``: renewed the lease of a node, of a component of the control
      plane, of an API server's identity. An API server renews its own through itself, so that the
      log that tells of it is its own.
    - ``process``: a run of an API server: what it asks of itself has a user uid made at its start.
    - ``alive``: a node did something else than renew its lease.
    - ``noticed``: the node controller changed a node.
    - ``gone``: a node or a lease was deleted.
    """

    cluster: str
    what: str
    name: str
    n: int
    first: float
    last: float


class Survey(NamedTuple):
    sightings: list[Sighting]
    marks: list[Mark]


def survey(connection: duckdb.DuckDBPyConnection, table: str = "events") -> Survey:
    """Survey ``table``, which has ``EVENT_COLUMNS``: the new rows only."""
    sightings = connection.execute(_SIGHTINGS.format(table=table)).fetchall()
    marks = connection.execute(_MARKS.format(table=table)).fetchall()
    return Survey([Sighting(*row) for row in sightings], [Mark(*row) for row in marks])


_SIGHTINGS = """
SELECT cluster, epoch(time_bucket(INTERVAL 1 MINUTE, stage_at)) AS minute,
    CASE WHEN starts_with("user", 'system:node:') THEN 'system:node:' ELSE coalesce("user", '') END
        AS principal,
    CASE WHEN resource IS NULL OR code >= 400 THEN '' ELSE concat(verb, ' ', resource,
        CASE WHEN api_group <> '' THEN '.' || api_group END,
        CASE WHEN subresource <> '' THEN '/' || subresource END) END AS kind,
    coalesce(namespace, '') AS namespace,
    CASE level WHEN 'RequestResponse' THEN 2 WHEN 'Request' THEN 1 ELSE 0 END AS rank,
    stage, count(*), min(epoch(stage_at)), max(epoch(stage_at))
FROM {table} WHERE stage_at IS NOT NULL
GROUP BY ALL"""

_MARKS = """
WITH told AS (
    SELECT cluster, epoch(stage_at) AS moment, name, "user", user_uid,
        CASE
            WHEN stage <> 'ResponseComplete' OR coalesce(code, 200) >= 400 THEN NULL
            WHEN resource = 'leases' AND api_group = 'coordination.k8s.io' THEN CASE
                WHEN namespace NOT IN ('kube-node-lease', 'kube-system') THEN NULL
                WHEN verb = 'delete' THEN 'gone'
                WHEN verb NOT IN ('update', 'patch') THEN NULL
                WHEN namespace = 'kube-node-lease' THEN 'node'
                WHEN "user" = 'system:apiserver' AND contains(name, 'apiserver-') THEN 'server'
                WHEN starts_with("user", 'system:') AND NOT starts_with("user",
                    'system:serviceaccount:') THEN 'leader' END
            WHEN resource = 'nodes' AND verb = 'delete' THEN 'gone'
            WHEN resource = 'nodes' AND verb IN ('update', 'patch') AND "user" =
                'system:serviceaccount:kube-system:node-controller' THEN 'noticed'
        END AS what
    FROM {table} WHERE stage_at IS NOT NULL
), named AS (
    SELECT cluster, what, name, moment FROM told WHERE what IS NOT NULL AND name <> ''
    UNION ALL
    SELECT cluster, 'process', user_uid, moment FROM told
    WHERE "user" = 'system:apiserver' AND user_uid <> ''
    UNION ALL
    SELECT cluster, 'alive', substr("user", 13), moment FROM told
    WHERE starts_with("user", 'system:node:') AND coalesce(what, '') <> 'node'
)
SELECT cluster, what, name, count(*), min(moment), max(moment) FROM named GROUP BY ALL"""
