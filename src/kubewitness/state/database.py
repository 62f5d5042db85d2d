"""The state: what is small and changes, safe in one database that several processes may use.

Each method is one transaction and may wait up to ``engine.PATIENCE`` seconds for another one, so
asyncio calls it in a thread. Any of them raises ``StateUnavailable`` when the database is locked,
full or gone: nothing has changed then, and the same call may be made again; and ``StateError`` when
trying again will not help.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from sqlalchemy import Connection, desc, func, select

from kubewitness.errors import StateError
from kubewitness.incidents.model import (
    SEVERITIES,
    Broken,
    Incident,
    Misconfiguration,
    Severity,
)
from kubewitness.state import engine as engines
from kubewitness.state import keeping, merging, migration, misconfigurations, outbox
from kubewitness.state.failure import told
from kubewitness.state.growth import Told
from kubewitness.state.keeping import Change, Kind, Wanted
from kubewitness.state.merging import Merger
from kubewitness.state.outbox import Backlog, Delivery
from kubewitness.state.schema import incidents, positions

ERROR_CHARACTERS = 500

_log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class State:
    """The database at ``place``: a file (SQLite), or the URL of a PostgreSQL database.

    It is made, and brought to the present schema, unless only an ``existing`` one will do.
    """

    def __init__(
        self,
        place: Path | str,
        *,
        existing: bool = False,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._clock = clock
        if isinstance(place, Path):
            self.where = str(place)
            with told(self.where):
                if not existing:
                    engines.make_file(place)
                engine = engines.sqlite(place)
        else:
            url = engines.postgresql_url(place)
            self.where = engines.shown(url)
            with told(self.where):
                engine = engines.postgresql(url)
        self._engine = engine
        self._writer = engine.execution_options(**{engines.WRITES: True})
        try:
            self._upgrade(existing)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    def keep(
        self, cluster: str, judged: Sequence[Incident], wanted: Sequence[Wanted]
    ) -> list[Change]:
        """Store incidents as they are judged now, and return those that were announced by it.

        New is what has no known id in ``cluster``. Of a known incident only what ``growth`` calls
        news is announced, once. Each sink of ``wanted`` that an announced incident ``passes`` gets
        it by the outbox, in place of an older message that is still there; so does a sink that it
        passes for the first time. What is not in ``judged`` stays as it is, and without ``wanted``
        nobody is told.
        """
        with self._writing() as connection:
            return keeping.keep(connection, cluster, judged, wanted, self._clock())

    def merge(self, cluster: str, judged: Sequence[Incident]) -> list[Merger]:
        """Mark incidents that became part of others, as a judgement of everything shows, which
        listed ``judged`` and nothing else; whoever was told of them is told."""
        with self._writing() as connection:
            return merging.merge(connection, cluster, judged, self._clock())

    def incidents(
        self,
        cluster: str | None = None,
        *,
        since: datetime | None = None,
        merged: bool = False,
    ) -> list[Incident]:
        """Those of ``cluster`` that were still going on at or after ``since``, alerts first and
        then by score, as ``analyze`` lists them; those ``merged`` into others, too."""
        columns = incidents.c
        asked = select(columns.cluster, columns.id, columns.body).order_by(
            desc(columns.alert), desc(columns.score), columns.id
        )
        if cluster is not None:
            asked = asked.where(columns.cluster == cluster)
        if since is not None:
            asked = asked.where(columns.updated_at >= since)
        if not merged:
            asked = asked.where(columns.merged_into.is_(None))
        with self._reading() as connection:
            rows = connection.execute(asked).all()
        found = [(row.cluster, row.id, _incident(row.body)) for row in rows]
        for name, identity, incident in found:
            if incident is None:
                _log.warning("incident %s of %s was stored by another version", identity, name)
        return [incident for *_, incident in found if incident is not None]

    def keep_misconfigurations(self, cluster: str, found: Sequence[Misconfiguration]) -> None:
        """Store what a judgement of everything ``found`` broken; what else was is gone."""
        with self._writing() as connection:
            misconfigurations.keep(connection, cluster, found, self._clock())

    def misconfigurations(self, cluster: str | None = None, *, gone: bool = False) -> list[Broken]:
        """What is broken in ``cluster``, most pressing first; also what is ``gone``."""
        with self._reading() as connection:
            return misconfigurations.listed(connection, cluster, gone)

    def counted(self) -> dict[Severity, int]:
        """How many incidents there are of each severity that are not over."""
        column, open_ = incidents.c.severity, incidents.c.closed_at.is_(None)
        with self._reading() as connection:
            asked = select(column, func.count()).where(open_).group_by(column)
            rows = connection.execute(asked).all()
        found = {row[0]: row[1] for row in rows}
        return {severity: found.get(severity, 0) for severity in SEVERITIES}

    def due(
        self, sink: str, now: datetime, *, clusters: Sequence[str] | None = None
    ) -> Delivery | None:
        """The message for ``sink`` that has been due for longest, of these clusters only."""
        while True:
            with self._reading() as connection:
                row = outbox.due(connection, sink, clusters, now)
            if row is None:
                return None
            incident = _incident(row.body)
            kind, revision = _message(row.told, row.revision, row.closed_at is not None)
            why = "stored by another version"
            if incident is not None and revision > row.settled:
                return Delivery(row.id, sink, kind, incident, revision, row.attempts)
            if incident is not None:
                why = "it is over, and that it opened was given up"
            with self._writing() as connection:
                outbox.given_up(connection, row.id, row.revision, why)

    def standing(
        self, sink: str, since: datetime, *, clusters: Sequence[str] | None = None
    ) -> list[tuple[Incident, int, datetime]]:
        """What ``sink`` was told of at or after ``since`` and is not over, the newest first: as it
        was judged last, but as severe as it was ever told to be; with revision and time of that."""
        with self._reading() as connection:
            rows = outbox.standing(connection, sink, clusters, since)
        found = []
        for row in rows:
            incident = _incident(row.body)
            if incident is not None:
                most = msgspec.json.decode(row.most, type=Told).severity
                incident = msgspec.structs.replace(incident, severity=most)
                found.append((incident, row.told, row.told_at))
        return found

    def delivered(self, delivery: Delivery) -> None:
        """Its sink has it."""
        with self._writing() as connection:
            outbox.delivered(connection, delivery.id, delivery.revision, self._clock())

    def failed(self, delivery: Delivery, error: str, retry_at: datetime) -> None:
        """Its sink did not take it, but may at ``retry_at``."""
        with self._writing() as connection:
            outbox.failed(connection, delivery.id, _storable(error[:ERROR_CHARACTERS]), retry_at)

    def given_up(self, delivery: Delivery, error: str) -> None:
        """Its sink will not take it."""
        with self._writing() as connection:
            outbox.given_up(
                connection, delivery.id, delivery.revision, _storable(error[:ERROR_CHARACTERS])
            )

    def backlog(self) -> list[Backlog]:
        """What waits for each sink that something waits for."""
        with self._reading() as connection:
            return outbox.backlog(connection)

    def position(self, feed: str) -> bytes | None:
        """How far ``feed`` was read, as it put it itself."""
        with self._reading() as connection:
            here = positions.c.feed == _storable(feed)
            return connection.scalar(select(positions.c.value).where(here))

    def set_position(self, feed: str, value: bytes) -> None:
        """Everything until there is safe elsewhere."""
        name = _storable(feed)
        here = positions.c.feed == name
        values = {"value": value, "updated_at": self._clock()}
        with self._writing() as connection:
            if not connection.execute(positions.update().where(here).values(values)).rowcount:
                connection.execute(positions.insert().values(feed=name, **values))

    def forget(self, age: timedelta) -> int:
        """Delete the incidents that ended longer ago, with what was to be sent of them, and what
        is broken no more for as long; how many.

        Age is counted from the newest incident, or from now if that is earlier: a clock that runs
        ahead deletes nothing, and no incident stays for ever because its own did.
        """
        with self._writing() as connection:
            now = self._clock()
            return keeping.forget(connection, age, now) + misconfigurations.forget(
                connection, age, now
            )

    def _upgrade(self, existing: bool) -> None:
        with self._reading() as connection:
            missing = migration.missing(connection, self.where)
        if missing and existing:
            raise StateError(
                "there is no state of this version here",
                where=self.where,
                remedy="start 'kubewitness serve' with it once: it makes and upgrades its state",
            )
        if missing:
            with self._writing() as connection:
                migration.upgrade(connection, self.where)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with told(self.where), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with told(self.where), self._writer.begin() as connection:
            yield connection


def _message(told: int, revision: int, over: bool) -> tuple[Kind, int]:
    """What a sink is to hear next, which was ``told`` an earlier revision or none (0)."""
    if over:
        return ("resolved", revision) if told else ("opened", revision - 1)
    return ("updated" if told else "opened", revision)


def _incident(body: str) -> Incident | None:
    """None for one that another version wrote, with fields that this one cannot read."""
    try:
        return msgspec.json.decode(body, type=Incident)
    except msgspec.MsgspecError:
        return None


def _storable(text: str) -> str:
    """``text`` that any database holds: PostgreSQL has no NUL, neither has lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def state_at(data: Path, url: str = "", *, existing: bool = False) -> State:
    """The state of a service: the database at ``url``, without one a file in its folder."""
    return State(url or data / "state.sqlite", existing=existing)
