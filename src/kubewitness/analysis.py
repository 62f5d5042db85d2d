"""The whole way in one call: from paths to everything that can be told about them.

This is the library behind the command line; each command is a thin skin over a function here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

import duckdb
import msgspec

from kubewitness.activity.rollup import rollup, slot_width
from kubewitness.errors import KubewitnessError, LakeError, StrictError
from kubewitness.events.normalisation import quoted
from kubewitness.incidents.detection import Detection, detect
from kubewitness.incidents.model import Incident, Misconfiguration
from kubewitness.incidents.tracing import traced
from kubewitness.lake.engine import engine
from kubewitness.lake.ingest import Progress, ingest
from kubewitness.lake.settling import Added
from kubewitness.lake.store import ATTEMPTS, Lake, lake_at
from kubewitness.report.model import Analysis, Intake, Rejected, Summary
from kubewitness.report.summary import summarise
from kubewitness.sources.reading import Reader
from kubewitness.sources.tally import Rejection, Tally
from kubewitness.times import Moment

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
        with engine(Path(scratch) / "spill", home.redactor) as connection:
            intake = _EMPTY
            if wanted:
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
            else:
                intake = _warned(intake, home.set_damaged_aside(connection))
            home.attach(connection)
            yield home, connection, intake


def analyze(
    paths: Iterable[str | Path],
    *,
    lake: Path | None = None,
    cluster: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    strict: bool = False,
    stdin: BinaryIO | None = None,
    progress: Progress = lambda chunk, rows: None,
) -> Analysis:
    """Read, judge and summarise. ``since`` and ``until`` bound what is reported and read."""
    with opened(
        paths, lake=lake, cluster=cluster, strict=strict, stdin=stdin, progress=progress
    ) as (home, connection, intake):

        def judged() -> Analysis:
            last = _rolled_up(connection, cluster, until)
            begin = since.at(last) if since else None
            names = _clusters(connection)
            detections = {name: detect(connection, name, since=begin) for name in names}
            return _traced(_told(detections, cluster, begin, intake, connection), connection)

        analysis, damaged = _undamaged(judged, home, connection)
        return msgspec.structs.replace(analysis, intake=_warned(analysis.intake, damaged))


def summarize(
    paths: Iterable[str | Path],
    *,
    lake: Path | None = None,
    cluster: str | None = None,
    until: Moment | None = None,
    strict: bool = False,
    stdin: BinaryIO | None = None,
    progress: Progress = lambda chunk, rows: None,
) -> tuple[Summary, Intake]:
    """Read and summarise, without judging anybody."""
    with opened(
        paths, lake=lake, cluster=cluster, strict=strict, stdin=stdin, progress=progress
    ) as (home, connection, intake):

        def summed() -> Summary:
            _rolled_up(connection, cluster, until)
            return summarise(connection)

        summary, damaged = _undamaged(summed, home, connection)
        return summary, _warned(intake, damaged)


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
    """Read, and put ``question`` to a connection whose view ``events`` is what was asked for:
    of ``cluster``, before ``until``, and of a temporary lake with bodies only if ``bodies``."""
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
                _, last = _bounds(connection, cluster)
                _narrow(connection, cluster, until.at(last) if until else None)
            return question(connection)

        found, damaged = _undamaged(answered, home, connection)
        return found, _warned(intake, damaged)


def save(analysis: Analysis, path: Path) -> None:
    """Keep an analysis for ``kubewitness incident``; readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        draft.write_bytes(msgspec.json.encode(analysis))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def recall(path: Path) -> Analysis:
    """Load what ``save`` kept. Raises ``KubewitnessError`` when there is nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Analysis)
    except (OSError, msgspec.MsgspecError) as error:
        raise KubewitnessError(
            "no analysis is kept here",
            where=str(path),
            remedy="run 'kubewitness analyze PATH...' first, with the same --lake",
        ) from error


def _undamaged(
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


def _warned(intake: Intake, damaged: Iterable[str]) -> Intake:
    return msgspec.structs.replace(intake, warnings=(*intake.warnings, *damaged))


def _rolled_up(
    connection: duckdb.DuckDBPyConnection, cluster: str | None, until: Moment | None
) -> datetime:
    """Make the table ``activities`` of what was asked for; returns when that ends."""
    first, last = _bounds(connection, cluster)
    end = until.at(last) if until else None
    _narrow(connection, cluster, end)
    rollup(connection, width=slot_width(first, last))
    return last if end is None else min(end, last)


def _told(
    detections: dict[str, Detection],
    cluster: str | None,
    since: datetime | None,
    intake: Intake,
    connection: duckdb.DuckDBPyConnection,
) -> Analysis:
    incidents: list[Incident] = sorted(
        (incident for found in detections.values() for incident in found.incidents),
        key=lambda incident: (-incident.score, incident.id),
    )
    broken = sorted(
        (one for found in detections.values() for one in found.misconfigurations),
        key=lambda one: (one.mended is not None, -one.n, one.first),
    )
    notes = [note for found in detections.values() for note in found.notes]
    summary = summarise(connection)
    if since is not None and since > summary.end:
        notes.append("The last event lies before --since: nothing was judged.")
    modes = {found.mode for found in detections.values()}
    return Analysis(
        mode=modes.pop() if modes else "retrospective",
        cluster=cluster or ", ".join(sorted(detections)),
        since=since,
        incidents=tuple(incident for incident in incidents if incident.alert),
        queue=tuple(incident for incident in incidents if not incident.alert),
        summary=summary,
        intake=intake,
        notes=tuple(dict.fromkeys(notes)),
        misconfigurations=_in_its_words(broken, connection),
    )


def _in_its_words(
    broken: Sequence[Misconfiguration], connection: duckdb.DuckDBPyConnection
) -> tuple[Misconfiguration, ...]:
    """With what the API server answered: it names the quota, the webhook, the missing right."""
    samples = [one.audit_ids[0] for one in broken if one.audit_ids]
    answers = dict(
        connection.execute(
            """SELECT audit_id, any_value(message) FROM events
            WHERE audit_id IN (SELECT unnest(?)) AND message IS NOT NULL GROUP BY audit_id""",
            [samples],
        ).fetchall()
    )
    return tuple(
        msgspec.structs.replace(one, message=answers.get(one.audit_ids[0], ""))
        if one.audit_ids
        else one
        for one in broken
    )


def _traced(analysis: Analysis, connection: duckdb.DuckDBPyConnection) -> Analysis:
    """Each incident with its cause, its blast radius and what would have prevented it."""
    told = traced(connection, (*analysis.incidents, *analysis.queue))
    alerts = len(analysis.incidents)
    return msgspec.structs.replace(
        analysis, incidents=tuple(told[:alerts]), queue=tuple(told[alerts:])
    )


def _bounds(
    connection: duckdb.DuckDBPyConnection, cluster: str | None
) -> tuple[datetime, datetime]:
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


def _narrow(
    connection: duckdb.DuckDBPyConnection, cluster: str | None, until: datetime | None
) -> None:
    """Leave in the view ``events`` only what was asked for."""
    conditions = []
    if cluster:
        conditions.append(f"cluster = {quoted(cluster)}")
    if until:
        conditions.append(
            f"stage_at < TIMESTAMP {quoted(until.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f'))}"
        )
    if conditions:
        connection.execute("DROP VIEW IF EXISTS all_events")
        connection.execute("ALTER VIEW events RENAME TO all_events")
        connection.execute(
            f"CREATE VIEW events AS SELECT * FROM all_events WHERE {' AND '.join(conditions)}"
        )


def _clusters(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute("SELECT DISTINCT cluster FROM activities ORDER BY 1").fetchall()
    return [row[0] for row in rows]


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
