"""The witness of one cluster: what it has heard, and what it makes of it.

Events are heard once, as groups (``activity.grouping``). Groups of slots that are not over are kept
at hand; activity of the others is in the archive. From time to time all is judged by a process of
its own (``service.judging``); it then hears what comes, and judges that at once by what it learnt.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import duckdb

from kubewitness.activity.grouping import group, merged
from kubewitness.activity.rollup import finish, found_proxies, slot_width
from kubewitness.config.settings import Detection as Settings
from kubewitness.events.normalisation import quoted
from kubewitness.incidents.model import Incident
from kubewitness.lake.day import replaced
from kubewitness.lake.store import Lake
from kubewitness.report.inert import plain
from kubewitness.service.archive import Archive, Standing
from kubewitness.service.judgement import EVER, Task, floor
from kubewitness.service.judging import Judging

logger = logging.getLogger(__name__)

# The last stage of a request may come long after the slot in which the request was received.
CLOSE_AFTER = timedelta(hours=2)
# How far clocks may be apart: what is later is of a clock that runs ahead.
SOON = timedelta(days=1)
# Who was met from where: no more than this, however many addresses a stranger makes up.
MET = 500_000
_MICROSECOND = timedelta(microseconds=1)


class Witness:
    """``database`` is the engine that all witnesses share; each has a schema of its own in it. What
    is to be judged is set apart in ``scratch``."""

    def __init__(
        self,
        cluster: str,
        lake: Lake,
        database: duckdb.DuckDBPyConnection,
        settings: Settings,
        scratch: Path,
    ) -> None:
        self.cluster = cluster
        self._lake = lake
        self._archive = Archive(lake, cluster)
        self._settings = settings
        self._scratch = scratch
        self._live = database.cursor()
        ((number,),) = self._live.execute("SELECT count(*) FROM duckdb_schemas()").fetchall()
        self._live.execute(f"CREATE SCHEMA witness_{number}")
        self._live.execute(f"USE memory.witness_{number}")
        # Who hears what comes, and who is to follow.
        self._judge: Judging | None = None
        self._judging: Judging | None = None
        self._traced: tuple[Incident, ...] = ()
        # Slots that late events belong to, since the last snapshot.
        self._late: set[datetime] = set()
        self._make_tables()
        self.standing = self._archive.restore(self._live) or self._from_nothing()

    @property
    def width(self) -> timedelta:
        """Of a slot."""
        return timedelta(seconds=self.standing.width)

    def catch_up(self) -> tuple[Incident, ...]:
        """Hear what the lake holds and was not heard yet, whoever added it; returns as ``hear``.

        At the first start that is all of it, of which nothing is judged if it is long enough to
        learn from."""
        learning = self.standing.last is None
        try:
            return self._learn_all() if learning else self._hear_all()
        except Exception as error:
            if learning:
                self.standing = self._from_nothing()
            # Who reads a part first may find that it is damaged.
            if not isinstance(error, duckdb.Error) or not self._set_aside(self._unheard()):
                raise
        return self.catch_up()

    def _hear_all(self) -> tuple[Incident, ...]:
        by_day = groupby(self._unheard(), key=lambda part: part.parent.name)
        return tuple(one for _, of_a_day in by_day for one in self.hear(list(of_a_day)))

    def _learn_all(self) -> tuple[Incident, ...]:
        self._learn(self._unheard())
        standing = self.standing
        if standing.first and standing.last and self._enough(standing.last - standing.first):
            standing.since = standing.last + _MICROSECOND
        # From when on to judge is decided once.
        self.save()
        return ()

    def hear(self, parts: Sequence[Path]) -> tuple[Incident, ...]:
        """Hear new parts of the lake; returns the alerts that they opened or made grow."""
        self._hear(parts)
        return self._tell("fresh")

    def snapshot(self) -> Judging:
        """Set apart what is to be judged now, and end the slots that are over. Raises ``LakeError``
        where the disk is full or not writable."""
        live, standing = self._live, self.standing
        self._widen()
        live.execute(f"CREATE OR REPLACE TABLE groups AS {merged('groups')}")
        live.execute(
            f"""CREATE OR REPLACE TABLE met AS
            SELECT principal, "groups", source_ips, min(first) AS first, max(last) AS last
            FROM met GROUP BY ALL ORDER BY last DESC LIMIT {MET}"""
        )
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        try:
            for table in ("groups", "met"):
                self._copy(table, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        late = frozenset(standing.unfinished)
        ended = self._end_slots()
        standing.unfinished |= ended
        self._late.clear()
        live.execute("DELETE FROM groups WHERE slot < ?", [standing.closed or EVER[0]])
        live.execute("CREATE OR REPLACE TABLE recent AS FROM groups WHERE false")
        history = timedelta(seconds=self._settings.history)
        task = Task(
            cluster=self.cluster,
            lake=str(self._lake.root.absolute()),
            folder=str(folder),
            width=self.width,
            begin=EVER[0] if standing.last is None else standing.last - history,
            end=standing.last or EVER[1],
            since=self._judged_since(),
            ended=ended,
            late=late,
            answered=standing.answered,
            before=frozenset(standing.proxies),
            traced=self._traced,
        )
        self._judging = Judging(task)
        return self._judging

    def adopt(self, work: Judging) -> tuple[Incident, ...]:
        """Go on with a new verdict; returns the alerts of what was heard meanwhile."""
        task, verdict = work.task, work.verdict
        assert verdict is not None
        standing = self.standing
        standing.unfinished -= task.ended | task.late
        standing.unfinished |= self._late
        standing.proxies = set(verdict.proxies)
        self._traced = tuple(one for one in verdict.incidents if one.alert)
        self.dismiss()
        self._judging = None
        if task.since is None:
            # Nobody knows yet what is usual.
            work.end()
            return ()
        self._judge = work
        return self._tell("recent")

    def abandon(self, work: Judging) -> None:
        """Forget a judgement that failed; what it should have archived is made from the lake."""
        self._judging = None
        work.end()

    def dismiss(self) -> None:
        """End who hears what comes: until the next judgement, nothing is judged at once."""
        if self._judge is not None:
            self._judge.end()
        self._judge = None

    def mend(self) -> None:
        """After a judgement that failed: look for what is damaged, and have it made again."""
        days = {f"date={slot.date()}" for slot in self.standing.unfinished}
        self._set_aside([part for part in self._archive.parts() if part.parent.name in days])
        self.standing.unfinished |= self._archive.mend(self._live, self.width, thoroughly=True)

    def _set_aside(self, parts: Sequence[Path]) -> bool:
        """Whether some of these parts were damaged, and are no longer in the way."""
        warnings = self._lake.set_damaged_aside(self._live, thoroughly=parts)
        for warning in warnings:
            logger.warning("%s", plain(warning))
        return bool(warnings)

    def merged(self, part: Path) -> None:
        """Some parts that were heard have become this one."""
        self.standing.heard.add(part.name)

    def save(self) -> None:
        """Keep where it stands. Raises ``LakeError`` where the disk is full or not writable."""
        self._unheard()
        self.standing.heard &= {part.name for part in self._archive.parts()}
        self._archive.save(self.standing, self._live)

    def _unheard(self) -> list[Path]:
        """The parts that hold something new."""
        heard = self.standing.heard
        parts = [part for part in self._archive.parts() if part.name not in heard]
        # What others were merged into has nothing new.
        heard.update(part.name for part in parts if replaced(part) and replaced(part) <= heard)
        return [part for part in parts if part.name not in heard]

    def _enough(self, span: timedelta) -> bool:
        return span >= timedelta(seconds=self._settings.learn)

    def _make_tables(self) -> None:
        self._view([])
        group(self._live, width=timedelta(hours=1), into="fresh")
        self._live.execute("CREATE OR REPLACE TABLE groups AS FROM fresh")
        self._live.execute(
            """CREATE OR REPLACE TABLE met AS
            SELECT principal, "groups", source_ips, first, last FROM fresh"""
        )

    def _from_nothing(self) -> Standing:
        self._archive.forget()
        self._make_tables()
        return Standing(width=int(slot_width(EVER[0], EVER[0]).total_seconds()))

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
            finish(self._live, "fresh", "past", proxies=proxies, stretches=[EVER], met="met")
            self._archive.put(self._live, "past", slots, self.width)
        self._live.execute("DROP TABLE IF EXISTS past")

    def _hear(self, parts: Sequence[Path]) -> None:
        """Group the events of ``parts`` as the table ``fresh``, and remember them."""
        live, standing = self._live, self.standing
        self._view(parts)
        live.execute("DROP TABLE IF EXISTS fresh")
        answered = [self.cluster] if standing.answered else []
        group(live, width=self.width, into="fresh", answered=answered)
        ((first, last, answers),) = live.execute(
            "SELECT min(first), max(last), bool_or(answer <> '') FROM fresh"
        ).fetchall()
        late = set()
        if first is not None:
            closed = standing.closed or EVER[0]
            late = {slot for slot in self._slots("fresh") if slot < closed}
            self._remember(closed)
            standing.first = min(filter(None, (standing.first, first)))
            standing.last = _present(standing.last, first, last)
            standing.answered |= answers
        standing.unfinished |= late
        self._late |= late
        standing.heard.update(part.name for part in parts)

    def _remember(self, closed: datetime) -> None:
        """Keep the groups in ``fresh`` of slots that are not over, all of it or nothing."""
        live = self._live
        live.begin()
        try:
            live.execute("INSERT INTO groups BY NAME FROM fresh WHERE slot >= ?", [closed])
            if self._judging is not None:
                live.execute("INSERT INTO recent BY NAME FROM fresh")
            live.execute(
                """INSERT INTO met BY NAME
                SELECT principal, "groups", source_ips, min(first) AS first, max(last) AS last
                FROM fresh GROUP BY ALL"""
            )
            live.commit()
        except BaseException:
            live.rollback()
            raise

    def _tell(self, groups: str) -> tuple[Incident, ...]:
        """What is made of a table of groups at once."""
        judge = self._judge
        if judge is None:
            return ()
        assert judge.verdict is not None
        live = self._live
        live.execute("DROP TABLE IF EXISTS arrivals")
        finish(live, groups, "arrivals", proxies=judge.verdict.proxies, stretches=[EVER], met="met")
        return judge.hear(self._copy("arrivals", Path(judge.task.folder)))

    def _copy(self, table: str, folder: Path) -> Path:
        """A table as a file."""
        path = folder / f"{table}.parquet"
        with self._lake.writing():
            self._live.execute(f"COPY {table} TO {quoted(str(path))} (FORMAT parquet)")
        return path

    def _over_at(self, last: datetime) -> datetime:
        """Slots before this are over. A clock that runs ahead ends none before its time."""
        now = min(last, _now())
        return floor(now - CLOSE_AFTER, self.width)

    def _end_slots(self) -> frozenset[datetime]:
        """The slots of groups that are over now."""
        standing = self.standing
        if standing.last is None:
            return frozenset()
        closed = self._over_at(standing.last)
        if standing.closed is None or closed > standing.closed:
            standing.closed = closed
        return frozenset(slot for slot in self._slots("groups") if slot < standing.closed)

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
        standing.unfinished = {floor(slot, width) for slot in old}
        if standing.closed is not None:
            # What is over of a wider slot is no longer at hand: the lake has all of it.
            standing.closed = floor(standing.closed + width - _MICROSECOND, width)
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
        return max(standing.since, floor(standing.last - half, day))

    def _view(self, parts: Sequence[Path]) -> None:
        """Make the view ``events`` over some parts."""
        self._live.execute(f"CREATE OR REPLACE TEMP VIEW events AS {Lake.relation([*parts])}")


def _present(known: datetime | None, first: datetime, last: datetime) -> datetime:
    """How far a log has come that had come to ``known``, with events from ``first`` to ``last``.

    What a clock that runs ahead says is no reason to forget the present; a log that is of another
    time altogether is taken as it comes.
    """
    soon = _now() + SOON
    if first <= soon:
        return max(min(known or first, soon), min(last, soon))
    return first if known is None else known if known <= soon else max(known, first)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
