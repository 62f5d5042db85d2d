"""A script: the requests of an attack, one after the other, and who makes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kubewitness.evaluate.rehearsal.family import Family, Step
from kubewitness.evaluate.rehearsal.player import Player


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a script, ``after`` its beginning."""

    after: timedelta
    player: Player
    step: Step
    namespace: str
    name: str
    body: dict[str, Any] | None
    query: str
    acting_as: dict[str, Any] | None
    path: str
    binding: str
    """A cluster role binding that the script made before."""


@dataclass(frozen=True, slots=True)
class Script:
    family: Family
    players: dict[str, Player]
    requests: tuple[Request, ...]
    title: str

    @property
    def length(self) -> timedelta:
        return self.requests[-1].after

    @property
    def strange(self) -> int:
        """Requests that an analyst could call out: of a kind that their principal never made there,
        or from where no such principal sits. That people change desks and programs is usual."""
        return sum(
            request.player.out_of_place
            or request.player.habit is None
            or request.player.habit.strange(request.step.right, request.namespace)
            for request in self.requests
        )

    @property
    def difficulty(self) -> str:
        """A guess: harder from where the principal usually sits, and with what it usually uses."""
        actor = self.players["actor"]
        levels = ("easy", "medium", "hard")
        level = levels.index(self.family.difficulty)
        level += (actor.place == "home") + (actor.tool == "own") - (actor.place == "outside")
        return levels[min(max(level, 0), 2)]
