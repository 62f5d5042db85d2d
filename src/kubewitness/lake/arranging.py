"""A lake in the order of objects, too: what questions about objects are answered from.

    LAKE/objects/v1/cluster=NAME/date=YYYY-MM-DD/PART/    of events/…/PART.parquet
      changes-N-of-M.parquet    what wrote an object or got into one, whole (``events.change``)
      reads-N-of-M.parquet      all other events: who touched what

A part of events is in the order of time, and an object's are all over it. Here they stand once
more, sorted by object, a few at a time so that little memory is needed: an object's are next to
each other in each file, and what stands next to its like takes a third of the bytes. Small row
groups, as a body costs as much as all of its group.

Nothing is known from here alone. What is missing, of small or new parts above all, is read from the
events, and made when there is time; all of it may be deleted at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path

import duckdb

from kubewitness.events.change import changes_in_order, reads_in_order
from kubewitness.events.normalisation import quoted
from kubewitness.lake.store import GOES_ON, Lake

log = logging.getLogger(__name__)

FEWEST_ROWS = 32_768
"""Parts with fewer are read as they are."""

# As many as are sorted with a quarter of a gigabyte of memory.
_ROWS = 131_072
# What stands next to its like is as small with the least effort.
_PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE"
_KINDS = {"changes": (changes_in_order, 4096), "reads": (reads_in_order, 20480)}


def arrange(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    *,
    first: Collection[Path] = (),
    most: int | None = None,
) -> int:
    """Put large parts in the order of objects that are not yet: those that are to be ``first``,
    and up to ``most`` others, the newest first; returns how many.

    A quarter of a gigabyte of memory is enough. Raises ``LakeError`` when the disk is full or not
    writable; what was whole by then stays.
    """
    if not lake.events.exists():
        return 0
    with lake.writing(GOES_ON):
        waiting = list(_waiting(lake, connection))
        chosen = [part for part in waiting if part in first]
        chosen += [part for part in waiting if part not in first][:most]
        return sum(_arranged(part, lake, connection) for part in chosen)


def _waiting(lake: Lake, connection: duckdb.DuckDBPyConnection) -> Iterator[Path]:
    there = lake.arranged().keys() | lake.stubborn
    for day in sorted(lake.days(), key=lambda day: day.folder.name, reverse=True):
        for part, footer in day.footers(connection).items():
            if footer.rows >= FEWEST_ROWS and not footer.problem and part not in there:
                yield part


def _arranged(part: Path, lake: Lake, connection: duckdb.DuckDBPyConnection) -> bool:
    with lake.run() as run:
        draft = run / part.stem
        draft.mkdir()
        try:
            _write(part, draft, connection)
        except duckdb.InterruptException:
            raise
        except duckdb.OutOfMemoryException as error:
            log.warning("%s stays in the order of time: %s", part, str(error).splitlines()[0])
            lake.stubborn.add(part)
            return False
        except duckdb.Error:
            damaged = lake.set_damaged_aside(connection, thoroughly=[part])
            for one in damaged:
                log.warning("%s", one)
            if not damaged and part.exists():
                raise
            return False
        return lake.arrange(part, draft)


def _write(part: Path, draft: Path, connection: duckdb.DuckDBPyConnection) -> None:
    rows = f"SELECT count(*) FROM read_parquet({quoted(str(part))})"
    ((count,),) = connection.execute(rows).fetchall()
    begins = range(0, count, _ROWS)
    files = len(begins) * len(_KINDS)
    for number, begin in enumerate(begins):
        for kind, (in_order, group) in _KINDS.items():
            target = draft / f"{kind}-{number:04}-of-{files:04}.parquet"
            connection.execute(
                f"COPY ({in_order(_some(part, begin))}) TO {quoted(str(target))}"
                f" ({_PARQUET} {group})"
            )


def _some(part: Path, begin: int) -> str:
    """SQL: ``_ROWS`` events of a part, each with its ``id``; the engine passes over the others."""
    files = f"read_parquet({quoted(str(part))}, hive_partitioning=false, file_row_number=true)"
    some = f"file_row_number >= {begin} AND file_row_number < {begin + _ROWS}"
    return f"SELECT *, file_row_number AS id FROM {files} WHERE {some}"
