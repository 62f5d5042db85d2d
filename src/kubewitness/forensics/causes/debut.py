"""First times: when an identity was first seen from an address, with a program, in a namespace or
at a kind of resource. Where that is not long ago, whatever brought it there began with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from kubewitness.activity.network import network
from kubewitness.activity.principal import UNAUTHENTICATED
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.deed import Deed, deeds_at, literal, program
from kubewitness.forensics.causes.found import Found, span
from kubewitness.forensics.causes.scene import AT_ALL, BEARING, First, Key, Scene

# What has been done for longer is a habit, whoever began it.
_RECENT = timedelta(days=7)
# The requests of callers without a name are told apart by their address alone.
_NAMELESS = (UNAUTHENTICATED, "system:anonymous")
_SUREST = 0.9


def asked_for(one: Deed) -> bool:
    """Whether first times tell anything: machinery goes where it is sent."""
    return one.of not in ("node", "control-plane")


def debut(scene: Scene, effect: Deed) -> Iterator[Found]:
    """What the identity of a deed had begun with not long before, however it was new.

    Sure as far as the log goes back: the share of it in which the identity did not do the like.
    """
    fresh = [one for one in scene.firsts.get(effect.key, ()) if _fresh(scene, one, effect)]
    begun: dict[Key, list[First]] = defaultdict(list)
    for one in fresh:
        # Who is new is new everywhere, and who is new in a namespace at everything there.
        if one.how == AT_ALL or not any(
            other.how == AT_ALL or set(other.how) < set(one.how) for other in fresh
        ):
            begun[one.deed.key].append(one)
    for firsts in begun.values():
        cause = firsts[0].deed
        wait, before = effect.at - cause.at, scene.span(cause.at)
        new = ", ".join(" ".join(one.how) for one in firsts)
        sure = min(_SUREST, before / max(before + wait, timedelta(seconds=1)))
        because = f"first seen {new} {span(wait)} before, never in the {span(before)} before that"
        yield Found(cause, "debut", False, round(sure, 2), because)


def _fresh(scene: Scene, first: First, effect: Deed) -> bool:
    """Whether the log goes back further than it is since, and that is not long."""
    wait = effect.at - first.deed.at
    recent = first.deed.turn < effect.turn and wait <= _RECENT
    return first.how != BEARING and recent and scene.span(first.deed.at) >= wait


def first_times(
    connection: duckdb.DuckDBPyConnection, deeds: Iterable[Deed], proxies: Collection[str] = ()
) -> dict[Key, tuple[First, ...]]:
    """When the identity of each deed did the like for the first time in the view ``events``, as
    far as it is asked for; empty where that was this very deed. Two questions for all."""
    asked = [one for one in deeds if asked_for(one)]
    found: dict[Key, tuple[First, ...]] = {one.key: () for one in asked}
    if not asked:
        return found
    times: list[dict[_How, _Time]] = [{} for _ in asked]
    for number, agent, namespace, resource, *some in _grouped(connection, asked):
        _fold(times[number], asked[number], agent or "", namespace, resource, some)
    named = {at for own in times for _, at in own.values()}
    known: dict[tuple[str, str, datetime], Deed] = {}
    for one in deeds_at(connection, named, proxies):
        known.setdefault((one.cluster, _identity(one), one.at), one)
    for one, own in zip(asked, times, strict=True):
        begun = (
            (known.get((one.cluster, _identity(one), at)), how) for how, (at, _) in own.items()
        )
        found[one.key] = tuple(
            First(first, how) for first, how in begun if first is not None and first.key != one.key
        )
    return found


_How = tuple[str, ...]
_Time = tuple[datetime, datetime]
"""When something was received, and when it was answered."""


def _grouped(connection: duckdb.DuckDBPyConnection, asked: Sequence[Deed]) -> list[tuple[Any, ...]]:
    """For each number, program, namespace and resource the first time, the first time from the
    address and the first time with the credential."""
    values = ", ".join(
        f"({number}, {quoted(one.cluster)}, {quoted(who)}, {quoted(one.source_ip)},"
        f" {quoted(chr(34) + one.credential + chr(34))}, {literal(one.at)})"
        for number, one in enumerate(asked)
        for who in _names(one)
    )
    names = sorted({who for one in asked for who in _names(one)})
    by = f'"user" IN ({", ".join(quoted(who) for who in names)})'
    if "" in names:
        by = f'("user" IS NULL OR {by})'
    latest = literal(max(one.at for one in asked))
    # Claims are long, and few bear certificates.
    claims = "CAST(extra AS VARCHAR)" if any(_certified(one) for one in asked) else "''"
    firsts = ", ".join(
        f"min(came){only}, arg_min(stage_at, came){only}"
        for only in ("", " FILTER (WHERE here)", " FILTER (WHERE bears)")
    )
    return connection.execute(
        f"""SELECT number, user_agent, namespace, resource, {firsts} FROM (
            SELECT number, user_agent, namespace, resource, events.came, stage_at,
                list_contains(source_ips, address) AS here, contains(extra, credential) AS bears
            FROM (VALUES {values}) AS asked(number, place, who, address, credential, until)
            JOIN (SELECT cluster, coalesce("user", '') AS name, user_agent, source_ips, stage_at,
                coalesce(namespace, '') AS namespace, coalesce(resource, '') AS resource,
                {claims} AS extra, coalesce(received_at, stage_at) AS came
                FROM events WHERE {by} AND received_at <= {latest}
                AND stage <> 'RequestReceived') AS events
            ON cluster = place AND name = who AND events.came <= until)
        GROUP BY ALL"""
    ).fetchall()


def _fold(
    own: dict[_How, _Time],
    one: Deed,
    agent: str,
    namespace: str,
    resource: str,
    some: Sequence[Any],
) -> None:
    """Take the times of one program, namespace and resource into those of a deed, by how the deed
    is like them."""
    ever, here, bears = (
        (at.replace(tzinfo=UTC), stage.replace(tzinfo=UTC)) if at is not None else None
        for at, stage in zip(some[::2], some[1::2], strict=True)
    )
    alike: list[tuple[_How, _Time | None]] = []
    if one.source_ip and not _wandering(one):
        alike.append(((f"from {one.source_ip}",), here))
    if _identity(one):
        if program(agent) == one.client:
            alike.append(((f"with {one.client}",), ever))
        what = (f"at {resource}",) if resource and resource == one.resource else ()
        there = (f"in {namespace}",) if namespace and namespace == one.namespace else ()
        alike += [(how, ever) for how in dict.fromkeys((what, there, what + there)) if how]
        alike += [(AT_ALL, ever), (BEARING, bears if _certified(one) else None)]
    for how, time in alike:
        if time is not None:
            own[how] = min(own.get(how, time), time)


def _certified(one: Deed) -> bool:
    """Whether it bore a certificate; tokens are renewed all day."""
    return one.credential.startswith("X509SHA256=")


def _wandering(one: Deed) -> bool:
    """Whether it comes from a pod, each of which has an address of its own."""
    return bool(one.pod) and network(one.source_ip).scope == "private"


def _names(one: Deed) -> tuple[str, ...]:
    """As the column ``user`` has the identity, '' where it has none."""
    return ("", "system:anonymous") if one.principal in _NAMELESS else (one.principal,)


def _identity(one: Deed) -> str:
    return "" if one.principal in _NAMELESS else one.principal
