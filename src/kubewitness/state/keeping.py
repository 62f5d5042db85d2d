"""Incidents as they were judged last, and whom to tell what of them, in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

import msgspec
from sqlalchemy import Connection, select

from kubewitness.incidents.model import SEVERITIES, Incident, Severity
from kubewitness.state import growth
from kubewitness.state.growth import News, Told
from kubewitness.state.schema import deliveries, incidents

Kind = Literal["opened", "updated"]

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
    """An incident that was announced: it is new, or ``news`` says what of it is."""

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
        news = growth.news(incident, told) if told else ()
        revision = before.revision + bool(news) if before else 1
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
        }
        if before is None:
            key = {"cluster": cluster, "id": incident.id, "first_seen": now}
            connection.execute(incidents.insert().values(**key, **values))
            changes.append(Change("opened", incident, revision))
        else:
            here = (incidents.c.cluster == cluster) & (incidents.c.id == incident.id)
            connection.execute(incidents.update().where(here).values(**values))
            if news:
                changes.append(Change("updated", incident, revision, news))
        _post(connection, cluster, incident, revision, news, wanted, now)
    return changes


def passes(incident: Incident, sink: Wanted) -> bool:
    """Whether ``sink`` wants to hear of ``incident``."""
    return (incident.alert or not sink.alerts_only) and (
        SEVERITIES.index(incident.severity) >= SEVERITIES.index(sink.min_severity)
    )


class _Known(NamedTuple):
    revision: int
    digest: str
    told: str


def _known(connection: Connection, cluster: str, wanted: Iterable[str]) -> dict[str, _Known]:
    columns = incidents.c
    rows = connection.execute(
        select(columns.id, columns.revision, columns.digest, columns.told).where(
            columns.cluster == cluster, columns.id.in_(wanted)
        )
    )
    return {row.id: _Known(row.revision, row.digest, row.told) for row in rows}


def _post(
    connection: Connection,
    cluster: str,
    incident: Incident,
    revision: int,
    news: tuple[News, ...],
    wanted: Sequence[Wanted],
    now: datetime,
) -> None:
    """Whoever knows the incident hears the news, and whoever does not, but wants to, opens it."""
    here = (deliveries.c.cluster == cluster) & (deliveries.c.incident == incident.id)
    rows = connection.execute(select(deliveries).where(here).with_for_update())
    heard = {row.sink: row for row in rows}
    for sink in wanted:
        if not passes(incident, sink):
            continue
        row = heard.get(sink.name)
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
        elif news:
            quiet = row.told_at + QUIET if row.told_at else now
            due = now if growth.URGENT & set(news) else max(now, quiet)
            if row.revision > row.settled:
                # Still to be sent: what is newer takes its place. After a failure the wait stays.
                due = row.due_at if row.attempts else min(row.due_at, due)
            connection.execute(
                deliveries.update()
                .where(deliveries.c.id == row.id)
                .values(revision=revision, due_at=due)
            )
