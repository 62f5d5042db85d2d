"""A lake as a running service writes it: chunks of a second, each of one cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from audit_log import Event, lines
from kubewitness.lake.adding import add
from kubewitness.lake.engine import engine
from kubewitness.lake.settling import Added
from kubewitness.lake.store import Lake
from kubewitness.sources.reading import Chunk


@dataclass(frozen=True)
class Live:
    lake: Lake
    connection: duckdb.DuckDBPyConnection
    scratch: Path

    def add(self, events: Iterable[Event], *, cluster: str = "prod") -> Added:
        text = lines(events)
        path = self.scratch / "chunk.jsonl"
        path.write_bytes(text)
        chunk = Chunk(path, "none", "webhook", verbatim=False, lines=text.count(b"\n"))
        return add([chunk], self.lake, self.connection, cluster=cluster)

    def rows(self, parts: list[Path], columns: str = "audit_id") -> list[Any]:
        found = self.connection.execute(
            f"SELECT {columns} FROM ({Lake.relation(parts)})"
        ).fetchall()
        return sorted(row[0] if len(row) == 1 else row for row in found)

    def everything(self, columns: str = "audit_id") -> list[Any]:
        """As another process finds it."""
        return self.rows(Lake(self.lake.root).parts(), columns)


@contextmanager
def live(home: Path, scratch: Path) -> Iterator[Live]:
    lake = Lake(home, durable=True)
    scratch.mkdir(exist_ok=True)
    with engine(scratch / "spill", lake.redactor) as connection:
        connection.execute("SET threads = 1")
        yield Live(lake, connection, scratch)
