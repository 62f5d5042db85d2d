"""First times: when an identity was first seen from an address, with a program, in a namespace or
at a kind of resource. Where that is not long ago, whatever brought it there began with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import duckdb

from kubewitness.activity.network import network, peer_address
from kubewitness.activity.principal import UNAUTHENTICATED, account_namespace
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.deed import Deed, deeds_at, literal, program
from kubewitness.forensics.causes.found import Found, span
from kubewitness.forensics.causes.scene import AT_ALL, BEARING, First, Key, Scene

# What has been done for longer is a habit, whoever began it.
_RECENT = timedelta(days=7)
# The requests of callers without a name are told apart by their address alone.
_ANONYMOUS = "system:anonymous"
_NAMELESS = ("", UNAUTHENTICATED, _ANONYMOUS)
_SUREST = 0.9
_PROBED = timedelta(hours=12)


def asked_for(one: Deed) -> bool:
    """Whether first times tell anything: machinery goes where it is sent."""
    return one.of not in ("node", "control-plane")


def debut(scene: Scene, effect: Deed) -> Iterator[Found]:
    """What the identity of a deed had begun with not long before, however it was new.

    Sure as far as the log goes back: the share of it in which the identity did not do the like.
    """
    fresh = [one for one in scene.firsts.get(effect.key, ()) if _fresh(scene, one, effect)]
    begun: dict[Key, tuple[Deed, list[_How]]] = {}
    for one in fresh:
        # Who is new in a namespace is new at everything there.
        implied = any(set(other.how) < set(one.how) for other in fresh)
        if one.deed is not None and not implied:
            begun.setdefault(one.deed.key, (one.deed, []))[1].append(one.how)
    for cause, hows in begun.values():
        wait, before = effect.at - cause.at, scene.span(cause.at)
        new = ", ".join(" ".join(how) for how in hows)
        sure = min(_SUREST, before / max(before + wait, timedelta(seconds=1)))
        because = f"first seen {new} {span(wait)} before, never in the {span(before)} before that"
        yield Found(cause, "debut", False, round(sure, 2), because)


def _fresh(scene: Scene, first: First, effect: Deed) -> bool:
    """Whether the log goes back further than it is since, and that is not long."""
    wait = effect.at - first.at
    recent = timedelta(0) <= wait <= _RECENT and scene.span(first.at) >= wait
    return recent and first.how[:1] not in (AT_ALL, BEARING)


def first_times(
    connection: duckdb.DuckDBPyConnection,
    deeds: Iterable[Deed],
    proxies: Collection[str] = (),
    starts: Mapping[str, datetime] | None = None,
) -> dict[Key, tuple[First, ...]]:
    """When the identity of each deed did the like for the first time in the view ``touches``, as
    far as it is asked for, without what was this very deed. Three questions for all.

    With the ``starts`` of the log, by cluster, what had been usual before it could be ``debut`` is
    left out.
    """
    asked = [one for one in deeds if asked_for(one)]
    found: dict[Key, tuple[First, ...]] = {one.key: () for one in asked}
    if not asked:
        return found
    usual = _usual(connection, asked, proxies, starts) if starts else set()
    wanted = {
        one.key: [how for how in _alike(one) if (_identity(one), how) not in usual] for one in asked
    }
    begun = _begun(connection, [one for one in asked if wanted[one.key]], proxies)
    times = {
        one.key: [
            (how, time) for how in wanted[one.key] if (time := begun.get((_identity(one), how)))
        ]
        for one in asked
    }
    answered = {
        stage for one in asked for _, (at, stage) in times[one.key] if one.at - at <= _RECENT
    }
    known: dict[tuple[_Identity, _Time], list[Deed]] = defaultdict(list)
    for one in deeds_at(connection, answered, proxies):
        known[_identity(one), (one.at, one.answered)].append(one)
    for one in asked:
        firsts = [
            First(time[0], how, _like(how, known.get((_identity(one), time), ())))
            for how, time in times[one.key]
        ]
        found[one.key] = tuple(
            first for first in firsts if first.deed is None or first.deed.key != one.key
        )
    return found


_How = tuple[str, ...]
_Identity = tuple[str, str]
"""Cluster and name."""
_Time = tuple[datetime, datetime]
"""When something was received, and when it was answered."""


def _alike(one: Deed) -> Iterator[_How]:
    """In what others of the same identity may be like a deed."""
    # Each pod has an address of its own, also where its token does not name it.
    wanders = account_namespace(one.principal) and network(one.source_ip).scope == "private"
    if one.source_ip and not wanders:
        yield (f"from {one.source_ip}",)
    if one.principal in _NAMELESS:
        return
    yield (f"with {one.client}",)
    yield from _things(one.resource, one.namespace)
    if _certified(one):
        yield AT_ALL
        yield (*BEARING, one.credential)


def _like(how: _How, deeds: Iterable[Deed]) -> Deed | None:
    """Of what came and was answered at one time the first that is like another in this."""
    return next((one for one in deeds if how in _alike(one)), None)


def _things(resource: str, namespace: str) -> list[_How]:
    what = (f"at {resource}",) if resource else ()
    there = (f"in {namespace}",) if namespace else ()
    return list(dict.fromkeys(how for how in (what, there, what + there) if how))


def _usual(
    connection: duckdb.DuckDBPyConnection,
    asked: Sequence[Deed],
    proxies: Collection[str],
    starts: Mapping[str, datetime],
) -> set[tuple[_Identity, _How]]:
    """What was done in the hours before any of them could have been new, see ``_fresh``."""
    end = min(one.at - min(_RECENT, (one.at - starts[one.cluster]) / 2) for one in asked)
    seen = _begun(connection, asked, proxies, (end - _PROBED, end))
    return {key for key in seen if key[1][:1] not in (AT_ALL, BEARING)}


def _begun(
    connection: duckdb.DuckDBPyConnection,
    asked: Sequence[Deed],
    proxies: Collection[str],
    within: tuple[datetime, datetime] | None = None,
) -> dict[tuple[_Identity, _How], _Time]:
    """For each identity and way to be alike the first time in the whole log, or in a part."""
    if not asked:
        return {}
    names = sorted({_named(one.principal) for one in asked})
    names += [_ANONYMOUS] if "" in names else []
    by = f'"user" IN ({", ".join(quoted(name) for name in names)})'
    if "" in names:
        by = f'("user" IS NULL OR {by})'
    certificates = sorted({one.credential for one in asked if _certified(one)})
    bears = " ".join(
        f"WHEN contains(CAST(extra AS VARCHAR), {quoted(chr(34) + one + chr(34))}) THEN"
        f" {quoted(one)}"
        for one in certificates
    )
    # Claims are long, and few bear certificates.
    borne = f"CASE {bears} ELSE '' END" if bears else "''"
    if within is not None:
        by += f" AND stage_at >= {literal(within[0])} AND stage_at < {literal(within[1])}"
    rows = connection.execute(
        f"""SELECT cluster, name, agent, addresses, namespace, resource, borne,
            min((came, stage_at))
        FROM (SELECT cluster, coalesce("user", '') AS name, coalesce(user_agent, '') AS agent,
            source_ips AS addresses, coalesce(namespace, '') AS namespace,
            coalesce(resource, '') AS resource, {borne} AS borne, stage_at,
            coalesce(received_at, stage_at) AS came
            FROM touches WHERE {by} AND stage IS DISTINCT FROM 'RequestReceived')
        GROUP BY ALL"""
    ).fetchall()
    begun: dict[tuple[_Identity, _How], _Time] = {}
    for cluster, name, agent, addresses, namespace, resource, borne, times in rows:
        came, stage = (at.replace(tzinfo=UTC) for at in times)
        # Whatever else stands among the addresses, the client may have made up.
        alike: list[_How] = [(f"from {peer_address(addresses or (), proxies)}",)]
        alike += [(f"with {program(agent)}",), AT_ALL, *_things(resource, namespace)]
        alike.append((*BEARING, borne))
        for how in alike:
            key = ((cluster, _named(name)), how)
            begun[key] = min(begun.get(key, (came, stage)), (came, stage))
    return begun


def _certified(one: Deed) -> bool:
    """Whether it bore a certificate; tokens are renewed all day."""
    return one.credential.startswith("X509SHA256=")


def _named(principal: str) -> str:
    """A name, '' for callers without one."""
    return "" if principal in _NAMELESS else principal


def _identity(one: Deed) -> _Identity:
    return (one.cluster, _named(one.principal))
