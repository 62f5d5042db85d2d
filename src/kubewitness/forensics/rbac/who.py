"""Who touched an object, and who could have."""

from __future__ import annotations

from pathlib import Path

import duckdb

from kubewitness.activity.table import DAY, slice_width
from kubewitness.forensics.causes.deed import learnt_proxies
from kubewitness.forensics.rbac.ability import able
from kubewitness.forensics.rbac.answer import Who
from kubewitness.forensics.rbac.grants import grants
from kubewitness.forensics.rbac.principals import principals
from kubewitness.forensics.rbac.touching import Span, touches
from kubewitness.forensics.target import Target, find, one_log
from kubewitness.times import Moment


def who(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    *,
    namespace: str | None = None,
    since: Moment | None = None,
    snapshot: Path | None = None,
) -> Who:
    """Who touched the object ``KIND/NAME`` in the view ``events`` (of one cluster), and who could.

    Raises ``KubewitnessError`` where nothing is known of it, or it is not clear which is meant.
    """
    target = find(connection, text, namespace=namespace)
    cluster, first, last = one_log(connection)
    begin = since.at(last) if since else None
    width = slice_width(int((last - first).total_seconds() * 1e6))
    span = Span(first, begin, last, width)
    known = principals(connection)
    touched = touches(connection, target, span, known, learnt_proxies(connection))
    granted = grants(connection, snapshot=snapshot)
    hands = {
        name
        for one in touched
        if one.refused < one.requests
        for name in (one.principal, one.acting_as)
    }
    return Who(
        cluster,
        str(target.kind),
        target.namespace,
        target.name,
        begin or first,
        last,
        {DAY: "day", DAY // 24: "hour"}.get(width, "5 minutes"),
        tuple(touched),
        tuple(able(target, granted, known, hands)),
        granted.knowledge,
        tuple(_notes(target)),
    )


def _notes(target: Target) -> list[str]:
    notes = []
    if target.kind.resource in ("secrets", "configmaps", "persistentvolumeclaims"):
        notes.append(
            "Each kubelet may read what the pods on its node use (Node authorizer, not RBAC); what"
            " processes in those pods do with it no audit log shows."
        )
    return notes
