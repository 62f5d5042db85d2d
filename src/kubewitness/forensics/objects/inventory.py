"""What ran at a time, and which workloads held something over time.

Only few columns are read of all writes, to find what was there and when it was written; bodies are
read at those times alone, from the last answer on that holds the object as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import duckdb

from kubewitness.forensics.effect import BEGINS, DRY_RUN
from kubewitness.forensics.kind import of
from kubewitness.forensics.objects import podspec
from kubewitness.forensics.objects.condition import ANYTHING, foreseen, meets
from kubewitness.forensics.objects.history import owner, subject
from kubewitness.forensics.objects.knowledge import Open, Unknown
from kubewitness.forensics.objects.model import Holding, Holdings, Inventory, Workload
from kubewitness.forensics.objects.outline import ANSWERED, WHOLE, naive
from kubewitness.forensics.objects.record import COLUMNS, Record, in_order, record
from kubewitness.forensics.objects.replay import State, replayed, state_after
from kubewitness.forensics.target import Target
from kubewitness.query.expression import Expression

WORKLOADS = (
    *("pods", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs"),
    "replicationcontrollers",
)
UNSEEN = (
    "What was made before this log begins and not written since is in no log, and not in this list."
)
NOT_KNOWABLE = "not knowable at this audit level"
_BATCH = 1000
_HOME = "cluster, resource, api_group, namespace"
_GROUPS = ("", "apps", "batch")
_WRITES = f"""
    FROM events
    WHERE resource IN ({", ".join(map(repr, WORKLOADS))})
        AND api_group IN ({", ".join(map(repr, _GROUPS))})
        AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
        AND {ANSWERED} AND code < 300 AND NOT {DRY_RUN}
        AND coalesce(subresource, '') NOT IN ('exec', 'attach', 'portforward', 'proxy', 'token')"""


def inventory(
    connection: duckdb.DuckDBPyConnection,
    at: datetime,
    *,
    condition: Expression = ANYTHING,
    cluster: str | None = None,
    namespace: str | None = None,
) -> Inventory:
    """The pods and workload controllers that were there at ``at`` and meet ``condition``."""
    like_that = meets(condition)
    _outline(connection, cluster, namespace, at)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE there AS {_THERE}", {"at": naive(at)})
    found = []
    for target, records in _records(connection):
        state = state_after((one for one in records if one.at <= at), target)
        if state.existence in ("exists", "terminating"):
            workload = _workload(target, state)
            if like_that(workload):
                found.append(workload)
    return Inventory(at, tuple(sorted(found, key=_place)), (UNSEEN,))


def holdings(
    connection: duckdb.DuckDBPyConnection,
    condition: Expression,
    *,
    cluster: str | None = None,
    namespace: str | None = None,
) -> Holdings:
    """When workloads met ``condition``: one row for each unbroken time of each of them."""
    like_that = meets(condition)
    _outline(connection, cluster, namespace, None, foreseen(condition))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE there AS {_EVER}")
    found: list[Holding] = []
    for target, records in _records(connection):
        found += _held(target, records, like_that)
    return Holdings(
        tuple(sorted(found, key=lambda one: (one.start, _place(one.workload)))), (UNSEEN,)
    )


def _outline(
    connection: duckdb.DuckDBPyConnection,
    cluster: str | None,
    namespace: str | None,
    until: datetime | None,
    likely: str = "true",
) -> None:
    """Make the table ``outline``: when what was written, and which of it are ``likely`` what is
    asked for."""
    where, parameters = "", dict[str, Any]()
    for column, sign, value in (
        ("cluster", "=", cluster),
        ("namespace", "=", namespace),
        ("stage_at", "<=", naive(until) if until else None),
    ):
        if value is not None:
            where += f" AND {column} {sign} ${column}"
            parameters[column] = value
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE outline AS
        SELECT cluster, resource, api_group, coalesce(namespace, '') AS namespace,
            coalesce(name, '') AS name, verb, {BEGINS} AS birth,
            {WHOLE} IS TRUE AS whole, ({likely}) IS TRUE AS likely, stage_at
        {_WRITES}{where}""",
        parameters,
    )


# A deletion may take a while: of what was deleted so shortly before, bodies tell if it was gone.
_TERMINATING = "INTERVAL 10 MINUTES"

# ``since`` is where the last answer that holds the object as a whole, or its life, begins.
_THERE = f"""
    SELECT {_HOME}, name,
        coalesce(
            max(stage_at) FILTER (whole),
            max(stage_at) FILTER (birth),
            min(stage_at)) AS since
    FROM outline WHERE name <> ''
    GROUP BY ALL
    HAVING NOT arg_max(verb = 'delete', stage_at) OR max(stage_at) > $at - {_TERMINATING}"""

_EVER = f"""
    SELECT {_HOME}, name, min(stage_at) AS since
    FROM outline WHERE name <> '' GROUP BY ALL HAVING bool_or(likely)"""

# When what is to be read of them was written, and what deletes a collection, which names no object;
# and which of the events at such a time it is.
_OWN = (
    f"JOIN there USING ({_HOME}, name) WHERE stage_at >= since",
    f"JOIN there USING ({_HOME}, name) WHERE written_at >= since",
)
_SWEPT = (
    f"JOIN there USING ({_HOME}) WHERE verb = 'deletecollection' AND stage_at >= since",
    f"SEMI JOIN there USING ({_HOME}) WHERE verb = 'deletecollection'",
)


def _records(
    connection: duckdb.DuckDBPyConnection,
) -> Iterator[tuple[Target, list[Record]]]:
    """Each object of the table ``there``, with what may have changed it since then, as far as the
    table ``outline`` goes."""
    found: dict[tuple[str, ...], list[Record]] = {}
    for when, which in (_OWN, _SWEPT):
        times = connection.execute(f"SELECT DISTINCT stage_at FROM outline {when}").fetchall()
        if not times:
            continue
        # Literals, by which the engine leaves out nearly all of a lake.
        literals = ", ".join(f"TIMESTAMP '{at}'" for (at,) in times)
        rows = connection.execute(
            f"""SELECT {_HOME}, name, written.* EXCLUDE ({_HOME}, name, written_at) FROM (
                SELECT cluster, resource, api_group, coalesce(namespace, '') AS namespace,
                    coalesce(name, '') AS name, stage_at AS written_at, {COLUMNS}
                {_WRITES} AND stage_at IN ({literals})) AS written
            {which}"""
        )
        while batch := rows.fetchmany(_BATCH):
            for row in batch:
                found.setdefault(row[:5], []).append(record(row[5:]))
    for (*home, name), own in found.items():
        if not name:
            continue
        cluster, resource, api_group, namespace = home
        first = min(one.at for one in own)
        # What deletes a collection names no object.
        swept = [one for one in found.get((*home, ""), ()) if one.at >= first]
        target = Target(cluster, of(resource, api_group), namespace, name)
        yield target, in_order([*own, *swept])


def _held(
    target: Target, records: Iterable[Record], like_that: Callable[[Workload], bool]
) -> Iterator[Holding]:
    held: Holding | None = None
    for one, _, state in replayed(records, target):
        workload = _workload(target, state)
        holds = state.existence in ("exists", "terminating") and like_that(workload)
        if held and (not holds or workload.life != held.workload.life):
            yield Holding(held.workload, held.start, one.at, held.since_creation)
            held = None
        if holds and held is None:
            held = Holding(workload, one.at, None, state.begun == one.at)
        elif holds and held:
            held = Holding(workload, held.start, None, held.since_creation)
    if held:
        yield held


def _workload(target: Target, state: State) -> Workload:
    spec = podspec.pod_spec(state.object)
    # Of a spec known in part only what is known is listed, and that it is a part is said.
    whole = isinstance(spec, dict) and not isinstance(spec, Open)
    node = spec.get("nodeName", "") if isinstance(spec, dict) else ""
    account = spec.get("serviceAccountName", "") if isinstance(spec, dict) else ""
    return Workload(
        subject=subject(target),
        life=state.life,
        uid=state.uid,
        existence=state.existence,
        created_at=state.begun,
        images=podspec.images(spec),
        service_account=account if isinstance(account, str) else "",
        secrets=podspec.mounted(spec, "secret"),
        configmaps=podspec.mounted(spec, "configMap"),
        node=node if isinstance(node, str) else "",
        owner=owner(state),
        unknown="" if whole and not isinstance(node, Unknown) else NOT_KNOWABLE,
    )


def _place(one: Workload) -> tuple[str, str, str, str]:
    return one.subject.cluster, one.subject.namespace, one.subject.kind, one.subject.name
