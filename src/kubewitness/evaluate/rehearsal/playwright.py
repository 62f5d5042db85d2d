"""From a family to a script: which objects, in which namespaces, how often and when."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from kubewitness.activity.name import name_template
from kubewitness.evaluate.rehearsal.casting import Casting
from kubewitness.evaluate.rehearsal.family import CLUSTER_SCOPED, Family, Step
from kubewitness.evaluate.rehearsal.player import Player
from kubewitness.evaluate.rehearsal.script import Request, Script

_SYSTEM = "kube-system"
_ATTEMPTS = 5
_NEAREST = 20
_NOBODYS = frozenset({"kube-public", "kube-node-lease", "default", ""})
_WORDS = ("node-tuner", "metrics-sync", "log-rotate", "cache-warmup", "health-probe", "cfg-reload")
_IMAGES = (
    "docker.io/kworkerd/agent:latest",
    "ghcr.io/opsutils/toolbox:2.1",
    "quay.io/sysmaint/helper:v3",
    "docker.io/library/alpine:3.22",
)


class Playwright:
    """Writes scripts for what ``casting`` knows of a log."""

    def __init__(self, casting: Casting, rng: random.Random) -> None:
        self._casting = casting
        self._survey = casting.survey
        self._rng = rng

    def write(self, family: Family, around: datetime, longest: timedelta) -> Script:
        """A script that begins about then and takes ``longest`` at most.

        What its actor does every day is no attack: of some attempts the first that an analyst could
        call out, else the strangest.
        """
        attempts: list[Script] = []
        for _ in range(_ATTEMPTS):
            attempts.append(self._written(family, around, longest))
            if attempts[-1].strange >= max(2, len(attempts[-1].requests) / 3):
                break
        best = max(attempts, key=lambda script: script.strange)
        self._casting.book(best.players.values())
        return best

    def _written(self, family: Family, around: datetime, longest: timedelta) -> Script:
        players = self._casting.cast(family)
        stage = _Stage(self, family, players, around)
        requests = list(stage.requests())
        # A family of days in a log of hours, and the haste of whoever does it.
        haste = self._rng.choice((0.5, 1.0, 1.0, 2.5))
        scale = min(haste, longest / requests[-1].after if requests[-1].after else haste)
        return Script(
            family,
            players,
            tuple(replace(request, after=request.after * scale) for request in requests),
            stage.fill(family.title),
        )

    def target(
        self,
        family: Family,
        players: dict[str, Player],
        step: Step | None = None,
        without: Collection[str] = (),
    ) -> str:
        """A namespace for a step, or for all steps that share one: in which what must work does,
        with objects to be had, and rather not the player's own."""
        steps = [step] if step is not None else [s for s in family.steps if s.in_ == "target"]
        ranked: dict[tuple[int, ...], list[str]] = {}
        for namespace in sorted(self._survey.namespaces):
            refused = missing = visited = 0
            for one in steps:
                player = players[one.as_]
                refused += one.must and self._casting.reason(player, one.right, namespace) is None
                missing += one.pick == "seen" and not self._survey.names(_kind(one), namespace)
                visited += namespace in player.visited or namespace == player.namespace
            rank = (refused, missing, namespace in without, bool(visited), namespace in _NOBODYS)
            ranked.setdefault(rank, []).append(namespace)
        return self._rng.choice(ranked[min(ranked)]) if ranked else "default"

    def object(
        self, step: Step, namespace: str, around: datetime, without: Collection[str]
    ) -> tuple[str, bool]:
        """The name of a seen object: one that was still there, rather not one of ``without``; and
        whether there is such a one."""
        names = self._survey.names(_kind(step), namespace)
        fresh = [name for name in names if name not in without]
        alive = set(self._survey.names(_kind(step), namespace, around))
        best = [name for name in fresh if name in alive] or fresh or names
        return (self._rng.choice(best) if best else self.word()), bool(fresh)

    def word(self) -> str:
        return self._rng.choice(_WORDS)

    def image(self) -> str:
        return self._rng.choice(_IMAGES)

    def pause(self, step: Step, family: Family) -> float:
        return self._rng.uniform(*(step.pause or family.pace))

    def times(self, step: Step) -> int:
        return self._rng.randint(*step.times)

    def choice(self, names: tuple[str, ...]) -> str:
        return self._rng.choice(names)

    def node(self, around: datetime) -> str:
        nodes = self._survey.names("nodes", "", around)
        return self._rng.choice(nodes) if nodes else "node-1"


class _Stage:
    """One performance being written: what it is about, and what was used last."""

    def __init__(
        self, author: Playwright, family: Family, players: dict[str, Player], around: datetime
    ) -> None:
        self._author = author
        self._family = family
        self._players = players
        self._around = around
        self._last: dict[str, tuple[str, str]] = {}
        self._used: set[str] = set()
        self._spent = False
        self._each: set[str] = set()
        self._target = author.target(family, players)
        self._context = {
            "image": author.image(),
            "node": author.node(around),
            "namespace": self._target,
            "name": "",
            "container": "",
            "address": players["actor"].address or "198.18.0.1",
        }
        for role, player in players.items():
            self._context[role] = player.user
            self._context[f"{role}_name"] = player.user.rpartition(":")[2]
            self._context[f"{role}_namespace"] = player.namespace

    def fill(self, template: Any) -> Any:
        """What a family says of ``{actor}`` and the like, about those who were cast."""
        if isinstance(template, str):
            text = template
            for name, value in self._context.items():
                text = text.replace(f"{{{name}}}", value)
            return text
        if isinstance(template, dict):
            return {key: self.fill(value) for key, value in template.items()}
        if isinstance(template, list):
            return [self.fill(value) for value in template]
        return template

    def requests(self) -> list[Request]:
        written: list[Request] = []
        seconds = 0.0
        for step in self._family.steps:
            for repetition in range(self._author.times(step)):
                after = seconds + (self._author.pause(step, self._family) if written else 0.0)
                self._spent = False
                request = self._request(step, timedelta(seconds=after))
                if self._spent and repetition and step.verb == "delete":
                    break  # nothing is deleted twice
                seconds = after
                written.append(request)
        return written

    def _request(self, step: Step, after: timedelta) -> Request:
        namespace, name = self._object(step)
        self._context["name"] = name
        self._context["container"] = name_template(name).removesuffix("-*")
        if namespace:
            self._context["namespace"] = namespace
        acting_as = None
        if step.acting_as:
            user, *groups = (self.fill(text) for text in step.acting_as)
            acting_as = {"username": user, "groups": [*groups, "system:authenticated"]}
        return Request(
            after,
            self._players[step.as_],
            step,
            namespace,
            name,
            self.fill(step.body),
            self.fill(step.query),
            acting_as,
            step.path,
            self._last.get("clusterrolebindings.rbac.authorization.k8s.io", ("", ""))[1],
        )

    def _object(self, step: Step) -> tuple[str, str]:
        kind = step.resource
        if step.pick == "last" and kind in self._last:
            return self._last[kind]
        namespace = self._namespace(step)
        if step.pick == "none":
            return namespace, ""
        if step.pick == "seen":
            if step.named and kind:
                name = self.fill(self._author.choice(step.named))
            else:
                name, fresh = self._author.object(step, namespace, self._around, self._used)
                self._spent = not fresh
                self._used.add(name)
        else:
            name = self.fill(self._author.choice(step.named)) if step.named else self._author.word()
        self._last[kind] = (namespace, name)
        return namespace, name

    def _namespace(self, step: Step) -> str:
        if step.in_ == "cluster" or not step.resource or step.resource in CLUSTER_SCOPED:
            return ""
        player = self._players[step.as_]
        if step.in_ == "system":
            return _SYSTEM
        if step.in_ == "own":
            return player.namespace or self._target
        if step.in_ == "account":
            return self._players["account"].namespace
        if step.in_ == "each":
            chosen = self._author.target(self._family, self._players, step, self._each)
            self._each.add(chosen)
            return chosen
        return self._target


def _kind(step: Step) -> str:
    return f"{step.resource}/token" if step.subresource == "token" else step.resource
