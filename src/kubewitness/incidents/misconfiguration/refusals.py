"""What is refused again and again: the pattern that tells something broken from somebody probing.

Whoever looks for a way in tries different things, from a new place, with a tool of its own. What
is broken asks for the same few things, from where it always runs, with the program it always is.
Only the refusals of that kind are a misconfiguration; what else the same identity does is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import duckdb

from kubewitness.activity.technique import GRAVE
from kubewitness.incidents.model import Failure

# A pause of so long ends a series. What goes on later is another, told together with the first.
PAUSE = timedelta(hours=3)
# "The same": at least so often, and each object on average at least so often.
AGAIN, EACH = 3, 2
# "Few": distinct objects. Who lists the rooms of a house tries more doors than that.
FEW = 12
# A series that is worth a finding: so many requests, and not in one breath.
ENOUGH = 8
LASTING = timedelta(minutes=2)
# Nearly all that is refused in a series has to repeat; otherwise somebody is looking around.
MOST = 0.8
# "Usual": on this share of the time slices on which the identity was active, or, for one that is
# new, where this share of its class is found.
USUAL = 0.25
NEW = 4
# Programs ask for what may be missing, and that is no fault: only one that begins to ask for one
# object and does not stop is told.
UNTIRING = 50


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing that was refused: rows of activity of one action in one place.

    ``objects``: distinct names, at least; ``generated``: some have a suffix that comes anew.
    ``rows``: their places in the table ``activity``.
    ``before``: when the same identity was last served this, if it ever was and never while it
    was refused (that would be other objects).
    """

    action: str
    resource: str
    subresource: str
    namespace: str
    verbs: tuple[str, ...]
    names: tuple[str, ...]
    n: int
    objects: int
    generated: bool
    first: datetime
    last: datetime
    grave: bool
    rows: tuple[int, ...]
    audit_ids: tuple[str, ...]
    before: datetime | None

    @property
    def key(self) -> Hashable:
        return (self.action, self.namespace)

    @property
    def repeats(self) -> bool:
        """Whether it is asked for again and again: a sweep asks for each object once."""
        return self.n >= max(AGAIN, EACH * self.objects)


@dataclass(frozen=True, slots=True)
class Series:
    """Refusals of one kind to one identity with one program, without a long pause."""

    failure: Failure
    principal: str
    acting_as: str
    whose: str
    team: str
    client: str
    networks: tuple[str, ...]
    source_ips: tuple[str, ...]
    things: tuple[Thing, ...]
    seconds: float

    @property
    def first(self) -> datetime:
        return min(thing.first for thing in self.things)

    @property
    def last(self) -> datetime:
        return max(thing.last for thing in self.things)

    @property
    def n(self) -> int:
        return sum(thing.n for thing in self.things)

    @property
    def keys(self) -> frozenset[Hashable]:
        return frozenset(thing.key for thing in self.things)


def find_series(connection: duckdb.DuckDBPyConnection) -> list[Series]:
    """The series in the table ``activity`` that are something broken, each with the things that
    repeat or were permitted before; in order of time."""
    connection.execute(_REFUSALS)
    found = connection.execute(_CANDIDATES).fetchall()
    columns = [column[0] for column in connection.description or ()]
    sources: dict[Hashable, list[dict[str, Any]]] = defaultdict(list)
    for line in found:
        row = dict(zip(columns, line, strict=True))
        sources[row["source"], row["series"]].append(row)
    broken = (_broken(rows) for rows in sources.values())
    return sorted((one for one in broken if one), key=lambda one: (one.first, one.principal))


def joined(series: Iterable[Series]) -> list[Series]:
    """One series of those that are one story: the same program of the same identity is refused
    the same, and was not served in between; of callers without a name, those in the same networks.
    ``seconds`` are those while it went on, without the pauses."""
    stories: list[list[Series]] = []
    for one in series:
        for story in stories:
            last = story[-1]
            if (
                (one.failure, one.principal, one.acting_as, one.client)
                == (last.failure, last.principal, last.acting_as, last.client)
                and one.keys & last.keys
                and not _served_between(last, one)
                and (one.whose != "anonymous" or set(one.networks) & set(last.networks))
            ):
                story.append(one)
                break
        else:
            stories.append([one])
    return [_together(story) for story in stories]


def _together(story: Sequence[Series]) -> Series:
    alike: dict[Hashable, list[Thing]] = defaultdict(list)
    for series in story:
        for thing in series.things:
            alike[thing.key].append(thing)
    return replace(
        story[0],
        networks=_distinct(network for one in story for network in one.networks),
        source_ips=_distinct(address for one in story for address in one.source_ips),
        things=tuple(
            sorted(map(_one, alike.values()), key=lambda one: (-one.n, one.action, one.namespace))
        ),
        seconds=sum(one.seconds for one in story),
    )


def _one(things: Sequence[Thing]) -> Thing:
    return replace(
        things[0],
        verbs=_distinct(verb for thing in things for verb in thing.verbs),
        names=_distinct(name for thing in things for name in thing.names),
        n=sum(thing.n for thing in things),
        objects=max(thing.objects for thing in things),
        last=max(thing.last for thing in things),
        grave=any(thing.grave for thing in things),
        rows=tuple(row for thing in things for row in thing.rows),
        audit_ids=_distinct(audit_id for thing in things for audit_id in thing.audit_ids),
    )


def _served_between(earlier: Series, later: Series) -> bool:
    return any(
        thing.before is not None and thing.before >= earlier.last
        for thing in later.things
        if thing.key in earlier.keys
    )


def _broken(rows: Sequence[dict[str, Any]]) -> Series | None:
    """What of a candidate is something broken, if anything."""
    one = rows[0]
    things = _things(rows, one["failure"])
    kept = [thing for thing in things if _persists(thing, one["failure"])]
    if not kept or not _at_home(one) or not _always_the_same(things, kept):
        return None
    if one["failure"] == "credential" and any(thing.grave for thing in things):
        # Nobody knows who that is: what attacks are made of is not put down to a mishap.
        return None
    series = Series(
        failure=one["failure"],
        principal=one["principal"],
        acting_as=one["acting_as"],
        whose=one["class"],
        team=one["team"],
        client=one["client"],
        networks=_distinct(row["network"] for row in rows),
        source_ips=_distinct(row["source_ip"] for row in rows),
        things=tuple(kept),
        seconds=0.0,
    )
    lasted = series.last - series.first
    return replace(series, seconds=lasted.total_seconds()) if lasted >= LASTING else None


def _at_home(one: dict[str, Any]) -> bool:
    """Where and as it always runs, and without asking what it may do."""
    began = one["failure"] != "missing" or not one["from_the_start"]
    return bool(one["usual"]) and not one["asking"] and began


def _always_the_same(things: Sequence[Thing], kept: Sequence[Thing]) -> bool:
    """Nearly all that is refused repeats, it is enough to tell, and it is few."""
    n = sum(thing.n for thing in kept)
    objects = sum(thing.objects for thing in kept if thing.before is None)
    return n >= max(ENOUGH, MOST * sum(thing.n for thing in things)) and objects <= FEW


def _persists(thing: Thing, failure: Failure) -> bool:
    if failure == "missing":
        return thing.n >= UNTIRING and thing.objects == 1 and thing.verbs == ("get",)
    return thing.repeats or thing.before is not None


def _things(rows: Iterable[dict[str, Any]], failure: Failure) -> list[Thing]:
    alike: dict[Hashable, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        # A missing object is that object; an API server that fails does so wherever it is asked.
        where = "" if failure == "server" else row["namespace"]
        alike[row["action"], where, row["template"] if failure == "missing" else ""].append(row)
    return [_thing(same) for same in alike.values()]


def _thing(rows: Sequence[dict[str, Any]]) -> Thing:
    one = rows[0]
    objects: dict[str, int] = {}
    for row in rows:
        objects[row["template"]] = max(objects.get(row["template"], 1), row["names"])
    # A binding that went: served until then, and not once while it was refused.
    served = {row["before"] for row in rows}
    before = served.pop() if len(served) == 1 and one["failure"] == "permission" else None
    return Thing(
        action=one["action"],
        resource=one["resource"],
        subresource=one["subresource"],
        namespace=one["namespace"],
        verbs=_distinct(row["verb"] for row in rows),
        names=_distinct(name for row in rows for name in row["name_samples"]),
        n=sum(row["n"] for row in rows),
        objects=sum(objects.values()),
        generated=any("*" in template for template in objects),
        first=min(row["first"] for row in rows),
        last=max(row["last"] for row in rows),
        grave=any(row["importance"] >= GRAVE for row in rows),
        rows=tuple(row["row"] for row in rows),
        audit_ids=_distinct(audit_id for row in rows for audit_id in row["audit_ids"]),
        before=before,
    )


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


# 403 after RBAC had allowed it is admission's answer: a quota, a policy, a webhook. A conflict or
# a throttled request is how the API works, however often. A kubelet is refused what belongs to
# pods that are no longer its own (Node authorizer), all day long.
_REFUSALS = f"""
CREATE OR REPLACE TEMP TABLE refusals AS
WITH refused AS (
    SELECT row, actor, principal, acting_as, class, team, client, network, source_ip, action,
        verb, resource, subresource, namespace, template, n, names, first, last, importance,
        audit_ids, name_samples, slice,
        CASE outcome WHEN 'unauthenticated' THEN 'credential' WHEN 'missing' THEN 'missing'
            WHEN 'invalid' THEN 'invalid' WHEN 'error' THEN 'server'
            ELSE CASE WHEN binding = '' THEN 'permission' ELSE 'admission' END END AS failure
    FROM activity
    WHERE outcome IN ('denied', 'unauthenticated', 'missing', 'invalid', 'error')
        AND class <> 'node'
), named AS (
    SELECT *, hash(actor, acting_as, client, network, failure) AS source FROM refused
), spaced AS (
    SELECT *, first - lag(last) OVER (PARTITION BY source ORDER BY first, row)
        > INTERVAL '{int(PAUSE.total_seconds())} seconds' AS apart
    FROM named
)
SELECT *, count(*) FILTER (apart) OVER (PARTITION BY source ORDER BY first, row) AS series
FROM spaced"""

# ``usual``: this program runs there. A caller without a name is where others are known.
# ``asking``: it asks what it may do, and never did before. ``before``: last served the same.
_CANDIDATES = f"""
WITH enough AS (
    SELECT source, series, any_value(actor) AS actor, any_value(principal) AS principal,
        any_value(class) AS class, any_value(client) AS client, any_value(network) AS network,
        min(first) AS begun, max(last) AS ended, max(slice) AS latest
    FROM refusals GROUP BY source, series
    HAVING sum(n) >= {ENOUGH}
), habits AS (
    SELECT actor, client, network, slice FROM activity
    SEMI JOIN enough USING (actor) GROUP BY ALL
), active AS (
    SELECT actor, count(DISTINCT slice) AS slices FROM habits GROUP BY actor
), here AS (
    SELECT actor, client, network, count(*) AS slices FROM habits GROUP BY ALL
), served AS (
    SELECT class, network, principal, client FROM activity WHERE outcome = 'ok' GROUP BY ALL
), classes AS (
    SELECT class, count(DISTINCT principal) AS members FROM served GROUP BY class
), found_at AS (
    SELECT class, network, count(DISTINCT principal) AS members FROM served GROUP BY ALL
), reviews AS (
    SELECT actor, first FROM activity SEMI JOIN enough USING (actor)
    WHERE resource LIKE 'selfsubject%reviews.%'
), judged AS (
    SELECT source, series,
        CASE WHEN class = 'anonymous' THEN EXISTS (FROM found_at WHERE found_at.network =
                enough.network AND found_at.members >= {USUAL} * (SELECT members FROM classes
                WHERE classes.class = found_at.class) AND found_at.class <> 'anonymous')
            ELSE here.slices >= {USUAL} * active.slices
            AND (active.slices >= {NEW} OR EXISTS (FROM found_at JOIN classes USING (class)
                WHERE found_at.network = enough.network AND found_at.class = enough.class
                AND found_at.members >= {USUAL} * classes.members)) END AS usual,
        EXISTS (FROM reviews WHERE reviews.actor = enough.actor
                AND reviews.first BETWEEN begun - INTERVAL 1 HOUR AND ended)
            AND NOT EXISTS (FROM reviews WHERE reviews.actor = enough.actor
                AND reviews.first < begun - INTERVAL 1 HOUR) AS asking,
        begun < (SELECT min(first) + (max(last) - min(first)) / 20 FROM activity) AS from_the_start
    FROM enough LEFT JOIN here USING (actor, client, network) LEFT JOIN active USING (actor)
), wanted AS (
    SELECT principal, acting_as, action, namespace FROM refusals
    SEMI JOIN enough USING (source, series) WHERE failure <> 'credential' GROUP BY ALL
), allowed AS (
    SELECT principal, acting_as, action, namespace, last AS before FROM activity
    SEMI JOIN wanted USING (principal, acting_as, action, namespace) WHERE outcome = 'ok'
)
SELECT refusals.*, usual, asking, from_the_start, allowed.before
FROM refusals JOIN judged USING (source, series)
    ASOF LEFT JOIN allowed ON allowed.principal = refusals.principal
        AND allowed.acting_as = refusals.acting_as AND allowed.action = refusals.action
        AND allowed.namespace = refusals.namespace AND refusals.first >= allowed.before
ORDER BY refusals.row"""
