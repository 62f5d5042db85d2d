"""Points in time as people write them on a command line, and slices of time in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"^(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$")


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant (``when``), or so long before the last event (``before``)."""

    when: datetime | None = None
    before: timedelta | None = None

    def at(self, last: datetime) -> datetime:
        """The instant, in a log whose last event is at ``last``."""
        if self.when is not None:
            return self.when
        before = self.before or timedelta()
        # So long ago that the calendar ends: before everything.
        return last - before if before < last - EARLIEST else EARLIEST


def moment(text: str) -> Moment:
    """Read RFC 3339, a date (midnight UTC), or a duration (``7d``, ``2h30m``), which counts back
    from the last event of the log. Raises ``ValueError`` for anything else.

    >>> moment("2026-03-16").when.isoformat(), moment("36h").before
    ('2026-03-16T00:00:00+00:00', datetime.timedelta(days=1, seconds=43200))
    """
    found = _DURATION.match(text.strip())
    if found and any(found.groups()):
        weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        try:
            return Moment(
                before=timedelta(
                    weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds
                )
            )
        except OverflowError as error:
            raise ValueError(f"{text!r} is too long a time") from error
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2026-03-16, 2026-03-16T08:00:00Z or a duration like 7d"
        ) from None
    if instant.tzinfo is None:
        return Moment(when=instant.replace(tzinfo=UTC))
    try:
        return Moment(when=instant.astimezone(UTC))
    except OverflowError as error:
        raise ValueError(f"{text!r} is out of the calendar") from error


def periods(n: int, unit: str, kind: str = "") -> str:
    """``n`` time slices.

    >>> periods(1, "day"), periods(7, "hour", "active"), periods(7, "5 minutes", "active")
    ('1 day', '7 active hours', '7 active periods of 5 minutes')
    """
    slices = f"period of {unit}" if unit[:1].isdigit() else unit
    noun, _, length = slices.partition(" ")
    return " ".join(filter(None, (str(n), kind, noun if n == 1 else f"{noun}s", length)))
