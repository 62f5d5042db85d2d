"""What changed within the period: who does more or less than before, and who is new."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import duckdb

from kubewitness.activity.name import name_template
from kubewitness.report.model import Mover, Newcomer

MOST_MOVERS, MOST_NEWCOMERS = 15, 25

# Half as many requests again are no news; neither is what so few requests say. The floor is added
# to both sides: 3 requests that became 30 are less than 3,000 that became 12,000.
_CHANGE, _FLOOR = math.log(1.5), 50
_DAY = timedelta(days=1).total_seconds()
# Before the last third there must be every hour of the day, or the night would be news.
_HISTORY = timedelta(hours=36)
# From so many on, names that differ only in what a machine made up are one.
_ALIKE = 4
_CLASSES = ("human", "workload", "control-plane", "node", "anonymous")
_KINDS = ("principal", "network", "client")


def movers(connection: duckdb.DuckDBPyConnection) -> tuple[Mover, ...]:
    """Principals by how much their volume changed between the two halves of their cluster's log.

    All nodes count as one principal, the group ``system:nodes``: they come and go.
    """
    rows = connection.execute(_HALVES).fetchall()
    longest = max((row[3] for row in rows), default=0.0)
    unit, seconds = ("a day", _DAY) if longest >= 2 * _DAY else ("an hour", _DAY / 24)
    moved: list[tuple[float, Mover]] = []
    for who, before, after, span in rows:
        half = span / 2 / seconds
        ratio = math.log((after + _FLOOR) / (before + _FLOOR))
        if before + after >= _FLOOR and abs(ratio) >= _CHANGE:
            moved.append((ratio, Mover(who, before / half, after / half, f"requests {unit}")))
    moved.sort(key=lambda pair: (-abs(pair[0]), pair[1].principal))
    return tuple(mover for _, mover in moved[:MOST_MOVERS])


# Clusters whose logs begin at different times have different halves.
_HALVES = """
WITH lives AS (
    SELECT cluster, epoch_us(min(first)) AS start, epoch_us(max(last)) AS stop
    FROM activities GROUP BY cluster
), halved AS (
    SELECT CASE class WHEN 'node' THEN 'system:nodes' ELSE principal END AS who, n,
        epoch_us(first) < (start + stop) / 2 AS early, stop - start AS span
    FROM activities JOIN lives USING (cluster) WHERE stop - start >= 3600e6
)
SELECT who, coalesce(sum(n) FILTER (early), 0)::BIGINT,
    coalesce(sum(n) FILTER (NOT early), 0)::BIGINT, max(span) / 1e6
FROM halved GROUP BY who"""


class _Seen(NamedTuple):
    """A principal, client or network of one cluster. ``example`` is its heaviest action."""

    kind: str
    cluster: str
    value: str
    first: datetime
    n: int
    class_: str
    weight: float
    example: str
    news_from: datetime


def newcomers(connection: duckdb.DuckDBPyConnection) -> tuple[Newcomer, ...]:
    """First seen in the last third of their cluster's log: people first, then programs.

    A log too short to have seen a whole day before that third has no newcomers.
    """
    seen = [_Seen(*row) for row in connection.execute(_SEEN).fetchall()]
    several = len({one.cluster for one in seen}) > 1
    new = [one for one in _folded(seen) if one.first >= one.news_from]
    new.sort(
        key=lambda one: (
            _CLASSES.index(one.class_),
            _KINDS.index(one.kind),
            -one.weight,
            one.first,
            one.value,
        )
    )
    return tuple(
        Newcomer(
            one.kind,
            one.value,
            one.first.replace(tzinfo=UTC),
            one.n,
            f"{one.example} ({one.cluster})" if several else one.example,
        )
        for one in new[:MOST_NEWCOMERS]
    )


def _folded(seen: Sequence[_Seen]) -> list[_Seen]:
    """Nodes, and what differs only by generated suffixes, under the name's template."""
    alike = Counter((one.kind, one.cluster, name_template(one.value)) for one in seen)
    folded: dict[tuple[str, str, str], _Seen] = {}
    for one in seen:
        template = name_template(one.value)
        many = alike[one.kind, one.cluster, template] >= _ALIKE
        generated = one.kind != "network" and (one.class_ == "node" or many)
        value = template if generated else one.value
        key = (one.kind, one.cluster, value)
        before = folded.get(key)
        if before is None:
            folded[key] = one._replace(value=value)
        else:
            heavier = max(before, one, key=lambda seen: (seen.weight, -seen.n))
            folded[key] = heavier._replace(
                value=value, first=min(before.first, one.first), n=before.n + one.n
            )
    return list(folded.values())


def _seen_by(kind: str, example: str) -> str:
    ranks = ", ".join(f"'{name}'" for name in _CLASSES)
    return f"""
    SELECT '{kind}', cluster, {kind}, min(first), sum(n)::BIGINT,
        [{ranks}][min(list_position([{ranks}], class))], max(weight),
        arg_max({example}, (weight, -epoch_us(first), {example})), any_value(news_from)
    FROM told WHERE {kind} NOT IN ('', 'unknown') GROUP BY cluster, {kind}"""


_BY = "action || ' by ' || regexp_replace(principal, '^system:serviceaccount:', 'sa:')"
_DID = "CASE WHEN namespace = '' THEN action ELSE action || ' in ' || namespace END"
_SEEN = f"""
WITH lives AS (
    SELECT cluster, make_timestamp((epoch_us(min(first)) + 2 * epoch_us(max(last))) // 3)
        AS news_from
    FROM activities GROUP BY cluster
    HAVING max(last) - min(first) >= INTERVAL '{int(_HISTORY.total_seconds())} seconds'
), deeds AS MATERIALIZED (
    SELECT cluster, principal, class, network, client, action, verb, resource, subresource,
        namespace, min(first) AS first, sum(n) AS n
    FROM activities SEMI JOIN lives USING (cluster) GROUP BY ALL
), told AS MATERIALIZED (
    SELECT * FROM deeds JOIN lives USING (cluster) JOIN weighed USING (verb, resource, subresource)
)
{_seen_by("principal", _DID)}
UNION ALL {_seen_by("network", _BY)}
UNION ALL {_seen_by("client", _BY)}"""
