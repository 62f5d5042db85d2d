"""The incident that another became part of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "3"
down_revision = "2"


def upgrade(op: Operations) -> None:
    op.add_column("incidents", sa.Column("merged_into", sa.String, nullable=True))
