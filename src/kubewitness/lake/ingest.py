"""From sources to the lake: every event once, however often and from wherever it comes.

A chunk is written into ``staging`` in one pass. Afterwards the parts of each touched day are
compared with what the lake holds, and renamed into place: a killed run leaves either a whole
part or nothing, and running it again adds what is missing. What lasts is put in the order of
objects, too (``lake.arranging``).
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from kubewitness.errors import LakeError
from kubewitness.lake.adding import stage
from kubewitness.lake.arranging import arrange
from kubewitness.lake.settling import Added, settle
from kubewitness.lake.store import Lake
from kubewitness.sources.reading import Chunk, Reader

Progress = Callable[[Chunk, int], None]

# Of what is in the lake already so many parts are put in order with what comes.
_BACKLOG = 2


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
    with lake.writing(), lake.run() as run:
        for chunk in reader.chunks():
            rows = stage(chunk, run, lake, connection, cluster)
            if rows is not None:
                reader.accepted(chunk, rows)
                progress(chunk, rows)
                continue
            # Something in there is no plain event: read it again, line by line.
            for trusted in reader.distrust(chunk):
                rows = stage(trusted, run, lake, connection, cluster)
                if rows is not None:
                    reader.accepted(trusted, rows)
                progress(trusted, rows or 0)
        settle(run, lake, connection, added)
    if lake.lasting:
        try:
            arrange(lake, connection, first=added.parts, most=_BACKLOG)
        except LakeError as error:  # everything is in the lake all the same
            added.damaged.append(
                f"{error.what}: all events are there, but questions about objects take longer"
            )
    return added
