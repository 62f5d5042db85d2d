"""What a controller makes is what somebody asked for: settings of pods belong to their author.

A person writes a Deployment, and a controller its pods. Mostly the template shows what these will
be allowed to do; where the level keeps no body of it, or admission changes the pod afterwards, only
the pod shows it, and nobody ever wrote a dangerous setting. So the activity of whoever wrote the
workload last gets what is new about the pods that were made of it since, and some of the auditIDs
that show it. What earlier pods were allowed, too, a restart has not asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

import duckdb

from kubewitness.activity.owner import family
from kubewitness.events.trait import TRAITS

_MADE = ("pods", "replicasets.apps", "jobs.batch")
_WRITTEN = (
    *("deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps"),
    *("jobs.batch", "cronjobs.batch", "replicationcontrollers"),
)
# Enough to show it.
_SHOWN = 4

_Owner = tuple[str, str]
"""Namespace and name."""


class _Write(NamedTuple):
    first: datetime
    row: int
    creates: bool
    traits: frozenset[str]


class _Made(NamedTuple):
    """Objects that a controller made, which may be of each of ``owners``."""

    first: datetime
    owners: tuple[_Owner, ...]
    traits: frozenset[str]
    audit_ids: list[str]


def attribute(connection: duckdb.DuckDBPyConnection, cluster: str) -> int:
    """Give authors in the table ``activities`` the traits of what controllers made of what they
    wrote; returns how many rows became others. Doing it again changes nothing."""
    made = list(_made(connection, cluster))
    if not made:
        return 0
    writes = _writes(connection, cluster)
    earlier: dict[_Owner, list[_Made]] = defaultdict(list)
    gained: dict[int, set[str]] = {}
    shown: dict[int, dict[str, None]] = defaultdict(dict)
    for one in made:
        found = [write for owner in one.owners if (write := _last(writes[owner], one.first))]
        if found and one.traits:
            write = max(found)
            before = [old for owner in one.owners for old in earlier[owner]
                      if old.first < write.first]  # fmt: skip
            known = write.traits.union(*(old.traits for old in before))
            new = one.traits - known if before or write.creates else frozenset()
            if new:
                gained.setdefault(write.row, {*write.traits}).update(new)
                shown[write.row] |= dict.fromkeys(one.audit_ids)
        for owner in one.owners:
            earlier[owner].append(one)
    for row, traits in gained.items():
        connection.execute(
            """UPDATE activities SET traits = ?, audit_ids = list_concat(audit_ids, ?)
            WHERE rowid = ?""",
            [_joined(traits), [*shown[row]][:_SHOWN], row],
        )
    return len(gained)


def _made(connection: duckdb.DuckDBPyConnection, cluster: str) -> Iterator[_Made]:
    """In namespaces where controllers made anything with dangerous settings, all that they made."""
    rows = connection.execute(
        f"""WITH made AS (
            SELECT first, namespace, split_part(resource, '.', 1) AS resource, name_samples, traits,
                audit_ids FROM activities
            WHERE cluster = ? AND class = 'control-plane' AND verb = 'create' AND subresource = ''
                AND outcome = 'ok' AND resource IN {_MADE})
        FROM made WHERE namespace IN (SELECT namespace FROM made WHERE traits <> '')
        ORDER BY first, namespace, resource, name_samples""",
        [cluster],
    ).fetchall()
    for first, namespace, resource, names, traits, audit_ids in rows:
        owners = dict.fromkeys(
            (namespace, owner) for name in names for owner in family(resource, name)[1:]
        )
        yield _Made(first, tuple(owners), _set(traits), audit_ids)


def _writes(connection: duckdb.DuckDBPyConnection, cluster: str) -> dict[_Owner, list[_Write]]:
    """What others wrote of workloads, in the order of time."""
    rows = connection.execute(
        f"""SELECT first, rowid, verb = 'create', traits, namespace, name_samples FROM activities
        WHERE cluster = ? AND class IN ('human', 'workload') AND outcome = 'ok'
            AND verb IN ('create', 'update', 'patch') AND subresource = ''
            AND resource IN {_WRITTEN} ORDER BY first, rowid""",
        [cluster],
    ).fetchall()
    found: dict[_Owner, list[_Write]] = defaultdict(list)
    for first, row, creates, traits, namespace, names in rows:
        for name in names:
            found[namespace, name].append(_Write(first, row, creates, _set(traits)))
    return found


def _last(writes: list[_Write], at: datetime) -> _Write | None:
    place = bisect_right(writes, at, key=lambda one: one.first)
    return writes[place - 1] if place else None


def _set(traits: str) -> frozenset[str]:
    return frozenset(traits.split(", ")) - {""}


def _joined(traits: Iterable[str]) -> str:
    """As ``events.trait`` has them."""
    known = [one for one in TRAITS if one in set(traits)]
    return ", ".join((*known, *sorted(set(traits) - set(known))))
