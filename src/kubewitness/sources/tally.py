"""What was read, what was passed over and why: nothing in a source vanishes uncounted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

PLACES = 5
"""Places that are named of one reason in one source."""

REASONS = 1000
"""Different reasons, over all sources, that are told apart: some quote a kind from the input."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """How many lines of ``source`` were no audit events for ``reason``, and the first places."""

    source: str
    reason: str
    n: int
    places: tuple[str, ...]


@dataclass(slots=True)
class _Ledger:
    """Counts and first places by (source, reason)."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    places: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, source: str, reason: str, line: int) -> None:
        key = (source, reason)
        if key not in self.counts and len(self.counts) >= REASONS:
            key = (source, "other reasons")
        self.counts[key] += 1
        places = self.places.setdefault(key, [])
        if len(places) < PLACES:
            places.append(f"{source}:{line}")

    def rejections(self) -> tuple[Rejection, ...]:
        return tuple(
            Rejection(source, reason, n, tuple(self.places[source, reason]))
            for (source, reason), n in self.counts.most_common()
        )


class Tally:
    """Counts of one run. A line is whatever could have been one event: a line or a JSON value.

    ``lines == events + len(skipped) + len(broken)``, the latter two counted with their ``n``.
    """

    def __init__(self) -> None:
        self.sources = 0
        self.events = 0
        self._skipped = _Ledger()
        self._broken = _Ledger()
        self._mended: Counter[str] = Counter()
        self._mended_at: dict[str, str] = {}
        self._warnings: list[str] = []

    @property
    def lines(self) -> int:
        return self.events + self.rejected

    @property
    def rejected(self) -> int:
        """Lines that gave no event: what ``--strict`` does not accept."""
        return self._skipped.counts.total() + self._broken.counts.total()

    @property
    def skipped(self) -> tuple[Rejection, ...]:
        """Understood and no audit events."""
        return self._skipped.rejections()

    @property
    def broken(self) -> tuple[Rejection, ...]:
        """Not understood; the quarantine has them."""
        return self._broken.rejections()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sources that could not be read to the end, then fields that had to be mended."""
        mended = (
            f"{note} (events: {n}, first at {self._mended_at[note]})"
            for note, n in self._mended.most_common()
        )
        return (*self._warnings, *mended)

    def skip(self, source: str, reason: str, line: int) -> None:
        self._skipped.add(source, reason, line)

    def breaks(self, source: str, reason: str, line: int) -> None:
        self._broken.add(source, reason, line)

    def mend(self, source: str, notes: tuple[str, ...], line: int) -> None:
        for note in notes:
            self._mended[note] += 1
            self._mended_at.setdefault(note, f"{source}:{line}")

    def warn(self, warning: str) -> None:
        if warning not in self._warnings:
            self._warnings.append(warning)
