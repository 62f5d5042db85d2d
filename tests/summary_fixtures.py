"""Small logs with known answers: events as the lake keeps them, rolled up as always."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import duckdb
import msgspec

from kubewitness.activity.rollup import rollup, slot_width
from kubewitness.events.columns import EVENT_COLUMNS

MONDAY = datetime(2026, 3, 2)  # noqa: DTZ001  (a TIMESTAMP of the lake: UTC without saying so)
CREDENTIAL = "authentication.kubernetes.io/credential-id"
REASON = "authorization.k8s.io/reason"
BINDING = 'RBAC: allowed by ClusterRoleBinding "view" of ClusterRole "view" to User "x"'
RBAC = "rbac.authorization.k8s.io"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """``times`` like events, ``every`` so much time."""

    at: datetime = MONDAY
    times: int = 1
    every: timedelta = timedelta(minutes=1)
    cluster: str = "main"
    user: str = "maria"
    verb: str = "get"
    resource: str | None = "pods"
    group: str = ""
    subresource: str | None = None
    namespace: str | None = "shop"
    name: str | None = None
    uri: str = "/api/v1/whatever"
    source_ips: tuple[str, ...] = ("10.0.0.7",)
    agent: str = "kubectl/v1.33.4 (linux/amd64)"
    code: int | None = 200
    stage: str = "ResponseComplete"
    level: str = "Metadata"
    acting_as: str | None = None
    credential: str | None = None
    reason: str | None = None


def opened(*log: Seen) -> duckdb.DuckDBPyConnection:
    """A connection with the view ``events`` and the table ``activities`` of this log."""
    connection = duckdb.connect()
    columns = ", ".join(f'"{name}" {kind}' for name, kind in EVENT_COLUMNS.items())
    connection.execute(f"CREATE TABLE log ({columns})")
    for seen in log:
        connection.execute(_INSERT, _values(seen))
    connection.execute("CREATE VIEW events AS SELECT *, CAST(stage_at AS DATE) AS date FROM log")
    rollup(connection, width=slot_width(*_bounds(log)))
    return connection


def every_kind(requests: int, at: datetime = MONDAY, **same: str) -> Iterable[Seen]:
    """Some of everything that each cluster does all the time, about ``requests`` of them."""
    kinds = (
        {"user": "system:node:worker-1", "verb": "list", "resource": "secrets"},
        {
            "user": "system:node:worker-1",
            "verb": "update",
            "resource": "leases",
            "group": "coordination.k8s.io",
            "source_ips": ("10.0.0.8",),
        },
        {"user": "system:kube-scheduler", "verb": "create", "resource": "events"},
        {"user": "system:serviceaccount:kube-system:coredns", "namespace": "kube-system"},
    )
    each = -(-requests // len(kinds))
    every = timedelta(hours=10) / each
    for kind in kinds:
        yield msgspec.structs.replace(Seen(at=at, times=each, every=every, **same), **kind)  # type: ignore[arg-type]


def _bounds(log: Iterable[Seen]) -> tuple[datetime, datetime]:
    times = [t for s in log for t in (s.at, s.at + s.every * (s.times - 1))] or [MONDAY]
    return min(times), max(times)


_INSERT = f"""
INSERT INTO log ({", ".join(f'"{name}"' for name in EVENT_COLUMNS)})
SELECT $cluster, format('{{}}-{{}}', $id, i), $stage, $level, $verb, $uri, $user, NULL, [],
    CASE WHEN $credential IS NULL THEN NULL ELSE MAP([$key], [[$credential]]) END,
    $acting_as, NULL, $source_ips, $agent, $group, 'v1', $resource, $subresource, $namespace,
    $name, NULL, NULL, $code, NULL, NULL, NULL, NULL, instant, instant,
    CASE WHEN $reason IS NULL THEN NULL ELSE MAP([$reason_key], [$reason]) END, NULL, NULL,
    'test'
FROM (SELECT i, CAST($at AS TIMESTAMP) + to_microseconds(i * CAST($step AS BIGINT)) AS instant
    FROM range($times) AS numbers(i))"""


def _values(seen: Seen) -> dict[str, object]:
    values: dict[str, object] = {
        name: getattr(seen, name) for name in Seen.__struct_fields__ if name != "every"
    }
    return values | {
        "source_ips": list(seen.source_ips),
        "id": f"{abs(hash(seen)):x}",
        "step": seen.every // timedelta(microseconds=1),
        "key": CREDENTIAL,
        "reason_key": REASON,
    }
