"""One day of one cluster: a folder of parts, and what is known of them without opening them again.

    events/cluster=NAME/date=YYYY-MM-DD/
      part-UUID.parquet        as it came
      merged-UUID.parquet      many parts in one (lake/compaction.py)
      merged-UUID.replaces     the names of those, one a line: they do not count any longer

What a merged part replaces is deleted some time after it appeared, so that whoever has listed it
before can read it to the end. From its rename on, nobody who lists the folder counts it. It may be
a merged part itself: then it goes after what it replaces.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.events.normalisation import quoted

MERGED = "merged-"
REPLACES = ".replaces"
_PART_COLUMNS = {**EVENT_COLUMNS, "date": "DATE"}

# The finest difference that the times of a folder can be trusted to show.
_TICK = 2_000_000_000

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

Span = tuple[datetime, datetime]


class Footer(NamedTuple):
    """What a part tells of itself: its rows and the range of their ``stage_at``, if it does, and
    why it cannot be read, or ''. ``stamp``: of the file that was read."""

    rows: int
    first: datetime | None
    last: datetime | None
    problem: str
    stamp: tuple[int, int]

    def overlaps(self, spans: Iterable[Span]) -> bool:
        """Whether it may hold an event of ``spans``; who does not tell may hold any."""
        first, last = self.first, self.last
        return (
            first is None
            or last is None
            or any(first <= end and begin <= last for begin, end in spans)
        )


class _Listing(NamedTuple):
    """A folder as it was when its time was ``changed``; the parts that count, by name."""

    changed: int
    names: frozenset[str]
    parts: dict[str, Path]


_UNSEEN = _Listing(-1, frozenset(), {})


class Day:
    """The parts in ``folder``, which need not exist. Nothing is read twice: a part never changes
    under its name (``fresh_footers`` makes sure), a folder shows by its time that it did. Several
    threads may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._left_out: set[str] = set()
        self._listing = _UNSEEN
        self._footers: dict[Path, Footer] = {}

    def parts(self) -> list[Path]:
        """Those that count, in a stable order."""
        parts = self._listed().parts
        return [parts[name] for name in sorted(parts)]

    def replacing(self) -> list[Path]:
        """The lists of what merged parts replace, whether the merged part is there or not."""
        names = self._listed().names
        return sorted(self.folder / name for name in names if name.endswith(REPLACES))

    def overlapping(
        self, spans: Collection[Span], connection: duckdb.DuckDBPyConnection
    ) -> list[Path]:
        """The parts that may hold events of ``spans`` (and those that cannot be read)."""
        return [part for part, footer in self.footers(connection).items() if footer.overlaps(spans)]

    def footers(self, connection: duckdb.DuckDBPyConnection) -> dict[Path, Footer]:
        """Of all parts; each is opened once."""
        parts = self._listed().parts.values()
        known = self._footers
        found = {part: known[part] for part in parts if part in known}
        read = _read([part for part in parts if part not in found], connection)
        # Made anew, not changed: another thread may be reading the old one.
        self._footers = footers = {**found, **read}
        return footers

    def fresh_footers(self, connection: duckdb.DuckDBPyConnection) -> dict[Path, Footer]:
        """As ``footers``, with those read again whose file is another one by now."""
        self._footers = {
            part: footer for part, footer in self._footers.items() if _stamp(part) == footer.stamp
        }
        return self.footers(connection)

    def leave_out(self, part: Path) -> None:
        """Count a part no longer that can neither be read nor moved away."""
        self._left_out.add(part.name)
        self._listing = _UNSEEN

    def _listed(self) -> _Listing:
        """The folder; what was seen is good as long as its time says that nothing has changed."""
        before = self._listing
        changed = _time(self.folder)
        if changed == before.changed:
            return before
        while True:
            names = _names(self.folder)
            again = _time(self.folder)
            if again == changed:
                break
            changed = again  # it changed meanwhile: what came may replace what had been seen
        present = {name for name in names if name.endswith(".parquet")} - self._left_out
        for name in [name for name in present if name.startswith(MERGED)]:
            present -= replaced(self.folder / name)
        parts = {name: before.parts[name] for name in present & before.parts.keys()}
        for name in present - parts.keys():
            part = self.folder / name
            if part.is_file():
                parts[name] = part
        # Another change within the same tick would not show.
        settled = time.time_ns() - changed > _TICK
        self._listing = listing = _Listing(changed if settled else -1, names, parts)
        return listing


def all_sound(parts: Collection[Path], connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether every part begins as one of a lake and has the columns of an event. Which does not,
    the ``footers`` tell, where more is read."""
    if not parts:
        return True
    try:
        columns = _columns(parts, connection)
    except duckdb.Error:
        return False
    return all(columns.get(str(part), set()) >= _PART_COLUMNS.keys() for part in parts)


def damage(part: Path, error: duckdb.Error) -> str:
    """What an error in reading a part says of it, '' if it is gone.

    Raises the error where it says something of this process: nobody's part is damaged because
    somebody is short of memory.
    """
    passing = isinstance(error, duckdb.InterruptException | duckdb.OutOfMemoryException)
    if passing or any(os.strerror(code) in str(error) for code in _SHORTAGES):
        raise error
    return str(error).splitlines()[0] if part.exists() else ""


def replaced(merged: Path) -> set[str]:
    """The names of what became this part, as long as they may still be in its folder."""
    with suppress(FileNotFoundError):
        return set(merged.with_suffix(REPLACES).read_text(encoding="utf-8").split("\n")) - {""}
    return set()


def _names(folder: Path) -> frozenset[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return frozenset(os.listdir(folder))
    return frozenset()


def _time(folder: Path) -> int:
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime_ns
    return 0


def _stamp(part: Path) -> tuple[int, int]:
    with suppress(FileNotFoundError):
        status = part.stat()
        return status.st_mtime_ns, status.st_size
    return (0, 0)


def _read(parts: list[Path], connection: duckdb.DuckDBPyConnection) -> dict[Path, Footer]:
    """The footers of ``parts``, without those that have vanished."""
    if not parts:
        return {}
    stamps = {part: _stamp(part) for part in parts}
    try:
        return _told(parts, stamps, connection)
    except duckdb.Error as error:
        # One of them cannot be read: halves find it among thousands.
        if len(parts) > 1:
            middle = len(parts) // 2
            return {**_read(parts[:middle], connection), **_read(parts[middle:], connection)}
        (part,) = parts
        problem = damage(part, error)
        return {part: Footer(0, None, None, problem, stamps[part])} if problem else {}


def _told(
    parts: list[Path],
    stamps: dict[Path, tuple[int, int]],
    connection: duckdb.DuckDBPyConnection,
) -> dict[Path, Footer]:
    columns = _columns(parts, connection)
    files = _files(parts)
    ranges = {
        name: (rows, first, last)
        for name, rows, first, last in connection.execute(
            f"""SELECT file_name, sum(row_group_num_rows)::BIGINT,
                CASE WHEN count(first) = count(*) THEN min(first) END,
                CASE WHEN count(last) = count(*) THEN max(last) END
            FROM (SELECT *, try_cast(stats_min_value AS TIMESTAMP) AS first,
                    try_cast(stats_max_value AS TIMESTAMP) AS last
                FROM parquet_metadata({files}) WHERE path_in_schema = 'stage_at')
            GROUP BY ALL"""
        ).fetchall()
    }
    footers = {}
    for part in parts:
        wrong = [name for name in _PART_COLUMNS if name not in columns.get(str(part), ())]
        problem = f"its columns {', '.join(wrong)} are not those of an event" if wrong else ""
        rows, first, last = ranges.get(str(part), (0, None, None))
        footers[part] = Footer(rows, first, last, problem, stamps[part])
    return footers


def _columns(parts: Iterable[Path], connection: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """The columns of an event that each part has, by its path."""
    wanted = ", ".join(f"({quoted(name)}, {quoted(kind)})" for name, kind in _PART_COLUMNS.items())
    rows = connection.execute(
        f"""SELECT file_name, list(name) FROM parquet_schema({_files(parts)})
        WHERE (name, duckdb_type) IN ({wanted}) GROUP BY ALL"""
    ).fetchall()
    return {part: set(names) for part, names in rows}


def _files(parts: Iterable[Path]) -> str:
    return f"[{', '.join(quoted(str(part)) for part in parts)}]"
