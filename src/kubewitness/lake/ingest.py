"""From sources to the lake: every event once, however often and from wherever it comes.

A chunk is written into ``staging`` in one pass. Afterwards the parts of each touched day are
compared with what the lake holds, and renamed into place: a killed run leaves either a whole
part or nothing, and running it again adds what is missing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import duckdb

from kubewitness.errors import LakeError
from kubewitness.events.normalisation import (
    MAXIMUM_LINE_BYTES,
    USUAL_LINE_BYTES,
    event_rows,
    json_lines,
    quoted,
)
from kubewitness.lake.settling import Added, copied, count, settle, split
from kubewitness.lake.store import Lake
from kubewitness.sources.reading import SUSPECT, Chunk, Reader
from kubewitness.sources.spool import REMEDY

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
                rows = _stage(chunk, run, lake, connection, cluster)
                if rows is not None:
                    reader.accepted(chunk, rows)
                    progress(chunk, rows)
                    continue
                # Something in there is no plain event: read it again, line by line.
                for trusted in reader.distrust(chunk):
                    rows = _stage(trusted, run, lake, connection, cluster)
                    if rows is not None:
                        reader.accepted(trusted, rows)
                    progress(trusted, rows or 0)
            settle(run, lake, connection, added)
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
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    cluster: str | None,
) -> int | None:
    """Write one chunk as parts under ``run``; None when some rows were no events."""
    draft = run / f"part-{uuid.uuid4()}.parquet"
    select = event_rows(
        json_lines(
            str(chunk.path),
            chunk.compression,
            longest=USUAL_LINE_BYTES if chunk.verbatim else MAXIMUM_LINE_BYTES,
        ),
        cluster=cluster,
        source=chunk.source,
        suspect=SUSPECT if chunk.verbatim else "false",
        bodies=lake.bodies,
    )
    try:
        rows = copied(connection, select, draft)
    except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.IOException):
        # A line longer than the limit or a broken compression stream: DuckDB gives up on the
        # whole file, the reader will not. (A full disk will still be full then.)
        draft.unlink(missing_ok=True)
        if chunk.verbatim:
            return None
        raise
    undated = count(
        connection, f"SELECT 1 FROM read_parquet({quoted(str(draft))}) WHERE date IS NULL"
    )
    if undated and chunk.verbatim:
        draft.unlink()
        return None
    if lake.lasting or undated:
        split(draft, run, connection)
    return rows - undated
