"""When it was announced that an incident is over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "2"
down_revision = "1"


def upgrade(op: Operations) -> None:
    op.add_column("incidents", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
