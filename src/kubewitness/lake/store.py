"""The lake: a folder of Parquet files that any engine can read.

    LAKE/
      lake.json                 the format's version and the redaction key
      events/cluster=NAME/date=YYYY-MM-DD/part-UUID.parquet
      quarantine/               lines that were no audit events, one JSON Lines file a run
      staging/                  parts being written; whatever a killed run left here is deleted

A part appears under its final name only when it is whole (written aside, then renamed).
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import duckdb
import msgspec

from kubewitness.errors import LakeError
from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.events.normalisation import quoted
from kubewitness.events.redaction import Redactor
from kubewitness.lake.locks import together

VERSION = 1

_PART_COLUMNS = {**EVENT_COLUMNS, "date": "DATE"}


class _Header(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=1)]
    redaction_key: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Lake:
    """One lake folder; made when missing. Parts of one that is not ``lasting`` are of any day.

    Without ``bodies`` only what is told of them is kept.

    Raises ``LakeError`` when the folder cannot be made, is no lake, or is of a newer version.
    """

    def __init__(self, root: Path, *, lasting: bool = True, bodies: bool = True) -> None:
        self.root = root
        self.lasting = lasting
        self.bodies = bodies
        self.events = root / "events"
        self.staging = root / "staging"
        self.quarantine = root / "quarantine"
        self._left_out: set[Path] = set()
        self._header = self._open()

    @property
    def redactor(self) -> Redactor:
        """Replaces secrets under this lake's own key."""
        return Redactor(bytes.fromhex(self._header.redaction_key))

    def parts(self) -> list[Path]:
        """The event files, in a stable order."""
        found = set(self.events.glob("cluster=*/date=*/*.parquet")) - self._left_out
        return sorted(part for part in found if part.is_file())

    @contextmanager
    def run(self) -> Iterator[Path]:
        """A folder in which one ingest writes its parts, deleted at the end.

        What killed runs have left is deleted when no other process ingests.
        """
        self.staging.mkdir(parents=True, exist_ok=True)
        with together(self.staging, first=self._clear_staging):
            folder = self.staging / uuid.uuid4().hex
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the view ``events`` (``EVENT_COLUMNS`` + ``date``) over all parts."""
        connection.execute(f"CREATE OR REPLACE VIEW events AS {self.relation(self.parts())}")

    def set_damaged_aside(
        self, connection: duckdb.DuckDBPyConnection, *, thoroughly: bool = False
    ) -> list[str]:
        """Move parts that cannot be read into the quarantine, so that none hides the others.

        Looks at the schema of each part, ``thoroughly`` at every value. Returns a warning for each.
        """
        warnings = []
        for part in self.parts():
            problem = _problem(part, connection, thoroughly=thoroughly)
            if problem:
                warnings.append(
                    f"damaged lake part {self._set_aside(part)} ({problem}): ingest the logs of"
                    f" {part.parent.name.partition('=')[2]} again to have its events back"
                )
        return warnings

    def _set_aside(self, part: Path) -> str:
        aside = self.quarantine / f"{part.parent.name}-{part.name}.damaged"
        try:
            self.quarantine.mkdir(exist_ok=True)
            return f"set aside as {part.replace(aside)}"
        except OSError:  # a lake that may only be read
            self._left_out.add(part)
            return f"left out: {part}"

    def _clear_staging(self) -> None:
        for left in self.staging.iterdir():
            shutil.rmtree(left, ignore_errors=True)

    @staticmethod
    def relation(parts: list[Path]) -> str:
        """A SELECT over these parts with the columns ``EVENT_COLUMNS`` and ``date``."""
        if not parts:
            empty = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in EVENT_COLUMNS.items())
            return f"SELECT {empty}, NULL::DATE AS date WHERE false"
        files = ", ".join(quoted(str(part)) for part in parts)
        columns = ", ".join(f'"{name}"' for name in EVENT_COLUMNS)
        return (
            f"SELECT {columns}, date FROM read_parquet([{files}],"
            " hive_partitioning=false, union_by_name=true)"
        )

    def _open(self) -> _Header:
        if not _is_utf8(self.root):
            raise LakeError(
                "the name of a lake's folder has to be UTF-8",
                where=str(self.root),
                remedy="choose another folder with --lake",
            )
        header = self.root / "lake.json"
        try:
            if not header.exists():
                self._begin(header)
            found = msgspec.json.decode(header.read_bytes(), type=_Header)
        except OSError as error:
            raise LakeError(
                f"the lake cannot be opened: {error.strerror}",
                where=str(self.root),
                remedy="choose a writable folder with --lake",
            ) from error
        except msgspec.MsgspecError as error:
            raise LakeError(
                "lake.json is damaged",
                where=str(self.root / "lake.json"),
                remedy="restore it from a backup, or start a new lake and ingest again",
            ) from error
        if found.version > VERSION:
            raise LakeError(
                f"written by a newer kubewitness (lake version {found.version})",
                where=str(self.root),
                remedy="upgrade kubewitness",
            )
        return found

    def _begin(self, header: Path) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        draft = self.root / f"lake.{uuid.uuid4().hex}"
        try:
            draft.touch(mode=0o600)
            draft.write_bytes(msgspec.json.encode(_Header(VERSION, secrets.token_hex(32))))
            # Of two processes that begin at once, the second takes the key of the first.
            with suppress(FileExistsError):
                os.link(draft, header)
        finally:
            draft.unlink(missing_ok=True)


def _problem(part: Path, connection: duckdb.DuckDBPyConnection, *, thoroughly: bool) -> str:
    """Why a part cannot be read, or ''."""
    table = f"read_parquet({quoted(str(part))}, hive_partitioning=false)"
    try:
        found = {row[0]: row[1] for row in connection.execute(f"DESCRIBE FROM {table}").fetchall()}
        if thoroughly:
            connection.execute(f"SELECT bit_xor(hash(part)) FROM {table} AS part").fetchall()
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    wrong = [name for name, kind in _PART_COLUMNS.items() if found.get(name) != kind]
    return f"its columns {', '.join(wrong)} are not those of an event" if wrong else ""


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def lake_at(root: Path | None, *, bodies: bool = False) -> Iterator[Lake]:
    """The lake at ``root``, or a temporary one that is deleted at the end.

    The temporary one keeps ``bodies`` only where somebody will ask for them.
    """
    if root is not None:
        yield Lake(root)
        return
    folder = Path(tempfile.mkdtemp(prefix="kubewitness-"))
    try:
        yield Lake(folder, lasting=False, bodies=bodies)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
