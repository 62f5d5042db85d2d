"""How large something usually is at most, learnt as it comes."""

from __future__ import annotations

import msgspec

WEEK = 7 * 86_400.0

# The longest of n pauses between things that come by chance, times four, is exceeded by the next
# one about 24 times in n⁴: never, for what was seen some dozens of times.
TIMES = 4.0


class Usual(msgspec.Struct, array_like=True):
    """The largest value of late: ``most`` halves every week unless it is seen again.

    ``n`` values were learnt, the last at ``at`` (unix seconds).
    """

    most: float = 0.0
    n: int = 0
    at: float = 0.0

    def learn(self, value: float, at: float, *, told: bool = False, half: float = WEEK) -> None:
        """``told``: the value was found to be out of the usual. Only some of it is learnt then, so
        that one outage does not hide the next, and what comes every night is told a few times."""
        if told:
            value = min(value, 2 * TIMES * self.most)
        faded = self.most * 0.5 ** (max(at - self.at, 0.0) / half)
        self.most = max(value, faded)
        self.at = max(at, self.at)
        self.n += 1

    def limit(self, least: float) -> float:
        """From where on a value is out of the usual; ``least`` at any rate."""
        return max(least, TIMES * self.most)
