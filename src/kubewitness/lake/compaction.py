"""Many small parts of a day become few large ones, a little at a time, while others read and add.

A service that adds a part a second would leave 86,400 a day. Parts are merged with others of about
their size, sixteen or more at once, as in a log-structured merge tree: on its way from a second's
part to a final one an event is written two or three times, whatever the day holds. A day that
nothing has come to for an hour is tidied up.

What is merged appears by one rename, and from then on no list of the day's parts has both the
merged part and what it was made of (``lake/day.py``): every event is there once at every instant,
for whoever reads and whenever a process is killed. Others add meanwhile; they wait only for the
rename, and for deleting.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

import duckdb

from kubewitness.errors import LakeError
from kubewitness.lake.day import MERGED, REPLACES, Day, Footer, replaced
from kubewitness.lake.locks import alone
from kubewitness.lake.settling import copied
from kubewitness.lake.store import GOES_ON, Lake, synced

log = logging.getLogger(__name__)

FANIN = 16
FINAL_ROWS, FINAL_BYTES = 1_000_000, 512 << 20
_MOST_PARTS = 512

# Sorting wide rows takes half as long again, and 2 KB a row of memory.
_SORTED_ROWS = 131_072

GRACE = timedelta(minutes=10)
"""For how long what was merged stays readable for those who had listed it before."""

_QUIET = timedelta(hours=1)
_FEW = 4


@dataclass(frozen=True, slots=True)
class Merged:
    """``parts`` of ``rows`` events that became ``part``."""

    part: Path
    parts: int
    rows: int


def compact(
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    *,
    settled: timedelta = timedelta(),
    grace: timedelta = GRACE,
) -> Merged | None:
    """Merge some parts of one day, where it is worth it, and delete what was merged long ago.

    One call is a bounded piece of work; None says that there is nothing to do. Parts younger than
    ``settled`` are left alone. Give it a connection of its own, as it has to keep rows in order; a
    quarter of a gigabyte of memory is enough.
    Raises ``LakeError`` when the disk is full or not writable; nothing has changed then.
    """
    if not lake.events.exists():
        return None
    with lake.writing(GOES_ON), alone(lake.root):
        sweep(lake, grace)
        for day in sorted(lake.days(), key=lambda day: len(day.parts()), reverse=True):
            if len(day.parts()) < _FEW:
                break
            chosen = worth_merging(day.footers(connection), settled=settled)
            if chosen and (merged := _merge(chosen, day, lake, connection)):
                return merged
    return None


def worth_merging(
    footers: dict[Path, Footer], *, settled: timedelta = timedelta(), now: float | None = None
) -> dict[Path, Footer]:
    """Parts of one day that should be one, in the order of time; none is a fine answer, too."""
    now = time.time() if now is None else now
    age = {part: now - footer.stamp[0] / 1e9 for part, footer in footers.items()}
    small = sorted(
        (
            (part, footer)
            for part, footer in footers.items()
            if _full(footer) < 1 and not footer.problem and age[part] >= settled.total_seconds()
        ),
        key=lambda one: (_tier(one[1]), *_time(one)),
    )
    for _, alike in groupby(small, key=lambda one: _tier(one[1])):
        found = list(alike)
        if len(found) >= FANIN:
            return _bounded(found)
    if len(small) >= _FEW and min(age.values()) >= _QUIET.total_seconds():
        return _bounded(sorted(small, key=_time))
    return {}


def _time(one: tuple[Path, Footer]) -> tuple[bool, datetime | None, Path]:
    part, footer = one
    return footer.first is not None, footer.first, part


def _tier(footer: Footer) -> int:
    """How many times sixteen.

    >>> [_tier(Footer(rows, None, None, "", (0, 0))) for rows in (0, 15, 16, 255, 256, 65_536)]
    [0, 0, 1, 1, 2, 4]
    """
    tier, rows = 0, footer.rows
    while rows >= FANIN:
        tier, rows = tier + 1, rows // FANIN
    return tier


def _full(footer: Footer) -> float:
    """How much of a final part it is; final ones stay as they are."""
    _, size = footer.stamp
    return max(footer.rows / FINAL_ROWS, size / FINAL_BYTES)


def _bounded(parts: Iterable[tuple[Path, Footer]]) -> dict[Path, Footer]:
    taken: dict[Path, Footer] = {}
    full = 0.0
    for part, footer in parts:
        taken[part] = footer
        full += _full(footer)
        if full >= 1 or len(taken) >= _MOST_PARTS:
            break
    return taken


def _merge(
    chosen: dict[Path, Footer], day: Day, lake: Lake, connection: duckdb.DuckDBPyConnection
) -> Merged | None:
    with lake.run() as run:
        draft = run / f"{MERGED}{uuid.uuid4()}.parquet"
        expected = sum(footer.rows for footer in chosen.values())
        try:
            rows = _written(chosen, draft, connection)
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            damaged = lake.set_damaged_aside(connection, thoroughly=chosen)
            for one in damaged:
                log.warning("%s", one)
            if not damaged and set(chosen) <= set(day.parts()):
                raise
            return None  # without what was damaged, or is gone, another time
        if rows != expected:
            raise LakeError(
                f"{expected} events were to be merged, but {rows} were read: nothing was changed",
                where=str(day.folder),
                remedy="please report this",
            )
        synced(draft)
        listed = draft.with_suffix(REPLACES)
        listed.write_text("".join(f"{part.name}\n" for part in chosen), encoding="utf-8")
        synced(listed)
        with alone(lake.events):
            if set(chosen) - set(day.parts()):
                return None
            # The list first: without its part it means nothing, the part without it too much.
            listed.replace(day.folder / listed.name)
            synced(day.folder)
            part = draft.replace(day.folder / draft.name)
            synced(day.folder)
    return Merged(part, len(chosen), rows)


def _written(chosen: dict[Path, Footer], draft: Path, connection: duckdb.DuckDBPyConnection) -> int:
    """Write the events of parts so that each row group holds a short time, which is what readers
    go by. Parts that follow each other are in that order already; others are sorted if they are
    few enough."""
    select = Lake.relation(list(chosen))
    connection.execute("SET preserve_insertion_order = true")
    rows = sum(footer.rows for footer in chosen.values())
    if _interleaved(chosen.values()) and rows <= _SORTED_ROWS:
        try:
            return copied(connection, f"{select} ORDER BY stage_at", draft)
        except duckdb.OutOfMemoryException:
            draft.unlink(missing_ok=True)
    return copied(connection, select, draft)


def _interleaved(footers: Iterable[Footer]) -> bool:
    """Whether parts are of the same time rather than one after the other."""
    spans = [(one.first, one.last) for one in footers if one.first and one.last]
    if not spans:
        return False
    whole = max(last for _, last in spans) - min(first for first, _ in spans)
    return sum((last - first for first, last in spans), timedelta()) > 2 * whole


def sweep(lake: Lake, grace: timedelta = GRACE) -> None:
    """Delete what has been merged for longer than ``grace``, lists of what never was, and the
    arrangements of parts that are gone."""
    for day in lake.days():
        for listed in day.replacing():
            with alone(lake.events):
                merged = listed.with_suffix(".parquet")
                if not merged.exists():
                    listed.unlink(missing_ok=True)
                elif time.time() - listed.stat().st_mtime >= grace.total_seconds():
                    _forget_what_became(merged)
    lake.sweep()


def _forget_what_became(merged: Path) -> None:
    """Delete what a merged part replaces, and after that the list that says so: at every instant
    something says of each that it does not count, or it is gone."""
    gone = [merged.with_name(name) for name in replaced(merged)]
    for part in gone:
        if part.name.startswith(MERGED):
            _forget_what_became(part)
        part.unlink(missing_ok=True)
    if gone:
        synced(merged.parent)
    merged.with_suffix(REPLACES).unlink(missing_ok=True)
