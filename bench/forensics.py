"""Measure the commands of forensics on a lake, and write them into bench/README.md.

    python bench/forensics.py [--lake DIR] [--events 10] [--rounds 5] [--only WORD]

``--lake``: a lake made before; without it, one of ``--events`` millions of events is made from the
example log (``replay.py``) in a temporary folder (a quarter of an hour, 3 GB of disk for a while).
Every query of ``QUERIES``, and every other question about what is found in the lake (the object
written most often, the pod made last, the busiest people), is run as a program of its own,
``--rounds`` times in turn, so that what is told is what a user waits for: start, lake, answer. On a
machine with other work processor time says more than that. Rewrites what stands between
``<!-- forensics:begin -->`` and ``<!-- forensics:end -->``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles

import duckdb

from replay import Replay
from throughput import ROOT, Run, machine, rewrite, run, table

BUDGET = 1.0
MILLION = 1_000_000

# What is measured: the words of the command, without the lake.
QUERIES: tuple[tuple[str, ...], ...] = (
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
        with duckdb.connect() as connection:
            connection.execute(
                f"CREATE VIEW events AS FROM read_parquet('{lake}/events/**/*.parquet')"
            )
            events = connection.execute("SELECT count(*) FROM events").fetchall()[0][0]
            commands = [*QUERIES, *_questions(connection)]
        rows = []
        for words in commands:
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


def _questions(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, ...]]:
    """A question of each kind, about what there is most of in the view ``events``."""
    (end,) = connection.execute("SELECT max(stage_at) FROM events").fetchall()[0]
    early, late = (f"{end - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (36, 12))
    deployment = _object(connection, "resource = 'deployments' AND verb IN ('update', 'patch')")
    pod = _object(
        connection,
        "resource = 'pods' AND verb = 'create' AND subresource IS NULL AND code = 201 AND"
        " contains(\"user\", 'controller')",
        "max(stage_at)",
    )
    secret = _object(connection, "resource = 'secrets' AND verb = 'get'")
    person = _principal(connection, "NOT contains(\"user\", ':')")
    account = _principal(
        connection,
        "starts_with(\"user\", 'system:serviceaccount:') AND"
        " NOT starts_with(\"user\", 'system:serviceaccount:kube-system:')",
    )
    for words in (("history",), ("history", "--since", "1h"), ("state",)):
        for thing in (deployment, pod):
            yield (words[0], *thing, *words[1:])
    yield ("state", *deployment, "--at", early)
    yield ("diff", *deployment, "--from", early, "--to", late)
    yield ("inventory",)
    yield ("inventory", "--at", early)
    yield ("inventory", "-n", deployment[2], "--where", "image ~ web")
    yield ("who", *secret)
    yield ("who", *secret, "--since", "1d")
    for thing in (pod, deployment, secret):
        yield ("cause", *thing)
    yield ("blast-radius", person)
    yield ("blast-radius", person, "--since", "1d")
    yield ("access", person)
    yield ("access", account)


def _object(
    connection: duckdb.DuckDBPyConnection, where: str, most: str = "count(*)"
) -> tuple[str, str, str]:
    """The object of most such events, as a command takes it."""
    ((resource, namespace, name),) = connection.execute(
        f"""SELECT resource, namespace, name FROM events WHERE {where}
        AND name <> '' AND namespace <> '' GROUP BY ALL ORDER BY {most} DESC, name LIMIT 1"""
    ).fetchall()
    return f"{resource}/{name}", "-n", namespace


def _principal(connection: duckdb.DuckDBPyConnection, where: str) -> str:
    """Who did most, as the log has it."""
    ((name,),) = connection.execute(
        f"""SELECT "user" FROM events WHERE "user" <> '' AND {where}
        GROUP BY ALL ORDER BY count(*) DESC, 1 LIMIT 1"""
    ).fetchall()
    return str(name)


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


if __name__ == "__main__":
    main()
