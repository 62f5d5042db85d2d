"""Activity of time slots that are over, and where a witness stands: what a restart begins with.

    LAKE/activity/cluster=NAME/date=DAY/activity.parquet    one file a day, rewritten as slots end
    LAKE/activity/cluster=NAME/standing.json                what was heard, and until when
    LAKE/activity/cluster=NAME/groups-N.parquet, met-N.parquet    slots that are not over

Whatever is missing or damaged here is made again from the events, as far as the lake has them
still: activity is kept for longer, so that of days without events is never deleted to be made anew.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import duckdb
import msgspec

from kubewitness.events.normalisation import quoted
from kubewitness.lake.store import Lake
from kubewitness.report.inert import plain

logger = logging.getLogger(__name__)

_PARQUET = "FORMAT parquet, COMPRESSION zstd"
_STANDING = "standing.json"


class Standing(msgspec.Struct, kw_only=True):
    """How far a witness has come.

    ``width``: of a slot, in seconds. ``closed``: slots before it are over. ``since``: what began
    there is judged. ``first``, ``last``: the times of the events that were heard. ``heard``: names
    of parts of the lake. ``proxies``: what was taken for proxies when slots ended. ``unfinished``:
    slots whose activity has to be made again. ``answered``: whether the log has answers at all.
    """

    width: int
    closed: datetime | None = None
    since: datetime | None = None
    first: datetime | None = None
    last: datetime | None = None
    heard: set[str] = msgspec.field(default_factory=set)
    proxies: set[str] = msgspec.field(default_factory=set)
    unfinished: set[datetime] = msgspec.field(default_factory=set)
    answered: bool = False
    generation: int = 0


class Archive:
    """The folder of one cluster. Times in it are UTC without a zone, as in the lake."""

    def __init__(self, lake: Lake, cluster: str) -> None:
        self._lake = lake
        self.folder = lake.root / "activity" / f"cluster={quote(cluster, safe='')}"

    def parts(self, since: datetime | None = None) -> list[Path]:
        """The parts of the lake that hold this cluster's events, of the days from ``since`` on."""
        begin = "" if since is None else f"date={since.date()}"
        return [
            part
            for part in self._lake.parts()
            if part.parent.parent.name == self.folder.name and part.parent.name >= begin
        ]

    def attach(self, connection: duckdb.DuckDBPyConnection, parts: Sequence[Path]) -> None:
        """Make the views of some parts (``Lake.attach``)."""
        self._lake.attach(connection, parts)

    def disarrange(self, connection: duckdb.DuckDBPyConnection, parts: Sequence[Path]) -> list[str]:
        """Do without arrangements that cannot be read (``Lake.disarrange``)."""
        return self._lake.disarrange(parts, connection)

    def put(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        slots: Iterable[datetime],
        width: timedelta,
    ) -> None:
        """Keep the activity in ``table`` as all that there is of these ``slots``, which are so
        wide; they may have been narrower before. Raises ``LakeError`` where the disk is full or
        not writable."""
        with self._lake.writing():
            self._put(connection, table, slots, int(width.total_seconds()))

    def _put(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        slots: Iterable[datetime],
        seconds: int,
    ) -> None:
        for day, times in _by_day(slots).items():
            home = self.folder / f"date={day}"
            home.mkdir(parents=True, exist_ok=True)
            there = home / "activity.parquet"
            listed = ", ".join(f"TIMESTAMP '{slot}'" for slot in times)
            select = f"SELECT * FROM {table} WHERE slot IN ({listed})"
            if there.exists():
                kept = f"SELECT * FROM {self.relation([there])}"
                other = f"time_bucket(INTERVAL '{seconds} seconds', slot) NOT IN ({listed})"
                select = f"{kept} WHERE {other} UNION ALL BY NAME {select}"
            _copied(connection, f"{select} ORDER BY slot", there)

    def days(self, since: datetime | None) -> list[Path]:
        """The files of the days from ``since`` on."""
        begin = "" if since is None else f"date={since.date()}"
        found = sorted(self.folder.glob("date=*/activity.parquet"))
        return [path for path in found if path.parent.name >= begin]

    @staticmethod
    def relation(days: Iterable[Path]) -> str:
        """SQL: the activity in some files, of which there is one at least."""
        listed = ", ".join(quoted(str(path)) for path in days)
        return f"read_parquet([{listed}], hive_partitioning=false)"

    def slots(self, connection: duckdb.DuckDBPyConnection) -> set[datetime]:
        """All slots of which there is activity that can be made again."""
        days = self._repeatable()
        if not days:
            return set()
        found = connection.execute(f"SELECT DISTINCT slot FROM {self.relation(days)}")
        return {slot for (slot,) in found.fetchall()}

    def _repeatable(self) -> list[Path]:
        """The files of the days of which the lake has events."""
        eventful = {part.parent.name for part in self.parts()}
        return [path for path in self.days(None) if path.parent.name in eventful]

    def forget(self) -> None:
        """Remove all activity that can be made anew, and first what says that it is there."""
        (self.folder / _STANDING).unlink(missing_ok=True)
        if self.folder.exists():
            _synced(self.folder)
        for path in self._repeatable():
            path.unlink(missing_ok=True)

    def mend(
        self, connection: duckdb.DuckDBPyConnection, width: timedelta, *, thoroughly: bool
    ) -> set[datetime]:
        """Delete what cannot be read; returns the slots that it may have had. Raises ``OSError``
        where it is not the file that is to blame."""
        lost = set()
        asked = "COLUMNS(*)" if thoroughly else "slot"
        for path in self.days(None):
            try:
                connection.execute(f"SELECT count({asked}) FROM {self.relation([path])}")
            except duckdb.Error as error:
                _opened(path)
                logger.warning("%s is damaged, and made again: %s", path, plain(str(error)))
                path.unlink(missing_ok=True)
                day = datetime.fromisoformat(path.parent.name.partition("=")[2])
                lost |= {day + n * width for n in range(math.ceil(timedelta(days=1) / width))}
        return lost

    def save(self, standing: Standing, connection: duckdb.DuckDBPyConnection) -> None:
        """Keep ``standing`` with the tables ``groups`` and ``met``, all or nothing. Raises
        ``LakeError`` where the disk is full or not writable."""
        with self._lake.writing():
            self._save(standing, connection)

    def _save(self, standing: Standing, connection: duckdb.DuckDBPyConnection) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        standing.generation += 1
        for table in ("groups", "met"):
            _copied(connection, f"FROM {table}", self._table(table, standing.generation))
        draft = self.folder / "standing.draft"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(standing))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / _STANDING)
        _synced(self.folder)
        for path in self.folder.glob("*-*.parquet"):
            if not path.stem.endswith(f"-{standing.generation}"):
                path.unlink(missing_ok=True)

    def restore(self, connection: duckdb.DuckDBPyConnection) -> Standing | None:
        """What ``save`` kept, with both tables; None when there is nothing that can be read.
        Raises ``OSError`` where it cannot be read now."""
        try:
            text = (self.folder / _STANDING).read_bytes()
            standing = msgspec.json.decode(text, type=Standing)
            for table in ("groups", "met"):
                path = self._table(table, standing.generation)
                _opened(path)
                found = self.relation([path])
                connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {found}")
        except (FileNotFoundError, msgspec.MsgspecError, duckdb.Error):
            return None
        width = timedelta(seconds=standing.width)
        standing.unfinished |= self.mend(connection, width, thoroughly=False)
        return standing

    def _table(self, name: str, generation: int) -> Path:
        return self.folder / f"{name}-{generation}.parquet"


def _opened(path: Path) -> None:
    """Raise ``OSError`` if a file cannot be opened at present."""
    with path.open("rb") as file:
        file.read(1)


def _by_day(slots: Iterable[datetime]) -> dict[date, list[datetime]]:
    days: dict[date, list[datetime]] = {}
    for slot in sorted(set(slots)):
        days.setdefault(slot.date(), []).append(slot)
    return days


def _copied(connection: duckdb.DuckDBPyConnection, select: str, target: Path) -> None:
    draft = target.with_suffix(".draft")
    connection.execute(f"COPY ({select}) TO {quoted(str(draft))} ({_PARQUET})")
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)
    _synced(target.parent)


def _synced(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
