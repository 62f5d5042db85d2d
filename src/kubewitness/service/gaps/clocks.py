"""Clocks: the time an event says it happened, against the time it arrived."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

import msgspec

from kubewitness.report.inert import plain
from kubewitness.report.wording import duration
from kubewitness.service.gaps.model import Finding
from kubewitness.service.gaps.usual import Usual

WINDOW = 600.0
"""Seconds over which the best of all lags is taken: what is left of it is no delay on the way."""
SHORT = 60.0
PLENTY = 3
"""Arrivals in a window, and windows, before they say anything."""
AHEAD = 2.0
"""Seconds in the future that are no more than two clocks that NTP keeps."""
LEAST = 120.0


class Clock(msgspec.Struct):
    """What arrivals tell of the clock of a cluster or of one of its API servers.

    ``least``: the smallest lag of ``n`` arrivals since ``began``; ``lag``: that of the last window.
    ``usual``: what it is at most. ``told``: since when it is wrong, or 0.
    """

    began: float = 0.0
    least: float = math.inf
    n: int = 0
    lag: float = math.nan
    usual: Usual = msgspec.field(default_factory=Usual)
    told: float = 0.0

    @property
    def ahead(self) -> bool:
        """Whether events are of the future."""
        return self.told > 0 and self.lag < 0

    def arrive(self, newest: float, received: float) -> None:
        """Events arrived, the newest of them of ``newest``."""
        # What comes from the future needs no waiting for something better.
        window = WINDOW if self.least >= -AHEAD else SHORT
        if self.n >= PLENTY and received - self.began >= window:
            self._conclude(received)
        if not self.n:
            self.began = received
        self.n += 1
        self.least = min(self.least, received - newest)

    def _conclude(self, now: float) -> None:
        self.lag, self.least, self.n = self.least, math.inf, 0
        late = self.usual.n >= PLENTY and self.lag > self.usual.limit(LEAST)
        if self.lag < -AHEAD or late:
            self.told = self.told or self.began
        else:
            self.told = 0.0
        self.usual.learn(max(self.lag, 0.0), now, told=late)

    def judge(self, server: str) -> Iterator[Finding]:
        """What is wrong with the clock; of the whole cluster if ``server`` is ''."""
        if not self.told:
            return
        whose = f"API server {plain(server, 60)}" if server else "the API server"
        by = duration(timedelta(seconds=abs(self.lag)))
        if self.ahead:
            yield Finding(
                "clock",
                server,
                "medium",
                self.told,
                f"The clock of {whose} is {by} ahead",
                "when things happened, and what came before what",
                f"events are of a time up to {by} after they arrived here",
                "compare both clocks with a time server (chronyc tracking, timedatectl): either may"
                " be wrong",
            )
        else:
            yield Finding(
                "late",
                server,
                "medium",
                self.told,
                f"Events of {whose} arrive {by} late",
                "what happens now: incidents are found that much later",
                f"not one event of the last {duration(timedelta(seconds=WINDOW))} was less than"
                f" {by} old when it arrived, more than ever before",
                "if the API server's clock is right, something on the way holds events back: see"
                " the errors and the queue of the audit backend or the shipper",
            )
