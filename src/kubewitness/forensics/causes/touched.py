"""What was done, summed up: requests alike, by what they could serve and what they were about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import duckdb

from kubewitness.activity.principal import UNAUTHENTICATED, principal_class
from kubewitness.activity.technique import Technique, technique
from kubewitness.events.change import READING
from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.graph import Touched

_MOST_NAMES = 1000
"""Of requests alike so many names of objects are known; of more, only how many there are."""
_KIND = "coalesce(resource, '') || CASE WHEN api_group <> '' THEN '.' || api_group ELSE '' END"
"""SQL: the resource with its API group."""


class Alike(NamedTuple):
    """``n`` requests that differ by their time and the ``objects`` they name only. ``names`` are
    the first of these; ``kind`` is the resource with its API group."""

    principal: str
    verb: str
    kind: str
    subresource: str
    namespace: str
    traits: str
    refused: bool
    dry: bool
    n: int
    objects: int
    names: tuple[str, ...]
    first: datetime
    last: datetime

    @property
    def technique(self) -> Technique:
        """What they could be good for."""
        return technique(self.verb, self.kind, self.subresource, self.namespace, self.traits)


def alike(deeds: Iterable[Deed]) -> list[Alike]:
    """Each of some deeds, by itself."""
    return [
        Alike(
            one.principal,
            one.verb,
            one.kind,
            one.subresource,
            one.namespace,
            one.traits,
            one.refused,
            one.dry,
            1,
            bool(one.name),
            (one.name,) if one.name else (),
            one.at,
            one.at,
        )
        for one in deeds
    ]


def requested(connection: duckdb.DuckDBPyConnection, conditions: str) -> list[Alike]:
    """All requests for which a SQL condition holds, those that are alike in one; of a watch or exec
    both the start and the end are logged, and neither counts twice."""
    rows = connection.execute(
        f"""WITH done AS (
            SELECT "user", verb, api_group, resource, subresource, namespace, name, code, stage,
                received_at, '' AS traits, false AS dry
            FROM touches WHERE {READING} AND {conditions}
            UNION ALL
            SELECT "user", verb, api_group, resource, subresource, namespace, name, code, stage,
                received_at, traits, dry_run
            FROM changes WHERE NOT {READING} AND {conditions}
        ), named AS (
            SELECT coalesce(nullif("user", ''), '{UNAUTHENTICATED}') AS principal, verb,
                {_KIND} AS kind,
                coalesce(subresource, '') AS subresource, coalesce(namespace, '') AS namespace,
                coalesce(traits, '') AS traits, coalesce(code >= 400, false) AS refused,
                coalesce(dry, false) AS dry, coalesce(name, '') AS name,
                greatest(count(*) FILTER (stage = 'ResponseStarted'),
                    count(*) FILTER (stage <> 'ResponseStarted')) AS n,
                min(received_at) AS first, max(received_at) AS last
            FROM done WHERE stage <> 'RequestReceived' GROUP BY ALL
        )
        SELECT principal, verb, kind, subresource, namespace, traits, refused, dry,
            sum(n)::BIGINT, count(*) FILTER (name <> ''),
            (list(name ORDER BY first, name) FILTER (name <> ''))[:{_MOST_NAMES}],
            min(first), max(last)
        FROM named GROUP BY ALL"""
    ).fetchall()
    return [
        Alike._make((*told, tuple(names or ()), *(at.replace(tzinfo=UTC) for at in (first, last))))
        for *told, names, first, last in rows
    ]


def grave(
    connection: duckdb.DuckDBPyConnection, conditions: Iterable[str], most: int
) -> tuple[set[datetime], int]:
    """When the changes were answered for which one of the SQL conditions holds, of up to ``most``,
    and how many there are: the latest of those that are alike before another of them, those that
    matter most first."""
    several = " UNION ALL ".join(f"SELECT * FROM changes WHERE {one}" for one in conditions)
    rows = connection.execute(
        f"""WITH asked AS (
            SELECT verb, {_KIND} AS kind, coalesce(subresource, '') AS part,
                coalesce(namespace, '') AS home, coalesce(traits, '') AS setting,
                max(stage_at) AS answered
            FROM ({several}) GROUP BY kind, verb, part, home, setting, audit_id, received_at)
        SELECT answered, verb, kind, part, home, setting, row_number() OVER alike AS turn,
            count(*) OVER () FROM asked
        WINDOW alike AS (PARTITION BY verb, kind, part, home, setting ORDER BY answered DESC)
        QUALIFY turn <= {most}"""
    ).fetchall()
    ranked = sorted((turn, -technique(*what).weight, at) for at, *what, turn, _ in rows)[:most]
    return {at.replace(tzinfo=UTC) for *_, at in ranked}, rows[0][-1] if rows else 0


def summarised(done: Sequence[Alike], caused: Sequence[Alike]) -> tuple[Touched, ...]:
    """Requests by what they could serve, kind of object and namespace, the grave first."""
    groups: dict[tuple[bool, str, str, str], list[Alike]] = defaultdict(list)
    for is_caused, several in ((False, done), (True, caused)):
        for one in several:
            if one.kind:
                groups[is_caused, one.technique.did, one.kind, one.namespace].append(one)
    touched = [_touched(key, several) for key, several in groups.items()]
    return tuple(sorted(touched, key=lambda one: (-one.weight, one.caused, -one.n, one.first)))


def _touched(key: tuple[bool, str, str, str], several: list[Alike]) -> Touched:
    is_caused, did, kind, namespace = key
    several.sort(key=lambda one: one.first)
    served = [one for one in several if not one.refused and not one.dry]
    names = dict.fromkeys(name for one in served or several for name in one.names)
    weight = max(one.technique.weight for one in several)
    return Touched(
        caused=is_caused,
        did=did,
        resource=kind,
        namespace=namespace,
        principals=tuple(dict.fromkeys(one.principal for one in several))[:8],
        n=sum(one.n for one in several),
        refused=sum(one.n for one in several if one.refused),
        objects=max(len(names), *(one.objects for one in served or several)),
        examples=tuple(names)[:5],
        # What was refused or tried out was not gained, and what machinery does of it is its job.
        weight=round(weight * (1.0 if served else 0.5) * (0.6 if _machinery(several) else 1.0), 2),
        first=min(one.first for one in several),
        last=max(one.last for one in several),
    )


def _machinery(several: Iterable[Alike]) -> bool:
    return all(principal_class(one.principal) in ("control-plane", "node") for one in several)
