"""From sources to chunks of NDJSON that DuckDB reads by itself.

Most audit logs are plain: one v1 event a line, as the API server wrote it. Such a file is handed
on as it is, and no line of it passes through Python. What the beginning of a file promised, the
rest may not keep, so whoever reads the chunk looks for rows that match ``SUSPECT`` and, if there
are any, or DuckDB cannot read the file, drops what it read and calls ``distrust``: then the file
is sifted, plain lines copied and all others read by the formats, or counted, and kept in
quarantine if they are broken.

One thing cannot be seen without looking at each line: a line that repeats a key. DuckDB reads the
first of two, sifting the last and counts it. The API server never writes such lines; where somebody
else writes the log, ``Reader(..., sift=True)`` takes nothing on trust.
"""

from __future__ import annotations

import glob
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from kubewitness.errors import SourceError
from kubewitness.events.formats.plain import is_plain
from kubewitness.events.redaction import Redactor
from kubewitness.sources.compression import Blocks
from kubewitness.sources.encoding import utf8
from kubewitness.sources.files import Source, expand, reason
from kubewitness.sources.quarantine import Quarantine
from kubewitness.sources.sifting import Sieve
from kubewitness.sources.spool import Spool
from kubewitness.sources.tally import Tally

CHUNK_BYTES = 128 << 20
HEAD_BYTES = 256 << 10

SUSPECT = """(
    auditID IS NULL OR stage IS NULL OR verb IS NULL OR requestURI IS NULL OR sourceIPs IS NULL
    OR kind IS DISTINCT FROM 'Event' OR apiVersion NOT LIKE 'audit.k8s.io/%'
    OR level IS NULL OR level NOT IN ('None', 'Metadata', 'Request', 'RequestResponse')
    OR stageTimestamp IS NULL OR stageTimestamp NOT BETWEEN '2000-01-01' AND '2100-01-01'
    OR requestReceivedTimestamp IS NULL
    OR requestReceivedTimestamp NOT BETWEEN '2000-01-01' AND '2100-01-01'
    OR ("user".username IS NULL AND responseStatus.code IS DISTINCT FROM 401)
    OR (responseStatus.code IS NULL AND stage LIKE 'Response%')
)"""
"""SQL, over ``JSON_COLUMNS``: a row that DuckDB could not read, or read otherwise than meant.

DuckDB makes NULL of a value of the wrong type without a word, hence the columns that a plain event
always has. A row that matches for no bad reason costs only the time of sifting its file.
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A bounded piece of input.

    ``verbatim``: the user's own file, to be read as it stands, of unknown length, to be checked
    with ``SUSPECT``; otherwise ``path`` is canonical NDJSON of ``lines`` events, uncompressed, and
    is deleted when the iteration goes on. ``source`` is the file as the user named it.
    """

    path: Path
    compression: Literal["none", "gzip", "zstd"]
    source: str
    verbatim: bool
    lines: int | None


class Reader:
    """Reads ``paths`` (files, directories, globs, ``-``) and counts in ``tally``.

    ``quarantine`` is the file that broken lines go to, without the secrets that ``redactor`` finds,
    ``spool`` a directory for files that last as long as their chunk, of ``chunk_bytes`` at most.
    ``stdin`` is read for ``-``. Raises
    ``SourceError`` at once for a path that does not exist, and from ``chunks`` if nothing at all
    could be read; an unreadable file among others is a warning of the tally. Raises ``LakeError``
    where spool or quarantine cannot be written.

    Use it as a context manager, or call ``close``.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        *,
        quarantine: Path,
        spool: Path,
        stdin: BinaryIO | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        sift: bool = False,
        redactor: Redactor | None = None,
    ) -> None:
        self.tally = Tally()
        self.quarantine = Quarantine(quarantine, redactor)
        self._sources = expand(paths)
        self._spool = spool
        self._stdin = stdin
        self._chunk_bytes = chunk_bytes
        self._sift_all = sift

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.quarantine.close()

    def chunks(self) -> Iterator[Chunk]:
        """Every chunk of every source, in the order they were named."""
        unread: list[SourceError] = []
        for source in self._sources:
            try:
                yield from self._source(source)
            except OSError as error:
                unread.append(SourceError(reason(error), where=source.name))
                self.tally.warn(f"{source.name}: not read to the end, {reason(error)}")
            else:
                self.tally.sources += 1
        self.quarantine.flush()
        if len(unread) == len(self._sources):
            raise unread[0]

    def distrust(self, chunk: Chunk) -> Iterator[Chunk]:
        """The events of a verbatim chunk that did not keep its promise, sifted line by line."""
        source = Source(chunk.source, chunk.path)
        try:
            with chunk.path.open("rb") as file:
                yield from self._sifted(source, Blocks(file))
        except OSError as error:
            self.tally.warn(f"{chunk.source}: not read to the end, {reason(error)}")
        self.quarantine.flush()

    def accepted(self, chunk: Chunk, rows: int) -> None:
        """To be called once a chunk was read and kept: ``rows`` is how many events it had."""
        if chunk.verbatim:
            self.tally.events += rows
        elif rows != chunk.lines:
            self.tally.warn(f"{chunk.source}: {rows} of {chunk.lines} events were taken")

    def _source(self, source: Source) -> Iterator[Chunk]:
        if source.path is None:
            yield from self._sifted(source, Blocks(self._stdin or sys.stdin.buffer))
            return
        with source.path.open("rb") as file:
            blocks = Blocks(file)
            head = blocks.head(HEAD_BYTES)
            if self._trusts(source, source.path, blocks, head):
                compression = blocks.compression
                assert compression in ("none", "gzip", "zstd")
                yield Chunk(source.path.absolute(), compression, source.name, True, None)
            else:
                yield from self._sifted(source, blocks)

    def _trusts(self, source: Source, path: Path, blocks: Blocks, head: bytes) -> bool:
        """Whether DuckDB can read the file by itself, as far as its beginning tells."""
        return (
            not self._sift_all
            and blocks.compression in ("none", "gzip", "zstd")
            and not blocks.problem
            and not glob.has_magic(str(path))  # DuckDB would expand it
            and source.name == str(path)  # DuckDB takes UTF-8 only
            and stat.S_ISREG(path.stat().st_mode)
            and _is_plain(head)
        )

    def _sifted(self, source: Source, blocks: Blocks) -> Iterator[Chunk]:
        spool = Spool(self._spool, self._chunk_bytes)
        sieve = Sieve(source.name, self.tally, self.quarantine)
        try:
            for line in sieve.events(utf8(blocks, blocks.head(HEAD_BYTES))):
                spool.write(line)
                if spool.full:
                    yield from self._spooled(source, spool)
            yield from self._spooled(source, spool)
        finally:
            spool.discard()
        if blocks.problem:
            self.tally.warn(f"{source.name}: {blocks.problem}")
        if sieve.empty:
            self.tally.warn(f"{source.name}: empty")
        if self.quarantine.full:
            self.tally.warn(f"{self.quarantine.path}: full, further broken lines are only counted")

    def _spooled(self, source: Source, spool: Spool) -> Iterator[Chunk]:
        spooled = spool.take()
        if spooled is None:
            return
        try:
            yield Chunk(spooled.path, "none", source.name, False, spooled.lines)
        finally:
            spooled.path.unlink(missing_ok=True)


def _is_plain(head: bytes) -> bool:
    """Whether all whole lines of the beginning of a file are plain, and there is one at least."""
    lines = [line for line in head.split(b"\n") if line.strip()]
    if len(head) >= HEAD_BYTES and not head.endswith(b"\n"):
        lines = lines[:-1]
    return bool(lines) and all(is_plain(line.strip()) for line in lines)
