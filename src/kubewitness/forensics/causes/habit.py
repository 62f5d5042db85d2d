"""What somebody always does from a pod, and how often it was done before."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import duckdb

from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.deed import Deed, listed, literal


class Habit(NamedTuple):
    """What somebody does from a pod: asked for is how often it was done ``before`` a time."""

    cluster: str
    principal: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    pod: str
    before: datetime


def habit(deed: Deed, before: datetime) -> Habit:
    """Of which a deed may be an instance."""
    return Habit(deed.cluster, deed.principal, deed.verb, deed.resource, deed.subresource,
                 deed.namespace, deed.pod, before)  # fmt: skip


_RULING = {
    '"user"': "principal",
    **{name: name for name in ("cluster", "verb", "resource", "namespace")},
}


def counted(connection: duckdb.DuckDBPyConnection, habits: Iterable[Habit]) -> dict[Habit, int]:
    """How often each was done in the view ``touches``, in one question for all; what is logged
    when it starts and when it ends counts once."""
    asked = list(habits)
    if not asked:
        return {}
    values = ", ".join(
        f"({number}, {', '.join(quoted(text) for text in one[:-1])}, {literal(one.before)})"
        for number, one in enumerate(asked)
    )
    # The engine leaves out what these rule out before it joins.
    ruled = [
        f"received_at < {literal(max(one.before for one in asked))}",
        "stage IS DISTINCT FROM 'RequestReceived'",
    ]
    for column, field in _RULING.items():
        if all(texts := [getattr(one, field) for one in asked]):
            ruled.append(f"{column} IN ({listed(texts)})")
    rows = connection.execute(
        f"""SELECT number, greatest(count(*) FILTER (started), count(*) FILTER (NOT started))
        FROM (VALUES {values})
            AS asked(number, place, who, what, kind, part, home, pod, before)
        JOIN (SELECT cluster, "user", verb, coalesce(resource, '') AS resource,
            coalesce(subresource, '') AS subresource, coalesce(namespace, '') AS namespace,
            CAST(extra AS VARCHAR) AS extra, received_at,
            coalesce(stage = 'ResponseStarted', false) AS started
            FROM touches WHERE {" AND ".join(ruled)})
        ON cluster = place AND "user" = who AND verb = what AND resource = kind
            AND subresource = part AND namespace = home AND received_at < before
            AND contains(extra, '"' || pod || '"')
        GROUP BY number"""
    ).fetchall()
    return dict.fromkeys(asked, 0) | {asked[number]: n for number, n in rows}
