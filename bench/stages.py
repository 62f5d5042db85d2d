"""Time the stages of one analysis, or the bare read that it is compared with.

    python bench/stages.py analyze FILE
    python bench/stages.py bare FILE

Prints one JSON object with seconds. It is run as a process of its own by ``throughput.py``, so
that nothing is warm and memory is its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import duckdb


def bare(path: str) -> dict[str, float]:
    """DuckDB reads ``path`` with the columns of an event and nothing else.

    All columns are asked for, or DuckDB would leave them out: ``count`` of a column needs its
    values and costs next to nothing besides. Same engine, threads and reader options as in
    ``kubewitness analyze``; DuckDB is imported already, which favours this side.
    """
    from kubewitness.events.normalisation import json_lines

    compression = "zstd" if path.endswith(".zst") else "none"
    began, worked = time.perf_counter(), time.process_time()
    with duckdb.connect(config={"preserve_insertion_order": "false"}) as connection:
        connection.execute(f"SELECT count(COLUMNS(*)) FROM {json_lines(path, compression)}")
    return {"bare": time.perf_counter() - began, "cpu": time.process_time() - worked}


def analyze(path: str) -> dict[str, float]:
    """Seconds in each stage of ``kubewitness analyze``, rows of activity and of events."""
    from kubewitness import analysis
    from kubewitness.lake import ingest

    seconds: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    timed(ingest, "stage", "read and store", seconds)
    timed(ingest, "settle", "settle", seconds)
    timed(analysis, "rollup", "rollup", seconds)
    timed(analysis, "detect", "detect", seconds)
    timed(analysis, "summarise", "summary", seconds)
    told: Callable[..., Any] = getattr(analysis, "summarise")  # noqa: B009

    def summarise(connection: duckdb.DuckDBPyConnection) -> Any:
        found = connection.execute("SELECT count(*) FROM activities").fetchone()
        rows["activities"] = found[0] if found else 0
        return told(connection)

    setattr(analysis, "summarise", summarise)  # noqa: B010
    began = time.perf_counter()
    analysis.analyze([path])
    whole = time.perf_counter() - began
    return {**seconds, "rest": whole - seconds.total(), "activities": rows["activities"]}


def timed(module: object, name: str, stage: str, seconds: Counter[str]) -> None:
    """Replace ``name`` in ``module`` by itself with a clock."""
    function: Callable[..., Any] = getattr(module, name)

    def clocked(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            seconds[stage] += time.perf_counter() - began  # type: ignore[assignment]

    setattr(module, name, clocked)


if __name__ == "__main__":
    print(json.dumps({"bare": bare, "analyze": analyze}[sys.argv[1]](sys.argv[2])))
