"""What a database says when it fails, as what, where and what to do, and whether it will pass."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from kubewitness.errors import StateError, StateUnavailable

# SQLite's result codes that pass, and what helps them pass.
_PASSING = {
    "BUSY": "another program holds the file: end it, or wait",
    "LOCKED": "another program holds the file: end it, or wait",
    "FULL": "free some disk space",
    "IOERR": "free some disk space, and see whether the disk is well",
    "CANTOPEN": "see whether the file is there, and this user may read and write it and its folder",
    "READONLY": "let this user write the file and its folder",
    "PERM": "let this user write the file and its folder",
    "PROTOCOL": "keep the file on a local disk",
}
# Classes of SQLSTATE that pass: connection, wrong kind of transaction (a standby), conflict, lack
# of resources, not now, intervention of an operator, input/output.
_PASSING_STATES = ("08", "25", "40", "53", "55", "57", "58")


@contextmanager
def told(where: str) -> Iterator[None]:
    """Whatever of a database fails in here fails as a ``StateError`` that says ``where``."""
    try:
        yield
    except exc.DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise _of_file(error.orig, where) from error
        raise _of_server(error, where) from error
    except exc.TimeoutError as error:
        raise StateUnavailable("all connections are in use", where=where) from error
    except sqlite3.Error as error:
        raise _of_file(error, where) from error
    except ModuleNotFoundError as error:
        raise StateError(
            "the driver of PostgreSQL is not installed",
            where=where,
            remedy="pip install 'kubewitness[postgresql]'",
        ) from error
    except OSError as error:
        raise StateUnavailable(
            f"cannot be opened: {error.strerror or error}",
            where=where,
            remedy=_PASSING["CANTOPEN"],
        ) from error


def _of_file(error: sqlite3.Error, where: str) -> StateError:
    name: str = getattr(error, "sqlite_errorname", "")
    code = name.removeprefix("SQLITE_").partition("_")[0]
    if code in _PASSING:
        return StateUnavailable(str(error), where=where, remedy=_PASSING[code])
    return StateError(
        str(error),
        where=where,
        remedy="restore the file from a backup, or move it away: the next start makes a new one",
    )


def _of_server(error: exc.DBAPIError, where: str) -> StateError:
    # The first line only: the others may quote what was to be written.
    what = next(iter(str(error.orig).splitlines()), type(error.orig).__name__)
    state: str | None = getattr(error.orig, "sqlstate", None)
    # Without a state of its own: the server was not there to give one, or went away.
    away = state is None and isinstance(error, exc.OperationalError | exc.InterfaceError)
    if away or (state or "").startswith(_PASSING_STATES):
        return StateUnavailable(
            what, where=where, remedy="see whether the server runs and lets this user in"
        )
    return StateError(what, where=where, remedy="see what this user may do in this database")
