"""What an incident began with: what its first and last request, and whoever gave it a right or a
credential, were amid; and the certificates that may be behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import duckdb
import msgspec

from kubewitness.forensics.causes.body import Body
from kubewitness.forensics.causes.debut import asked_for, first_times
from kubewitness.forensics.causes.deed import COLUMNS, Deed, deed, literal
from kubewitness.forensics.causes.found import Found
from kubewitness.forensics.causes.links import causes, doubtful, leads_back
from kubewitness.forensics.causes.possession import CERTIFIED
from kubewitness.forensics.causes.record import Record
from kubewitness.forensics.causes.scene import SIGNING, First, Key, Scene
from kubewitness.forensics.causes.sitting import Sitting, sittings

# So many of the latest signing requests are read.
_SIGNED = 100


class Amid(msgspec.Struct, frozen=True):
    """What some requests were done amid, by their keys; and who had certificates signed."""

    firsts: dict[Key, tuple[First, ...]]
    sittings: dict[Key, Sitting | None]
    signed: list[Deed]
    bodies: dict[Key, Body | None]


def turns(
    own: Sequence[Deed], line: Iterable[Deed], links: Mapping[Key, list[Found]]
) -> list[Deed]:
    """Which requests to ask what they were done amid: the first and the last of an incident, the
    first with each certificate, and what others did that led to those on the line."""
    mine = {one.key for one in own}
    certified: dict[str, Deed] = {}
    for one in own:
        if _certified(one):
            certified.setdefault(one.credential, one)
    found = {one.key: one for one in (own[0], own[-1], *certified.values()) if asked_for(one)}
    frontier, seen = list(line), set(mine)
    while frontier:
        effect = frontier.pop()
        for link in links.get(effect.key, ()):
            cause = link.cause
            if cause.key in seen or doubtful(link) or not leads_back(link, effect):
                continue
            seen.add(cause.key)
            frontier.append(cause)
            if asked_for(cause):
                found[cause.key] = cause
    return list(found.values())


def amid(
    connection: duckdb.DuckDBPyConnection,
    asked: Sequence[Deed],
    proxies: frozenset[str],
    start: datetime | None,
) -> Amid:
    """In a few questions for all of them; ``start`` is where the log begins."""
    signed = _signed(connection, [one for one in asked if _certified(one)], proxies)
    record = Record(connection)
    record.read_bodies(signed)
    return Amid(
        first_times(connection, asked, proxies, start),
        sittings(connection, asked, proxies),
        signed,
        record.bodies,
    )


def beginnings(
    scene: Scene, asked: Iterable[Deed], links: Mapping[Key, list[Found]]
) -> dict[Key, list[Found]]:
    """The causes of what was asked about, now with what it was done amid, and theirs."""
    found = {one.key: causes(scene, one) for one in asked}
    frontier = [(link, one) for one in asked for link in found[one.key]]
    while frontier:
        link, effect = frontier.pop()
        cause = link.cause
        if cause.key not in found and cause.key not in links and leads_back(link, effect):
            found[cause.key] = causes(scene, cause, sittings=False)
            frontier += [(further, cause) for further in found[cause.key]]
    return found


def _certified(one: Deed) -> bool:
    return one.credential.startswith("X509SHA256=") and asked_for(one)


def _signed(
    connection: duckdb.DuckDBPyConnection, bearers: Sequence[Deed], proxies: frozenset[str]
) -> list[Deed]:
    """Who requested and approved certificates within the day before some were borne; that nodes
    ask for their own is how they join."""
    if not bearers:
        return []
    since = min(one.at for one in bearers) - CERTIFIED
    until = max(one.at for one in bearers)
    rows = connection.execute(
        f"""SELECT {COLUMNS} FROM events WHERE resource = '{SIGNING}'
        AND verb IN ('create', 'update', 'patch') AND NOT starts_with("user", 'system:node:')
        AND stage_at >= {literal(since)} AND received_at <= {literal(until)}
        ORDER BY received_at DESC LIMIT {_SIGNED}"""
    ).fetchall()
    return [deed(row, proxies) for row in rows]
