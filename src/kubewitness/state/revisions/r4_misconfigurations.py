"""Misconfigurations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "4"
down_revision = "3"


def upgrade(op: Operations) -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "misconfigurations",
        sa.Column("cluster", sa.String, primary_key=True),
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("first_seen", instant, nullable=False),
        sa.Column("last_seen", instant, nullable=False),
        sa.Column("gone_at", instant, nullable=True),
        sa.Column("body", sa.Text, nullable=False),
    )
