"""What is to be sent: one message a sink and incident, until the sink has it or refuses it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, Row, case, func, or_, select

from kubewitness.incidents.model import Incident
from kubewitness.state.keeping import Kind
from kubewitness.state.schema import deliveries, incidents, waiting

LONGEST = timedelta(hours=1)
"""No message is put off for longer."""
MOST_STANDING = 500
"""What a sink is reminded of at once."""


class Delivery(msgspec.Struct, frozen=True):
    """A message for a sink: an incident as it is now, and what is to be told of it.

    A revision may be sent more than once, with the same ``kind``: when it is not known whether it
    arrived. ``attempts`` is how often it failed.
    """

    id: int
    sink: str
    kind: Kind
    incident: Incident
    revision: int
    attempts: int


class Backlog(msgspec.Struct, frozen=True):
    """Messages that wait for a sink, those of them that failed before, and the time since when the
    first of them could have been sent."""

    sink: str
    waiting: int
    failing: int
    oldest: datetime


def due(
    connection: Connection, sink: str, clusters: Sequence[str] | None, now: datetime
) -> Row[int, int, int, int, int, str, datetime | None] | None:
    """The message that has been due for longest, with the ``body`` of its incident."""
    # What seems to be put off for much longer was so before the clock was put back.
    ready = or_(deliveries.c.due_at <= now, deliveries.c.due_at > now + 2 * LONGEST)
    asked = (
        select(
            deliveries.c.id,
            deliveries.c.revision,
            deliveries.c.told,
            deliveries.c.settled,
            deliveries.c.attempts,
            incidents.c.body,
            incidents.c.closed_at,
        )
        .join_from(deliveries, incidents)
        .where(deliveries.c.sink == sink, waiting, ready)
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(1)
    )
    if clusters is not None:
        asked = asked.where(deliveries.c.cluster.in_(clusters))
    return connection.execute(asked).first()


def standing(
    connection: Connection, sink: str, clusters: Sequence[str] | None, since: datetime
) -> Sequence[Row[str, str, int, datetime | None]]:
    """What ``sink`` was told of since then and is not over: the ``body``, the ``most`` that was
    ever told (``growth.Told``), revision and time."""
    asked = (
        select(
            incidents.c.body,
            incidents.c.told.label("most"),
            deliveries.c.told,
            deliveries.c.told_at,
        )
        .join_from(deliveries, incidents)
        .where(
            deliveries.c.sink == sink,
            deliveries.c.told > 0,
            deliveries.c.told_at >= since,
            incidents.c.closed_at.is_(None),
        )
        .order_by(deliveries.c.told_at.desc())
        .limit(MOST_STANDING)
    )
    if clusters is not None:
        asked = asked.where(deliveries.c.cluster.in_(clusters))
    return connection.execute(asked).all()


def delivered(connection: Connection, identity: int, revision: int, now: datetime) -> None:
    """The sink has this revision; a newer one that came meanwhile is still to be sent."""
    connection.execute(
        deliveries.update()
        .where(deliveries.c.id == identity, deliveries.c.settled < revision)
        .values(told=revision, settled=revision, told_at=now, attempts=0, error="")
    )


def failed(connection: Connection, identity: int, error: str, retry_at: datetime) -> None:
    """It is to be tried again, not before ``retry_at``."""
    connection.execute(
        deliveries.update()
        .where(deliveries.c.id == identity)
        .values(attempts=deliveries.c.attempts + 1, error=error, due_at=retry_at)
    )


def given_up(connection: Connection, identity: int, revision: int, error: str) -> None:
    """The sink will never have this revision; a newer one may still arrive."""
    connection.execute(
        deliveries.update()
        .where(deliveries.c.id == identity, deliveries.c.settled < revision)
        .values(settled=revision, attempts=0, error=error)
    )


def backlog(connection: Connection) -> list[Backlog]:
    """What waits for each sink that something waits for."""
    rows = connection.execute(
        select(
            deliveries.c.sink,
            func.count(),
            func.sum(case((deliveries.c.attempts > 0, 1), else_=0)),
            func.min(deliveries.c.due_at, type_=deliveries.c.due_at.type),
        )
        .where(waiting)
        .group_by(deliveries.c.sink)
        .order_by(deliveries.c.sink)
    )
    return [Backlog(sink, n, int(failing), oldest) for sink, n, failing, oldest in rows]
