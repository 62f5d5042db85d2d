"""Measure speed, memory and size, and write them into bench/README.md.

    python bench/throughput.py [--sizes 1,2,4,8] [--memory 10] [--rounds 3]

``--sizes``: millions of events; of the first the bare read and the analysis are measured
``--rounds`` times in turn, of the others once. ``--memory``: one more size, for its memory. The
input is made from the example log (``replay.py``) in a temporary folder and deleted. Rewrites what
stands between ``<!-- throughput:begin -->`` and ``<!-- throughput:end -->``, and where there were
more sizes or a size for memory what stands between the marks of ``growth``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import duckdb

from replay import Replay

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "bench" / "README.md"
STAGES = ("read and store", "settle", "rollup", "detect", "summary", "rest")
MILLION = 1_000_000
BUDGET = {"events/s": 150_000, "ratio": 0.4, "resident": 1.5e9, "lake": 0.1}


@dataclass(frozen=True)
class Run:
    """A command that ended well: wall-clock and processor seconds, highest resident bytes."""

    wall: float
    cpu: float
    resident: int
    output: bytes


@dataclass(frozen=True)
class Measured:
    """One input: ``bare`` and ``wall`` are medians of all rounds in seconds, ``bare_cpu`` and
    ``cpu`` the same of processor time; ``stages`` of one more run, where that was asked for."""

    events: int
    size: int
    bare: float
    wall: float
    ratio: float
    bare_cpu: float
    cpu: float
    resident: int
    stages: dict[str, float]


def run(*command: str) -> Run:
    """Run a command to its end in a process of its own; its stderr is ours."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryDirectory() as state:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, env={**os.environ, "XDG_STATE_HOME": state}
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"throughput: {' '.join(command)} ended with {process.returncode}")
        output.seek(0)
        return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output.read())


def measured(log: Path, events: int, rounds: int, *, staged: bool) -> Measured:
    """The bare read and the whole command in turn; if ``staged``, the stages of one more run."""
    bare, bare_cpu, whole = [], [], []
    for number in range(rounds):
        print(f"  round {number + 1} of {rounds}", file=sys.stderr)
        read = _stages("bare", log)
        bare.append(read["bare"])
        bare_cpu.append(read["cpu"])
        whole.append(run(*_command("analyze"), str(log), "-o", "jsonl"))
    wall = median(one.wall for one in whole)
    return Measured(
        events=events,
        size=log.stat().st_size,
        bare=median(bare),
        wall=wall,
        # of each round, as the machine is not equally busy in all
        ratio=median(b / w.wall for b, w in zip(bare, whole, strict=True)),
        bare_cpu=median(bare_cpu),
        cpu=median(one.cpu for one in whole),
        resident=max(one.resident for one in whole),
        stages=_stages("analyze", log) if staged else {},
    )


def _stages(what: str, log: Path) -> dict[str, float]:
    result = run(sys.executable, str(ROOT / "bench" / "stages.py"), what, str(log))
    return dict(json.loads(result.output))


def _command(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "kubewitness", name)


def stored(log: Path, lake: Path) -> tuple[Run, int]:
    """Ingest ``log`` into a lake that lasts; its bytes."""
    result = run(*_command("ingest"), str(log), "--lake", str(lake))
    size = sum(part.stat().st_size for part in lake.rglob("*.parquet"))
    shutil.rmtree(lake)
    return result, size


def main() -> None:
    """Measure all sizes and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", default="1", help="millions of events, as 1,2,4,8")
    parser.add_argument("--memory", type=float, help="millions of events, for memory")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sizes = [round(float(size) * MILLION) for size in options.sizes.split(",")]
    replay = Replay(ROOT / "examples" / "audit.jsonl.zst")
    rows: list[Measured] = []
    blocks, growth = [], []
    with tempfile.TemporaryDirectory(prefix="kubewitness-bench-") as folder:
        log, lake = Path(folder) / "audit.jsonl", Path(folder) / "lake"
        for events in sizes:
            print(f"{events:,} events", file=sys.stderr)
            replay.write(log, events)
            first = not rows
            rounds = options.rounds if first else 1
            rows.append(measured(log, events, rounds, staged=first))
            if first:
                ingested, bytes_ = stored(log, lake)
                blocks += [_headline(rows[0]), _lake(rows[0], ingested, bytes_)]
                blocks.append(_stage_table(rows[0]))
                blocks.append(_compressed(log, rows[0], Path(folder)))
        if len(rows) > 1:
            growth.append(_growth(rows))
        if options.memory:
            events = round(options.memory * MILLION)
            print(f"{events:,} events, for memory", file=sys.stderr)
            replay.write(log, events)
            whole = run(*_command("analyze"), str(log), "-o", "jsonl")
            growth.append(
                f"Memory at {events:,} events ({_gb(log.stat().st_size)}):"
                f" {_gb(whole.resident)} resident at most (budget 1.5 GB), {whole.wall:.0f} s,"
                f" {events / whole.wall:,.0f} events/s."
            )
    told = machine(replay)
    rewrite("throughput", [told, *blocks])
    if growth:
        rewrite("growth", [told, *growth])


def rewrite(name: str, blocks: list[str], page: Path = PAGE) -> None:
    """Replace what stands between the marks of ``name`` in the page."""
    block = "\n\n".join(blocks)
    print(block)
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n{block}\n{end}{after}", encoding="utf-8")


def machine(replay: Replay | None = None) -> str:
    """What was measured, on what and with what."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=7"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} at {commit or 'an unknown commit'}:"
        f" {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()},"
        f" DuckDB {duckdb.__version__}."
    ) + (
        f" Input: the example log ({replay.lines:,} events of an hour) over and over, one plain"
        " file of JSON lines."
        if replay
        else ""
    )


def _headline(row: Measured) -> str:
    return table(
        ("", "measured", "budget"),
        [
            ("events, bytes an event", f"{row.events:,}, {row.size / row.events:,.0f}", "1–2 KB"),
            ("DuckDB's bare typed read", f"{row.events / row.bare:,.0f} events/s", ""),
            (
                "`kubewitness analyze`, file to incidents",
                f"{row.events / row.wall:,.0f} events/s",
                f"≥ {BUDGET['events/s']:,}",
            ),
            ("of the bare read", f"{row.ratio:.0%}", f"≥ {BUDGET['ratio']:.0%}"),
            (
                "processor time, analyze and bare read",
                f"{row.cpu:.1f} s, {row.bare_cpu:.1f} s ({row.bare_cpu / row.cpu:.0%})",
                "",
            ),
            ("highest resident memory", _gb(row.resident), f"≤ {_gb(BUDGET['resident'])}"),
        ],
    )


def _lake(row: Measured, ingested: Run, size: int) -> str:
    return (
        f"A lake that lasts (`kubewitness ingest --lake`): {size / row.size:.1%} of the JSON"
        f" (budget ≤ {BUDGET['lake']:.0%}), {row.events / ingested.wall:,.0f} events/s,"
        f" {_gb(ingested.resident)} resident at most."
    )


def _stage_table(row: Measured) -> str:
    cells = [
        (stage, f"{row.stages.get(stage, 0):.2f}", f"{row.stages.get(stage, 0) / row.bare:.2f}")
        for stage in STAGES
    ]
    return (
        table(
            ("stage", "s", "bare reads"),
            [
                *cells,
                ("whole command", f"{row.wall:.2f}", f"{row.wall / row.bare:.2f}"),
            ],
        )
        + f"\n\n{row.events:,} events are {row.stages['activities']:,} rows of activity."
    )


def _compressed(log: Path, row: Measured, folder: Path) -> str:
    packed = folder / "audit.jsonl.zst"
    import zstandard

    with log.open("rb") as plain, packed.open("wb") as file:
        zstandard.ZstdCompressor(level=3).copy_stream(plain, file)
    bare = _stages("bare", packed)["bare"]
    whole = run(*_command("analyze"), str(packed), "-o", "jsonl")
    packed.unlink()
    return (
        f"The same as one zstd file: bare {row.events / bare:,.0f} events/s, analyze"
        f" {row.events / whole.wall:,.0f} events/s ({bare / whole.wall:.0%})."
    )


def _growth(rows: list[Measured]) -> str:
    return table(
        ("events", "bytes", "bare, s", "analyze, s", "µs an event", "µs of processor an event",
         "of bare", "resident"),
        [
            (
                f"{row.events:,}", _gb(row.size), f"{row.bare:.1f}", f"{row.wall:.1f}",
                f"{row.wall / row.events * 1e6:.1f}", f"{row.cpu / row.events * 1e6:.1f}",
                f"{row.ratio:.0%}", _gb(row.resident),
            )
            for row in rows
        ],
    )  # fmt: skip


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
