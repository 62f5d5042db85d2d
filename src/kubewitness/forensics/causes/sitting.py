"""What one identity did from one place with one program without a long pause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import duckdb

from kubewitness.activity.network import peer_address
from kubewitness.activity.principal import UNAUTHENTICATED
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.deed import Deed, deeds_at, literal, program

# Who makes no request for this long has got up; who makes one within it all day is a program.
PAUSE = timedelta(minutes=30)
SITTING = timedelta(hours=6)
# Longer pauses are made to think, or between one task and the next.
_IN_ONE_GO = timedelta(minutes=1)
# Who makes more requests in a sitting than this is a program, too.
_MOST = 1000

_Key = tuple[str, str, datetime]
_Place = tuple[str, str, str, str]
"""Cluster, principal, address and program."""
_Time = tuple[datetime, datetime]
"""When something was received, and when it was answered."""
_Any = TypeVar("_Any")


class Sitting(NamedTuple):
    """The ``first`` request of a sitting, how many there were (``n``), and where the last of it
    began that was done in one go (``run``)."""

    first: Deed
    n: int
    run: Deed


def began(
    own: Sequence[_Any], last: int, at: Callable[[_Any], datetime]
) -> tuple[_Any, int, _Any] | None:
    """The sitting in which ``own[last]`` was done, of requests in the order of time: see
    ``Sitting``; ``None`` for what never pauses."""
    first = run = last
    while first > 0 and (pause := at(own[first]) - at(own[first - 1])) <= PAUSE:
        first -= 1
        if run == first + 1 and pause <= _IN_ONE_GO:
            run = first
        if at(own[last]) - at(own[first]) > SITTING:
            return None
    return own[first], last - first + 1, own[run]


def sittings(
    connection: duckdb.DuckDBPyConnection, deeds: Iterable[Deed], proxies: Collection[str]
) -> dict[_Key, Sitting | None]:
    """The sittings of all these deeds in the view ``events``; ``None`` for what never pauses."""
    asked = [one for one in deeds if one.of not in ("node", "control-plane")]
    found: dict[_Key, Sitting | None] = {one.key: None for one in asked}
    if not asked:
        return found
    values = ", ".join(
        f"({number}, {quoted(one.cluster)}, {quoted(_name(one))}, {quoted(one.source_ip)},"
        f" {literal(one.at - SITTING - PAUSE)}, {literal(one.at)})"
        for number, one in enumerate(asked)
    )
    names = ", ".join(quoted(name) for name in sorted({_name(one) for one in asked}))
    rows = connection.execute(
        f"""SELECT number, user_agent, source_ips, came, min(stage_at) AS stage
        FROM (VALUES {values}) AS asked(number, place, who, address, since, until)
        JOIN (SELECT cluster, coalesce("user", '') AS name, user_agent, source_ips, audit_id,
            stage_at, coalesce(received_at, stage_at) AS came FROM events
            WHERE coalesce("user", '') IN ({names}) AND stage IS DISTINCT FROM 'RequestReceived'
            AND stage_at >= {literal(min(one.at for one in asked) - SITTING - PAUSE)}
            AND received_at <= {literal(max(one.at for one in asked))})
        ON cluster = place AND name = who AND came BETWEEN since AND until
            AND list_contains(source_ips, address)
        GROUP BY number, user_agent, source_ips, audit_id, came
        QUALIFY row_number() OVER (
            PARTITION BY number, user_agent, source_ips ORDER BY came DESC) <= {_MOST}
        ORDER BY number, came, stage, audit_id"""
    ).fetchall()
    times: dict[int, list[_Time]] = defaultdict(list)
    for number, agent, addresses, came, stage in rows:
        one = asked[number]
        # Whatever else stands among the addresses, the client may have made up.
        if (program(agent or ""), peer_address(addresses, proxies)) == (one.client, one.source_ip):
            times[number].append((came.replace(tzinfo=UTC), stage.replace(tzinfo=UTC)))
    told = {
        number: sitting
        for number, own in times.items()
        if (sitting := began(own, len(own) - 1, lambda one: one[0])) is not None
        and sitting[1] < _MOST
    }
    wanted = {stage for first, _, run in told.values() for _, stage in (first, run)}
    known: dict[tuple[_Place, _Time], Deed] = {}
    for one in deeds_at(connection, wanted, proxies):
        known.setdefault((_place(one), (one.at, one.answered)), one)
    for number, (first, n, run) in told.items():
        one = asked[number]
        begin, go = (known.get((_place(one), time)) for time in (first, run))
        if begin is not None and go is not None:
            found[one.key] = Sitting(begin, n, go)
    return found


def _place(one: Deed) -> _Place:
    return (one.cluster, one.principal, one.source_ip, one.client)


def _name(one: Deed) -> str:
    """As the column ``user`` has the principal."""
    return "" if one.principal == UNAUTHENTICATED else one.principal
