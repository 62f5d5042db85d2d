"""Measure what a chunk costs a lake that a service writes, and write it into bench/README.md.

    python bench/live_lake.py [--parts 1000,10000] [--events 1000] [--rounds 7]

A day of ``--parts`` parts of ``--events`` events each is made from the example log in a temporary
folder (with new auditIDs, dealt out over the day; 3 GB of disk for a while), and chunks of 5,000
events of its first hours are added, as the service does every second. Then the day is compacted
to the end, and the same is measured again. Rewrites what stands between
``<!-- live-lake:begin -->`` and ``<!-- live-lake:end -->``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TypeVar

import duckdb

from kubewitness.events.normalisation import quoted
from kubewitness.lake.adding import add
from kubewitness.lake.compaction import compact
from kubewitness.lake.engine import engine
from kubewitness.lake.settling import PARQUET
from kubewitness.lake.store import Lake
from kubewitness.sources.reading import Chunk
from replay import START, Replay
from throughput import ROOT, machine, rewrite, run, table

CHUNK = 5000
BUDGET = 0.35
CLUSTER = "bench"
DAY_MICROSECONDS = 86_400_000_000

_Done = TypeVar("_Done")


def main() -> None:
    """Make the day larger and larger, and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--parts", default="1000,10000", help="parts of the day, one size a step")
    parser.add_argument("--events", type=int, default=1000, help="of each part")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compact", type=Path, help="merge this lake to the end, and no more")
    options = parser.parse_args()
    if options.compact:
        print(json.dumps(_compact(options.compact)))
        return
    steps = [int(step) for step in options.parts.split(",")]
    with tempfile.TemporaryDirectory(prefix="kubewitness-bench-") as folder:
        home = Path(folder) / "lake"
        chunks = _chunks(Path(folder))
        templates = _templates(chunks, Path(folder), options.events)
        rows = [_measured("empty", chunks, home, options.rounds)]
        made = 0
        for parts in steps:
            _grown(home, templates, range(made, parts), parts=steps[-1])
            made = parts
            told = f"{parts:,} parts, {parts * options.events:,} events"
            rows.append(_measured(told, chunks, home, options.rounds))
        asked = [_asked(home)]
        merging = _compacted(home)
        asked.append(_asked(home))
        rows.append(_measured("the same, compacted", chunks, home, options.rounds))
    head = ("the day holds", "first chunk", "a chunk", "a chunk again", "parts")
    told = (
        f"Seconds of processor time for a chunk of {CHUNK:,} events: the first after a start, which"
        f" opens every part of the day once; the median of {options.rounds} others; and of those"
        f" that come a second time. Budget of a chunk: {BUDGET} s. One-minute load of the machine"
        f" at the end: {os.getloadavg()[0]:.1f}."
    )
    query = (
        "`query 'verb = delete'`, from its start to its last line: {} s of processor time before,"
        " {} s after."
    )
    rewrite(
        "live-lake",
        [machine(), told, table(head, rows), merging, query.format(*asked)],
    )


def _chunks(folder: Path) -> Iterator[Chunk]:
    """Chunks of the example log, one after the other in the same place, as a service has them."""
    replay = Replay(ROOT / "examples" / "audit.jsonl.zst")
    path = folder / "chunk.jsonl"
    for copy in replay.copies():
        lines = copy.splitlines(keepends=True)
        for begin in range(0, len(lines) - CHUNK, CHUNK):
            path.write_bytes(b"".join(lines[begin : begin + CHUNK]))
            yield Chunk(path, "none", "bench", verbatim=False, lines=CHUNK)


def _templates(chunks: Iterator[Chunk], folder: Path, events: int) -> list[Path]:
    """Parts of ``events`` rows each, as they lie in a lake."""
    lake = Lake(folder / "templates")
    with engine(folder / "spill", lake.redactor) as connection:
        connection.execute("SET threads = 1")
        whole = Lake.relation(
            [part for one in islice(chunks, 4) for part in _add(one, lake, connection)]
        )
        connection.execute(f"CREATE TABLE taken AS FROM ({whole})")
        (total,) = connection.execute("SELECT count(*) FROM taken").fetchone() or (0,)
        made = []
        for begin in range(0, total - events + 1, events):
            made.append(folder / f"template-{begin}.parquet")
            connection.execute(
                f"COPY (FROM taken LIMIT {events} OFFSET {begin})"
                f" TO {quoted(str(made[-1]))} ({PARQUET})"
            )
    return made


def _add(chunk: Chunk, lake: Lake, connection: duckdb.DuckDBPyConnection) -> list[Path]:
    added = add([chunk], lake, connection, cluster=CLUSTER)
    return added.parts


def _grown(home: Path, templates: list[Path], numbers: range, *, parts: int) -> None:
    """Parts of one day, each of its own stretch of it, with auditIDs of their own."""
    day = home / "events" / f"cluster={CLUSTER}" / f"date={START:%Y-%m-%d}"
    width = DAY_MICROSECONDS // parts
    with duckdb.connect(config={"threads": 1}) as connection:
        for number in numbers:
            rows = f"read_parquet({quoted(str(templates[number % len(templates)]))}"
            at = (
                f"TIMESTAMP '{START:%Y-%m-%d}' + to_microseconds({number * width}"
                f" + (file_row_number * 7919) % {width})"
            )
            draft = day.parent / "draft"
            connection.execute(
                f"""COPY (SELECT * EXCLUDE (file_row_number) REPLACE (
                    left(audit_id, 24) || '{number:012x}' AS audit_id, {at} AS stage_at,
                    {at} - (stage_at - received_at) AS received_at,
                    DATE '{START:%Y-%m-%d}' AS date)
                FROM {rows}, file_row_number = true)) TO {quoted(str(draft))} ({PARQUET})"""
            )
            draft.replace(day / f"part-{uuid.uuid4()}.parquet")


def _measured(what: str, chunks: Iterator[Chunk], home: Path, rounds: int) -> tuple[str, ...]:
    """A service that starts anew and adds a chunk, more chunks, and each of them again."""
    lake = Lake(home, durable=True)
    first: list[float] = []
    once: list[float] = []
    twice: list[float] = []
    with engine(home.parent / "spill", lake.redactor) as connection:
        connection.execute("SET threads = 1")
        connection.execute("SELECT 1").fetchall()
        for chunk in islice(chunks, 1 + rounds):
            seconds, parts = _timed(partial(_add, chunk, lake, connection))
            (once if first else first).append(seconds)
            seconds, none = _timed(partial(_add, chunk, lake, connection))
            twice.append(seconds)
            if not parts or none:
                sys.exit(f"live_lake: {len(parts)} parts the first time, {len(none)} the second")
    row = (
        what,
        *(f"{seconds:.2f} s" for seconds in (first[0], median(once), median(twice))),
        f"{len(lake.parts()):,}",
    )
    print(" | ".join(row), file=sys.stderr)
    return row


def _compacted(home: Path) -> str:
    """Merge to the end, in a process of its own."""
    before = _size(home)
    done = run(sys.executable, __file__, "--compact", str(home))
    merges, parts, events = json.loads(done.output)
    return (
        f"Compaction of all of it: {merges:,} merge{'s' if merges > 1 else ''} of"
        f" {parts / merges:,.0f} parts on average in {done.cpu:.0f} s of processor time,"
        f" {done.cpu / events * 1e6:.0f} µs an event that is written,"
        f" {done.resident / 1e9:.2f} GB resident at most; {before / 1e9:.2f} GB became"
        f" {_size(home) / 1e9:.2f} GB."
    )


def _compact(home: Path) -> tuple[int, int, int]:
    """Merges, and the parts and events in them."""
    lake = Lake(home)
    with engine(home.parent / "spill") as connection:
        connection.execute("SET threads = 1")
        merged = list(iter(partial(compact, lake, connection, grace=timedelta()), None))
    return len(merged), sum(one.parts for one in merged), sum(one.rows for one in merged)


def _asked(home: Path) -> str:
    command = (sys.executable, "-m", "kubewitness", "query", "verb = delete", "--lake", str(home))
    return f"{median(run(*command).cpu for _ in range(3)):.2f}"


def _size(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("events/*/*/*"))


def _timed(work: Callable[[], _Done]) -> tuple[float, _Done]:
    """Processor seconds of this process, the engine's threads and the kernel's part included."""
    began = time.process_time()
    done = work()
    return time.process_time() - began, done


if __name__ == "__main__":
    main()
