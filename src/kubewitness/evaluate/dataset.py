"""A labelled dataset: a folder with audit logs and the truth about them.

    FOLDER/
      truth.jsonl       one episode a line: what happened, who did it, under which auditIDs
      test_from.txt     optional: the instant (RFC 3339) at which history ends
      *.jsonl*          the logs

Where ``test_from.txt`` is missing, ``train.*`` is the history and ``test.*`` is what is judged,
from its first event on; other logs in the folder are left alone. Without either, everything is
judged in retrospect.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from kubewitness.activity.rollup import rollup, slot_width
from kubewitness.errors import KubewitnessError
from kubewitness.events.normalisation import quoted
from kubewitness.lake.engine import engine
from kubewitness.lake.ingest import Progress, ingest
from kubewitness.lake.store import lake_at
from kubewitness.sources.reading import Reader

ATTACK = "attack"
_TRUTH, _TEST_FROM = "truth.jsonl", "test_from.txt"


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """What really happened. ``label``: attack, benign_change or misconfiguration.

    ``audit_ids`` are what the actor did; ``related_ids`` what controllers and cleaners did in
    reaction: neither owed by a detector nor wrong.
    """

    episode_id: str
    label: str
    start: datetime
    end: datetime
    family: str = "?"
    title: str = ""
    actors: tuple[str, ...] = ()
    source_ips: tuple[str, ...] = ()
    audit_ids: tuple[str, ...] = ()
    related_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """``test_from``: where history ends; None where ``test_file`` or nothing tells it."""

    name: str
    files: tuple[Path, ...]
    episodes: tuple[Episode, ...]
    test_from: datetime | None
    test_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A dataset whose activity is ready to be judged: the table ``activities`` of ``connection``.

    What opens from ``since`` (None: from the beginning) to ``until`` is judged.
    """

    name: str
    connection: duckdb.DuckDBPyConnection
    episodes: tuple[Episode, ...]
    since: datetime | None
    until: datetime
    events: int

    @property
    def first(self) -> datetime:
        """When the log begins."""
        return _instant(self.connection, "SELECT min(first) FROM activities")


def read_dataset(folder: Path) -> Dataset:
    """Find the logs of a labelled folder and read its truth.

    Raises ``KubewitnessError`` when there is no truth, it cannot be read, or there are no logs.
    """
    episodes = _truth(folder / _TRUTH)
    # Every compression and format that sources know, but not the truth itself.
    logs = sorted(p for p in folder.glob("*.json*") if p.name.count(".jsonl") and p.name != _TRUTH)
    test_from = _test_from(folder / _TEST_FROM)
    parts = {name: [p for p in logs if p.name.startswith(f"{name}.")] for name in ("train", "test")}
    split = test_from is None and len(parts["train"]) == len(parts["test"]) == 1
    files = [*parts["train"], *parts["test"]] if split else logs
    if not files:
        raise KubewitnessError(
            "no audit logs here",
            where=str(folder),
            remedy="a labelled dataset holds *.jsonl logs (compressed or not) beside truth.jsonl",
        )
    name = folder.resolve().name
    return Dataset(name, tuple(files), episodes, test_from, parts["test"][0] if split else None)


@contextmanager
def trial(dataset: Dataset, *, progress: Progress = lambda chunk, rows: None) -> Iterator[Trial]:
    """Read a dataset's logs into a lake of their own and roll them up, once for all detectors."""
    with (
        lake_at(None) as lake,
        tempfile.TemporaryDirectory(prefix="kubewitness-") as spool,
        engine(Path(spool) / "spill", lake.redactor) as connection,
    ):
        quarantine = lake.quarantine / "rejected.jsonl"
        with Reader(dataset.files, quarantine=quarantine, spool=Path(spool)) as reader:
            added = ingest(reader, lake, connection, cluster=dataset.name, progress=progress)
        lake.attach(connection)
        first = _instant(connection, "SELECT min(stage_at) FROM events")
        last = _instant(connection, "SELECT max(stage_at) FROM events")
        since = dataset.test_from
        if dataset.test_file is not None:
            since = _instant(
                connection,
                f"SELECT min(stage_at) FROM events WHERE source = {quoted(str(dataset.test_file))}",
            )
        rollup(connection, width=slot_width(first, last))
        yield Trial(dataset.name, connection, dataset.episodes, since, last, added.events)


def _instant(connection: duckdb.DuckDBPyConnection, query: str) -> datetime:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    if row is None or row[0] is None:
        raise KubewitnessError("a labelled dataset without a single event")
    instant: datetime = row[0]
    return instant.replace(tzinfo=UTC)


def _truth(path: Path) -> tuple[Episode, ...]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise KubewitnessError(
            f"the truth cannot be read: {error.strerror}",
            where=str(path),
            remedy="give a folder with truth.jsonl in it; docs/evaluation.md describes its fields",
        ) from error
    episodes = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                episodes.append(msgspec.json.decode(line, type=Episode))
        except msgspec.MsgspecError as error:
            raise KubewitnessError(f"no episode: {error}", where=f"{path}:{number}") from error
    return tuple(episodes)


def _test_from(path: Path) -> datetime | None:
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8").strip()
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise KubewitnessError(f"{text!r} is no time", where=str(path)) from error
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
