"""Who touched an object, how often, from where, permitted by what, and whether that is usual."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import duckdb
import numpy as np

from kubewitness.activity.action import action, outcome
from kubewitness.activity.client import client
from kubewitness.activity.network import peer_address
from kubewitness.activity.principal import (
    UNAUTHENTICATED,
    PrincipalClass,
    principal_class,
    team,
)
from kubewitness.activity.table import Ids
from kubewitness.baseline.counts import Occasions
from kubewitness.baseline.horizon import NEVER, Horizon, guard_of
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.rbac.answer import Habit, Touched
from kubewitness.forensics.rbac.principals import Principal
from kubewitness.forensics.rbac.reason import SQL as REASON
from kubewitness.forensics.rbac.reason import granted
from kubewitness.forensics.target import Target

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The requests that show or affect an object without naming it.
_ALL_OF_THEM = ("list", "watch", "deletecollection")


class Span(NamedTuple):
    """The log and the part of it that is asked about, and what a time slice is in it, in
    microseconds."""

    first: datetime
    since: datetime | None
    until: datetime
    slice_width: int


class _Row(NamedTuple):
    user: str
    acting_as: str
    verb: str
    subresource: str
    named: bool
    code: int | None
    panic: bool
    agent: str
    source_ips: list[str]
    reason: str
    place: str
    slice: int
    recent: bool
    n: int
    first: datetime
    last: datetime

    @property
    def outcome(self) -> str:
        return outcome(self.code, "Panic" if self.panic else "Response")


def touches(
    connection: duckdb.DuckDBPyConnection,
    target: Target,
    span: Span,
    known: Mapping[str, Principal],
    proxies: Collection[str],
) -> list[Touched]:
    """Everybody who touched ``target`` in the span, what is least usual first.

    Whether that is usual is asked as the detection asks it (``surprise.audience``): on how many
    other slices did this principal, or its team, touch it? With ``since`` those before it count,
    without it those that are not in the neighbourhood of the touch.
    """
    rows = [_Row(*row) for row in _rows(connection, target, span)]
    teams = {row.user: _team(row.user, known) for row in rows}
    classes = {row.user: principal_class(row.user) for row in rows}
    habits = _habits(rows, teams, classes, span)
    gathered: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        if row.recent:
            gathered.setdefault((row.user, row.acting_as), []).append(row)
    found = []
    for (user, acting_as), own in gathered.items():
        seen, peers, anyone = habits[user, acting_as]
        machinery = classes[user] in ("node", "control-plane")
        habit: Habit = (
            "machinery" if machinery
            else "usual" if seen
            else "team" if peers
            else "new" if anyone
            else "first"
        )  # fmt: skip
        found.append(
            _touched(own, target, proxies, classes[user], teams[user], habit, seen, peers, anyone)
        )
    order = ("new", "first", "team", "usual", "machinery")
    found.sort(key=lambda one: (order.index(one.habit), -one.last.timestamp(), one.principal))
    return found


def _touched(
    rows: list[_Row],
    target: Target,
    proxies: Collection[str],
    principal_class: PrincipalClass,
    team: str,
    habit: Habit,
    seen: int,
    peers: int,
    anyone: int,
) -> Touched:
    actions: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    clients: Counter[str] = Counter()
    bindings: Counter[str] = Counter()
    for row in rows:
        deed = action(row.verb, str(target.kind), row.subresource, "")
        where = f" {row.place}" if not row.named and row.place else ""
        actions[deed + where] += row.n
        outcomes[row.outcome] += row.n
        sources[peer_address(row.source_ips or [], proxies)] += row.n
        clients[client(row.agent or "").product] += row.n
        allowed = granted(row.reason)
        if allowed is not None:
            bindings[allowed.told] += row.n
    return Touched(
        rows[0].user,
        rows[0].acting_as,
        principal_class,
        team,
        sum(outcomes.values()),
        outcomes["denied"] + outcomes["unauthenticated"],
        min(row.first for row in rows).replace(tzinfo=UTC),
        max(row.last for row in rows).replace(tzinfo=UTC),
        dict(actions.most_common()),
        dict(outcomes.most_common()),
        dict(sources.most_common()),
        dict(clients.most_common()),
        tuple(name for name, _ in bindings.most_common()),
        habit,
        seen,
        peers,
        anyone,
    )


def _habits(
    rows: Sequence[_Row],
    teams: Mapping[str, str],
    classes: Mapping[str, PrincipalClass],
    span: Span,
) -> dict[tuple[str, str], tuple[int, int, int]]:
    """For each (principal, acting as) on how many other slices itself, its team and anybody touched
    the object, asked where that is least. Kubelets, controllers and refusals do not count."""
    if not rows:
        return {}
    who = _numbered([(row.user, row.acting_as) for row in rows])
    peers = _numbered([teams[row.user] for row in rows])
    anyone = np.zeros(len(rows), dtype=np.uint64)
    slices = np.array([row.slice for row in rows], dtype=np.int64)
    served = np.array(
        [classes[row.user] in ("human", "workload") and row.outcome == "ok" for row in rows]
    )
    lower, upper = _horizon(span).at(slices)
    columns = [
        Occasions(key[served], slices[served]).outside(key, lower, upper)
        for key in (who, peers, anyone)
    ]
    habits: dict[tuple[str, str], tuple[int, int, int]] = {}
    for row, seen, theirs, anybodys in zip(rows, *(map(int, one) for one in columns), strict=True):
        if row.recent:
            key, days = (row.user, row.acting_as), (seen, theirs, anybodys)
            habits[key] = min(habits.get(key, days), days)
    return habits


def _horizon(span: Span) -> Horizon:
    """Which slices a touch is compared with: see ``baseline.horizon``, whose rules these are."""
    slices = np.arange(_slice(span, span.until) + 1, dtype=np.int64)
    if span.since is None:
        guard = guard_of(len(slices))
        return Horizon(slices - guard, slices + guard)
    return Horizon(np.minimum(slices, _slice(span, span.since)), np.full_like(slices, NEVER))


def _slice(span: Span, at: datetime) -> int:
    return (_micros(at) - _micros(span.first)) // span.slice_width


def _micros(at: datetime) -> int:
    return int((at - EPOCH) / timedelta(microseconds=1))


def _numbered(names: Sequence[Hashable]) -> Ids:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.uint64)


def _team(user: str, known: Mapping[str, Principal]) -> str:
    return team(user, tuple(known[user].groups) if user in known else ())


def _rows(connection: duckdb.DuckDBPyConnection, target: Target, span: Span) -> list[Any]:
    """What touched the object, alike requests of one slice in one row. Of a watch or exec both the
    start and the end are logged, and neither counts twice (as in ``activity.rollup``)."""
    # Literals, not parameters: only they are tried on what Parquet says of its pages.
    home = quoted(target.namespace)
    within = "" if target.kind.resource == "namespaces" else f"AND coalesce(namespace, '') = {home}"
    of_all = ", ".join(map(quoted, _ALL_OF_THEM))
    since = _micros(span.since) if span.since else 0
    return connection.execute(
        f"""WITH touching AS (
            SELECT coalesce(nullif("user", ''), '{UNAUTHENTICATED}') AS "user",
                coalesce(impersonated_user, '') AS acting_as,
                verb, coalesce(subresource, '') AS subresource, coalesce(name, '') <> '' AS named,
                code, stage = 'Panic' AS panic, stage = 'ResponseStarted' AS started, user_agent,
                source_ips, annotations,
                CASE WHEN name <> '' THEN '' WHEN namespace <> '' THEN 'in ' || namespace
                    ELSE 'everywhere' END AS place,
                (epoch_us(received_at) - {_micros(span.first)}) // {span.slice_width} AS slice,
                epoch_us(received_at) >= {since} AS recent, received_at
            FROM touches
            WHERE resource = {quoted(target.kind.resource)}
                AND api_group = {quoted(target.kind.group)}
                AND ((name = {quoted(target.name)} {within})
                    OR (coalesce(name, '') = '' AND verb IN ({of_all})
                        AND coalesce(namespace, '') IN ({home}, '')))
                AND stage <> 'RequestReceived'
        ), alike AS (
            SELECT * EXCLUDE (received_at, started),
                greatest(count(*) FILTER (started), count(*) FILTER (NOT started)) AS n,
                min(received_at) AS first, max(received_at) AS last
            FROM touching GROUP BY ALL
        )
        SELECT "user", acting_as, verb, subresource, named, code, panic, user_agent, source_ips,
            {REASON}, place, greatest(slice, 0), recent, n, first, last
        FROM alike ORDER BY first"""
    ).fetchall()
