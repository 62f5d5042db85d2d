"""From a family to a script: which objects, in which namespaces, how often and when."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from kubewitness.activity.name import name_template
from kubewitness.evaluate.rehearsal.casting import Casting
from kubewitness.evaluate.rehearsal.family import CLUSTER_SCOPED, Family, Step
from kubewitness.evaluate.rehearsal.player import Player
from kubewitness.evaluate.rehearsal.script import Request, Script

_SYSTEM = "kube-system"
_ATTEMPTS = 8
_NEAREST = 20
_NOBODYS = frozenset({"kube-public", "kube-node-lease", "default", ""})
_BLANK = re.compile(r"\{(\w+)\}")
# Where an attacker listens who sits at somebody's desk (RFC 5737, for documentation).
_ADDRESS = "203.0.113.77"
_WORDS = ("node-tuner", "metrics-sync", "log-rotate", "cache-warmup", "health-probe", "cfg-reload")
_IMAGES = (
    "docker.io/kworkerd/agent:latest",
    "ghcr.io/opsutils/toolbox:2.1",
    "quay.io/sysmaint/helper:v3",
    "docker.io/library/alpine:3.22",
)


class Playwright:
    """Writes scripts for those whom ``casting`` finds."""

    def __init__(self, casting: Casting, rng: random.Random) -> None:
        self._casting = casting
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
        draft = _Draft(self._casting, family, players, around, self._rng)
        requests = draft.requests()
        # A family of days in a log of hours, and the haste of whoever does it.
        haste = self._rng.choice((0.5, 1.0, 1.0, 2.5))
        scale = min(haste, longest / requests[-1].after if requests[-1].after else haste)
        return Script(
            family,
            players,
            tuple(replace(request, after=request.after * scale) for request in requests),
            draft.fill(family.title),
        )


class _Draft:
    """A script being written: what it is about, and what was used already."""

    def __init__(
        self,
        casting: Casting,
        family: Family,
        players: dict[str, Player],
        around: datetime,
        rng: random.Random,
    ) -> None:
        self._casting = casting
        self._survey = casting.survey
        self._family = family
        self._players = players
        self._around = around
        self._rng = rng
        self._last: dict[str, tuple[str, str]] = {}
        self._used: set[str] = set()
        self._spent = False
        self._each: set[str] = set()
        self._target = self._place([step for step in family.steps if step.in_ == "target"])
        nodes = self._survey.names("nodes", "", around)
        self._context = {
            "image": rng.choice(_IMAGES),
            "node": rng.choice(nodes) if nodes else "node-1",
            "namespace": self._target,
            "address": players["actor"].address or _ADDRESS,
        }
        for role, player in players.items():
            self._context[role] = player.user
            self._context[f"{role}_name"] = player.user.rpartition(":")[2]
            self._context[f"{role}_namespace"] = player.namespace

    def fill(self, template: Any) -> Any:
        """What a family says of ``{actor}`` and the like, about those who were cast."""
        if isinstance(template, str):
            return _BLANK.sub(lambda blank: self._context.get(blank[1], blank[0]), template)
        if isinstance(template, dict):
            return {key: self.fill(value) for key, value in template.items()}
        if isinstance(template, list):
            return [self.fill(value) for value in template]
        return template

    def requests(self) -> list[Request]:
        written: list[Request] = []
        seconds = 0.0
        for step in self._family.steps:
            for repetition in range(self._rng.randint(*step.times)):
                pause = self._rng.uniform(*(step.pause or self._family.pace))
                after = seconds + (pause if written else 0.0)
                self._spent = False
                request = self._request(step, timedelta(seconds=after))
                if self._spent and repetition and step.verb == "delete":
                    break  # nothing is deleted twice
                seconds = after
                written.append(request)
        return written

    def _request(self, step: Step, after: timedelta) -> Request:
        namespace, name = self._object(step)
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
        """Namespace and name, either of them '' where there is none."""
        if step.pick == "last" and step.resource in self._last:
            return self._last[step.resource]
        namespace, name = self._namespace(step), ""
        if step.pick == "none":
            return namespace, name
        if step.named:
            name = self.fill(self._rng.choice(step.named))
        elif step.pick == "seen":
            name = self._seen(step, namespace)
        else:
            name = self._rng.choice(_WORDS)
        self._last[step.resource] = (namespace, name)
        return namespace, name

    def _seen(self, step: Step, namespace: str) -> str:
        """An object of the log: rather one that was still there, and was not used yet."""
        names = self._survey.names(_kind(step), namespace)
        fresh = [name for name in names if name not in self._used]
        alive = set(self._survey.names(_kind(step), namespace, self._around))
        best = [name for name in fresh if name in alive] or fresh or names or list(_WORDS)
        self._spent = not fresh
        name = self._rng.choice(best)
        self._used.add(name)
        return name

    def _namespace(self, step: Step) -> str:
        if step.in_ == "cluster" or not step.resource or step.resource in CLUSTER_SCOPED:
            return ""
        if step.in_ == "system":
            return _SYSTEM
        if step.in_ == "own":
            return self._players[step.as_].namespace or self._target
        if step.in_ == "account":
            return self._players["account"].namespace
        if step.in_ == "each":
            chosen = self._place([step])
            self._each.add(chosen)
            return chosen
        return self._target

    def _place(self, steps: Sequence[Step]) -> str:
        """A namespace for these steps: in which what must work does, with objects to be had, and
        rather one that lasts, was not used yet, and is not where the player works anyway."""
        ranked: dict[tuple[int, ...], list[str]] = {}
        for namespace in sorted(self._survey.namespaces):
            refused = missing = visited = 0
            for step in steps:
                player = self._players[step.as_]
                reason = self._casting.reason(player, step.right, namespace)
                refused += step.must and reason is None
                missing += step.pick == "seen" and not self._survey.names(_kind(step), namespace)
                visited += namespace in player.visited or namespace == player.namespace
            first, last = self._survey.namespaces[namespace]
            passing = first >= self._casting.since or last < self._around
            poor = passing or namespace in _NOBODYS
            rank = (refused, missing, namespace in self._each, poor, visited > 0)
            ranked.setdefault(rank, []).append(namespace)
        return self._rng.choice(ranked[min(ranked)]) if ranked else "default"


def _kind(step: Step) -> str:
    return f"{step.resource}/token" if step.subresource == "token" else step.resource
