"""Episodes: when a script is performed, and what the log then says."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import NamedTuple

from kubewitness.activity.principal import UNAUTHENTICATED
from kubewitness.evaluate.rehearsal.forging import Forge
from kubewitness.evaluate.rehearsal.script import Script
from kubewitness.evaluate.rehearsal.survey import Survey

_LONG_PAUSE = timedelta(hours=1)


class Episode(NamedTuple):
    """What was done: its events by when they are logged, and what truth.jsonl says of it."""

    events: list[tuple[datetime, bytes]]
    audit_ids: tuple[str, ...]
    start: datetime
    end: datetime
    actors: tuple[str, ...]
    source_ips: tuple[str, ...]


class Stage:
    """Performs scripts between ``since`` and ``until``."""

    def __init__(
        self, forge: Forge, survey: Survey, since: datetime, until: datetime, rng: random.Random
    ) -> None:
        self._forge = forge
        self._survey = survey
        self._since = since
        self._until = until
        self._rng = rng

    def moment(self, script: Script, around: datetime) -> datetime:
        """When to begin: about then, in the actor's own hours if it hides among its deeds."""
        latest = max(self._until - script.length - timedelta(seconds=1), self._since)
        begin = min(max(around, self._since), latest)
        actor = script.players["actor"]
        if actor.habit is None or not (script.family.working or actor.place == "home"):
            return begin
        active = [s.at for s in actor.habit.sightings if self._since <= s.at <= latest]
        if not active:
            return begin
        near = min(active, key=lambda at: abs(at - begin))
        jitter = timedelta(seconds=self._rng.uniform(-300, 300))
        return min(max(near + jitter, self._since), latest)

    def perform(self, script: Script, begin: datetime) -> Episode:
        """Every request of a script, the first at ``begin``."""
        events: list[tuple[datetime, bytes]] = []
        audit_ids, actors, addresses = [], [], []
        at = previous = begin
        late = timedelta()
        for request in script.requests:
            at = begin + request.after + late
            if script.family.working and at - previous > _LONG_PAUSE:
                shifted = self._working(script, at)
                late += shifted - at
                at = shifted
            if at >= self._until:
                break
            previous = at
            forged = self._forge.forge(request, at, begin)
            events += forged.events
            audit_ids.append(forged.audit_id)
            unauthenticated = request.step.code == 401
            actors.append(UNAUTHENTICATED if unauthenticated else request.player.user)
            addresses.append(self._survey.peer(forged.sighting.addresses))
        return Episode(
            sorted(events),
            tuple(audit_ids),
            begin,
            max(previous, begin),
            tuple(sorted(set(actors))),
            tuple(sorted(set(addresses))),
        )

    def _working(self, script: Script, at: datetime) -> datetime:
        """The actor's next active moment."""
        habit = script.players["actor"].habit
        later = [s.at for s in habit.sightings if s.at >= at] if habit is not None else []
        if not later:
            return at
        return min(later) + timedelta(seconds=self._rng.uniform(0, 600))
