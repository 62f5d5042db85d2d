"""What the log of each cluster holds, in counts: from this follows what it cannot show."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import duckdb


class Holdings(NamedTuple):
    """One cluster's log in counts: of events down to ``forwarded``, then of requests."""

    cluster: str
    start: datetime
    end: datetime
    events: int
    answered: int
    started: int
    """At stage ResponseStarted."""
    long_running: int
    """Watches, execs, attaches and port-forwards."""
    bodiless: int
    """At level Metadata."""
    deployments: int
    """Writes of pods and of what makes pods."""
    bodiless_deployments: int
    permissions: int
    """Writes of roles and bindings."""
    bodiless_permissions: int
    unguarded: int
    """Writes that passed an admission webhook which did not answer."""
    forwarded: int
    """With addresses before that of the peer, who is no trusted proxy."""
    requests: int
    of_nodes: int
    in_kube_system: int
    on_secrets: int
    on_leases: int
    on_events: int
    reads: int
    reads_of_secrets: int
    by_users: int
    """Of people and workloads."""
    with_credential: int
    with_binding: int
    principals: int
    addresses: int
    people: int
    addresses_of_people: int


def holdings(connection: duckdb.DuckDBPyConnection) -> list[Holdings]:
    """One cluster each, in order of their names; reads the cheap columns of ``events`` once."""
    return [Holdings(*row) for row in connection.execute(_COUNTED).fetchall()]


def _any(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)


_READS = _any(("get", "list", "watch"))
_WRITES = _any(("create", "update", "patch"))
_MAKES_PODS = _any(
    ("pods", "podtemplates", "replicationcontrollers", "replicasets", "deployments",
     "statefulsets", "daemonsets", "jobs", "cronjobs")
)  # fmt: skip

_NUMBERS = ", ".join(f"coalesce({name}, 0)::BIGINT" for name in Holdings._fields[3:])
_COUNTED = f"""
WITH told AS (
    SELECT coalesce(cluster, '') AS cluster, stage, stage_at,
        coalesce(level, 'Metadata') = 'Metadata' AS bodiless,
        verb = 'watch' OR subresource IN ('exec', 'attach', 'portforward') AS long_running,
        -- what was refused needs no body
        coalesce(code, 200) < 400 AND verb IN ({_WRITES}) AS writes,
        writes AND resource IN ({_MAKES_PODS}) AND api_group IN ('', 'apps', 'batch')
            AND coalesce(subresource, '') IN ('', 'ephemeralcontainers') AS deploys,
        writes AND api_group = 'rbac.authorization.k8s.io' AS permits,
        writes AND contains(CAST(annotations AS VARCHAR), '"failed-open.') AS unguarded,
        len(source_ips) > 1 AND source_ips[-1] IN (SELECT source_ip FROM activities) AS forwarded
    FROM events
), events_counted AS (
    SELECT cluster, count(*) AS events,
        count(*) FILTER (stage <> 'RequestReceived') AS answered,
        count(*) FILTER (stage = 'ResponseStarted') AS started,
        count(*) FILTER (long_running) AS long_running,
        count(*) FILTER (bodiless) AS bodiless,
        count(*) FILTER (deploys) AS deployments,
        count(*) FILTER (deploys AND bodiless) AS bodiless_deployments,
        count(*) FILTER (permits) AS permissions,
        count(*) FILTER (permits AND bodiless) AS bodiless_permissions,
        count(*) FILTER (unguarded) AS unguarded,
        count(*) FILTER (forwarded) AS forwarded,
        min(stage_at) AS start, max(stage_at) AS stop
    FROM told GROUP BY cluster
), requests_counted AS (
    SELECT coalesce(cluster, '') AS cluster, sum(n) AS requests,
        sum(n) FILTER (class = 'node') AS of_nodes,
        sum(n) FILTER (namespace = 'kube-system') AS in_kube_system,
        sum(n) FILTER (resource = 'secrets') AS on_secrets,
        sum(n) FILTER (resource = 'leases.coordination.k8s.io') AS on_leases,
        sum(n) FILTER (resource IN ('events', 'events.events.k8s.io')) AS on_events,
        sum(n) FILTER (resource <> '' AND verb IN ({_READS})) AS reads,
        sum(n) FILTER (resource = 'secrets' AND verb IN ({_READS})) AS reads_of_secrets,
        sum(n) FILTER (class IN ('human', 'workload') AND outcome = 'ok') AS by_users,
        sum(n) FILTER (class IN ('human', 'workload') AND credential <> '') AS with_credential,
        sum(n) FILTER (class IN ('human', 'workload') AND binding <> '') AS with_binding,
        count(DISTINCT principal) AS principals,
        count(DISTINCT nullif(source_ip, '')) AS addresses,
        count(DISTINCT principal) FILTER (class = 'human') AS people,
        count(DISTINCT nullif(source_ip, '')) FILTER (class = 'human') AS addresses_of_people
    FROM activities GROUP BY 1
)
SELECT cluster, start, stop, {_NUMBERS}
FROM events_counted LEFT JOIN requests_counted USING (cluster) ORDER BY cluster"""
