"""The log as forensics asks it: deeds by object, credential, pod and binding.

Questions are narrow, so that a log of millions of events answers each within a fraction of a
second: the engine skips what a name or a time rules out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

import duckdb
from msgspec.structs import replace

from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.bodies import bodies, rehearsed
from kubewitness.forensics.causes.body import Body, body
from kubewitness.forensics.causes.debut import first_times
from kubewitness.forensics.causes.deed import (
    COLUMNS,
    CREATES,
    Deed,
    deed,
    deeds_at,
    learnt_proxies,
    listed,
    literal,
)
from kubewitness.forensics.causes.habit import Habit, counted
from kubewitness.forensics.causes.scene import First, Key, Scene
from kubewitness.forensics.causes.sitting import Sitting, sittings
from kubewitness.forensics.causes.touched import Alike, grave, requested
from kubewitness.forensics.target import bounds

ACTS = """(verb NOT IN ('get', 'list', 'watch')
    OR subresource IN ('exec', 'attach', 'portforward'))"""
"""SQL: what changes something, or gets in somewhere."""
_DONE = f"{ACTS} AND subresource IS DISTINCT FROM 'status'"
_ENOUGH = 4000
_FIRST, _LATEST = 3, 12
_LOOKS = 400
BIRTHS = 50
"""Of the objects of one name so many are told apart."""
CUT = (
    "Where somebody did the same all the time, only some of it was read: there may be more of what"
    " is told."
)
_NEAR, _USED = 50, 200
# Of more the engine makes a join, for which it reads everything.
_TIMES = 1000


class Near(NamedTuple):
    """Objects in a namespace whose names begin alike, for some time."""

    namespace: str
    prefix: str
    since: datetime
    until: datetime


class Record:
    """Reads the views ``events``, ``changes`` and ``touches``; every deed and body at most once.

    A question is about one ``cluster``, which may turn out only by what it asks for; ``until``
    leaves out what was received later. ``cut`` says that not all was read that was near or used.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        cluster: str | None = None,
        until: datetime | None = None,
    ) -> None:
        self.connection = connection
        self.cluster = cluster
        self._until = until
        self._bounds: dict[str | None, tuple[datetime, datetime] | None] = {}
        self.cut = False
        self.deeds: dict[Key, Deed] = {}
        self.bodies: dict[Key, Body | None] = {}
        self.habits: dict[Habit, int] = {}
        self.firsts: dict[Key, tuple[First, ...]] = {}
        self.sittings: dict[Key, Sitting | None] = {}

    @cached_property
    def proxies(self) -> frozenset[str]:
        """Addresses that stand last for nearly everyone, learnt from a part of the log."""
        return learnt_proxies(self.connection)

    @property
    def bounds(self) -> tuple[datetime, datetime] | None:
        """When the log (of the cluster) begins and ends."""
        if self.cluster not in self._bounds:
            self._bounds[self.cluster] = bounds(self.connection, self.cluster)
        return self._bounds[self.cluster]

    def scene(self) -> Scene:
        """Everything that was asked for so far."""
        start = self.bounds[0] if self.bounds else None
        return Scene(
            self.deeds.values(), self.bodies, self.habits, start, self.firsts, self.sittings
        )

    def find(self, where: str) -> list[Deed]:
        """Deeds for which the SQL ``where`` holds, in the order of time, the first of them."""
        conditions = self._conditions(where, None, None)
        ordered = f"ORDER BY received_at, stage_at LIMIT {_ENOUGH}"
        times = self.connection.execute(
            f"SELECT stage_at FROM events WHERE {conditions} {ordered}"
        ).fetchall()
        if not times:
            return []
        if len(times) <= _TIMES:
            # Wide columns are read where something was found, and nowhere else.
            literals = {literal(_utc(at)) for (at,) in times}
            conditions += f" AND stage_at IN ({', '.join(sorted(literals))})"
        rows = self.connection.execute(
            f"SELECT {COLUMNS} FROM events WHERE {conditions} {ordered}"
        ).fetchall()
        return self._known(rehearsed(self.connection, [deed(row, self.proxies) for row in rows]))

    def changed(
        self,
        where: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        most: int = _ENOUGH,
        latest: bool = False,
    ) -> list[Deed]:
        """Changes (``events.change``) for which the SQL ``where`` holds, in the order of time, at
        most ``most`` of them (the first ones, or the ``latest``): quick where it names objects."""
        rows = self.connection.execute(
            f"""SELECT {COLUMNS}, dry_run FROM changes
            WHERE {self._conditions(where, since, until)}
            ORDER BY received_at{" DESC" if latest else ""}, stage_at LIMIT {most}"""
        ).fetchall()
        found = ((deed(tuple(row), self.proxies), dry) for *row, dry in rows)
        return self._known(replace(one, dry=True) if dry else one for one, dry in found)

    def alike(self, where: str, since: datetime | None, until: datetime | None) -> list[Alike]:
        """All requests for which the SQL ``where`` holds, those that are alike in one."""
        return requested(self.connection, self._conditions(where, since, until))

    def gravest(
        self, wheres: Sequence[str], since: datetime | None, until: datetime | None, most: int
    ) -> tuple[list[Deed], int]:
        """Of the changes for which one of the SQL ``wheres`` holds up to ``most``, and how many
        there are: the latest of those that are alike before another of them, those that matter most
        first."""
        conditions = [self._conditions(where, since, until) for where in wheres]
        times, n = grave(self.connection, conditions, most)
        if not times:
            return [], 0
        literals = ", ".join(sorted(literal(at) for at in times))
        where = " OR ".join(f"({where})" for where in wheres)
        found = self.changed(f"({where}) AND stage_at IN ({literals})", since=since, until=until)
        return found[-most:], n

    def spread(self, where: str, since: datetime, until: datetime | None) -> list[Deed]:
        """Deeds for which the SQL ``where`` holds, of each kind the first few: what is repeated
        hides nothing else."""
        rows = self.connection.execute(
            f"""SELECT stage_at, row_number() OVER alike AS turn FROM touches
            WHERE {self._conditions(where, since, until)}
            WINDOW alike AS
                (PARTITION BY "user", verb, resource, subresource, namespace
                ORDER BY received_at, stage_at)
            QUALIFY turn <= {_USED}"""
        ).fetchall()
        return self._at(rows, until, "events", _USED)

    def _at(
        self, rows: Sequence[tuple[datetime, int]], until: datetime | None, view: str, most: int
    ) -> list[Deed]:
        """What was answered at these times; the second of each row says how many were like it, of
        ``most``."""
        self.cut = self.cut or any(turn == most for _, turn in rows)
        times = sorted({_utc(at) for at, _ in rows})
        found: list[Deed] = []
        for start in range(0, len(times), _TIMES):
            some = times[start : start + _TIMES]
            if view == "events":
                found += rehearsed(self.connection, deeds_at(self.connection, some, self.proxies))
            else:
                where = f"stage_at IN ({', '.join(map(literal, some))})"
                found += self.changed(where, since=some[0], until=until)
        end = self._end(until)
        return self._known(
            one for one in found
            if self.cluster in (None, one.cluster) and (end is None or one.at <= end)
        )  # fmt: skip

    def _known(self, deeds: Iterable[Deed]) -> list[Deed]:
        found: dict[Key, Deed] = {}
        for one in deeds:
            known = self.deeds.get(one.key)
            # All stages of a request are one deed; only an answer has a code.
            if known is None or (known.code is None and one.code is not None):
                self.deeds[one.key] = known = one
            found[one.key] = known
        return sorted(found.values(), key=lambda one: one.turn)

    def _end(self, until: datetime | None) -> datetime | None:
        return min((at for at in (until, self._until) if at is not None), default=None)

    def _conditions(self, where: str, since: datetime | None, until: datetime | None) -> str:
        conditions = [f"({where})"]
        if self.cluster is not None:
            conditions.append(f"cluster = {quoted(self.cluster)}")
        end = self._end(until)
        # The engine knows between which stage times a part lies; a request ends after it came.
        if since is not None:
            conditions.append(f"stage_at >= {literal(since)}")
        if end is not None:
            conditions.append(f"received_at <= {literal(end)}")
            conditions.append(f"stage_at <= {literal(end + _LONGEST)}")
        return " AND ".join(conditions)

    def named(
        self,
        names: Iterable[tuple[str, str]],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Deed]:
        """What was done to objects of these ``(namespace, name)``, of whatever kind: without
        ``since`` of each the creation and the latest few deeds."""
        pairs = set(names)
        if not pairs:
            return []
        where = f"name IN ({listed(name for _, name in pairs)}) AND {_DONE}"
        places = {place for place, _ in pairs}
        if "" not in places:
            where += f" AND namespace IN ({listed(places)})"
        if since is None:
            times = self._times(where, until)
            if not times:
                return []
            where += f" AND stage_at IN ({', '.join(times)})"
        found = self.changed(where, since=since, until=until, latest=True)
        return [one for one in found if (one.namespace, one.name) in pairs or
                (one.resource == "namespaces" and ("", one.name) in pairs)]  # fmt: skip

    def _times(self, where: str, until: datetime | None) -> list[str]:
        """When deeds were done that are worth a look, as SQL: where there are too many, the last
        creation and the latest deeds of every object before more of any. Short columns only are
        read for it."""
        rows = self.connection.execute(
            f"""SELECT stage_at FROM (SELECT stage_at, row_number() OVER latest AS age,
            row_number() OVER (PARTITION BY namespace, name, resource, birth ORDER BY stage_at DESC)
            AS turn, birth
            FROM (SELECT stage_at, namespace, name, resource, subresource, {CREATES} AS birth
            FROM changes WHERE {self._conditions(where, None, until)})
            WINDOW latest AS
                (PARTITION BY namespace, name, resource, subresource ORDER BY stage_at DESC))
            WHERE age <= {_LATEST} OR (birth AND turn <= {_FIRST})
            GROUP BY stage_at ORDER BY min(least(age, turn)), stage_at DESC LIMIT {_LOOKS}"""
        ).fetchall()
        return [literal(_utc(at)) for (at,) in rows]

    def life(self, where: str, until: datetime | None = None) -> list[Deed]:
        """What made, changed and ended the object of ``where``: of each kind of deed the first few
        since the object's last creation and the latest few, and the latest creations."""
        rows = self.connection.execute(
            f"""WITH own AS (
                SELECT coalesce(namespace, '') AS namespace, verb, subresource, stage_at,
                    {CREATES} AS creates,
                    coalesce(code < 400, true) AS served
                FROM changes WHERE {self._conditions(where, None, until)}
            ), born AS (
                SELECT *, max(stage_at) FILTER (creates AND served)
                    OVER (PARTITION BY namespace) AS birth FROM own
            )
            SELECT DISTINCT stage_at FROM (
                SELECT stage_at, creates AS birth,
                    row_number() OVER (kinds ORDER BY stage_at) AS first,
                    row_number() OVER (kinds ORDER BY stage_at DESC) AS latest
                FROM born WINDOW kinds AS
                    (PARTITION BY namespace, verb, subresource, creates, served,
                    stage_at >= birth))
            WHERE first <= {_FIRST} OR latest <= {_LATEST} OR (birth AND latest <= {BIRTHS})"""
        ).fetchall()
        if not rows:
            return []
        times = ", ".join(literal(_utc(at)) for (at,) in rows)
        return self.changed(f"({where}) AND stage_at IN ({times})", until=until, latest=True)

    def near(self, several: Sequence[Near], *, latest: bool = False) -> list[Deed]:
        """What was done near each: to its objects, and to nameless ones. Of each kind of deed the
        first few, or the ``latest``."""
        return self._of_each(
            several,
            "changes",
            f"""SELECT *, received_at AS came FROM changes WHERE {_DONE}
            AND resource NOT IN ('leases', 'events')
            AND namespace IN ({listed(one.namespace for one in several)})""",
            "namespace = home AND (name IS NULL OR starts_with(name, prefix))",
            latest,
        )

    def borne(self, several: Sequence[Near]) -> list[Deed]:
        """What was done with tokens of the pods near each, of each kind of deed the first few."""
        return self._of_each(
            several,
            "events",
            """SELECT *, received_at AS came, split_part("user", ':', 3) AS place FROM touches
            WHERE starts_with("user", 'system:serviceaccount:')""",
            "place = home AND contains(CAST(extra AS VARCHAR), '\"' || prefix)",
        )

    def _of_each(
        self, several: Sequence[Near], view: str, among: str, belongs: str, latest: bool = False
    ) -> list[Deed]:
        """Deeds of each in a view: found by narrow columns in one question for all, and read where
        they are."""
        if not several:
            return []
        values = ", ".join(
            f"({number}, {quoted(one.namespace)}, {quoted(one.prefix)}, {literal(one.since)},"
            f" {literal(one.until)})"
            for number, one in enumerate(several)
        )
        since, until = min(one.since for one in several), max(one.until for one in several)
        order = "came DESC, stage_at" if latest else "came, stage_at"
        rows = self.connection.execute(
            f"""SELECT stage_at, row_number() OVER alike AS turn
            FROM (VALUES {values}) AS asked(number, home, prefix, first, last)
            JOIN ({among} AND {self._conditions("true", since, until)})
                ON {belongs} AND stage_at >= first AND came <= last
            WINDOW alike AS (PARTITION BY number, "user", verb, resource, subresource, namespace
                ORDER BY {order})
            QUALIFY turn <= {_NEAR}"""
        ).fetchall()
        return self._at(rows, until, view, _NEAR)

    def learn_habits(self, habits: Iterable[Habit]) -> None:
        """How often these were done."""
        self.habits |= counted(self.connection, set(habits) - self.habits.keys())

    def learn_firsts(self, deeds: Iterable[Deed]) -> None:
        """When who did these did the like for the first time."""
        asked = [one for one in deeds if one.key not in self.firsts]
        starts = {one.cluster: self.bounds[0] for one in asked} if self.bounds else None
        self.firsts |= first_times(self.connection, asked, self.proxies, starts)

    def learn_sittings(self, deeds: Iterable[Deed]) -> None:
        """The sittings in which these were done."""
        asked = [one for one in deeds if one.key not in self.sittings]
        self.sittings |= sittings(self.connection, asked, self.proxies)

    def read_bodies(self, deeds: Sequence[Deed]) -> None:
        """Read the bodies of these deeds, where the audit level kept them."""
        wanted = [one for one in deeds if one.key not in self.bodies]
        for one in wanted:
            self.bodies[one.key] = None
        for key, request, response in bodies(self.connection, wanted):
            if self.bodies.get(key) is None:
                self.bodies[key] = body(request, response)


# A watch or an exec may last; forty minutes is what API servers give a watch at most.
_LONGEST = timedelta(hours=1)


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)
