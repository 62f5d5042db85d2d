"""Where the state is: an SQLite file or a PostgreSQL server.

Both are used the same way: a transaction that writes has the database to itself from its beginning,
so what it reads stays true until it commits. SQLite's ``BEGIN IMMEDIATE`` is that, an advisory lock
in PostgreSQL.

SQLite runs in WAL mode, so readers never wait, with ``synchronous=FULL``: a commit here is what
lets a sender, a topic or the spool forget, and must outlive the power supply. NORMAL would not, and
saves one fsync for each of a few commits a second. Each transaction opens the file by its name,
which takes a quarter of a millisecond, so that a file that was gone and is back is the one used.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import URL, Connection, Engine, event, exc
from sqlalchemy.pool import NullPool

from kubewitness.errors import StateError, StateUnavailable

WRITES = "kubewitness_writes"
"""The execution option of a connection whose transactions write."""

PATIENCE = 5.0
"""Seconds that a transaction waits for another one, and a connection for a server."""

_LOCK = int.from_bytes(b"kubewitn")
_POSTGRESQL = ("postgresql+psycopg", "postgresql", "postgres")


def sqlite(path: Path) -> Engine:
    """The file at ``path``, which is not made by this."""
    address = f"file:{quote(str(path.absolute()))}?mode=rw"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    engine = sa.create_engine(
        "sqlite+pysqlite://", creator=connect, poolclass=NullPool, hide_parameters=True
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def make_file(path: Path) -> None:
    """An empty database in WAL mode, for its owner only; one that is there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
        deadline = monotonic() + PATIENCE
        while not _in_wal_mode(connection):
            # Two that change the mode at once do not wait for each other.
            if monotonic() > deadline:
                raise StateUnavailable(
                    "another program holds the file", where=str(path), remedy="end it, or wait"
                )
            sleep(0.02)


def _in_wal_mode(connection: sqlite3.Connection) -> bool:
    with suppress(sqlite3.OperationalError):
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        return bool(mode == "wal")
    return False


def postgresql(url: URL) -> Engine:
    """The server at ``url``; nothing is asked of it yet."""
    seconds = max(1, int(PATIENCE))
    # A server that vanished without a word is noticed within seconds, not hours.
    patience = {
        "connect_timeout": seconds,
        "tcp_user_timeout": seconds * 1000,
        "keepalives_idle": seconds,
        "keepalives_interval": seconds,
        "keepalives_count": 3,
    }
    engine = sa.create_engine(
        url,
        connect_args={key: value for key, value in patience.items() if key not in url.query},
        # Each statement sees what was committed before it, also while the lock was waited for.
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_timeout=PATIENCE,
        hide_parameters=True,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = {PATIENCE * 1000:.0f}; SET LOCAL statement_timeout = '30s'"
        )
        if connection.get_execution_options().get(WRITES):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")

    return engine


def postgresql_url(text: str) -> URL:
    """``text`` as a URL of PostgreSQL. Raises ``StateError``, which does not repeat it."""
    remedy = "write postgresql+psycopg://USER@HOST/DATABASE"
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError) as error:
        raise StateError("the URL of the state cannot be read", remedy=remedy) from error
    if url.drivername not in _POSTGRESQL:
        raise StateError(
            f"the state cannot be kept in {url.drivername!r}: only in PostgreSQL, or a file",
            remedy=remedy,
        )
    return url.set(drivername=_POSTGRESQL[0])


def shown(url: URL) -> str:
    """A URL without what must not be shown."""
    query = {key: value for key, value in url.query.items() if key in ("host", "port")}
    return url.set(query=query).render_as_string()
