"""The tables of the state database, the same in SQLite and PostgreSQL.

``revisions/`` makes them; a test compares the two. Structs are kept as JSON text: PostgreSQL's own
JSON cannot hold every text that a log can.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    String,
    Table,
    Text,
    TypedColumns,
    TypeDecorator,
    UniqueConstraint,
)


class Utc(TypeDecorator[datetime]):
    """An instant. SQLite keeps no zone, so what it keeps is UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()


class IncidentColumns(TypedColumns):
    """``revision`` counts what was announced, ``told`` is what a reader of the announcements knows
    (``growth.Told``), ``digest`` tells a ``body`` that changed from one that did not. What was
    announced to be over has ``closed_at``, also if it was ``merged_into`` another."""

    cluster: Named[str] = Column(String, primary_key=True)
    id: Named[str] = Column(String, primary_key=True)
    first_seen: Named[datetime] = Column(Utc)
    opened_at: Named[datetime] = Column(Utc)
    updated_at: Named[datetime] = Column(Utc)
    severity: Named[str] = Column(String)
    alert: Named[bool]
    score: Named[float] = Column(Double)
    revision: Named[int] = Column(Integer)
    digest: Named[str] = Column(String)
    told: Named[str] = Column(Text)
    body: Named[str] = Column(Text)
    closed_at: Named[datetime | None] = Column(Utc)
    merged_into: Named[str | None] = Column(String)


incidents = Table("incidents", metadata, IncidentColumns)


class DeliveryColumns(TypedColumns):
    """What one sink knows of one incident, and what it is still to hear.

    The outbox is every row whose ``revision`` is beyond ``settled``, to be sent from ``due_at`` on.
    ``told`` is the newest revision that was delivered, 0 before the first; what was given up is
    settled without having been told. So there is never more than one message to a sink about an
    incident, and it is about the newest revision.
    """

    id: Named[int] = Column(Integer, primary_key=True)
    sink: Named[str] = Column(String)
    cluster: Named[str] = Column(String)
    incident: Named[str] = Column(String)
    revision: Named[int] = Column(Integer)
    told: Named[int] = Column(Integer)
    settled: Named[int] = Column(Integer)
    told_at: Named[datetime | None] = Column(Utc)
    due_at: Named[datetime] = Column(Utc)
    attempts: Named[int] = Column(Integer)
    error: Named[str] = Column(Text)


deliveries = Table(
    "deliveries",
    metadata,
    DeliveryColumns,
    ForeignKeyConstraint(
        ["cluster", "incident"], ["incidents.cluster", "incidents.id"], ondelete="CASCADE"
    ),
    UniqueConstraint("cluster", "incident", "sink"),
    # What became of a message may be written down after its row was deleted: no other gets its id.
    sqlite_autoincrement=True,
)
waiting = deliveries.c.revision > deliveries.c.settled
Index(
    "outbox",
    deliveries.c.sink,
    deliveries.c.due_at,
    sqlite_where=waiting,
    postgresql_where=waiting,
)


class MisconfigurationColumns(TypedColumns):
    """When judgements of a cluster found it first and last, and when one no longer did."""

    cluster: Named[str] = Column(String, primary_key=True)
    id: Named[str] = Column(String, primary_key=True)
    first_seen: Named[datetime] = Column(Utc)
    last_seen: Named[datetime] = Column(Utc)
    gone_at: Named[datetime | None] = Column(Utc)
    body: Named[str] = Column(Text)


misconfigurations = Table("misconfigurations", metadata, MisconfigurationColumns)


class PositionColumns(TypedColumns):
    """How far each feed was read, in the feed's own words."""

    feed: Named[str] = Column(String, primary_key=True)
    value: Named[bytes] = Column(LargeBinary)
    updated_at: Named[datetime] = Column(Utc)


positions = Table("positions", metadata, PositionColumns)
