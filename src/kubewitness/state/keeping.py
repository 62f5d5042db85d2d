"""Incidents as they were judged last, and whom to tell what of them, in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

import msgspec
from sqlalchemy import Connection, case, func, select

from kubewitness.incidents.model import SEVERITIES, Incident, Severity
from kubewitness.state import growth
from kubewitness.state.growth import News, Told
from kubewitness.state.schema import deliveries, incidents

Kind = Literal["opened", "updated", "resolved"]

QUIET = timedelta(minutes=5)
"""How long a sink hears nothing more about an incident, but for what is urgent."""


class Wanted(Protocol):
    """A sink, and what it wants to hear (``config.settings.Sink``)."""

    @property
    def name(self) -> str: ...
    @property
    def min_severity(self) -> Severity: ...
    @property
    def alerts_only(self) -> bool: ...


class Change(msgspec.Struct, frozen=True):
    """An incident that was announced: it is new, or ``news`` says what of it is, or it is over."""

    kind: Kind
    incident: Incident
    revision: int
    news: tuple[News, ...] = ()


def keep(
    connection: Connection,
    cluster: str,
    judged: Iterable[Incident],
    wanted: Sequence[Wanted],
    now: datetime,
) -> list[Change]:
    """Store what changed since it was stored last, and put into the outbox what is to be told."""
    changes = []
    latest = {incident.id: incident for incident in judged}
    known = _known(connection, cluster, latest)
    for incident in latest.values():
        before = known.get(incident.id)
        body = msgspec.json.encode(incident)
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        if before and before.digest == digest:
            continue
        told = before and msgspec.json.decode(before.told, type=Told)
        over = incident.ended_at is not None
        news = growth.news(incident, told) if told and not over else ()
        kind = _kind(before, news, over)
        revision = (before.revision if before else 0) + (kind is not None)
        if before is None and over:
            revision += 1  # that it opened, and that it is over, are two messages
        values = {
            "opened_at": incident.opened_at,
            "updated_at": incident.updated_at,
            "severity": incident.severity,
            "alert": incident.alert,
            "score": incident.score,
            "revision": revision,
            "digest": digest,
            "told": msgspec.json.encode(
                growth.told(incident, told) if news or not told else told
            ).decode(),
            "body": body.decode(),
            "closed_at": ((before and before.closed_at) or now) if over else None,
            "merged_into": None,
        }
        if before is None:
            key = {"cluster": cluster, "id": incident.id, "first_seen": now}
            connection.execute(incidents.insert().values(**key, **values))
        else:
            here = (incidents.c.cluster == cluster) & (incidents.c.id == incident.id)
            connection.execute(incidents.update().where(here).values(**values))
        if kind is not None:
            changes.append(Change(kind, incident, revision, news))
        _post(connection, cluster, incident, revision, kind, news, wanted, now)
    return changes


def forget(connection: Connection, age: timedelta, now: datetime) -> int:
    """Delete what ended longer ago than ``age``; of what ended in the future, the time at which it
    was first seen is meant. How many."""
    ended = case(
        (incidents.c.updated_at > now, incidents.c.first_seen), else_=incidents.c.updated_at
    )
    newest = connection.scalar(select(func.max(ended, type_=incidents.c.updated_at.type)))
    if newest is None:
        return 0
    return connection.execute(incidents.delete().where(ended < min(newest, now) - age)).rowcount


def passes(incident: Incident, sink: Wanted) -> bool:
    """Whether ``sink`` wants to hear of ``incident``."""
    return (incident.alert or not sink.alerts_only) and (
        SEVERITIES.index(incident.severity) >= SEVERITIES.index(sink.min_severity)
    )


class _Known(NamedTuple):
    revision: int
    digest: str
    told: str
    closed_at: datetime | None


def _kind(before: _Known | None, news: tuple[News, ...], over: bool) -> Kind | None:
    """What is to be announced. What is over and goes on after all, or stands by itself again, opens
    once more."""
    if before is None:
        return "opened"
    if over:
        return None if before.closed_at else "resolved"
    if before.closed_at:
        return "opened"
    return "updated" if news else None


def _known(connection: Connection, cluster: str, wanted: Iterable[str]) -> dict[str, _Known]:
    columns = incidents.c
    rows = connection.execute(
        select(columns.id, columns.revision, columns.digest, columns.told, columns.closed_at).where(
            columns.cluster == cluster, columns.id.in_(wanted)
        )
    )
    return {row.id: _Known(row.revision, row.digest, row.told, row.closed_at) for row in rows}


def _post(
    connection: Connection,
    cluster: str,
    incident: Incident,
    revision: int,
    kind: Kind | None,
    news: tuple[News, ...],
    wanted: Sequence[Wanted],
    now: datetime,
) -> None:
    """Whoever knows the incident hears the news, and whoever does not, but wants to, opens it.
    That it is over hears whoever knows it, whatever it wants by now."""
    here = (deliveries.c.cluster == cluster) & (deliveries.c.incident == incident.id)
    rows = connection.execute(select(deliveries).where(here).with_for_update())
    heard = {row.sink: row for row in rows}
    for sink in wanted:
        row = heard.get(sink.name)
        if not passes(incident, sink):
            if row is None:
                continue
            waits = row.revision > row.settled
            if kind == "opened" and not waits:
                # For this sink it stays over.
                connection.execute(
                    deliveries.update().where(deliveries.c.id == row.id).values(told=0)
                )
            if kind != "resolved" or not (waits or row.told):
                continue
        if row is None:
            connection.execute(
                deliveries.insert().values(
                    sink=sink.name,
                    cluster=cluster,
                    incident=incident.id,
                    revision=revision,
                    told=0,
                    settled=0,
                    due_at=now,
                    attempts=0,
                    error="",
                )
            )
        elif kind is not None:
            quiet = row.told_at + QUIET if row.told_at else now
            urgent = kind != "updated" or growth.URGENT & set(news)
            due = now if urgent else max(now, quiet)
            if row.revision > row.settled:
                # Still to be sent: what is newer takes its place. After a failure the wait stays.
                due = row.due_at if row.attempts else min(row.due_at, due)
            connection.execute(
                deliveries.update()
                .where(deliveries.c.id == row.id)
                .values(revision=revision, due_at=due, told=0 if kind == "opened" else row.told)
            )
