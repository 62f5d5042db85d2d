"""What a log says of many workloads at once: their requests, told by as few bytes as will do.

Of most of them the last answer that holds the object as a whole tells all, and what it says of pods
stands in columns of its own (``events.change``). Bodies are read of what was asked and not answered
so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, NamedTuple, TypeVar

import duckdb

from kubewitness.events.change import WORKLOAD, WORKLOADS, WRITTEN
from kubewitness.events.columns import EARLIEST, LATEST
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.effect import BEGINS
from kubewitness.forensics.kind import of
from kubewitness.forensics.objects.condition import foreseen, in_bodies
from kubewitness.forensics.objects.outline import ANSWERED, WHOLE, naive
from kubewitness.forensics.objects.record import BARE, COLUMNS, Record, in_order, record
from kubewitness.forensics.target import Target
from kubewitness.query.expression import Expression

# A deletion may take a while: of what was deleted so shortly before, bodies tell if it was gone.
_TERMINATING = timedelta(minutes=10)
_LATELY = timedelta(hours=6)
# Of more values at once the engine makes a join, for which it reads everything.
_MOST = 1000
_FEW = 16

_Value = TypeVar("_Value")

_BODIED = """(level IS DISTINCT FROM 'Metadata'
    AND coalesce(subresource, '') IN ('', 'ephemeralcontainers'))"""

Lives = Iterator[tuple[Target, list[Record]]]
"""Objects, each with its requests in the order in which they took effect."""


class _Key(NamedTuple):
    cluster: str
    resource: str
    api_group: str
    namespace: str
    name: str


_KEY = "cluster, resource, api_group, coalesce(namespace, '') AS namespace, name"


def there(
    connection: duckdb.DuckDBPyConnection,
    at: datetime,
    *,
    cluster: str | None = None,
    namespace: str | None = None,
) -> Lives:
    """The workloads that may be there at ``at``, from the last answer on that holds them whole."""
    within = _within(cluster, namespace)
    last_write, deleted = (f"max(stage_at) FILTER (verb {sign} 'delete')" for sign in ("<>", "="))
    rows = connection.execute(
        f"""SELECT {_KEY}, max(stage_at) FROM changes WHERE {within} AND name <> ''
            AND stage_at <= {_time(at)}
            AND (superseded_at IS NULL OR superseded_at > {_time(at)})
        GROUP BY ALL HAVING {deleted} IS NULL OR {last_write} >= {deleted}
            OR max(stage_at) > {_time(at - _TERMINATING)}"""
    ).fetchall()
    last = {_Key(*key): _utc(when) for *key, when in rows}
    told: dict[_Key, list[Record]] = {}
    for times in _batches(last.values()):
        for key, one in _answers(connection, f"{within} AND {WRITTEN} AND {times}"):
            if last.get(key) == one.at:
                told.setdefault(key, []).append(one)
    asked = _lives(connection, within, last.keys() - told.keys(), at)
    since = {key: last[key] for key in told}
    since |= {key: min(one.at for one in own) for key, own in asked.items()}
    yield from _swept(connection, within, told | asked, since)


def ever(
    connection: duckdb.DuckDBPyConnection,
    condition: Expression,
    *,
    cluster: str | None = None,
    namespace: str | None = None,
) -> Lives:
    """The workloads that may have met ``condition`` at some time, with all that was done to
    them."""
    within = _within(cluster, namespace)
    # The engine reads no bodies where none can tell.
    bodied = _BODIED if in_bodies(condition) else "true"
    rows = connection.execute(
        f"""SELECT DISTINCT {_KEY} FROM changes WHERE {within} AND {WRITTEN} AND name <> ''
            AND pod_spec IS NOT NULL AND ({foreseen(condition, answered=True)})
        UNION SELECT DISTINCT {_KEY} FROM changes WHERE {within} AND {WRITTEN} AND name <> ''
            AND verb <> 'delete' AND pod_spec IS NULL AND {bodied} AND ({foreseen(condition)})"""
    ).fetchall()
    found = _lives(connection, within, {_Key(*key) for key in rows})
    yield from _swept(connection, within, found, dict.fromkeys(found, EARLIEST))


def _lives(
    connection: duckdb.DuckDBPyConnection,
    within: str,
    keys: Set[_Key],
    at: datetime | None = None,
) -> dict[_Key, list[Record]]:
    """What was written of each object; with ``at`` only what tells how it was then."""
    found: dict[_Key, list[Record]] = defaultdict(list)
    for some in _chunks(sorted({key.name for key in keys})):
        own = f"{within} AND {WRITTEN} AND {_named(some)}"
        wanted = {key for key in keys if key.name in set(some)}
        since = {} if at is None else _since(connection, f"{within} AND {WRITTEN}", at, wanted)
        times = {when for whens in since.values() for when in whens}
        for when in ("true",) if at is None else _batches(times):
            for key, one in _written(connection, f"{own} AND {when}"):
                if key in wanted and (at is None or one.at in since.get(key, ())):
                    found[key].append(one)
    return found


def _since(
    connection: duckdb.DuckDBPyConnection, where: str, at: datetime, wanted: Set[_Key]
) -> dict[_Key, set[datetime]]:
    """When objects were written until ``at``, from the last answer on that holds them whole, or
    their beginning, or the end of what had the name before: mostly not long ago."""
    found: dict[_Key, set[datetime]] = {}
    for since in (at - _LATELY, EARLIEST):
        left = {key.name for key in wanted - found.keys()}
        if not left:
            break
        # Whether an answer had the pod spec is seen in it, or told by columns that are short.
        whole = "pod_spec IS NOT NULL AND verb <> 'delete'" if since > EARLIEST else WHOLE
        rows = connection.execute(
            f"""SELECT {_KEY}, stage_at, ({whole}) IS TRUE, {BEGINS}, verb = 'delete' FROM changes
            WHERE {where} AND {_named(left)}
                AND stage_at BETWEEN {_time(since)} AND {_time(at)} ORDER BY stage_at"""
        ).fetchall()
        writes: dict[_Key, list[tuple[Any, ...]]] = defaultdict(list)
        for row in rows:
            writes[_Key(*row[:5])].append((_utc(row[5]), *row[6:]))
        for key, times in writes.items():
            answered, begun, ended = ([one[0] for one in times if one[n]] for n in (1, 2, 3))
            known = [*answered[-1:], *begun[-1:]]
            if known or since == EARLIEST:
                first = next(iter((*known, *ended[-2:-1])), times[0][0])
                found.setdefault(key, {when for when, *_ in times if when >= first})
    return found


def _written(connection: duckdb.DuckDBPyConnection, where: str) -> Iterator[tuple[_Key, Record]]:
    asked = [*_rows(connection, f"{where} AND pod_spec IS NULL")]
    # A patch that was not answered may be about anything that the object had been.
    patched = {key.name for key, one in asked if one.verb == "patch" and not one.answered}
    yield from asked
    yield from ((k, one) for k, one in _answers(connection, where) if k.name not in patched)
    if patched:
        among = f"{_named(patched)} AND pod_spec IS NOT NULL"
        yield from _rows(connection, f"{where} AND {among}")


def _swept(
    connection: duckdb.DuckDBPyConnection,
    within: str,
    found: Mapping[_Key, list[Record]],
    since: Mapping[_Key, datetime],
) -> Lives:
    """Each object with the deletions of collections, which name none, that may have been of it."""
    homes: dict[tuple[str, ...], datetime] = {}
    for key in found:
        homes[key[:4]] = min(since[key], homes.get(key[:4], since[key]))
    rows = connection.execute(
        f"""SELECT {_KEY}, {BARE}, CAST(items AS VARCHAR) FROM changes WHERE {within}
            AND verb = 'deletecollection' AND {ANSWERED} AND code < 300 AND NOT dry_run
            AND stage_at >= {_time(min(homes.values(), default=LATEST))}"""
    ).fetchall()
    swept: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for *row, items in rows:
        home = tuple(row[:4])
        if home in homes and _utc(row[6]) >= homes[home]:
            answer = f'{{"items":{items}}}' if items else None
            swept[home].append(record((*row[5:-2], answer, None)))
    for key, own in found.items():
        cluster, resource, api_group, namespace, name = key
        first = min(one.at for one in own)
        later = [one for one in swept.get(key[:4], ()) if one.at >= first]
        target = Target(cluster, of(resource, api_group), namespace, name)
        yield target, in_order([*own, *later])


def _rows(connection: duckdb.DuckDBPyConnection, where: str) -> Iterator[tuple[_Key, Record]]:
    rows = connection.execute(f"SELECT {_KEY}, {COLUMNS} FROM changes WHERE {where}").fetchall()
    return ((_Key(*row[:5]), record(row[5:])) for row in rows)


def _answers(connection: duckdb.DuckDBPyConnection, where: str) -> Iterator[tuple[_Key, Record]]:
    """Requests that were answered with the object, of which only what says what it is is told."""
    rows = connection.execute(
        f"""SELECT {_KEY}, {BARE}, CAST(metadata AS VARCHAR), CAST(pod_spec AS VARCHAR)
        FROM changes WHERE {where} AND pod_spec IS NOT NULL"""
    ).fetchall()
    for *row, metadata, spec in rows:
        key = _Key(*row[:5])
        answer = f'{{"kind":"","metadata":{metadata},{_nested(key.resource, spec)}}}'
        yield key, record((*row[5:-2], answer, None))


def _nested(resource: str, spec: str) -> str:
    """A pod spec where the object has it, as a member of its JSON.

    >>> _nested("jobs", "{}")
    '"spec":{"template":{"spec":{}}}'
    """
    below, *above = WORKLOADS[resource].removeprefix("$.").split(".")[::-1]
    return reduce(lambda inner, name: f'"{name}":{{{inner}}}', above, f'"{below}":{spec}')


def _within(cluster: str | None, namespace: str | None) -> str:
    """SQL: whether it is about one of the workloads that are asked about."""
    asked = (("cluster", cluster), ("namespace", namespace))
    own = "".join(f" AND {column} = {quoted(text)}" for column, text in asked if text is not None)
    return f"{WORKLOAD}{own}"


def _chunks(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    return (values[at : at + _MOST] for at in range(0, len(values), _MOST))


def _batches(times: Iterable[datetime]) -> Iterator[str]:
    """SQL: whether something was answered at one of some times."""
    for some in _chunks(sorted(set(times))):
        yield f"stage_at IN ({', '.join(map(_time, some))})"


def _named(names: Collection[str]) -> str:
    """SQL: whether it has one of some names. Of a few, each by itself: the engine reads other
    columns where one holds; a list only tells it which groups of rows it may leave out."""
    texts = [quoted(name) for name in sorted(names)]
    if len(texts) <= _FEW:
        return f"({' OR '.join(f'name = {text}' for text in texts)})"
    return f"name IN ({', '.join(texts)})"


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)


def _time(at: datetime) -> str:
    return f"TIMESTAMP {quoted(str(naive(at)))}"
