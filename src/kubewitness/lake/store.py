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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec

from kubewitness.errors import LakeError
from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.events.normalisation import quoted
from kubewitness.events.redaction import Redactor

VERSION = 1


class _Header(msgspec.Struct):
    version: int
    redaction_key: str


class Lake:
    """One lake folder; made when missing.

    Raises ``LakeError`` when the folder cannot be made, is no lake, or is of a newer version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events = root / "events"
        self.staging = root / "staging"
        self.quarantine = root / "quarantine"
        self._header = self._open()

    @property
    def redactor(self) -> Redactor:
        """Replaces secrets under this lake's own key."""
        return Redactor(bytes.fromhex(self._header.redaction_key))

    def parts(self) -> list[Path]:
        """The event files, in a stable order."""
        return sorted(self.events.glob("cluster=*/date=*/*.parquet"))

    def attach(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Make the view ``events`` (``EVENT_COLUMNS`` + ``date``) over all readable parts.

        Returns a warning for each part that cannot be read; it is set aside in the quarantine,
        so that one damaged file never hides the others.
        """
        warnings = []
        readable = []
        for part in self.parts():
            try:
                connection.execute(f"SELECT 1 FROM parquet_metadata({quoted(str(part))}) LIMIT 1")
                readable.append(part)
            except duckdb.Error as error:
                aside = self.quarantine / f"{part.parent.name}-{part.name}.damaged"
                part.replace(aside)
                first = str(error).splitlines()[0]
                warnings.append(f"damaged lake part set aside as {aside}: {first}")
        connection.execute(f"CREATE OR REPLACE VIEW events AS {self.relation(readable)}")
        return warnings

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
        try:
            for folder in (self.root, self.events, self.staging, self.quarantine):
                folder.mkdir(parents=True, exist_ok=True)
            header = self.root / "lake.json"
            if not header.exists():
                key = secrets.token_hex(32)
                draft = header.with_suffix(f".{os.getpid()}")
                draft.touch(mode=0o600)
                draft.write_bytes(msgspec.json.encode(_Header(VERSION, key)))
                draft.replace(header)
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


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def lake_at(root: Path | None) -> Iterator[Lake]:
    """The lake at ``root``, or a temporary one that is deleted at the end."""
    if root is not None:
        yield Lake(root)
        return
    folder = Path(tempfile.mkdtemp(prefix="kubewitness-"))
    try:
        yield Lake(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
