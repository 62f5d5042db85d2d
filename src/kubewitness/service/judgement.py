"""A judgement of all that a witness has heard, as ``kubewitness analyze --since`` would judge it,
and of what is heard after it, by what was learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
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

Extent: TypeAlias = tuple[str, datetime, int]
"""Which incident, and how far it had grown."""


def floor(time: datetime, width: timedelta) -> datetime:
    """The beginning of the slot that a time lies in."""
    return EVER[0] + (time - EVER[0]) // width * width


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be judged of a cluster: the archive in the lake at ``lake``, and what was set
    apart in ``folder``, ``groups.parquet`` (of slots that are not in the archive) and
    ``met.parquet``.

    Rows from ``begin`` to ``end`` are judged by, what opens at or after ``since`` is told; where
    that is None, the cluster is only learnt. ``width``: of a slot. ``ended``: slots whose groups
    are here for the archive, ``late``: slots that have to be made again from the lake.
    ``answered``: whether the log has answers. ``before``: what was taken for proxies until now.
    ``traced``: alerts whose causes are known.
    """

    cluster: str
    lake: str
    folder: str
    width: timedelta
    begin: datetime
    end: datetime
    since: datetime | None
    ended: frozenset[datetime]
    late: frozenset[datetime]
    answered: bool
    before: frozenset[str]
    traced: tuple[Incident, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """``incidents`` are those of ``detection``, alerts among them with their cause, their reach and
    what would have prevented them. ``proxies``: what is taken for proxies from now on."""

    proxies: frozenset[str]
    detection: Detection = Detection("history and test", (), 0.0, ())
    incidents: tuple[Incident, ...] = ()


class Judgement:
    """Of one task, in a ``connection`` that nobody else uses."""

    def __init__(self, task: Task, connection: duckdb.DuckDBPyConnection) -> None:
        self._task = task
        self._connection = connection
        self._archive = Archive(Lake(Path(task.lake), durable=True), task.cluster)
        self._judge: Judge | None = None

    def reach(self) -> Verdict:
        """Judge; with a ``since``, arrivals can be heard from then on. Raises ``LakeError`` where
        the archive cannot be written."""
        task, connection = self._task, self._connection
        for name in ("groups", "met"):
            kept = Archive.relation([Path(task.folder) / f"{name}.parquet"])
            connection.execute(f"CREATE TABLE {name} AS FROM {kept}")
        self._proxies = found_proxies(connection, "met")
        self._end_slots()
        self._gather()
        table = load(connection, task.cluster)
        connection.execute("DROP TABLE groups")
        connection.execute("CREATE TABLE arrivals AS FROM activities WHERE false")
        connection.execute("DROP TABLE activities")
        if not len(table):
            return Verdict(self._proxies)
        since = task.since and task.since.replace(tzinfo=UTC)
        ahead = AHEAD if since else 0
        judge = Judge(connection, task.cluster, table, since=since, ahead=ahead)
        if since:
            self._judge = judge
        detection = judge.detection()
        return Verdict(self._proxies, detection, self._caused(detection.incidents))

    def hear(self, arrivals: Path) -> tuple[Incident, ...]:
        """The alerts that some activity, a Parquet file, opened or made grow."""
        if self._judge is None:
            return ()
        arrived = Archive.relation([arrivals])
        self._connection.execute("DELETE FROM arrivals")
        self._connection.execute(f"INSERT INTO arrivals BY NAME FROM {arrived}")
        return self._judge.hear()

    def _finish(self, groups: str, into: str) -> None:
        """Add the activity in a table of groups to another."""
        finish(self._connection, groups, into, proxies=self._proxies, stretches=[EVER], met="met")

    def _end_slots(self) -> None:
        """Put the activity of slots that are over into the archive."""
        task, connection = self._task, self._connection
        again = set(task.late)
        if task.before != self._proxies:
            # Who speaks through a proxy had another address until now.
            again |= self._archive.slots(connection)
        slots = again | task.ended
        if not slots:
            return
        connection.execute(
            "CREATE TABLE over AS FROM groups WHERE slot IN (SELECT unnest(?::TIMESTAMP[]))",
            [sorted(task.ended - again)],
        )
        connection.execute(
            "DELETE FROM groups WHERE slot IN (SELECT unnest(?::TIMESTAMP[]))", [sorted(slots)]
        )
        if again:
            self._group_again(again)
        self._finish("over", "past")
        self._archive.put(connection, "past", slots, task.width)
        connection.execute("DROP TABLE over")
        connection.execute("DROP TABLE past")

    def _group_again(self, slots: set[datetime]) -> None:
        """Add to the table ``over`` the groups of some slots, from the events in the lake."""
        task, connection = self._task, self._connection
        first, last = min(slots), max(slots) + task.width
        seconds = int(task.width.total_seconds())
        connection.execute(
            f"""CREATE OR REPLACE TEMP VIEW events AS
            SELECT * FROM ({Lake.relation(self._archive.parts(first))})
            WHERE received_at >= TIMESTAMP '{first}' AND received_at < TIMESTAMP '{last}'
                AND time_bucket(INTERVAL '{seconds} seconds', received_at)
                    IN ({", ".join(f"TIMESTAMP '{slot}'" for slot in sorted(slots))})"""
        )
        answered = [task.cluster] if task.answered else []
        group(connection, width=task.width, into="again", answered=answered)
        connection.execute(f"INSERT INTO over BY NAME {merged('again')}")
        connection.execute("DROP TABLE again")
        connection.execute("DROP VIEW events")

    def _gather(self) -> None:
        """The table ``activities`` of all that is judged by."""
        task, connection = self._task, self._connection
        days = self._archive.days(task.begin)
        if days:
            connection.execute(
                f"CREATE TABLE activities AS FROM {Archive.relation(days)} WHERE slot >= ?",
                [floor(task.begin, task.width)],
            )
        self._finish("groups", "activities")
        # Of a clock that runs ahead: they would make weeks of an hour.
        connection.execute("DELETE FROM activities WHERE first > ?", [task.end])

    def _caused(self, found: Sequence[Incident]) -> tuple[Incident, ...]:
        """The incidents, with the causes of alerts that are new or have grown."""
        known = {_extent(one): one for one in self._task.traced}
        asked = [one for one in found if one.alert and _extent(one) not in known]
        if asked:
            since = min(one.opened_at for one in asked) - CAUSED_WITHIN
            parts = self._archive.parts(since.replace(tzinfo=None))
            known.update((_extent(one), one) for one in self._traced(asked, parts))
        return tuple(_with_cause(one, known.get(_extent(one))) for one in found)

    def _traced(self, asked: Sequence[Incident], parts: Sequence[Path]) -> list[Incident]:
        """The causes of incidents, read from some parts of the lake."""
        self._archive.attach(self._connection, parts)
        try:
            return traced(self._connection, asked)
        except duckdb.Error:
            if not self._archive.disarrange(self._connection, parts):
                raise
        self._archive.attach(self._connection, parts)
        return traced(self._connection, asked)


def _extent(incident: Incident) -> Extent:
    return (incident.id, incident.updated_at, len(incident.evidence))


def _with_cause(incident: Incident, known: Incident | None) -> Incident:
    if known is None or not incident.alert:
        return incident
    return msgspec.structs.replace(
        incident,
        cause=known.cause,
        reach=known.reach,
        prevention=known.prevention,
        considered=known.considered,
    )


def all_of(incidents: Sequence[Incident], later: Sequence[Incident]) -> list[Incident]:
    """Each incident once, as it was found later."""
    known = {one.id: one for one in incidents}
    return [*(known | {one.id: one for one in later}).values()]
