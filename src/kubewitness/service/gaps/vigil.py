"""The witness watches its own sight: all clusters, what opened and what closed."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from kubewitness.report.wording import duration
from kubewitness.service.gaps.cluster import Cluster
from kubewitness.service.gaps.model import Finding, Gap
from kubewitness.service.gaps.survey import Survey

WAITS = 60.0
"""Seconds that accepted events may wait to be stored."""
ABSENT = 60.0
"""Seconds without a look at what changed that are no pause of the log's."""
MOST = 1000
"""Clusters that are watched; a log may name any number."""


class _Saved(msgspec.Struct):
    """What is known of one cluster, and when it was looked at last."""

    version: int
    looked: float
    cluster: Cluster
    open: dict[str, tuple[Gap, float]]


_VERSION = 2


class Vigil:
    """Notices when the log shows less than it did.

    Feed it what ``survey`` says of each chunk (``observe``) and ask for ``changes`` every few
    seconds, chunks or not. Its state (``saved``) grows with clusters, nodes and kinds of request,
    up to fixed bounds, and not with events or time.
    """

    def __init__(self) -> None:
        self._looked = 0.0
        self._clusters: dict[str, Cluster] = {}
        self._open: dict[str, tuple[Gap, float]] = {}
        self._waits = 0.0
        self._told: list[Gap] = []

    def saved(self) -> dict[str, bytes]:
        """By cluster, all that is known of it, for ``restore``."""
        open_: dict[str, dict[str, tuple[Gap, float]]] = defaultdict(dict)
        for key, (gap, last) in self._open.items():
            open_[gap.cluster][key] = gap, last
        return {
            name: msgspec.msgpack.encode(_Saved(_VERSION, self._looked, cluster, open_[name]))
            for name, cluster in self._clusters.items()
        }

    def restore(self, cluster: str, saved: bytes) -> None:
        """Go on with ``cluster`` where it was ``saved``.

        Raises ``ValueError`` when ``saved`` is damaged or of another version: it begins anew then.
        """
        try:
            known = msgspec.msgpack.decode(saved, type=_Saved)
        except msgspec.MsgspecError as error:
            raise ValueError("the saved state of the gaps is damaged") from error
        if known.version != _VERSION:
            raise ValueError(f"the saved state of the gaps has version {known.version}")
        self._looked = max(self._looked, known.looked)
        self._clusters[cluster] = known.cluster
        self._open |= known.open

    @property
    def open(self) -> list[Gap]:
        """The gaps that are there now, the oldest first."""
        gaps = (gap for gap, _ in self._open.values())
        return sorted(gaps, key=lambda gap: (gap.since, gap.id))

    @property
    def late(self) -> int:
        """Events that came after the minute they belong to was closed."""
        return sum(cluster.late for cluster in self._clusters.values())

    def skews(self) -> dict[str, float]:
        """By cluster, how many seconds its clock is ahead of ours, as far as that can be seen: a
        clock that is behind looks like a delay."""
        return {
            name: max(-cluster.clocks[""].lag, 0.0)
            for name, cluster in self._clusters.items()
            if "" in cluster.clocks and not math.isnan(cluster.clocks[""].lag)
        }

    def arrived(self) -> dict[str, tuple[float, float]]:
        """By cluster, when events last arrived, and how old the newest of all was then."""
        return {
            name: (cluster.arrived, max(cluster.arrived - cluster.newest, 0.0))
            for name, cluster in self._clusters.items()
        }

    def surveyed(self) -> dict[str, float]:
        """By cluster, the time of the newest event that was taken in."""
        return {name: cluster.newest for name, cluster in self._clusters.items()}

    def observe(self, survey: Survey, received: float, *, before: bool = False) -> None:
        """Take in a chunk that arrived here at ``received`` (unix seconds), or some time ``before``
        that."""
        sightings, marks = defaultdict(list), defaultdict(list)
        for seen in survey.sightings:
            sightings[seen.cluster].append(seen)
        for mark in survey.marks:
            marks[mark.cluster].append(mark)
        clusters = self._clusters
        for name, its in sightings.items():
            if name in clusters or len(clusters) < MOST:
                cluster = clusters.setdefault(name, Cluster())
                cluster.observe(its, marks[name], received, before=before)
                for hole in cluster.advance():
                    gap = _gap(name, hole)
                    self._told.append(msgspec.structs.replace(gap, until=_at(cluster.resumed)))

    def backlog(self, oldest: float, now: float) -> None:
        """What was accepted and waits to be stored, the oldest since ``oldest`` seconds."""
        if oldest <= WAITS:
            self._waits = 0.0
        elif not self._waits:
            self._waits = now - oldest

    def changes(self, now: float) -> list[Gap]:
        """The gaps that opened or ended since the last call, in order of time."""
        # Not asked for long: the process stood still, or the clock was set.
        if not 0 <= now - self._looked < ABSENT:
            for watched in self._clusters.values():
                watched.wake(now)
        self._looked = now
        before, self._open = self._open, {}
        for cluster, finding in self._found(now):
            key = "\0".join((cluster, finding.kind, finding.key))
            gap, last = _gap(cluster, finding), finding.last
            if old := before.pop(key, None):
                gap = msgspec.structs.replace(gap, id=old[0].id, since=old[0].since)
                last = max(last, old[1])
            else:
                self._told.append(gap)
            self._open[key] = gap, last
        self._told += [self._ended(gap, last, now) for gap, last in before.values()]
        told, self._told = self._told, []
        return sorted(told, key=lambda gap: (gap.until or gap.since, gap.id))

    def _found(self, now: float) -> Iterator[tuple[str, Finding]]:
        for name, cluster in self._clusters.items():
            for finding in cluster.judge(now):
                yield name, finding
        if self._waits:
            yield "", _waiting(self._waits, now)

    def _ended(self, gap: Gap, last: float, now: float) -> Gap:
        cluster = self._clusters.get(gap.cluster)
        why = gap.why
        if cluster is not None and gap.kind == "silence":
            lost = cluster.resumed > gap.since.timestamp()
            last = cluster.resumed if lost else cluster.newest
            why += "; nothing came of that time" if lost else "; its events came later"
        until = _at(last or (cluster.newest if cluster is not None else now))
        return msgspec.structs.replace(gap, why=why, until=max(until, gap.since))


def _waiting(since: float, now: float) -> Finding:
    return Finding(
        "backlog",
        "backlog",
        "medium",
        since,
        "Accepted events wait to be stored",
        "what happens now: incidents are found that much later",
        f"the oldest has waited for {duration(timedelta(seconds=now - since))}",
        "see kubewitness_chunk_duration_seconds and the log for errors of the lake; a burst is"
        " worked off by itself, a steady load that is too high is not",
    )


def _gap(cluster: str, found: Finding) -> Gap:
    named = f"{cluster}\0{found.kind}\0{found.key}\0{found.since}"
    return Gap(
        id=hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        kind=found.kind,
        cluster=cluster,
        severity=found.severity,
        since=_at(found.since),
        until=None,
        title=found.title,
        what=found.what,
        why=found.why,
        remedy=found.remedy,
        members=found.members,
    )


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
