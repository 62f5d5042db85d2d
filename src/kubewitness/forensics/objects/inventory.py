"""What ran at a time, and which workloads held something over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import duckdb

from kubewitness.forensics.objects import podspec
from kubewitness.forensics.objects.condition import ANYTHING, meets
from kubewitness.forensics.objects.history import owner, subject
from kubewitness.forensics.objects.knowledge import Open, Unknown, child
from kubewitness.forensics.objects.model import Holding, Holdings, Inventory, Workload
from kubewitness.forensics.objects.record import Record
from kubewitness.forensics.objects.replay import State, replayed, state_after
from kubewitness.forensics.objects.workloads import ever, there
from kubewitness.forensics.target import Target
from kubewitness.query.expression import Expression

UNSEEN = (
    "What was made before this log begins and not written since is in no log, and not in this list."
)
NOT_KNOWABLE = "not knowable at this audit level"


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
    found = []
    for target, records in there(connection, at, cluster=cluster, namespace=namespace):
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
    found: list[Holding] = []
    for target, records in ever(connection, condition, cluster=cluster, namespace=namespace):
        found += _held(target, records, like_that)
    return Holdings(
        tuple(sorted(found, key=lambda one: (one.start, _place(one.workload)))), (UNSEEN,)
    )


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
        created_at=state.begun or _created(state),
        images=podspec.images(spec),
        service_account=account if isinstance(account, str) else "",
        secrets=podspec.mounted(spec, "secret"),
        configmaps=podspec.mounted(spec, "configMap"),
        node=node if isinstance(node, str) else "",
        owner=owner(state),
        unknown="" if whole and not isinstance(node, Unknown) else NOT_KNOWABLE,
    )


def _created(state: State) -> datetime | None:
    """When it was, as the object itself tells; its creation need not be in the log."""
    told = child(state.object, "metadata").get("creationTimestamp")
    try:
        at = datetime.fromisoformat(told) if isinstance(told, str) else None
        return at.astimezone(UTC) if at is not None and at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _place(one: Workload) -> tuple[str, str, str, str]:
    return one.subject.cluster, one.subject.namespace, one.subject.kind, one.subject.name
