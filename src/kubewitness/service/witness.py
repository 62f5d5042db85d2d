"""The witness of one cluster: what it has heard, and what it makes of it.

Events are heard once, as groups (``activity.grouping``). Groups of slots that are not over are kept
at hand; activity of the others is in the archive. From time to time all is judged as ``kubewitness
analyze --since`` would judge it (``judge``, which may run in a thread of its own); what comes in
between is judged at once by what was learnt then (``hear``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import duckdb

from kubewitness.activity.grouping import group, merged
from kubewitness.activity.rollup import finish, found_proxies, slot_width
from kubewitness.activity.table import load
from kubewitness.config.settings import Detection as Settings
from kubewitness.incidents.detection import Detection, Judge
from kubewitness.incidents.model import Incident
from kubewitness.lake.store import Lake
from kubewitness.service.archive import Archive, Standing

# The last stage of a request may come long after the slot in which the request was received.
CLOSE_AFTER = timedelta(hours=2)
# Slices of time that a judge can hear beyond those that it has learnt.
AHEAD = 64
_MICROSECOND = timedelta(microseconds=1)
# Times are UTC without a zone, as in the lake.
_EVER = (datetime(1970, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001
_NOTHING = Detection("history and test", (), 0.0, ())
_NOTHING = Detection("history and test", (), 0.0, ())


@dataclass(slots=True)
class Judgement:
    """What all that was heard until some time came to.

    ``judge`` can go on from there; it works in ``schema``. Before ``since`` nothing is judged; None
    while the cluster is only learnt. ``ended``: slots whose groups were set apart for the archive,
    ``late``: slots that have to be made again from the lake; both are done when it is judged.
    """

    schema: str
    since: datetime | None
    ended: frozenset[datetime]
    late: frozenset[datetime]
    proxies: frozenset[str] = frozenset()
    detection: Detection = _NOTHING
    judge: Judge | None = None


class Witness:
    """``database`` is the engine that all witnesses share; each has schemas of its own in it."""

    def __init__(
        self, cluster: str, lake: Lake, database: duckdb.DuckDBPyConnection, settings: Settings
    ) -> None:
        self.cluster = cluster
        self._lake = lake
        self._archive = Archive(lake, cluster)
        self._settings = settings
        self._database = database
        self._live = database.cursor()
        ((number,),) = self._live.execute("SELECT count(*) FROM duckdb_schemas()").fetchall()
        self._schema = f"witness_{number}"
        self._live.execute(f"CREATE SCHEMA {self._schema}")
        self._live.execute(f"USE memory.{self._schema}")
        self._judgement: Judgement | None = None
        self._snapshots = 0
        self._judging = False
        # Slots that late events belong to, since the last snapshot.
        self._late: set[datetime] = set()
        self._make_tables()
        self.standing = self._archive.restore(self._live) or self._from_nothing()

    @property
    def width(self) -> timedelta:
        """Of a slot."""
        return timedelta(seconds=self.standing.width)

    def catch_up(self) -> None:
        """Hear what the lake holds and was not heard yet. At the first start that is all of it, of
        which nothing is judged if it is long enough to learn from."""
        parts = [part for part in self._parts() if part.name not in self.standing.heard]
        if self.standing.last is not None:
            for _, of_a_day in groupby(parts, key=lambda part: part.parent.name):
                self.hear(list(of_a_day))
            return
        self._learn(parts)
        standing = self.standing
        if standing.first and standing.last and self._enough(standing.last - standing.first):
            standing.since = standing.last + _MICROSECOND
        # From when on to judge is decided once.
        self.save()

    def hear(self, parts: Sequence[Path]) -> tuple[Incident, ...]:
        """Hear new parts of the lake; returns the alerts that they opened or made grow."""
        self._hear(parts)
        if self._judgement is None or self._judgement.judge is None:
            return ()
        return self._tell("fresh", self._judgement)

    def snapshot(self) -> Judgement:
        """Set apart what ``judge`` is to work on, and end the slots that are over."""
        live, standing = self._live, self.standing
        self._widen()
        self._snapshots += 1
        schema = f"{self._schema}_{self._snapshots}"
        live.execute(f"ATTACH ':memory:' AS {schema}")
        live.execute(f"CREATE TABLE {schema}.groups AS {merged('groups')}")
        live.execute(f"CREATE TABLE {schema}.met AS FROM met")
        late = frozenset(standing.unfinished)
        ended = self._end_slots(schema)
        standing.unfinished |= ended
        self._late.clear()
        live.execute(
            f"CREATE OR REPLACE TABLE groups AS FROM {schema}.groups WHERE slot >= ?",
            [standing.closed or _EVER[0]],
        )
        live.execute("CREATE OR REPLACE TABLE recent AS FROM groups WHERE false")
        self._judging = True
        return Judgement(schema, self._judged_since(), ended, late)

    def judge(self, work: Judgement) -> Judgement:
        """Judge what was set apart. Changes nothing but ``work`` and the archive."""
        cursor = self._database.cursor()
        cursor.execute(f"USE {work.schema}")
        work.proxies = found_proxies(cursor, "met")
        self._archive_slots(cursor, work)
        self._activities(cursor, work)
        table = load(cursor, self.cluster)
        cursor.execute("DROP TABLE activities")
        if len(table):
            since = work.since and work.since.replace(tzinfo=UTC)
            judge = Judge(cursor, self.cluster, table, since=since, ahead=AHEAD if since else 0)
            work.detection = judge.detection()
            work.judge = judge if since else None
        return work

    def adopt(self, work: Judgement) -> tuple[Incident, ...]:
        """Go on with a new judgement; returns the alerts of what was heard meanwhile."""
        standing = self.standing
        standing.unfinished -= work.ended | work.late
        standing.unfinished |= self._late
        standing.proxies = set(work.proxies)
        if self._judgement is not None:
            self._live.execute(f"DETACH {self._judgement.schema}")
        self._judgement, self._judging = work, False
        told = self._tell("recent", work) if work.judge else ()
        self.save()
        return told

    def abandon(self, work: Judgement) -> None:
        """Forget a judgement that failed; what it should have archived is made from the lake."""
        self._judging = False
        self._live.execute(f"DETACH {work.schema}")

    def begin_anew(self) -> None:
        """Forget everything, and hear what the lake holds: what was kept cannot be read."""
        since = self.standing.since
        self.standing = self._from_nothing()
        self.catch_up()
        self.standing.since = since

    def save(self) -> None:
        """Keep where it stands."""
        self.standing.heard &= {part.name for part in self._parts()}
        self._archive.save(self.standing, self._live)

    def _parts(self) -> list[Path]:
        home = self._archive.folder.name
        return [part for part in self._lake.parts() if part.parent.parent.name == home]

    def _enough(self, span: timedelta) -> bool:
        return span >= timedelta(seconds=self._settings.learn)

    def _make_tables(self) -> None:
        self._view([])
        group(self._live, width=timedelta(hours=1), into="fresh")
        self._live.execute("CREATE OR REPLACE TABLE groups AS FROM fresh")
        self._live.execute(
            """CREATE OR REPLACE TABLE met AS
            SELECT principal, "groups", source_ips, first, last, 0::UBIGINT AS key FROM fresh"""
        )

    def _from_nothing(self) -> Standing:
        self._archive.forget()
        self._make_tables()
        return Standing(width=int(slot_width(_EVER[0], _EVER[0]).total_seconds()))

    def _learn(self, parts: Sequence[Path]) -> None:
        """Hear a history: its slots go to the archive at once, but those that are not over."""
        self._view(parts)
        first, last, until = self._live.execute(
            "SELECT min(stage_at), max(stage_at), max(received_at) FROM events"
        ).fetchall()[0]
        if first is None:
            return
        standing = self.standing
        standing.width = int(slot_width(first, last).total_seconds())
        standing.closed = self._over_at(until)
        proxies = found_proxies(
            self._live,
            """(SELECT DISTINCT coalesce(CAST(to_json(source_ips) AS VARCHAR), '[]') AS source_ips,
                coalesce("user", '') AS principal FROM events)""",
        )
        standing.proxies = set(proxies)
        known: set[datetime] = set()
        for _, of_a_day in groupby(parts, key=lambda part: part.parent.name):
            self._hear(list(of_a_day))
            slots = self._slots("fresh") - self._slots("groups")
            # What was received before midnight and answered after it is there in part only.
            standing.unfinished -= slots - known
            standing.unfinished |= slots & known
            known |= slots
            self._live.execute("DROP TABLE IF EXISTS past")
            finish(self._live, "fresh", "past", proxies=proxies, stretches=[_EVER], met="met")
            self._archive.put(self._live, "past", slots)
        self._live.execute("DROP TABLE IF EXISTS past")

    def _hear(self, parts: Sequence[Path]) -> None:
        """Group the events of ``parts`` as the table ``fresh``, and remember them."""
        live, standing = self._live, self.standing
        self._view(parts)
        live.execute("DROP TABLE IF EXISTS fresh")
        answered = [self.cluster] if standing.answered else []
        group(live, width=self.width, into="fresh", answered=answered)
        standing.heard.update(part.name for part in parts)
        ((first, last, answers),) = live.execute(
            "SELECT min(first), max(last), bool_or(answer <> '') FROM fresh"
        ).fetchall()
        if first is None:
            return
        standing.first = min(filter(None, (standing.first, first)))
        standing.last = max(filter(None, (standing.last, last)))
        standing.answered |= answers
        closed = standing.closed or _EVER[0]
        late = {slot for slot in self._slots("fresh") if slot < closed}
        standing.unfinished |= late
        self._late |= late
        live.execute("INSERT INTO groups BY NAME FROM fresh WHERE slot >= ?", [closed])
        if self._judging:
            live.execute("INSERT INTO recent BY NAME FROM fresh")
        live.execute(
            """INSERT INTO met BY NAME
            SELECT principal, "groups", source_ips, min(first) AS first, max(last) AS last, key
            FROM (SELECT *, hash(principal, source_ips, "groups") AS key FROM fresh)
            WHERE key NOT IN (SELECT key FROM met) GROUP BY ALL"""
        )

    def _tell(self, groups: str, judgement: Judgement) -> tuple[Incident, ...]:
        """What a judge makes of a table of groups."""
        assert judgement.judge is not None
        arrivals = f"{judgement.schema}.main.arrivals"
        self._live.execute(f"DROP TABLE IF EXISTS {arrivals}")
        proxies = judgement.proxies
        finish(self._live, groups, arrivals, proxies=proxies, stretches=[_EVER], met="met")
        return judgement.judge.hear()

    def _over_at(self, last: datetime) -> datetime:
        """Slots before this are over. A clock that runs ahead ends none before its time."""
        now = min(last, datetime.now(UTC).replace(tzinfo=None))
        return _floor(now - CLOSE_AFTER, self.width)

    def _end_slots(self, schema: str) -> frozenset[datetime]:
        """The slots in the groups of ``schema`` that are over now."""
        standing = self.standing
        if standing.last is None:
            return frozenset()
        closed = self._over_at(standing.last)
        if standing.closed is None or closed > standing.closed:
            standing.closed = closed
        return frozenset(slot for slot in self._slots(f"{schema}.groups") if slot < standing.closed)

    def _slots(self, groups: str) -> set[datetime]:
        found = self._live.execute(f"SELECT DISTINCT slot FROM {groups}").fetchall()
        return {slot for (slot,) in found}

    def _widen(self) -> None:
        """Slots become wider as the log becomes longer, as they are in ``kubewitness analyze``."""
        standing, live = self.standing, self._live
        if standing.first is None or standing.last is None:
            return
        width = slot_width(standing.first, min(standing.last, standing.first + timedelta(days=28)))
        if width <= self.width:
            return
        standing.width = int(width.total_seconds())
        live.execute(
            f"UPDATE groups SET slot = time_bucket(INTERVAL '{standing.width} seconds', slot)"
        )
        old = self._archive.slots(live) | standing.unfinished
        self._archive.forget()
        standing.unfinished = {_floor(slot, width) for slot in old}
        if standing.closed is not None:
            # What is over of a wider slot is no longer at hand: the lake has all of it.
            standing.closed = _floor(standing.closed + width - _MICROSECOND, width)
            live.execute("DELETE FROM groups WHERE slot < ?", [standing.closed])

    def _judged_since(self) -> datetime | None:
        standing = self.standing
        if standing.first is None or standing.last is None:
            return None
        if standing.since is None and self._enough(standing.last - standing.first):
            standing.since = standing.first + timedelta(seconds=self._settings.learn)
        if standing.since is None:
            return None
        # Half of what is held is history: it moves on by whole days.
        half = timedelta(seconds=self._settings.history) / 2
        day = timedelta(days=1)
        return max(standing.since, _floor(standing.last - half, day))

    def _archive_slots(self, cursor: duckdb.DuckDBPyConnection, work: Judgement) -> None:
        """Put the activity of slots that are over into the archive."""
        again = set(work.late)
        if self.standing.proxies != work.proxies:
            # Who speaks through a proxy had another address until now.
            again |= self._archive.slots(cursor)
        slots = again | work.ended
        if not slots:
            return
        cursor.execute(
            "CREATE TABLE over AS FROM groups WHERE slot IN (SELECT unnest(?::TIMESTAMP[]))",
            [sorted(work.ended - again)],
        )
        cursor.execute(
            "DELETE FROM groups WHERE slot IN (SELECT unnest(?::TIMESTAMP[]))", [sorted(slots)]
        )
        if again:
            self._group_again(cursor, again)
        finish(cursor, "over", "past", proxies=work.proxies, stretches=[_EVER], met="met")
        self._archive.put(cursor, "past", slots)
        cursor.execute("DROP TABLE over")
        cursor.execute("DROP TABLE past")

    def _group_again(self, cursor: duckdb.DuckDBPyConnection, slots: set[datetime]) -> None:
        """Add to the table ``over`` the groups of some slots, from the events in the lake."""
        first, last = min(slots), max(slots) + self.width
        since = f"date={first.date()}"
        parts = [part for part in self._parts() if part.parent.name >= since]
        cursor.execute(
            f"""CREATE OR REPLACE TEMP VIEW events AS SELECT * FROM ({Lake.relation(parts)})
            WHERE received_at >= TIMESTAMP '{first}' AND received_at < TIMESTAMP '{last}'
                AND time_bucket(INTERVAL '{self.standing.width} seconds', received_at)
                    IN ({", ".join(f"TIMESTAMP '{slot}'" for slot in sorted(slots))})"""
        )
        answered = [self.cluster] if self.standing.answered else []
        group(cursor, width=self.width, into="again", answered=answered)
        cursor.execute(f"INSERT INTO over BY NAME {merged('again')}")
        cursor.execute("DROP TABLE again")
        cursor.execute("DROP VIEW events")

    def _activities(self, cursor: duckdb.DuckDBPyConnection, work: Judgement) -> None:
        """The table ``activities`` of as much of the past as is judged by."""
        begin = _EVER[0]
        if self.standing.last is not None:
            begin = self.standing.last - timedelta(seconds=self._settings.history)
        days = self._archive.days(begin)
        if days:
            cursor.execute(
                f"CREATE TABLE activities AS FROM {Archive.relation(days)} WHERE slot >= ?",
                [_floor(begin, self.width)],
            )
        finish(cursor, "groups", "activities", proxies=work.proxies, stretches=[_EVER], met="met")

    def _view(self, parts: Sequence[Path]) -> None:
        """Make the view ``events`` over some parts."""
        self._live.execute(f"CREATE OR REPLACE TEMP VIEW events AS {Lake.relation([*parts])}")


def _floor(time: datetime, width: timedelta) -> datetime:
    return _EVER[0] + (time - _EVER[0]) // width * width
