"""Every event once: staged parts are compared with what the lake holds and renamed into place.

A record's time is part of what it is, so staged events are compared only with those of the same
minutes: what it costs to add them depends on them, not on how much the day holds already.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import duckdb

from kubewitness.events.normalisation import quoted
from kubewitness.lake.day import Span
from kubewitness.lake.locks import alone
from kubewitness.lake.store import Lake

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

# Late events lie far apart; each stretch of time costs a look at the parts in it.
_SPANS = 16
_APART = timedelta(minutes=1)


@dataclass(slots=True)
class Added:
    """What an ingest did. ``forged`` counts auditIDs that stood on records of other content;
    ``damaged`` tells of parts of the lake that had to be set aside; ``parts`` hold the events that
    are new, and nothing else."""

    events: int = 0
    duplicates: int = 0
    forged: int = 0
    damaged: list[str] = field(default_factory=list)
    parts: list[Path] = field(default_factory=list)


def settle(run: Path, lake: Lake, connection: duckdb.DuckDBPyConnection, added: Added) -> None:
    """Rename the staged parts into the lake, without what it already holds.

    Parts that lie in ``run`` itself, as those of a temporary lake do, were not split by day: they
    stay whole unless something in them comes twice.
    """
    lake.events.mkdir(exist_ok=True)
    whole = sorted(run.glob("*.parquet"))
    if whole and not _staged(run) and not _any_repeated(whole, connection):
        added.events += count(connection, Lake.relation(whole))
        added.parts += lake.place(whole, lake.events / _partition("any", "any"))
        return
    for part in whole:
        split(part, run, connection)
    for partition in sorted({part.parent.relative_to(run / "parts") for part in _staged(run)}):
        # Two processes that settle the same events at once would both find them new.
        with alone(lake.events):
            _settle_day(partition, run, lake, connection, added)


def _settle_day(
    partition: Path,
    run: Path,
    lake: Lake,
    connection: duckdb.DuckDBPyConnection,
    added: Added,
) -> None:
    staged = sorted((run / "parts" / partition).glob("*.parquet"))
    day = lake.day(lake.events / partition)
    spans, total = _spans(staged, connection)
    while True:
        present = day.overlapping(spans, connection)
        try:
            fresh, kept, forged = _new(staged, present, spans, total, run, connection)
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            # A part whose footer can be read may be damaged all the same.
            damaged = lake.set_damaged_aside(connection, thoroughly=present)
            if not damaged:
                raise
            added.damaged += damaged
        else:
            break
    if kept:
        added.parts += lake.place(fresh, day.folder)
    added.events += kept
    added.duplicates += total - kept
    added.forged += forged


def _spans(staged: list[Path], connection: duckdb.DuckDBPyConnection) -> tuple[list[Span], int]:
    """The stretches of time that the events of one day lie in, and how many events there are."""
    minutes = connection.execute(
        f"""SELECT min(stage_at), max(stage_at), count(*) FROM ({Lake.relation(staged)})
        GROUP BY date_trunc('minute', stage_at) ORDER BY 1"""
    ).fetchall()
    gaps = sorted(
        ((later[0] - earlier[1], at) for at, (earlier, later) in enumerate(pairwise(minutes), 1)),
        reverse=True,
    )
    cuts = sorted(at for gap, at in gaps[: _SPANS - 1] if gap > _APART)
    return [
        (minutes[begin][0], minutes[end - 1][1])
        for begin, end in pairwise([0, *cuts, len(minutes)])
    ], sum(n for *_, n in minutes)


def _within(spans: list[Span]) -> str:
    return " OR ".join(
        f"stage_at BETWEEN TIMESTAMP '{begin}' AND TIMESTAMP '{end}'" for begin, end in spans
    )


def _staged(run: Path) -> list[Path]:
    return sorted(run.glob("parts/cluster=*/date=*/*.parquet"))


def _any_repeated(parts: list[Path], connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether any identity may occur twice, asked day by day: memory is bounded by a day."""
    days = connection.execute(f"SELECT DISTINCT date FROM ({Lake.relation(parts)})").fetchall()
    return any(_repeated(connection, parts, f"date = DATE '{day}'") for (day,) in days)


def _repeated(connection: duckdb.DuckDBPyConnection, parts: list[Path], condition: str) -> bool:
    """Whether any identity may occur twice; a hash of 8 bytes a row keeps this cheap."""
    found = connection.execute(
        f"SELECT count(*) - count(DISTINCT hash(cluster, {_IDENTITY}))"
        f" FROM ({Lake.relation(parts)}) WHERE {condition}"
    ).fetchone()
    return bool(found and found[0])


def _new(
    staged: list[Path],
    present: list[Path],
    spans: list[Span],
    total: int,
    run: Path,
    connection: duckdb.DuckDBPyConnection,
) -> tuple[list[Path], int, int]:
    """The parts with those of the ``total`` staged events of one day that are new, and how many.

    Records with the same identity but other content are all kept: that is a forged auditID, and
    their number is the third value.
    """
    condition = _within(spans)
    if not _repeated(connection, [*staged, *present], condition):
        return staged, total, 0
    folder = run / "distinct"
    folder.mkdir(exist_ok=True)
    distinct = folder / f"part-{uuid.uuid4()}.parquet"
    known = (
        f"SELECT {_IDENTITY}, {_CONTENT} AS content"
        f" FROM ({Lake.relation(present)}) WHERE {condition}"
    )
    files = ", ".join(quoted(str(part)) for part in staged)
    arrived = f"read_parquet([{files}], hive_partitioning = false)"
    place = "ROW(source, file_index, file_row_number)"
    # Which they are is told by few columns; the wide ones are read of what is new only.
    row = connection.execute(
        f"""COPY (
            SELECT * FROM {arrived}
            WHERE {place} IN (
                SELECT min(place) FROM (
                    SELECT {_IDENTITY}, {_CONTENT} AS content, {place} AS place FROM {arrived})
                WHERE ({_IDENTITY}, content) NOT IN ({known})
                GROUP BY {_IDENTITY}, content)
        ) TO {quoted(str(distinct))} ({PARQUET})"""
    ).fetchone()
    kept = int(row[0]) if row else 0
    forged = connection.execute(
        f"""SELECT count(*) FROM (
            SELECT {_IDENTITY} FROM ({Lake.relation([*staged, *present])}) WHERE {condition}
            GROUP BY ALL HAVING count(DISTINCT {_CONTENT}) > 1)"""
    ).fetchone()
    return [distinct], kept, int(forged[0]) if forged else 0


def split(draft: Path, run: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Turn a part into parts of one cluster and day each; rows without a ``date`` are dropped.

    Writing by partition costs as much as reading the JSON, and most files hold one day: only
    those that do not are split, from Parquet.
    """
    rows = f"SELECT * FROM read_parquet({quoted(str(draft))}, hive_partitioning = false)"
    days = connection.execute(f"SELECT DISTINCT cluster, date FROM ({rows})").fetchall()
    for name, date in days:
        if date is None:
            continue
        home = run / "parts" / _partition(name, date)
        if len(days) == 1:
            home.mkdir(parents=True, exist_ok=True)
            draft.replace(home / draft.name)
            return
        home.mkdir(parents=True, exist_ok=True)
        kept = f"cluster = {quoted(name)} AND date = DATE '{date}'"
        part = home / f"part-{uuid.uuid4()}.parquet"
        copied(connection, f"{rows} WHERE {kept}", part)
    draft.unlink()


def count(connection: duckdb.DuckDBPyConnection, select: str) -> int:
    """How many rows a SELECT gives."""
    row = connection.execute(f"SELECT count(*) FROM ({select})").fetchone()
    return int(row[0]) if row else 0


def copied(connection: duckdb.DuckDBPyConnection, select: str, target: Path) -> int:
    """Write what ``select`` gives as one Parquet file; returns its rows."""
    row = connection.execute(f"COPY ({select}) TO {quoted(str(target))} ({PARQUET})").fetchone()
    return int(row[0]) if row else 0


def _partition(cluster: str, date: object) -> Path:
    """The folder of one cluster's day. A cluster's name comes from a log: no path may hide in it.

    >>> _partition("../../etc", "2026-03-16").parts
    ('cluster=..%2F..%2Fetc', 'date=2026-03-16')
    """
    return Path(f"cluster={quote(cluster, safe='')}", f"date={date}")
