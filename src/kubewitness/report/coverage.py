"""What the log can and cannot show: levels, stages, gaps in time, blind spots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import duckdb

from kubewitness.report.blind import blind_spots
from kubewitness.report.model import Blind, Count, Coverage, Gap
from kubewitness.report.wording import duration, period, plural

MOST_GAPS = 50


def cover(connection: duckdb.DuckDBPyConnection) -> Coverage:
    """Coverage by the events (one count an event, not a request) and the activity made of them."""
    rows = connection.execute(
        """SELECT coalesce(cluster, '') AS cluster, coalesce(level, 'unknown'),
            coalesce(stage, 'unknown'), count(*) FROM events GROUP BY ALL"""
    ).fetchall()
    silences = _silences(connection)
    clusters = _summed((row[0], row[3]) for row in rows)
    longest_first = sorted(silences, key=lambda pair: (pair[1].start - pair[1].end, pair))
    return Coverage(
        levels=_summed((row[1], row[3]) for row in rows),
        stages=_summed((row[2], row[3]) for row in rows),
        gaps=tuple(dict.fromkeys(gap for _, gap in longest_first))[:MOST_GAPS],
        blind=(*(_silent(silences) if len(clusters) > 1 else ()), *blind_spots(connection)),
        clusters=clusters,
    )


def _summed(pairs: Iterable[tuple[str, int]]) -> tuple[Count, ...]:
    total: Counter[str] = Counter()
    for value, n in pairs:
        total[value] += n
    return tuple(Count(value, n) for value, n in sorted(total.items(), key=lambda p: (-p[1], p[0])))


def _silences(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, Gap]]:
    return [
        (cluster, Gap(_utc(start), _utc(end)))
        for cluster, start, end in connection.execute(_SILENCES).fetchall()
    ]


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)


def _silent(silences: list[tuple[str, Gap]]) -> tuple[Blind, ...]:
    """Which cluster each gap is of, as a ``Gap`` alone cannot tell."""
    spots = []
    for name in sorted({cluster for cluster, _ in silences}):
        gaps = [gap for cluster, gap in silences if cluster == name]
        longest = max(gaps, key=lambda gap: gap.end - gap.start)
        long = duration(longest.end - longest.start)
        spots.append(
            Blind(
                f"cluster {name} during {plural(len(gaps), 'gap')}",
                f"its log says nothing then; the longest, {long}, is"
                f" {period(longest.start, longest.end)}",
                "the missing log files, or the API server's own logs if it was down",
            )
        )
    return tuple(spots)


# How long a log is usually silent is told by the log itself, minute by minute: by nineteen in
# twenty of its silences, and by the longest silence of a middling day (of an hour, in a short
# log), which knows about nights. Real gaps are too few to move either. Among several clusters,
# the time before a cluster's first event and after its last is silence, too.
_SILENCES = """
WITH minutes AS (
    SELECT cluster, min(stage_at) AS first, max(stage_at) AS last
    FROM events WHERE stage_at IS NOT NULL
    GROUP BY cluster, time_bucket(INTERVAL 1 MINUTE, stage_at)
), lives AS (
    SELECT cluster, min(first) AS start, max(last) AS stop, count(*) AS minutes
    FROM minutes GROUP BY cluster
), inner_silences AS (
    SELECT cluster, last AS start, lead(first) OVER (PARTITION BY cluster ORDER BY first) AS stop
    FROM minutes QUALIFY stop IS NOT NULL
), measured AS (
    SELECT inner_silences.*, epoch(inner_silences.stop - inner_silences.start) AS seconds,
        CASE WHEN lives.stop - lives.start >= INTERVAL 3 DAY
            THEN time_bucket(INTERVAL 1 DAY, inner_silences.start)
            ELSE time_bucket(INTERVAL 1 HOUR, inner_silences.start) END AS stretch
    FROM inner_silences JOIN lives USING (cluster) WHERE minutes >= 30
), longest AS (
    SELECT cluster, stretch, max(seconds) AS seconds FROM measured GROUP BY ALL
), usual AS (
    SELECT cluster, greatest(300, 5 * ordinary, 3 * middling) AS seconds
    FROM (SELECT cluster, quantile_disc(seconds, 0.95) AS ordinary FROM measured GROUP BY cluster)
    JOIN (SELECT cluster, quantile_disc(seconds, 0.5) AS middling FROM longest GROUP BY cluster)
        USING (cluster)
), silences AS (
    SELECT cluster, start, stop FROM inner_silences
    UNION ALL SELECT cluster, (SELECT min(start) FROM lives), start FROM lives
    UNION ALL SELECT cluster, stop, (SELECT max(stop) FROM lives) FROM lives
)
SELECT silences.cluster, start, stop FROM silences JOIN usual USING (cluster)
WHERE epoch(stop - start) > seconds ORDER BY ALL"""
