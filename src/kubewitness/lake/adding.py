"""Chunks into the lake: staged in one pass, and put in place without what is there already.

``ingest`` does so with all that a reader finds; ``add`` with what a running service has just
received, as often as every second and for months.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from pathlib import Path

import duckdb

from kubewitness.events.normalisation import (
    MAXIMUM_LINE_BYTES,
    USUAL_LINE_BYTES,
    event_rows,
    json_lines,
)
from kubewitness.lake.settling import Added, copied, count, settle, split
from kubewitness.lake.store import GOES_ON, Lake
from kubewitness.sources.reading import SUSPECT, Chunk

log = logging.getLogger(__name__)


def add(
    chunks: Iterable[Chunk],
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    *,
    cluster: str,
) -> Added:
    """Add canonical ``chunks`` of ``cluster``; each stays where it is, for the caller to delete.

    When this returns, ``Added.parts`` are in place (``Lake.relation`` reads them; they stay for
    ``compaction.GRACE`` at least) and hold exactly the events that the lake did not have. Raises
    ``LakeError`` when the disk is full or not writable; then, as when the process is killed, some
    of the parts may be in place.
    """
    added = Added()
    with lake.writing(GOES_ON), lake.run() as run:
        for chunk in chunks:
            rows = stage(chunk, run, lake, connection, cluster)
            if rows != chunk.lines:
                log.warning("%s of %s events of a chunk were taken", rows, chunk.lines)
        settle(run, lake, connection, added)
    for damaged in added.damaged:
        log.warning("%s", damaged)
    return added


def stage(
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
    undated = count(connection, f"{Lake.relation([draft])} WHERE date IS NULL")
    if undated and chunk.verbatim:
        draft.unlink()
        return None
    if lake.lasting or undated:
        split(draft, run, connection)
    return rows - undated
