"""A database is brought to the present schema when it is opened."""

from __future__ import annotations

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection

from kubewitness.errors import StateError

REVISIONS = Path(__file__).parent / "revisions"
VERSION_TABLE = "kubewitness_revision"


def missing(connection: Connection, where: str, revisions: Path = REVISIONS) -> list[Script]:
    """The steps that a database has not taken yet, in order.

    Raises ``StateError`` when it has taken one that is unknown here.
    """
    scripts = _scripts()
    known = [script.revision for script in scripts.walk_revisions()]
    at = _context(connection).get_current_revision()
    if at is not None and at not in known:
        raise StateError(
            f"a newer version of kubewitness wrote this (schema {at}, known up to {known[0]})",
            where=where,
            remedy="upgrade kubewitness, or give it another place for its state",
        )
    return list(scripts.iterate_revisions("head", at or "base"))[::-1]


def upgrade(connection: Connection, where: str) -> None:
    """Take the missing steps in the transaction of ``connection``, all or none.

    Nobody else may write meanwhile.
    """
    scripts, context = _scripts(), _context(connection)
    for step in missing(connection, where):
        step.module.upgrade(Operations(context))
        context.stamp(scripts, step.revision)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(REVISIONS.parent, version_locations=[REVISIONS])


def _context(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
