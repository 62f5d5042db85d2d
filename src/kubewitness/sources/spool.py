"""Canonical NDJSON on disk, in files of bounded size, for DuckDB to read and us to delete."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubewitness.errors import LakeError

_BATCH = 1 << 20

REMEDY = (
    "free some disk space, or choose another place with --lake (without it: TMPDIR); running the"
    " same command again adds only what is missing"
)


@dataclass(frozen=True, slots=True)
class Spooled:
    path: Path
    lines: int


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the disk says into a ``LakeError``: a full disk is no fault of the source."""
    try:
        yield
    except OSError as error:
        raise LakeError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            remedy=REMEDY,
        ) from error


class Spool:
    """A file in ``directory`` that lines are written to until it holds ``limit`` bytes.

    The lines are the user's events, bodies included, so the files are private (0600).
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._batch: list[bytes] = []
        self._pending = 0
        self._written = 0
        self._lines = 0
        self._path: Path | None = None

    @property
    def full(self) -> bool:
        return self._written + self._pending >= self._limit

    def write(self, line: bytes) -> None:
        """Adds ``line``, which has no newline of its own."""
        self._batch.append(line)
        self._pending += len(line) + 1
        self._lines += 1
        if self._pending >= _BATCH:
            self._flush()

    def take(self) -> Spooled | None:
        """What was written since the last time, ``None`` if nothing; the next line begins anew."""
        if self._pending:
            self._flush()
        path, lines = self._path, self._lines
        self._path, self._lines, self._written = None, 0, 0
        return Spooled(path, lines) if path is not None else None

    def _flush(self) -> None:
        self._batch.append(b"")
        with writing(self._directory):
            if self._path is None:
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                descriptor, name = tempfile.mkstemp(".jsonl", "spool-", self._directory)
                os.close(descriptor)
                self._path = Path(name)
            with self._path.open("ab") as file:
                file.write(b"\n".join(self._batch))
        self._written += self._pending
        self._batch, self._pending = [], 0

    def discard(self) -> None:
        """Deletes what was not taken."""
        spooled = self.take()
        if spooled is not None:
            spooled.path.unlink(missing_ok=True)
