"""What is too old goes, by whole days: events, activity, and what lies in quarantine.

    LAKE/events/cluster=NAME/date=YYYY-MM-DD/
    LAKE/objects/cluster=NAME/date=YYYY-MM-DD/
    LAKE/activity/cluster=NAME/date=YYYY-MM-DD/

A day's age is counted from the newest day that any cluster has in the lake, or from today if that
is earlier: a clock that alone runs ahead deletes nothing, and neither does an event of the year
2099.
"""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from kubewitness.lake.locks import alone
from kubewitness.lake.store import GOES_ON, Lake

log = logging.getLogger(__name__)

QUARANTINE_BYTES = 1 << 30
_IN_USE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Expired:
    """What went: a path in the lake, and its size in files and bytes."""

    path: Path
    files: int
    size: int


def expire(
    lake: Lake,
    *,
    events: timedelta,
    activity: timedelta,
    quarantine: int = QUARANTINE_BYTES,
    now: datetime | None = None,
) -> list[Expired]:
    """Delete days of events that ended longer than ``events`` ago, of activity than ``activity``,
    and of the quarantine what is older than ``events`` or beyond ``quarantine`` bytes.

    A day disappears at once for whoever lists the lake; who is reading it loses it, and begins
    anew (``Lake.outdated``). Raises ``LakeError`` where nothing may be deleted.
    """
    now = now or datetime.now(UTC)
    gone = []
    with lake.writing(GOES_ON), alone(lake.root):
        roots = {lake.events: events, lake.objects: events, lake.root / "activity": activity}
        days = {root: dict(_days(root)) for root in roots}
        newest = max((day for found in days.values() for day in found.values()), default=None)
        today = min(now.date(), newest or now.date())
        for root, kept in roots.items():
            # A day is over when the next begins, and its age is that of its end.
            old = [folder for folder, day in days[root].items() if today - day > kept]
            gone += [_deleted(folder, lake) for folder in old]
        gone += _emptied(lake, oldest=today - events, most=quarantine)
    return gone


def _days(root: Path) -> Iterator[tuple[Path, date]]:
    for folder in sorted(root.glob("cluster=*/date=*/")):
        with suppress(ValueError):
            yield folder, date.fromisoformat(folder.name.removeprefix("date="))


def _deleted(folder: Path, lake: Lake) -> Expired:
    """Out of the way by one rename; what a killed process leaves of it in staging is cleared."""
    sizes = []
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if file.is_file():
                sizes.append(file.stat().st_size)
    lake.staging.mkdir(exist_ok=True)
    away = lake.staging / f"expired-{uuid.uuid4().hex}"
    with alone(lake.events):
        folder.rename(away)
        with suppress(OSError):  # other days are left
            folder.parent.rmdir()
    shutil.rmtree(away, ignore_errors=True)
    return _told(Expired(folder, len(sizes), sum(sizes)), lake)


def _emptied(lake: Lake, *, oldest: date, most: int) -> Iterator[Expired]:
    """Delete files of the quarantine from before ``oldest``, and the oldest until ``most`` bytes
    are left; none that may be written to."""
    found = (file for file in lake.quarantine.glob("*") if file.is_file())
    files = sorted((file.stat().st_mtime, file) for file in found)
    left = sum(file.stat().st_size for _, file in files)
    for written, file in files:
        if time.time() - written < _IN_USE.total_seconds():
            break
        if left > most or datetime.fromtimestamp(written, UTC).date() < oldest:
            size = file.stat().st_size
            file.unlink()
            left -= size
            yield _told(Expired(file, 1, size), lake)


def _told(gone: Expired, lake: Lake) -> Expired:
    path = gone.path.relative_to(lake.root)
    log.info("deleted %s: %d files, %d bytes", path, gone.files, gone.size)
    return gone
