"""The log as forensics asks it: deeds by object, credential, pod, binding and sitting.

Questions are narrow, so that a log of millions of events answers each within a fraction of a
second: the engine skips what a name or a time rules out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property

import duckdb

from kubewitness.activity.network import learn_proxies
from kubewitness.activity.principal import UNAUTHENTICATED
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.body import Body, body
from kubewitness.forensics.causes.deed import COLUMNS, Deed, deed
from kubewitness.forensics.causes.scene import PAUSE, SITTING, Key, Scene
from kubewitness.forensics.target import bounds

_READ = "verb IN ('get', 'list', 'watch')"
_DONE = (
    f"(NOT {_READ} OR subresource IN ('exec', 'attach', 'portforward'))"
    " AND subresource IS DISTINCT FROM 'status'"
)
"""SQL: what changes something, or gets in somewhere."""
_ENOUGH = 4000
_FIRST, _LATEST = 3, 12
BIRTHS = 50
"""Of the objects of one name so many are told apart."""
_SAMPLE = 20_000
# Of more the engine makes a join, for which it reads everything.
_TIMES = 1000


class Record:
    """Reads the view ``events`` of a connection; every deed and body at most once.

    ``until`` leaves out what was received later.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        cluster: str | None = None,
        until: datetime | None = None,
    ) -> None:
        self._connection = connection
        self._cluster = cluster
        self._until = until
        self.deeds: dict[Key, Deed] = {}
        self.bodies: dict[Key, Body | None] = {}
        self.habits: dict[Key, list[datetime]] = {}

    @cached_property
    def proxies(self) -> frozenset[str]:
        """Addresses that stand last for nearly everyone, learnt from a part of the log."""
        return learnt_proxies(self._connection)

    @cached_property
    def bounds(self) -> tuple[datetime, datetime] | None:
        """When the log begins and ends."""
        return bounds(self._connection)

    def scene(self) -> Scene:
        """Everything that was asked for so far."""
        start = self.bounds[0] if self.habits and self.bounds else None
        return Scene(self.deeds.values(), self.bodies, self.habits, start)

    def find(
        self,
        where: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        most: int = _ENOUGH,
        latest: bool = False,
    ) -> list[Deed]:
        """Deeds for which the SQL ``where`` holds, in the order of time, at most ``most`` of them
        (the first ones, or the ``latest``)."""
        conditions = self._conditions(where, since, until)
        ordered = f"ORDER BY received_at{' DESC' if latest else ''}, stage_at LIMIT {most}"
        times = self._connection.execute(
            f"SELECT stage_at FROM events WHERE {conditions} {ordered}"
        ).fetchall()
        if not times:
            return []
        if len(times) <= _TIMES:
            # Wide columns are read where something was found, and nowhere else.
            literals = {_literal(at.replace(tzinfo=UTC)) for (at,) in times}
            conditions += f" AND stage_at IN ({', '.join(sorted(literals))})"
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM events WHERE {conditions} {ordered}"
        ).fetchall()
        found: dict[Key, Deed] = {}
        for row in rows:
            one = deed(row, self.proxies)
            known = self.deeds.get(one.key)
            # All stages of a request are one deed; only an answer has a code.
            if known is None or (known.code is None and one.code is not None):
                self.deeds[one.key] = known = one
            found[one.key] = known
        return sorted(found.values(), key=lambda one: one.turn)

    def _conditions(self, where: str, since: datetime | None, until: datetime | None) -> str:
        conditions = [f"({where})"]
        if self._cluster:
            conditions.append(f"cluster = {quoted(self._cluster)}")
        end = min((at for at in (until, self._until) if at is not None), default=None)
        # The engine knows between which stage times a part lies; a request ends after it came.
        if since is not None:
            conditions.append(f"stage_at >= {_literal(since)}")
        if end is not None:
            conditions.append(f"received_at <= {_literal(end)}")
            conditions.append(f"stage_at <= {_literal(end + _LONGEST)}")
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
        where = f"name IN ({_listed(name for _, name in pairs)}) AND {_DONE}"
        places = {place for place, _ in pairs}
        if "" not in places:
            where += f" AND namespace IN ({_listed(places)})"
        if since is None:
            times = self._times(where, until)
            if not times:
                return []
            where += f" AND stage_at IN ({', '.join(times)})"
        found = self.find(where, since=since, until=until, latest=True)
        return [one for one in found if (one.namespace, one.name) in pairs or
                (one.resource == "namespaces" and ("", one.name) in pairs)]  # fmt: skip

    def _times(self, where: str, until: datetime | None) -> list[str]:
        """When deeds were done that are worth a look, as SQL. Short columns only are read for it:
        whole rows all over a log of millions would take seconds."""
        conditions = where
        if until is not None:
            conditions += f" AND stage_at <= {_literal(until + _LONGEST)}"
        rows = self._connection.execute(
            f"""SELECT DISTINCT stage_at FROM (SELECT stage_at, row_number() OVER latest AS age,
            verb = 'create' AS birth FROM (SELECT stage_at, name, resource, verb FROM events WHERE
            {conditions}) WINDOW latest AS (PARTITION BY name, resource ORDER BY stage_at DESC))
            WHERE age <= {_LATEST} OR (birth AND age <= {_ENOUGH}) ORDER BY 1 DESC LIMIT 60"""
        ).fetchall()
        return [_literal(at.replace(tzinfo=UTC)) for (at,) in rows]

    def life(self, where: str, until: datetime | None = None) -> list[Deed]:
        """What made, changed and ended the object of ``where``: of each kind of deed the first few
        since the object's last creation and the latest few, and the latest creations."""
        rows = self._connection.execute(
            f"""WITH own AS (
                SELECT coalesce(namespace, '') AS namespace, verb, subresource, stage_at,
                    coalesce(code < 400, true) AS served
                FROM events WHERE {self._conditions(where, None, until)}
            ), born AS (
                SELECT *, max(stage_at) FILTER (verb = 'create' AND subresource IS NULL AND served)
                    OVER (PARTITION BY namespace) AS birth FROM own
            )
            SELECT DISTINCT stage_at FROM (
                SELECT stage_at, verb = 'create' AND subresource IS NULL AS birth,
                    row_number() OVER (kinds ORDER BY stage_at) AS first,
                    row_number() OVER (kinds ORDER BY stage_at DESC) AS latest
                FROM born WINDOW kinds AS
                    (PARTITION BY namespace, verb, subresource, served, stage_at >= birth))
            WHERE first <= {_FIRST} OR latest <= {_LATEST} OR (birth AND latest <= {BIRTHS})"""
        ).fetchall()
        if not rows:
            return []
        times = ", ".join(_literal(at.replace(tzinfo=UTC)) for (at,) in rows)
        return self.find(f"{where} AND stage_at IN ({times})", until=until, latest=True)

    def around(
        self, prefix: str, namespace: str, since: datetime, until: datetime, most: int = _ENOUGH
    ) -> list[Deed]:
        """What was done in a namespace to objects whose name begins so, and to nameless ones."""
        return self.find(
            f"namespace = {quoted(namespace)} AND {_DONE} AND (name IS NULL OR"
            f" starts_with(name, {quoted(prefix)}))",
            since=since,
            until=until,
            most=most,
        )

    def sitting(self, one: Deed) -> list[Deed]:
        """What the same identity did from the same place before, without a long pause."""
        return self.find(
            _by(one.principal),
            since=one.at - SITTING - PAUSE,
            until=one.at,
            latest=True,
        )

    def learn_habit(self, one: Deed) -> None:
        """When the same token holder did the same thing before."""
        if one.key in self.habits:
            return
        rows = self._connection.execute(
            'SELECT received_at FROM events WHERE "user" = ? AND verb = ? AND resource IS NOT'
            " DISTINCT FROM ? AND subresource IS NOT DISTINCT FROM ? AND namespace IS NOT DISTINCT"
            " FROM ? AND received_at < ? AND contains(CAST(extra AS VARCHAR), ?) LIMIT 1000",
            [
                one.principal, one.verb, one.resource or None, one.subresource or None,
                one.namespace or None, one.at.replace(tzinfo=None), one.pod,
            ],
        ).fetchall()  # fmt: skip
        self.habits[one.key] = sorted(at.replace(tzinfo=UTC) for (at,) in rows)

    def read_bodies(self, deeds: Sequence[Deed]) -> None:
        """Read the bodies of these deeds, where the audit level kept them."""
        wanted = [one for one in deeds if one.key not in self.bodies]
        for one in wanted:
            self.bodies[one.key] = None
        hidden = {"Metadata"}
        wanted = [one for one in wanted if one.level not in hidden]
        for start in range(0, len(wanted), 200):
            some = wanted[start : start + 200]
            times = ", ".join(sorted({_literal(one.answered) for one in some}))
            rows = self._connection.execute(
                f"""SELECT audit_id, coalesce(nullif("user", ''), '<unauthenticated>'),
                coalesce(received_at, stage_at), request_object, response_object FROM events
                WHERE stage_at IN ({times})
                AND audit_id IN ({_listed(one.audit_id for one in some)})"""
            ).fetchall()
            for audit_id, who, at, request, response in rows:
                key = (audit_id, who, at.replace(tzinfo=UTC))
                if self.bodies.get(key) is None:
                    self.bodies[key] = body(request, response)


# A watch or an exec may last; forty minutes is what API servers give a watch at most.
_LONGEST = timedelta(hours=1)


def _literal(at: datetime) -> str:
    return f"TIMESTAMP {quoted(at.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f'))}"


def _by(principal: str) -> str:
    """SQL: whether it was this principal; a plain equality lets the engine skip most of a lake."""
    if principal == UNAUTHENTICATED:
        return "coalesce(\"user\", '') = ''"
    return f'"user" = {quoted(principal)}'


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(quoted(text) for text in sorted(set(texts)))


def learnt_proxies(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Addresses that stand last for nearly everyone in a part of the view ``events``."""
    rows = connection.execute(
        f"""SELECT DISTINCT source_ips, "user" FROM (SELECT source_ips, "user" FROM events
        LIMIT {_SAMPLE}) WHERE source_ips IS NOT NULL AND "user" IS NOT NULL"""
    ).fetchall()
    return learn_proxies(rows)
