"""Incidents, what is to be sent of them, and positions of feeds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "1"
down_revision = None


def upgrade(op: Operations) -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "incidents",
        sa.Column("cluster", sa.String, primary_key=True),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("first_seen", instant, nullable=False),
        sa.Column("opened_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.Column("severity", sa.String, nullable=False),
        sa.Column("alert", sa.Boolean, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sink", sa.String, nullable=False),
        sa.Column("cluster", sa.String, nullable=False),
        sa.Column("incident", sa.String, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("told", sa.Integer, nullable=False),
        sa.Column("settled", sa.Integer, nullable=False),
        sa.Column("told_at", instant, nullable=True),
        sa.Column("due_at", instant, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster", "incident"], ["incidents.cluster", "incidents.id"], ondelete="CASCADE"
        ),
        sa.UniqueConstraint("cluster", "incident", "sink"),
        sqlite_autoincrement=True,
    )
    waiting = sa.text("revision > settled")
    op.create_index(
        "outbox", "deliveries", ["sink", "due_at"], sqlite_where=waiting, postgresql_where=waiting
    )
    op.create_table(
        "positions",
        sa.Column("feed", sa.String, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
    )
