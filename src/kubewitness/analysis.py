"""The whole way in one call: from paths to everything that can be told about them.

This is the library behind the command line; each command is a thin skin over a function here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import duckdb
import msgspec

from kubewitness.activity.rollup import rollup, slot_width
from kubewitness.incidents.detection import Detection, detect
from kubewitness.incidents.model import Incident, Misconfiguration
from kubewitness.incidents.tracing import traced
from kubewitness.inquiry import bounds, narrow, opened, undamaged, warned
from kubewitness.lake.ingest import Progress
from kubewitness.report.model import Analysis, Intake, Summary
from kubewitness.report.summary import summarise
from kubewitness.times import Moment


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

        analysis, damaged = undamaged(judged, home, connection)
        return msgspec.structs.replace(analysis, intake=warned(analysis.intake, damaged))


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

        summary, damaged = undamaged(summed, home, connection)
        return summary, warned(intake, damaged)


def _rolled_up(
    connection: duckdb.DuckDBPyConnection, cluster: str | None, until: Moment | None
) -> datetime:
    """Make the table ``activities`` of what was asked for; returns when that ends."""
    first, last = bounds(connection, cluster)
    end = until.at(last) if until else None
    narrow(connection, cluster, end)
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


def _clusters(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute("SELECT DISTINCT cluster FROM activities ORDER BY 1").fetchall()
    return [row[0] for row in rows]
