"""From sources to the lake: every event once, however often and from wherever it comes.

A chunk is written into ``staging`` in one pass. Afterwards the parts of each touched day are
compared with what the lake holds, and renamed into place: a killed run leaves either a whole
part or nothing, and running it again adds what is missing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import duckdb

from kubewitness.errors import LakeError
from kubewitness.events.normalisation import (
    MAXIMUM_LINE_BYTES,
    USUAL_LINE_BYTES,
    event_rows,
    json_lines,
    quoted,
)
from kubewitness.lake.locks import alone
from kubewitness.lake.store import Lake
from kubewitness.sources.reading import SUSPECT, Chunk, Reader
from kubewitness.sources.spool import REMEDY

# Small row groups let both cores compress wide rows with bodies: 173k instead of 65k events/s
# at one tenth more bytes (bench/README.md).
PARQUET = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480"

# What makes two records of one stage the same record. auditID alone does not: the client may
# set it (Audit-ID header), so a forged one must not hide another request.
_IDENTITY = "audit_id, stage, stage_at"
_CONTENT = (
    'hash("user", impersonated_user, source_ips, user_agent, verb, request_uri, code, level,'
    " received_at)"
)


@dataclass(slots=True)
class Added:
    """What an ingest did. ``forged`` counts auditIDs that stood on records of other content;
    ``damaged`` tells of parts of the lake that had to be set aside."""

    events: int = 0
    duplicates: int = 0
    forged: int = 0
    days: set[tuple[str, str]] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)


Progress = Callable[[Chunk, int], None]


def ingest(
    reader: Reader,
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    *,
    cluster: str | None = None,
    progress: Progress = lambda chunk, rows: None,
) -> Added:
    """Read all chunks of ``reader`` into ``lake``.

    ``progress`` is called after each chunk with its number of rows. Raises ``LakeError`` when
    the disk is full or not writable; what was whole by then stays.
    """
    added = Added(damaged=lake.set_damaged_aside(connection))
    try:
        with lake.run() as run:
            for chunk in reader.chunks():
                rows = _stage(chunk, run, connection, cluster, bodies=lake.bodies)
                if rows is not None:
                    reader.accepted(chunk, rows)
                    progress(chunk, rows)
                    continue
                # Something in there is no plain event: read it again, line by line.
                for trusted in reader.distrust(chunk):
                    rows = _stage(trusted, run, connection, cluster, bodies=lake.bodies)
                    if rows is not None:
                        reader.accepted(trusted, rows)
                    progress(trusted, rows or 0)
            _settle(run, lake, connection, added)
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise LakeError(
            f"writing stopped: {str(error).splitlines()[0]}", where=str(lake.root), remedy=REMEDY
        ) from error
    except OSError as error:
        raise LakeError(
            f"writing stopped: {error.strerror or error}",
            where=str(error.filename or lake.root),
            remedy=REMEDY,
        ) from error
    return added


def _stage(
    chunk: Chunk,
    run: Path,
    connection: duckdb.DuckDBPyConnection,
    cluster: str | None,
    *,
    bodies: bool,
) -> int | None:
    """Write one chunk as parts under ``run``; None when some rows were no events."""
    draft = run / f"{uuid.uuid4().hex}.parquet"
    draft.parent.mkdir(parents=True, exist_ok=True)
    select = event_rows(
        json_lines(
            str(chunk.path),
            chunk.compression,
            longest=USUAL_LINE_BYTES if chunk.verbatim else MAXIMUM_LINE_BYTES,
        ),
        cluster=cluster,
        source=chunk.source,
        suspect=SUSPECT if chunk.verbatim else "false",
        bodies=bodies,
    )
    try:
        rows = _copied(connection, select, draft)
    except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.IOException):
        # A line longer than the limit or a broken compression stream: DuckDB gives up on the
        # whole file, the reader will not. (A full disk will still be full then.)
        draft.unlink(missing_ok=True)
        if chunk.verbatim:
            return None
        raise
    days = connection.execute(
        f"SELECT DISTINCT cluster, date FROM read_parquet({quoted(str(draft))})"
    ).fetchall()
    undated = any(date is None for _, date in days)
    if undated and chunk.verbatim:
        draft.unlink()
        return None
    # Writing by partition costs as much as reading the JSON, and most files hold one day: only
    # those that do not are split, from Parquet.
    for name, date in days:
        if date is None:
            continue
        home = run / "parts" / _partition(name, date)
        home.mkdir(parents=True, exist_ok=True)
        part = home / f"part-{uuid.uuid4()}.parquet"
        if len(days) == 1:
            draft.replace(part)
            return rows
        kept = f"cluster = {quoted(name)} AND date = DATE '{date}'"
        _copied(connection, f"SELECT * FROM read_parquet({quoted(str(draft))}) WHERE {kept}", part)
    if undated:
        lost = connection.execute(
            f"SELECT count(*) FROM read_parquet({quoted(str(draft))}) WHERE date IS NULL"
        ).fetchone()
        rows -= int(lost[0]) if lost else 0
    draft.unlink(missing_ok=True)
    return rows


def _copied(connection: duckdb.DuckDBPyConnection, select: str, target: Path) -> int:
    row = connection.execute(f"COPY ({select}) TO {quoted(str(target))} ({PARQUET})").fetchone()
    return int(row[0]) if row else 0


def _partition(cluster: str, date: object) -> Path:
    """The folder of one cluster's day. A cluster's name comes from a log: no path may hide in it.

    >>> _partition("../../etc", "2026-03-16").parts
    ('cluster=..%2F..%2Fetc', 'date=2026-03-16')
    """
    return Path(f"cluster={quote(cluster, safe='')}", f"date={date}")


def _settle(run: Path, lake: Lake, connection: duckdb.DuckDBPyConnection, added: Added) -> None:
    """Rename the staged parts into the lake, without what it already holds."""
    lake.events.mkdir(exist_ok=True)
    # Two processes that settle the same events at once would both find them new.
    with alone(lake.events):
        for partition in sorted({part.parent.relative_to(run / "parts") for part in _staged(run)}):
            try:
                _settle_day(partition, run, lake, connection, added)
            except duckdb.Error:
                # A part whose schema can be read may be damaged all the same.
                damaged = lake.set_damaged_aside(connection, thoroughly=True)
                if not damaged:
                    raise
                added.damaged += damaged
                _settle_day(partition, run, lake, connection, added)


def _settle_day(
    partition: Path,
    run: Path,
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    added: Added,
) -> None:
    staged = sorted((run / "parts" / partition).glob("*.parquet"))
    home = lake.events / partition
    present = [part for part in lake.parts() if part.parent == home]
    total = _count(connection, staged)
    fresh, kept, forged = staged, total, 0
    if _repeated(connection, [*staged, *present]):
        fresh, kept, forged = _distinct(connection, run, staged, present)
    if kept:
        home.mkdir(parents=True, exist_ok=True)
        for part in fresh:
            part.replace(home / part.name)
        added.days.add((unquote(partition.parts[0].partition("=")[2]), partition.name[5:]))
    added.events += kept
    added.duplicates += total - kept
    added.forged += forged


def _staged(run: Path) -> list[Path]:
    return sorted(run.glob("parts/cluster=*/date=*/*.parquet"))


def _count(connection: duckdb.DuckDBPyConnection, parts: list[Path]) -> int:
    row = connection.execute(f"SELECT count(*) FROM ({Lake.relation(parts)})").fetchone()
    return int(row[0]) if row else 0


def _repeated(connection: duckdb.DuckDBPyConnection, parts: list[Path]) -> bool:
    """Whether any identity may occur twice; a hash of 8 bytes a row keeps this cheap."""
    found = connection.execute(
        f"SELECT count(*) - count(DISTINCT hash({_IDENTITY})) FROM ({Lake.relation(parts)})"
    ).fetchone()
    return bool(found and found[0])


def _distinct(
    connection: duckdb.DuckDBPyConnection,
    run: Path,
    staged: list[Path],
    present: list[Path],
) -> tuple[list[Path], int, int]:
    """Rewrite the staged parts of one day so that each record comes once.

    Records with the same identity but other content are all kept: that is a forged auditID, and
    their number is the third value.
    """
    folder = run / "distinct"
    folder.mkdir(exist_ok=True)
    merged = folder / f"part-{uuid.uuid4()}.parquet"
    known = f"SELECT {_IDENTITY}, {_CONTENT} AS content FROM ({Lake.relation(present)})"
    row = connection.execute(
        f"""COPY (
            WITH ranked AS (
                SELECT *, {_CONTENT} AS content, row_number() OVER (
                    PARTITION BY {_IDENTITY}, {_CONTENT} ORDER BY source) AS nth
                FROM ({Lake.relation(staged)}))
            SELECT * EXCLUDE (content, nth) FROM ranked
            WHERE nth = 1 AND ({_IDENTITY}, content) NOT IN ({known})
        ) TO {quoted(str(merged))} ({PARQUET})"""
    ).fetchone()
    kept = int(row[0]) if row else 0
    forged = connection.execute(
        f"""SELECT count(*) FROM (
            SELECT {_IDENTITY} FROM ({Lake.relation([*staged, *present])})
            GROUP BY ALL HAVING count(DISTINCT {_CONTENT}) > 1)"""
    ).fetchone()
    return [merged], kept, int(forged[0]) if forged else 0
