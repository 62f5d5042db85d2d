"""Count what stock components do in benign logs, and write the prior that comes with the package.

    python bench/fleet_prior.py CAPTURE...

A capture is one cluster: a log, a labelled dataset, of which only the history is counted, or
several of them with commas between. The same captures give the same file, byte by byte; review
its differences as a diff, above all what is new of secrets, permissions and tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb

import kubewitness.baseline
from kubewitness.activity.rollup import rollup, slot_width
from kubewitness.baseline.fleet import Capture, FleetPrior, observe
from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.dataset import Dataset, read_dataset
from kubewitness.events.normalisation import quoted
from kubewitness.inquiry import opened

SHIPPED = Path(kubewitness.baseline.__file__).parent / "fleet.json"


class Logs(NamedTuple):
    """``files``: every log of a cluster; ``labels``: the dataset they are of, if any."""

    name: str
    files: tuple[Path, ...]
    labels: Dataset | None


def logs(capture: str) -> Logs:
    """The logs behind an argument."""
    paths = [Path(part) for part in capture.split(",")]
    labels = next((read_dataset(path) for path in paths if path.is_dir()), None)
    files = tuple(path for path in paths if not path.is_dir())
    if labels is None:
        return Logs(files[0].resolve().parent.name, files, None)
    return Logs(labels.name, (*labels.files, *files), labels)


@contextmanager
def events_of(capture: Logs) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with all events of a capture; ``roll_up`` chooses among them."""
    with opened(capture.files, cluster=capture.name) as (_, connection, intake):
        if not intake.events:
            raise KubewitnessError("no audit events here", where=capture.name)
        connection.execute("ALTER VIEW events RENAME TO everything")
        yield connection


def benign(connection: duckdb.DuckDBPyConnection, capture: Logs) -> tuple[datetime, datetime]:
    """From when until when a capture holds no attack: its history, or all of it."""
    first, last = span(connection, "everything")
    if capture.labels is None:
        return first, last + timedelta(seconds=1)
    if capture.labels.test_file is None:
        return first, capture.labels.test_from or first
    return first, span(connection, of_log(capture.labels.test_file))[0]


def roll_up(
    connection: duckdb.DuckDBPyConnection,
    since: datetime,
    until: datetime,
    events: str = "everything",
) -> None:
    """The table ``activities`` of what happened from ``since`` until before ``until``; ``events``
    may be narrowed to one log (``of_log``)."""
    bounds = [f"TIMESTAMP '{time.astimezone(UTC).replace(tzinfo=None)}'" for time in (since, until)]
    connection.execute(
        f"CREATE OR REPLACE VIEW events AS FROM (FROM {events})"
        f" WHERE stage_at >= {bounds[0]} AND stage_at < {bounds[1]}"
    )
    rollup(connection, width=slot_width(*span(connection, "events")))


def of_log(path: Path) -> str:
    """The events of one log of a capture."""
    return f"everything WHERE source = {quoted(str(path))}"


def span(connection: duckdb.DuckDBPyConnection, events: str) -> tuple[datetime, datetime]:
    """The first and the last instant of some events."""
    row = connection.execute(f"SELECT min(stage_at), max(stage_at) FROM {events}").fetchone()
    if row is None or row[0] is None:
        raise KubewitnessError("there are no audit events in this stretch of the log")
    return row[0].replace(tzinfo=UTC), row[1].replace(tzinfo=UTC)


def count(connection: duckdb.DuckDBPyConnection, capture: Logs) -> Capture:
    """What stock components do in the benign part of a capture."""
    roll_up(connection, *benign(connection, capture))
    return observe(connection, capture.name)


def main(arguments: list[str]) -> None:
    """Count one capture after the other."""
    if not arguments:
        sys.exit(__doc__)
    counted = []
    for capture in map(logs, arguments):
        with events_of(capture) as connection:
            counted.append(count(connection, capture))
        print(f"{capture.name}: {len(counted[-1])} deeds of stock components", flush=True)
    prior = FleetPrior.count(counted)
    SHIPPED.write_bytes(prior.written())
    print(f"{SHIPPED.name}: {len(prior.captures)} components, {SHIPPED.stat().st_size} bytes")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KubewitnessError as error:
        sys.exit(f"fleet_prior: {error}")
