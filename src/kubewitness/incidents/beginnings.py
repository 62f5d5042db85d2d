"""What an incident began with: what its first and last request, and whoever gave it a right or a
credential, were amid; and the certificates that may be behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import duckdb
import msgspec

from kubewitness.activity.principal import principal_class
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.body import Body
from kubewitness.forensics.causes.debut import asked_for, first_times
from kubewitness.forensics.causes.deed import COLUMNS, Deed, deed, listed, literal
from kubewitness.forensics.causes.found import Found
from kubewitness.forensics.causes.links import causes, doubtful, leads_back
from kubewitness.forensics.causes.possession import CERTIFIED, certified
from kubewitness.forensics.causes.record import Record
from kubewitness.forensics.causes.scene import SIGNING, First, Key, Scene
from kubewitness.forensics.causes.sitting import Sitting, sittings

# So many of the latest approvals before each bearer are read, and of what else was done to each.
_APPROVED, _EACH = 100, 10


class Amid(msgspec.Struct, frozen=True):
    """What some requests were done amid, by their keys; and who had certificates signed."""

    firsts: dict[Key, tuple[First, ...]]
    sittings: dict[Key, Sitting | None]
    signed: list[Deed]
    bodies: dict[Key, Body | None]
    crowded: frozenset[Key]
    """Who bore a certificate when more had been approved than was read."""

    def notes(self, asked: Iterable[Deed]) -> tuple[str, ...]:
        """What was not read for these."""
        if not any(one.key in self.crowded for one in asked):
            return ()
        return (
            f"Of the certificates approved within the day before the latest {_APPROVED} were read:"
            " 'kubewitness cause AUDITID' may know of earlier ones.",
        )


def turns(
    own: Sequence[Deed], last: Deed, line: Iterable[Deed], links: Mapping[Key, list[Found]]
) -> list[Deed]:
    """Which requests to ask what they were done amid: the first of an incident and the ``last``
    that proves it, the first with each certificate, and what others did that led to those on the
    line."""
    mine = {one.key for one in own}
    borne: dict[str, Deed] = {}
    for one in own:
        if certified(one):
            borne.setdefault(one.credential, one)
    found = {one.key: one for one in (own[0], last, *borne.values()) if asked_for(one)}
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
    starts: Mapping[str, datetime],
) -> Amid:
    """In a few questions for all of them; ``starts`` is where the log of each cluster begins."""
    signed, crowded = _signed(connection, [one for one in asked if certified(one)], proxies)
    record = Record(connection)
    record.read_bodies(signed)
    # Who had a certificate signed may have borne one that was.
    bearing = [*asked, *(one for one in signed if certified(one))]
    return Amid(
        first_times(connection, bearing, proxies, starts),
        sittings(connection, asked, proxies),
        signed,
        record.bodies,
        crowded,
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


def _signed(
    connection: duckdb.DuckDBPyConnection, bearers: Sequence[Deed], proxies: frozenset[str]
) -> tuple[list[Deed], frozenset[Key]]:
    """Who approved certificates within the day before some were borne, who had requested them and
    what was issued; and before which bearers there were more. That nodes get their own is how they
    join."""
    if not bearers:
        return [], frozenset()
    since = min(one.at for one in bearers) - CERTIFIED
    until = max(one.at for one in bearers)
    signing = f"""FROM events WHERE resource = {quoted(SIGNING)}
        AND verb IN ('create', 'update', 'patch') AND (code IS NULL OR code < 400)
        AND stage IS DISTINCT FROM 'RequestReceived'
        AND stage_at >= {literal(since)} AND received_at <= {literal(until)}"""
    approving = f"{signing} AND subresource = 'approval'"
    writers = connection.execute(f"""SELECT DISTINCT coalesce("user", '') {approving}""").fetchall()
    people = [who for (who,) in writers if principal_class(who) not in ("node", "control-plane")]
    if not people:
        return [], frozenset()
    days = ", ".join(
        f"({number}, {quoted(one.cluster)}, {literal(one.at - CERTIFIED)}, {literal(one.at)})"
        for number, one in enumerate(bearers)
    )
    rows = connection.execute(
        f"""SELECT number, approved.* FROM (VALUES {days}) AS asked(number, place, since, until)
        JOIN (SELECT {COLUMNS} {approving} AND coalesce("user", '') IN ({listed(people)}))
            AS approved ON cluster = place AND received_at BETWEEN since AND until
        QUALIFY row_number() OVER (
            PARTITION BY number ORDER BY received_at DESC, audit_id) <= {_APPROVED}"""
    ).fetchall()
    found = [(number, deed(tuple(row), proxies)) for number, *row in rows]
    if not found:
        return [], frozenset()
    read = Counter(number for number, _ in found)
    crowded = frozenset(bearers[number].key for number, n in read.items() if n == _APPROVED)
    rows = connection.execute(
        f"""SELECT {COLUMNS} {signing} AND name IN ({listed(one.name for _, one in found)})
        AND (subresource IS NULL OR subresource = 'status')
        QUALIFY row_number() OVER (PARTITION BY cluster, name, subresource
            ORDER BY received_at DESC, audit_id) <= {_EACH}"""
    ).fetchall()
    signed = [one for _, one in found] + [deed(row, proxies) for row in rows]
    return list({(one.cluster, one.key): one for one in signed}.values()), crowded
