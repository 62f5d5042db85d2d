"""From paths to an open lake, and questions put to it.

A question to a lake takes a fraction of a second: neither detection nor what reads logs is loaded
for it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import duckdb
import msgspec

from kubewitness.errors import KubewitnessError, LakeError, StrictError
from kubewitness.events.normalisation import quoted
from kubewitness.lake.day import all_sound
from kubewitness.lake.engine import engine
from kubewitness.lake.store import ATTEMPTS, Lake, lake_at
from kubewitness.report.model import Intake, Rejected
from kubewitness.times import Moment

if TYPE_CHECKING:
    from kubewitness.lake.ingest import Progress
    from kubewitness.lake.settling import Added
    from kubewitness.sources.tally import Rejection, Tally

_Found = TypeVar("_Found")


@contextmanager
def opened(
    paths: Iterable[str | Path],
    *,
    lake: Path | None = None,
    cluster: str | None = None,
    strict: bool = False,
    bodies: bool = False,
    stdin: BinaryIO | None = None,
    progress: Progress = lambda chunk, rows: None,
) -> Iterator[tuple[Lake, duckdb.DuckDBPyConnection, Intake]]:
    """Read ``paths`` into a lake (a temporary one without ``lake``) and open it.

    A lake keeps the bodies of requests and responses, a temporary one only with ``bodies``.

    Raises ``SourceError`` for paths that cannot be read, ``LakeError`` for a lake that cannot be
    written, ``StrictError`` when ``strict`` and anything in them was not as it should be: what was
    understood is in the lake all the same.
    """
    wanted = list(paths)
    with (
        lake_at(lake, bodies=bodies) as home,
        tempfile.TemporaryDirectory(prefix="kubewitness-") as scratch,
    ):
        spool = Path(scratch) / "spool"
        spool.mkdir()
        # Functions in Python, as redaction is, have the engine load numpy.
        redactor = home.redactor if wanted else None
        with engine(Path(scratch) / "spill", redactor) as connection:
            intake = _EMPTY
            if wanted:
                from kubewitness.lake.ingest import ingest
                from kubewitness.sources.reading import Reader

                stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
                quarantine = home.quarantine / f"{stamp}-{os.getpid()}.jsonl"
                with Reader(
                    wanted,
                    quarantine=quarantine,
                    spool=spool,
                    stdin=stdin,
                    sift=strict,
                    redactor=home.redactor,
                ) as reader:
                    added = ingest(reader, home, connection, cluster=cluster, progress=progress)
                    kept = quarantine if lake is not None and quarantine.exists() else None
                    intake = _intake(reader.tally, added, kept)
                    if strict and (reader.tally.rejected or reader.tally.warnings):
                        raise _strict_error(reader.tally)
            elif not all_sound(home.parts(), connection):
                intake = warned(intake, home.set_damaged_aside(connection))
            home.attach(connection)
            yield home, connection, intake


def ask(
    paths: Iterable[str | Path],
    question: Callable[[duckdb.DuckDBPyConnection], _Found],
    *,
    lake: Path | None = None,
    cluster: str | None = None,
    until: Moment | None = None,
    strict: bool = False,
    bodies: bool = False,
    stdin: BinaryIO | None = None,
    progress: Progress = lambda chunk, rows: None,
) -> tuple[_Found, Intake]:
    """Read, and put ``question`` to a connection whose views (``Lake.attach``) are what was asked
    for: of ``cluster``, before ``until``, and of a temporary lake with bodies only if asked for."""
    with opened(
        paths,
        lake=lake,
        cluster=cluster,
        strict=strict,
        bodies=bodies,
        stdin=stdin,
        progress=progress,
    ) as (home, connection, intake):

        def answered() -> _Found:
            # A filter that nothing fails costs a look at every event.
            if cluster or until:
                _, last = bounds(connection, cluster)
                narrow(connection, cluster, until.at(last) if until else None)
            return question(connection)

        found, damaged = undamaged(answered, home, connection)
        return found, warned(intake, damaged)


def undamaged(
    work: Callable[[], _Found], home: Lake, connection: duckdb.DuckDBPyConnection
) -> tuple[_Found, list[str]]:
    """What ``work`` finds in the parts that can be read, and a warning for each that cannot.

    That a part begins and ends well says little of what is between; reading all of every part in
    advance would cost more than the work. A part that is gone is no damage: its events are in a
    merged one, and the work begins anew.
    """
    damaged: list[str] = []
    attempts = ATTEMPTS
    while True:
        try:
            return work(), damaged
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            attempts -= 1
            if not attempts or not _mended(home, connection, damaged):
                if not isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
                    raise
                raise LakeError(
                    f"reading stopped: {str(error).splitlines()[0]}",
                    where=str(home.root),
                    remedy="free some disk space, or choose another place for temporary files"
                    " with TMPDIR",
                ) from error
            home.attach(connection)


def _mended(home: Lake, connection: duckdb.DuckDBPyConnection, damaged: list[str]) -> bool:
    """Whether asking again will go better: parts have been merged meanwhile, or are damaged and
    out of the way now, of which ``damaged`` tells."""
    if home.outdated:
        return True
    found = home.set_damaged_aside(connection, thoroughly=home.parts())
    damaged += found
    return bool(found)


def warned(intake: Intake, damaged: Iterable[str]) -> Intake:
    """With these warnings, too."""
    return msgspec.structs.replace(intake, warnings=(*intake.warnings, *damaged))


def bounds(connection: duckdb.DuckDBPyConnection, cluster: str | None) -> tuple[datetime, datetime]:
    """When the events (of ``cluster``) begin and end; now, where there are none.

    Raises ``KubewitnessError`` where there are only events of others.
    """
    row = connection.execute(
        "SELECT min(stage_at), max(stage_at) FROM events WHERE ? IS NULL OR cluster = ?",
        [cluster, cluster],
    ).fetchone()
    if not row or row[0] is None:
        others = connection.execute("SELECT DISTINCT cluster FROM events ORDER BY 1").fetchall()
        if others:
            raise KubewitnessError(
                f"no events of cluster {cluster!r}",
                remedy=f"there are: {', '.join(name for (name,) in others)}",
            )
        now = datetime.now(UTC)
        return now, now
    return row[0].replace(tzinfo=UTC), row[1].replace(tzinfo=UTC)


def narrow(
    connection: duckdb.DuckDBPyConnection, cluster: str | None, until: datetime | None
) -> None:
    """Leave in the views only what was asked for."""
    conditions = []
    if cluster:
        conditions.append(f"cluster = {quoted(cluster)}")
    if until:
        conditions.append(
            f"stage_at < TIMESTAMP {quoted(until.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f'))}"
        )
    for view in ("events", "changes", "touches") if conditions else ():
        connection.execute(f"DROP VIEW IF EXISTS all_{view}")
        connection.execute(f"ALTER VIEW {view} RENAME TO all_{view}")
        connection.execute(
            f"CREATE VIEW {view} AS SELECT * FROM all_{view} WHERE {' AND '.join(conditions)}"
        )


def _intake(tally: Tally, added: Added, quarantine: Path | None) -> Intake:
    forged = (
        f"{added.forged} auditIDs stand on records of different content at the same instant: a"
        " client chose them (Audit-ID header); all records were kept"
    )
    return Intake(
        sources=tally.sources,
        lines=tally.lines,
        events=tally.events,
        added=added.events,
        duplicates=added.duplicates,
        skipped=_rejected(tally.skipped),
        broken=_rejected(tally.broken),
        quarantine=str(quarantine or ""),
        warnings=(*tally.warnings, *((forged,) if added.forged else ()), *added.damaged),
    )


def _rejected(rejections: Iterable[Rejection]) -> tuple[Rejected, ...]:
    return tuple(Rejected(one.source, one.reason, one.n, one.places) for one in rejections)


def _strict_error(tally: Tally) -> StrictError:
    remedy = "repair the input, or leave out --strict to analyse the rest"
    if not tally.rejected:
        more = f" (+{len(tally.warnings) - 1} more)" if len(tally.warnings) > 1 else ""
        return StrictError(f"{tally.warnings[0]}{more} (--strict)", remedy=remedy)
    first = (*tally.broken, *tally.skipped)[0]
    return StrictError(
        f"{tally.rejected} of {tally.lines} lines are no audit events (--strict): {first.reason}",
        where=first.places[0] if first.places else first.source,
        remedy=remedy,
    )


_EMPTY = Intake(
    sources=0,
    lines=0,
    events=0,
    added=0,
    duplicates=0,
    skipped=(),
    broken=(),
    quarantine="",
    warnings=(),
)
