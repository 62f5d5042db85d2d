"""Activity by hand: rows put straight into the table ``activities``, without files or parsing.

``row`` is one line of activity, ``week`` a small cluster that goes about its business, and
``theft`` what somebody does with a stolen credential. Everything is the same in every run.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np

from kubewitness.activity.action import action
from kubewitness.activity.name import name_template
from kubewitness.activity.network import network, subnet
from kubewitness.activity.principal import principal_class, team
from kubewitness.activity.rollup import ACTIVITY_COLUMNS
from kubewitness.activity.table import ActivityTable, combine, load, texts
from kubewitness.baseline.horizon import prequential
from kubewitness.incidents.ledger import Ledger, enter
from kubewitness.surprise.factor import Factor
from kubewitness.surprise.registry import FACTORS
from kubewitness.surprise.scoring import Findings

START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CLUSTER = "small"
OFFICE = {"ada": "10.8.0.4", "ben": "10.8.0.5", "cleo": "10.8.0.6"}
NODES = {"node-1": "10.0.0.11", "node-2": "10.0.0.12", "node-3": "10.0.0.13"}
OUTSIDE = "203.0.113.9"

Row = dict[str, Any]

_TYPES = {
    "slot": "TIMESTAMP",
    "first": "TIMESTAMP",
    "last": "TIMESTAMP",
    "n": "BIGINT",
    "names": "BIGINT",
    "audit_ids": "VARCHAR[]",
    "name_samples": "VARCHAR[]",
}


def account(text: str) -> str:
    """``shop/api`` as a service account's username."""
    return "system:serviceaccount:" + text.replace("/", ":")


def row(
    at: datetime,
    principal: str,
    verb: str,
    resource: str,
    *,
    namespace: str = "",
    names: Sequence[str] = ("web",),
    subresource: str = "",
    path: str = "/api",
    source_ip: str = "10.8.0.4",
    client: str = "kubectl",
    groups: tuple[str, ...] = ("dev",),
    lasts: timedelta = timedelta(),
    **changes: Any,
) -> Row:
    """One line of activity; what identity, address and request imply is filled in."""
    prefix, scope = network(source_ip)
    line: Row = {
        "slot": at.replace(minute=0, second=0, microsecond=0),
        "cluster": CLUSTER,
        "principal": principal,
        "class": principal_class(principal),
        "team": team(principal, groups),
        "acting_as": "",
        "credential": "",
        "pod": "",
        "pod_uid": "",
        "node": "",
        "bearer": "",
        "scheme": "",
        "issued": "",
        "action": action(verb, resource, subresource, path),
        "verb": verb,
        "resource": resource,
        "subresource": subresource,
        "namespace": namespace,
        "template": name_template(names[0]) if names else "",
        "source_ip": source_ip,
        "network": prefix,
        "subnet": subnet(source_ip),
        "scope": scope,
        "client": client,
        "release": "1.36",
        "platform": "linux/amd64",
        "outcome": "ok",
        "binding": "",
        "traits": "",
        "origins": "",
        "n": 1,
        "names": len(names),
        "first": at,
        "last": at + lasts,
        "name_samples": list(names),
        **changes,
    }
    told = repr(sorted((column, str(value)) for column, value in line.items()))
    line.setdefault("audit_ids", [hashlib.sha256(told.encode()).hexdigest()[:12]])
    return line


def connected(rows: Iterable[Row]) -> duckdb.DuckDBPyConnection:
    """A database whose table ``activities`` holds these rows; close it (``with``)."""
    connection = duckdb.connect()
    put(connection, rows)
    return connection


def put(
    connection: duckdb.DuckDBPyConnection, rows: Iterable[Row], table: str = "activities"
) -> None:
    """Replace the table ``activities``, or another of its columns."""
    lines = list(rows)
    columns = ", ".join(f'"{name}" {_TYPES.get(name, "VARCHAR")}' for name in ACTIVITY_COLUMNS)
    connection.execute(f"CREATE OR REPLACE TABLE {table} ({columns})")
    if not lines:
        return
    values = {  # noqa: F841  (DuckDB finds it by name)
        name: np.array([_plain(line[name]) for line in lines], dtype=_dtype(name))
        for name in ACTIVITY_COLUMNS
    }
    chosen = ", ".join(_read(name) for name in ACTIVITY_COLUMNS)
    connection.execute(f"INSERT INTO {table} SELECT {chosen} FROM values")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return "\n".join(value) if isinstance(value, list) else value


def _dtype(name: str) -> Any:
    return np.int64 if _TYPES.get(name) in ("TIMESTAMP", "BIGINT") else object


def _read(name: str) -> str:
    kind = _TYPES.get(name)
    if kind == "TIMESTAMP":
        return f'make_timestamp("{name}")'
    return f'string_split("{name}", chr(10))' if kind == "VARCHAR[]" else f'"{name}"'


def loaded(rows: Iterable[Row], cluster: str = CLUSTER) -> ActivityTable:
    """The rows as the models see them."""
    with connected(rows) as connection:
        return load(connection, cluster)


def machinery(start: datetime, hours: int, step: timedelta = HOUR) -> list[Row]:
    """The control plane, three kubelets and what every cluster runs, with a line each ``step``."""
    rows = []
    for number in range(int(hours * HOUR / step)):
        at = start + number * step + timedelta(seconds=number % 50)
        for who, verb, resource, namespace in (
            ("system:kube-scheduler", "list", "pods", ""),
            ("system:kube-scheduler", "update", "leases.coordination.k8s.io", "kube-system"),
            ("system:kube-controller-manager", "list", "deployments.apps", ""),
            (account("kube-system/deployment-controller"), "update", "replicasets.apps", "shop"),
            (account("kube-system/job-controller"), "create", "pods", "shop"),
        ):
            rows.append(
                row(at, who, verb, resource, namespace=namespace, names=(), n=30,
                    source_ip="127.0.0.1", client=who.rsplit(":", 1)[-1])
            )  # fmt: skip
        for node, address in NODES.items():
            kubelet: dict[str, Any] = {"source_ip": address, "client": "kubelet"}
            name = f"system:node:{node}"
            rows += [
                row(at, name, "update", "leases.coordination.k8s.io", n=6, names=(node,),
                    namespace="kube-node-lease", **kubelet),
                row(at, name, "patch", "nodes", subresource="status", names=(node,), **kubelet),
                row(at, name, "get", "configmaps", namespace="shop", names=("app",), **kubelet),
            ]  # fmt: skip
        rows.append(
            row(at, account("kube-system/coredns"), "list", "services", names=(), n=2,
                source_ip="10.244.1.2", client="coredns")
        )  # fmt: skip
    return rows


def robots(start: datetime, hours: int, step: timedelta = HOUR) -> list[Row]:
    """A few workloads that do the same all day."""
    rows = []
    for number in range(int(hours * HOUR / step)):
        at = start + number * step + timedelta(minutes=1)
        rows += [
            row(at, account("shop/api"), "get", "configmaps", namespace="shop", names=("app",),
                source_ip="10.244.1.7", client="api", pod_uid="uid-api", n=5),
            row(at, account("shop/worker"), "update", "configmaps", namespace="shop", n=3,
                names=("state",), source_ip="10.244.2.8", client="worker", pod_uid="uid-worker"),
            row(at, account("ci/deployer"), "patch", "deployments.apps", namespace="shop",
                source_ip="10.244.3.9", client="argo", pod_uid="uid-argo"),
            row(at, account("monitoring/prometheus"), "list", "pods", names=(), n=2,
                source_ip="10.244.3.4", client="prometheus", pod_uid="uid-prom"),
        ]  # fmt: skip
    return rows


def office(start: datetime, days: int, seed: int = 1) -> list[Row]:
    """Three people who look around in the daytime, and now and then at something new."""
    chance = random.Random(seed)
    rows = []
    for day in range(days):
        for who, address in OFFICE.items():
            for hour in range(8, 16):
                at = start + day * DAY + hour * HOUR + timedelta(minutes=chance.randrange(50))
                resource = chance.choice(("pods", "pods", "deployments.apps", "events", "services"))
                rows.append(
                    row(at, who, chance.choice(("get", "list")), resource, namespace="shop",
                        names=(f"web-{chance.randrange(9)}",), source_ip=address)
                )  # fmt: skip
    return rows


def week(days: int = 7, start: datetime = START, seed: int = 1) -> list[Row]:
    """The whole small cluster for some days, a line an hour."""
    return [
        *machinery(start, 24 * days, 3 * HOUR),
        *robots(start, 24 * days, 3 * HOUR),
        *office(start, days, seed),
    ]


def theft(at: datetime, who: str = "ada", **changes: Any) -> list[Row]:
    """Somebody outside uses a credential with another program: secrets, a token, a role."""
    options: dict[str, Any] = {"source_ip": OUTSIDE, "client": "curl", "release": "8.5", **changes}
    minute = timedelta(minutes=1)
    return [
        row(at, who, "list", "secrets", namespace="kube-system", names=(), **options),
        row(at + minute, who, "get", "secrets", namespace="shop", names=("stripe", "db"), n=2,
            **options),
        row(at + 2 * minute, who, "create", "clusterrolebindings.rbac.authorization.k8s.io",
            names=("helper",), **options),
    ]  # fmt: skip


def ledger_of(rows: Sequence[tuple[Row, dict[str, float]]]) -> Ledger:
    """A ledger in which each row testifies as told: nats by the name of a factor.

    Rows without evidence are what the cluster knew before.
    """
    with connected(line for line, _ in rows) as connection:
        table = load(connection, CLUSTER)
        told = {line["audit_ids"][0]: evidence for line, evidence in rows}
        order = texts(connection, np.arange(len(table)), ("audit_ids",))["audit_ids"]
        evidence = [told[audit_ids[0]] for audit_ids in order]
        findings = [_found(factor, table, evidence) for factor in FACTORS]
        return enter(table, findings, prequential(table, None, 0), connection)


def _found(factor: Factor, table: ActivityTable, evidence: list[dict[str, float]]) -> Findings:
    rows = np.array([at for at, one in enumerate(evidence) if factor.name in one], dtype=np.int64)
    weight = np.array([evidence[at][factor.name] for at in rows], dtype=float)
    name = np.full(len(rows), table.id_of(factor.name))
    atom = combine(name, table.key("actor", *factor.context, *factor.columns)[rows])
    none = np.zeros(len(rows), dtype=np.int64)
    return Findings(factor, rows, weight, np.exp(-weight - 1), atom, none, none, none, none)
