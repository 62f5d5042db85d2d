"""Measure the commands of forensics on a lake, and write them into bench/README.md.

    python bench/forensics.py [--lake DIR] [--events 10] [--rounds 5] [--only WORD]

``--lake``: a lake made before; without it, one of ``--events`` millions of events is made from the
example log (``replay.py``) in a temporary folder (a quarter of an hour, 3 GB of disk for a while).
Every command of ``COMMANDS`` is run as a program of its own, ``--rounds`` times in turn, so that
what is told is what a user waits for: start, lake, answer. Rewrites what stands between
``<!-- forensics:begin -->`` and ``<!-- forensics:end -->``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import duckdb

from replay import Replay
from throughput import ROOT, Run, machine, rewrite, run, table

BUDGET = 1.0
MILLION = 1_000_000

# What is measured: the words of the command, without the lake. Add a line for each question.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("query", "", "--limit", "1"),
    ("query", 'verb in (get, list) and resource = secrets and principal ~ "deploy" and code > 399'),
    ("query", "verb in (get, list) and resource = secrets and code >= 400"),
    ("query", "verb = delete", "-o", "json"),
    ("query", "verb = delete", "--sort-by", "user_agent"),
    ("query", "verb = delete and time > 2h"),
    ("query", 'user_agent ~ "curl|python"'),
    ("query", "name = nothing-of-this-name"),
    ("query", "decision = forbid"),
    ("query", "groups = system:masters"),
    ("query", "source_ip in 10.0.0.0/8"),
    ("query", "source_ips in 198.51.100.0/24"),
    ("query", 'action = "exec pods"'),
    ("query", 'extra["authentication.kubernetes.io/credential-id"] = "JTI=4bae9276-3a28-43e4"'),
    ("query", 'request_uri ~ "etcd|kube-system/secrets"'),
    ("query", "verb = delete", "--facets"),
    ("query", "", "--facets"),
    ("query", "", "--histogram"),
    ("query", "verb = delete and resource = secrets", "--limit", "20", "--context", "2"),
)  # fmt: skip


def main() -> None:
    """Run every command and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--lake", type=Path)
    parser.add_argument("--events", type=float, default=10, help="millions, without --lake")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="commands with this word; nothing is written")
    options = parser.parse_args()
    with _lake(options.lake, round(options.events * MILLION)) as lake:
        events = _events(lake)
        rows = []
        for words in COMMANDS:
            if options.only and options.only not in words:
                continue
            runs = [_asked(words, lake) for _ in range(options.rounds)]
            rows.append(_row(words, runs))
            print(" | ".join(rows[-1]), file=sys.stderr)
    if not options.only:
        head = ("command", "median, s", "p95, s", "processor, s", "resident")
        told = (
            f"{events:,} events, each command {options.rounds} times. Budget: p95 ≤ {BUDGET:.0f} s."
            f" One-minute load of the machine at the end: {os.getloadavg()[0]:.1f}."
        )
        rewrite("forensics", [machine(), told, table(head, rows)])


def _asked(words: tuple[str, ...], lake: Path) -> Run:
    return run(sys.executable, "-m", "kubewitness", *words, "--lake", str(lake))


def _row(words: tuple[str, ...], runs: list[Run]) -> tuple[str, ...]:
    walls = [one.wall for one in runs]
    p95 = quantiles(walls, n=20, method="inclusive")[-1] if len(walls) > 1 else walls[0]
    shown = " ".join(f"'{word}'" if not word or " " in word else word for word in words)
    return (
        f"`{shown}`".replace("|", "\\|"),
        f"{median(walls):.2f}",
        f"{p95:.2f}",
        f"{median(one.cpu for one in runs):.2f}",
        f"{max(one.resident for one in runs) / 1e9:.2f} GB",
    )


@contextmanager
def _lake(made: Path | None, events: int) -> Iterator[Path]:
    if made is not None:
        yield made
        return
    replay = Replay(ROOT / "examples" / "audit.jsonl.zst")
    with tempfile.TemporaryDirectory(prefix="kubewitness-bench-") as folder:
        lake, log = Path(folder) / "lake", Path(folder) / "audit.jsonl"
        for piece in replay.pieces(log, events, MILLION):
            run(sys.executable, "-m", "kubewitness", "ingest", str(piece), "--lake", str(lake))
        log.unlink()
        yield lake


def _events(lake: Path) -> int:
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT count(*) FROM read_parquet(?)", [f"{lake}/events/**/*.parquet"]
        ).fetchone()
    return int(found[0]) if found else 0


if __name__ == "__main__":
    main()
