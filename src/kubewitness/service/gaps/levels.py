"""The audit level: who used to be logged with bodies and is not any more.

The level is what the audit policy makes of user, verb, resource and namespace, so the same request
always has the same one: one that gets less than before is proof of another policy.
"""

from __future__ import annotations

import msgspec

from kubewitness.activity.principal import principal_class
from kubewitness.report.wording import plural
from kubewitness.service.gaps.model import Finding, listed
from kubewitness.service.gaps.survey import LEVELS, Sighting
from kubewitness.service.gaps.usual import WEEK

STEADY = 5
"""Minutes in which the same request had the same level before it is expected to."""
PLENTY = 5
"""Events below their level that are no exception for one name (resourceNames of a rule)."""
SETTLED = 120.0
"""Seconds until a changed policy has shown at the most frequent requests, too."""
QUIET = 600.0
"""Seconds with bodies and without lowered events after which the level is back."""
MOST = 20_000


class Habit(msgspec.Struct, array_like=True):
    """The level (``rank`` in ``LEVELS``) that a request had in ``minutes`` minutes, the last at
    ``last``."""

    rank: int
    minutes: int
    last: float


class Lowered(msgspec.Struct):
    """A kind of request that came below its level: ``n`` times between ``since`` and ``last``, by
    these users; ``back``: when it last came with what it had."""

    since: float
    last: float
    was: int
    now: int
    n: int = 0
    users: set[str] = set()
    back: float = 0.0


class Levels(msgspec.Struct):
    """The levels of one cluster's requests by (user, kind, namespace); only those with bodies can
    become less."""

    habits: dict[tuple[str, str, str], Habit] = {}
    lowered: dict[str, Lowered] = {}

    def see(self, seen: Sighting) -> None:
        """Learn what level alike events had, and note if it is less than before."""
        if not seen.kind or not seen.user or seen.user == "system:anonymous":
            return
        key = (seen.user, seen.kind, seen.namespace)
        habit = self.habits.get(key)
        if habit is None or (seen.rank < habit.rank and habit.minutes < STEADY):
            if seen.rank > 0:
                self.habits[key] = Habit(seen.rank, 1, seen.minute)
                self._bound()
            elif habit is not None:
                del self.habits[key]
        elif seen.rank < habit.rank:
            self._lower(seen, habit)
        else:
            if seen.rank > habit.rank:
                habit.rank, habit.minutes = seen.rank, 0
            if seen.minute > habit.last or not habit.minutes:
                habit.minutes += 1
                habit.last = max(seen.minute, habit.last)
            if lowered := self.lowered.get(seen.kind):
                lowered.back = max(lowered.back, seen.last)

    def _lower(self, seen: Sighting, habit: Habit) -> None:
        if seen.last <= habit.last:
            return  # came late
        lowered = self.lowered.setdefault(
            seen.kind, Lowered(seen.first, seen.last, habit.rank, seen.rank)
        )
        lowered.n += seen.n
        lowered.since = min(lowered.since, seen.first)
        lowered.last = max(lowered.last, seen.last)
        lowered.now = min(lowered.now, seen.rank)
        if len(lowered.users) < PLENTY:
            lowered.users.add(seen.user)

    def judge(self, now: float) -> list[Finding]:
        """Which kinds of request are logged with less than before."""
        for kind, lowered in [*self.lowered.items()]:
            if lowered.back > lowered.last and now - lowered.last > QUIET:
                del self.lowered[kind]
            elif now - lowered.since > WEEK:
                self._accept(kind)
        kinds = sorted(self.lowered, key=lambda kind: -self.lowered[kind].n)
        # Of one name only, or of one API server of several.
        mixed = [kind for kind in kinds if self.lowered[kind].back > self.lowered[kind].since]
        if len(mixed) < 3:
            kinds = [kind for kind in kinds if kind not in mixed]
        told = [self.lowered[kind] for kind in kinds]
        users = {user for lowered in told for user in lowered.users}
        if (
            sum(lowered.n for lowered in told) < PLENTY
            or now - min(lowered.since for lowered in told) < SETTLED
            or (len(users) < 2 and all(principal_class(user) == "human" for user in users))
        ):
            return []
        return [_finding(kinds, told, mixed=len(mixed) > len(kinds) / 2)]

    def _accept(self, kind: str) -> None:
        """A week on, less is what is usual."""
        del self.lowered[kind]
        self.habits = {key: habit for key, habit in self.habits.items() if key[1] != kind}

    def _bound(self) -> None:
        if len(self.habits) > MOST:
            # The steady ones, then the latest: whoever asks for anything makes any number.
            best = sorted(
                self.habits.items(), key=lambda item: (item[1].minutes < STEADY, -item[1].last)
            )
            self.habits = dict(best[: MOST * 9 // 10])


def _finding(kinds: list[str], told: list[Lowered], *, mixed: bool) -> Finding:
    bodies = any(not lowered.now for lowered in told)
    lost = "bodies" if bodies else "answers"
    where = " by some of its API servers" if mixed else ""
    was, now = max(lowered.was for lowered in told), min(lowered.now for lowered in told)
    what = (
        "what was written (images, commands and privileges of pods, rules of roles, subjects of"
        " bindings)"
        if bodies
        else "what requests were answered with"
    )
    return Finding(
        "level",
        "level",
        "high",
        min(lowered.since for lowered in told),
        f"Audit level lowered: {plural(len(kinds), 'kind')} of request without {lost}",
        what,
        f"{listed(kinds)} had level {LEVELS[was]} and now {LEVELS[now]}{where}, from the same users"
        " in the same namespaces",
        "if nobody changed the audit policy, find out who did, and restore it from where it is"
        " kept; until then the previous state of what is written cannot be told",
        tuple(kinds),
        max(lowered.last for lowered in told),
    )
