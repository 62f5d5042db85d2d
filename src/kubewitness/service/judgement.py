"""A judgement of all that a witness has heard, as ``kubewitness analyze --since`` would judge it.

It works on what was set apart for it, in a thread of its own, while the witness goes on hearing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import duckdb
import msgspec

from kubewitness.activity.grouping import group, merged
from kubewitness.activity.rollup import finish, found_proxies
from kubewitness.activity.table import load
from kubewitness.incidents.detection import Detection, Judge
from kubewitness.incidents.model import Incident
from kubewitness.incidents.tracing import traced
from kubewitness.lake.store import Lake
from kubewitness.service.archive import Archive

# Slices of time that a judge can hear beyond those that it has learnt.
AHEAD = 64
# Causes are looked for in the days before an incident opened, too.
CAUSED_WITHIN = timedelta(days=2)
# Times are UTC without a zone, as in the lake.
EVER = (datetime(1970, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001
_NOTHING = Detection("history and test", (), 0.0, ())

Extent: TypeAlias = tuple[str, datetime, int]
"""Which incident, and how far it had grown."""


def floor(time: datetime, width: timedelta) -> datetime:
    """The beginning of the slot that a time lies in."""
    return EVER[0] + (time - EVER[0]) // width * width


@dataclass(slots=True)
class Judgement:
    """Of one cluster, in the schema ``schema`` of ``database``, which has the tables ``groups``
    (of slots that are not in the archive) and ``met``.

    Rows from ``begin`` to ``end`` are judged by, what opens at or after ``since`` is told; where
    that is None, the cluster is only learnt. ``ended``: slots whose groups are here for the
    archive, ``late``: slots that have to be made again from the lake. ``before``: what was taken
    for proxies until now. ``traced``: alerts whose causes are known.
    """

    cluster: str
    schema: str
    database: duckdb.DuckDBPyConnection
    archive: Archive
    width: timedelta
    begin: datetime
    end: datetime
    since: datetime | None
    ended: frozenset[datetime]
    late: frozenset[datetime]
    answered: bool
    before: frozenset[str]
    traced: Mapping[Extent, Incident] = field(default_factory=dict)

    proxies: frozenset[str] = frozenset()
    detection: Detection = _NOTHING
    incidents: tuple[Incident, ...] = ()
    judge: Judge | None = None

    def reach(self) -> Judgement:
        """Judge. ``incidents`` are those of ``detection``, alerts among them with their cause,
        their reach and what would have prevented them; ``judge`` can go on from here."""
        cursor = self.database.cursor()
        cursor.execute(f"USE {self.schema}")
        self.proxies = found_proxies(cursor, "met")
        self._end_slots(cursor)
        self._gather(cursor)
        table = load(cursor, self.cluster)
        cursor.execute("DROP TABLE activities")
        if len(table):
            since = self.since and self.since.replace(tzinfo=UTC)
            ahead = AHEAD if since else 0
            judge = Judge(cursor, self.cluster, table, since=since, ahead=ahead)
            self.detection = judge.detection()
            self.incidents = self._caused(cursor)
            self.judge = judge if since else None
        return self

    def finish(self, cursor: duckdb.DuckDBPyConnection, groups: str, into: str) -> None:
        """Add the activity in a table of groups to another."""
        finish(cursor, groups, into, proxies=self.proxies, stretches=[EVER], met="met")

    def _end_slots(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Put the activity of slots that are over into the archive."""
        again = set(self.late)
        if self.before != self.proxies:
            # Who speaks through a proxy had another address until now.
            again |= self.archive.slots(cursor)
        slots = again | self.ended
        if not slots:
            return
        cursor.execute(
            "CREATE TABLE over AS FROM groups WHERE slot IN (SELECT unnest(?::TIMESTAMP[]))",
            [sorted(self.ended - again)],
        )
        cursor.execute(
            "DELETE FROM groups WHERE slot IN (SELECT unnest(?::TIMESTAMP[]))", [sorted(slots)]
        )
        if again:
            self._group_again(cursor, again)
        self.finish(cursor, "over", "past")
        self.archive.put(cursor, "past", slots)
        cursor.execute("DROP TABLE over")
        cursor.execute("DROP TABLE past")

    def _group_again(self, cursor: duckdb.DuckDBPyConnection, slots: set[datetime]) -> None:
        """Add to the table ``over`` the groups of some slots, from the events in the lake."""
        first, last = min(slots), max(slots) + self.width
        seconds = int(self.width.total_seconds())
        cursor.execute(
            f"""CREATE OR REPLACE TEMP VIEW events AS
            SELECT * FROM ({Lake.relation(self.archive.parts(first))})
            WHERE received_at >= TIMESTAMP '{first}' AND received_at < TIMESTAMP '{last}'
                AND time_bucket(INTERVAL '{seconds} seconds', received_at)
                    IN ({", ".join(f"TIMESTAMP '{slot}'" for slot in sorted(slots))})"""
        )
        answered = [self.cluster] if self.answered else []
        group(cursor, width=self.width, into="again", answered=answered)
        cursor.execute(f"INSERT INTO over BY NAME {merged('again')}")
        cursor.execute("DROP TABLE again")
        cursor.execute("DROP VIEW events")

    def _gather(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """The table ``activities`` of all that is judged by."""
        days = self.archive.days(self.begin)
        if days:
            cursor.execute(
                f"CREATE TABLE activities AS FROM {Archive.relation(days)} WHERE slot >= ?",
                [floor(self.begin, self.width)],
            )
        self.finish(cursor, "groups", "activities")
        # Of a clock that runs ahead: they would make weeks of an hour.
        cursor.execute("DELETE FROM activities WHERE first > ?", [self.end])

    def _caused(self, cursor: duckdb.DuckDBPyConnection) -> tuple[Incident, ...]:
        """The incidents, with the causes of alerts that are new or have grown."""
        found = self.detection.incidents
        known = {_extent(one): self.traced.get(_extent(one)) for one in found if one.alert}
        asked = [one for one in found if one.alert and known[_extent(one)] is None]
        if asked:
            since = min(one.opened_at for one in asked) - CAUSED_WITHIN
            parts = self.archive.parts(since.replace(tzinfo=None))
            cursor.execute(f"CREATE TEMP VIEW events AS {Lake.relation(parts)}")
            known.update((_extent(one), one) for one in traced(cursor, asked))
            cursor.execute("DROP VIEW events")
        self.traced = {extent: one for extent, one in known.items() if one is not None}
        return tuple(_with_cause(one, self.traced.get(_extent(one))) for one in found)


def _extent(incident: Incident) -> Extent:
    return (incident.id, incident.updated_at, len(incident.evidence))


def _with_cause(incident: Incident, known: Incident | None) -> Incident:
    if known is None or not incident.alert:
        return incident
    return msgspec.structs.replace(
        incident, cause=known.cause, reach=known.reach, prevention=known.prevention
    )


def all_of(incidents: Sequence[Incident], later: Sequence[Incident]) -> list[Incident]:
    """Each incident once, as it was found later."""
    known = {one.id: one for one in incidents}
    return [*(known | {one.id: one for one in later}).values()]
