"""A real PostgreSQL server for tests, in a folder of its own, reached by a socket that is in there.

``Server`` starts, stops and kills it; the fixtures of ``conftest`` hand out one server for all
tests, and a new database for each. What runs it by hand:

    initdb --pgdata DIR --username kubewitness --auth trust
    postgres -D DIR -k DIR -c listen_addresses=
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

USER = "kubewitness"


class Server:
    """A server whose data are in ``folder``."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._data = folder / "data"
        self._sockets = folder / "sockets"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = _owner()
        if self._owner:
            os.chown(folder, self._owner["user"], self._owner["group"])
        self._run(
            "initdb", "--pgdata", self._data, "-U", USER, "--auth=trust", "--no-sync", "-EUTF8"
        )
        self._run("mkdir", self._sockets)

    def start(self) -> None:
        """Returns when it can be talked to."""
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(self._sockets)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                stdout=log,
                stderr=log,
                cwd="/",
                **self._owner,
            )
        for _ in range(200):
            try:
                psycopg.connect(self._conninfo("postgres")).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(self._log.read_text(errors="replace"))

    def stop(self) -> None:
        """As an operator stops it: whoever is connected is thrown out."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As an operator must not stop it."""
        self._end(signal.SIGQUIT)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}@/{database}?host={self._sockets}"

    def _conninfo(self, database: str) -> str:
        return f"host={self._sockets} user={USER} dbname={database} connect_timeout=5"

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def _run(self, program: str, *args: str | Path) -> None:
        known = self._programs / program
        done = subprocess.run(
            [known if known.exists() else program, *args],
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
            check=False,
            **self._owner,
        )
        assert done.returncode == 0, done.stderr


def programs() -> Path | None:
    """Where the newest server on this machine has its programs; Debian has them out of PATH."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3])
    )
    in_path = shutil.which("postgres")
    if in_path and shutil.which("initdb"):
        found.insert(0, Path(in_path).resolve())
    return found[-1].parent if found else None


@contextmanager
def running(where: Path) -> Iterator[Server]:
    """A server that is up, made of the programs in ``where``, and is gone afterwards."""
    # Not below pytest's own folder, which its owner cannot enter, and in which the name of the
    # socket might have more than the hundred characters that it may.
    with tempfile.TemporaryDirectory(prefix="kubewitness-", dir="/tmp") as folder:
        server = Server(where, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _owner() -> dict[str, Any]:
    """PostgreSQL does not run as root: who runs it then."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise AssertionError("there is no user but root to run PostgreSQL")
