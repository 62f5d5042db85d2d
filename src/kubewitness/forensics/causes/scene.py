"""The deeds of one question, in the order of time, found by what they are about."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

import msgspec

from kubewitness.activity.owner import candidates
from kubewitness.forensics.causes.body import Body
from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.habit import Habit, habit
from kubewitness.forensics.causes.sitting import Sitting, began

Key = tuple[str, str, datetime]
Thing = tuple[str, str, str]
"""resource, namespace, name."""

CHANGES = frozenset({"create", "update", "patch"})
DELETES = frozenset({"delete", "deletecollection"})
DELIVERED = frozenset(
    [
        "applications",
        "applicationsets",
        "kustomizations",
        "helmreleases",
        "gitrepositories",
        "helmrepositories",
        "helmcharts",
        "ocirepositories",
        "buckets",
    ]
)
"""What GitOps controllers apply."""
AUTOSCALERS, SIGNING = "horizontalpodautoscalers", "certificatesigningrequests"
STEERING = DELIVERED | {AUTOSCALERS, SIGNING}
# A controller sees a change by a watch and reacts within this time, unless it is far behind.
REACTION = timedelta(seconds=5)

_FORBIDDEN = 403

# Kubernetes mints tokens for at most this long unless the API server is told otherwise.
TOKEN_LIFE = timedelta(days=2)


def thing(deed: Deed) -> Thing:
    """What a deed is about; a namespace is in none, although its reference says so."""
    return (deed.resource, "" if deed.resource == "namespaces" else deed.namespace, deed.name)


def forbidden(deed: Deed) -> bool:
    """Whether somebody was not allowed to make an object; applying what is not there patches it."""
    makes = deed.verb in ("create", "patch") and not deed.subresource
    return makes and bool(deed.name) and deed.code == _FORBIDDEN


def born(deed: Deed) -> bool:
    """Whether a pod of a name began with this deed, or the one before it had ended."""
    over = deed.verb == "delete" and deed.of == "node"
    return deed.creates or deed.subresource == "binding" or over


def enters(deed: Deed) -> bool:
    """Whether somebody got into a pod."""
    inside = deed.subresource in ("exec", "attach", "ephemeralcontainers")
    return inside and deed.of not in ("node", "control-plane")


def schedules(deed: Deed) -> bool:
    """Whether the scheduler speaks of a pod: it bound it, or says why it cannot yet."""
    waits = deed.subresource == "status" and deed.of == "control-plane"
    return deed.resource == "pods" and (deed.subresource == "binding" or waits)


AT_ALL, BEARING = ("at all",), ("bearing",)


class First(NamedTuple):
    """The first request that was like a later one of the same identity, and ``how``: ("from
    192.0.2.7",), ("at secrets", "in shop"), ``AT_ALL``, (*``BEARING``, its credential). ``deed`` is
    ``None`` where it was long ago."""

    at: datetime
    how: tuple[str, ...]
    deed: Deed | None


class Scene:
    """Indexes over deeds; nothing here asks the log.

    ``habits`` counts how often the like was done before, as far as that was asked, and may be
    filled later, as may ``firsts``, the first times of a deed; ``start`` is where the log begins.
    ``sittings`` are those that the deeds alone do not tell.
    """

    def __init__(
        self,
        deeds: Iterable[Deed],
        bodies: Mapping[Key, Body | None],
        habits: Mapping[Habit, int],
        start: datetime | None,
        firsts: Mapping[Key, Sequence[First]] | None = None,
        sittings: Mapping[Key, Sitting | None] | None = None,
    ) -> None:
        self.firsts = {} if firsts is None else firsts
        self._sittings = {} if sittings is None else sittings
        self.rivals: dict[Key, int] = {}
        self.deeds = self._named(sorted(deeds, key=lambda deed: deed.turn))
        self.bodies = bodies
        self._habits = habits
        self._start = start
        self._by: dict[tuple[str, str, str], list[Deed]] = defaultdict(list)
        self._of: dict[Thing, list[Deed]] = defaultdict(list)
        self._lives: dict[Thing, list[Deed]] = defaultdict(list)
        self._siblings: dict[tuple[str, str], list[Deed]] = defaultdict(list)
        self._kinds: dict[str, list[Deed]] = defaultdict(list)
        self._forbidden: dict[tuple[str, str], list[Deed]] = defaultdict(list)
        self.issued: dict[str, Deed] = {}
        self.uids: dict[str, Thing] = {}
        for deed in self.deeds:
            self._by[deed.principal, deed.source_ip, deed.client].append(deed)
            if forbidden(deed):
                self._forbidden[deed.resource, deed.name].append(deed)
            if not deed.served or not deed.writes:
                continue
            if deed.resource in STEERING:
                self._kinds[deed.resource].append(deed)
            if deed.resource and deed.name:
                self._of[thing(deed)].append(deed)
            if deed.resource == "pods" and (born(deed) or enters(deed)):
                self._lives[thing(deed)].append(deed)
            if deed.issued:
                self.issued[deed.issued] = deed
            uid = self.uid(deed)
            if uid and deed.name:
                self.uids[uid] = thing(deed)
            if (
                deed.resource == "pods" and deed.verb == "delete"
            ) or deed.subresource == "eviction":
                for _, owner in candidates("pods", deed.name):
                    self._siblings[deed.namespace, owner].append(deed)
        self.changes = cache(self._changes)

    def body(self, deed: Deed) -> Body | None:
        """What its bodies tell, where they were logged."""
        return self.bodies.get(deed.key)

    def uid(self, deed: Deed) -> str:
        """The uid of the object of a deed, from its body or reference."""
        told = self.body(deed)
        if told is not None and told.uid and deed.subresource != "token":
            return told.uid
        return deed.uid

    def life(self, deed: Deed) -> str:
        """The uid of the object of a deed, also where only an earlier deed tells it."""
        for one in (deed, *self.before(thing(deed), deed.at)):
            uid = self.uid(one)
            if uid or one.creates:
                return uid
        return ""

    def of(self, what: Thing) -> list[Deed]:
        """Everything done to one object."""
        return self._of.get(what, [])

    def before(self, what: Thing, at: datetime) -> Iterator[Deed]:
        """What was done to an object before a time, the latest first."""
        yield from _before(self.of(what), at)

    def lives(self, pod: Thing, at: datetime) -> Iterator[Deed]:
        """Which pods of a name began or ended and who got into them before a time, the latest
        first."""
        yield from _before(self._lives.get(pod, ()), at)

    def steering(self, kinds: Iterable[str], at: datetime) -> list[Deed]:
        """What was done to all objects of these kinds before a time, the latest first."""
        deeds = [deed for kind in kinds for deed in self._kinds.get(kind, ()) if deed.at < at]
        return sorted(deeds, key=lambda deed: deed.turn, reverse=True)

    def _named(self, deeds: list[Deed]) -> list[Deed]:
        """Without bodies the create of a pod does not say the name that the API server gave it;
        the scheduler does, a moment later. ``rivals`` counts the creates that it may have been."""
        nameless: dict[str, dict[Key, int]] = defaultdict(dict)
        found: dict[int, Deed] = {}
        told: set[Thing] = set()
        for number, deed in enumerate(deeds):
            if deed.resource != "pods" or not deed.served:
                continue
            waiting = nameless[deed.namespace]
            if deed.verb == "create" and not deed.subresource and not deed.name:
                waiting[deed.key] = number
            elif schedules(deed) and deed.name and thing(deed) not in told:
                told.add(thing(deed))
                near = [
                    n for n in waiting.values()
                    if deed.at - deeds[n].at <= REACTION
                    and (not deeds[n].controller
                         or candidates("pods", deed.name, deeds[n].controller))
                ]  # fmt: skip
                if near:
                    made = msgspec.structs.replace(deeds[near[-1]], name=deed.name)
                    found[near[-1]] = made
                    self.rivals[made.key] = len(near)
                    del waiting[made.key]
        return [found.get(number, deed) for number, deed in enumerate(deeds)]

    def siblings_gone(self, namespace: str, owner: str) -> list[Deed]:
        """Pods deleted or evicted whose name says that ``owner`` made them."""
        return self._siblings.get((namespace, owner), [])

    def first_after(self, at: datetime) -> int:
        """The index of the first deed after a time."""
        return bisect_right(self.deeds, at, key=lambda deed: deed.at)

    def first(self, deed: Deed, how: tuple[str, ...]) -> datetime | None:
        """When the first request came that was like a deed in this; ``None`` where that is the
        deed, or was not asked."""
        return next((one.at for one in self.firsts.get(deed.key, ()) if one.how == how), None)

    def forbidden(self, made: Deed) -> Iterator[Deed]:
        """Who was not allowed to make an object of this kind and name before, in whatever
        namespace, the latest first."""
        tried = self._forbidden.get((made.resource, made.name), ())
        yield from (deed for deed in reversed(tried) if deed.turn < made.turn)

    def habit(self, deed: Deed, before: datetime) -> int | None:
        """How often the like was done before a time; ``None`` where that was not asked."""
        return self._habits.get(habit(deed, before))

    def span(self, at: datetime) -> timedelta:
        """How long the log had been going on."""
        return at - self._start if self._start else timedelta(0)

    def sitting(self, deed: Deed) -> Sitting | None:
        """In which the deed was done; ``None`` for what never pauses."""
        if deed.key in self._sittings:
            return self._sittings[deed.key]
        own = self._by[deed.principal, deed.source_ip, deed.client]
        last = bisect_right(own, deed.at, key=lambda one: one.at) - 1
        found = began(own, last, lambda one: one.at) if last >= 0 else None
        return Sitting(*found) if found else None

    def _changes(self, what: Thing) -> dict[Key, bool | None]:
        """For each change of an object, whether it changed what makes its children (template or
        replicas); ``None`` where nothing tells."""
        found: dict[Key, bool | None] = {}
        template, replicas = "", None
        for deed in self.of(what):
            if deed.verb not in CHANGES or deed.subresource not in ("", "scale"):
                continue
            told = self.body(deed)
            if deed.creates:
                found[deed.key] = True
            elif told is None or (not told.template and told.replicas is None):
                found[deed.key] = None
            elif template or replicas is not None:
                found[deed.key] = (
                    bool(template and told.template and told.template != template)
                    or bool(deed.subresource and template and replicas is None)
                    or (told.replicas is not None and replicas is not None
                        and told.replicas != replicas)
                )  # fmt: skip
            else:
                found[deed.key] = told.unobserved
            if told is not None:
                template = told.template or template
                replicas = told.replicas if told.replicas is not None else replicas
        return found


def _before(deeds: Sequence[Deed], at: datetime) -> Iterator[Deed]:
    end = bisect_left(deeds, at, key=lambda deed: deed.at)
    yield from (deeds[number] for number in range(end - 1, -1, -1))
