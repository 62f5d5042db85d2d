"""What a log is like: its principals, objects, rights, and an example of every kind of request.

Everything is bounded by how much behaviour there is, and capped, not by how many events.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from kubewitness.activity.network import learn_proxies, network, peer_address
from kubewitness.activity.principal import PrincipalClass, principal_class
from kubewitness.evaluate.rehearsal.habit import Habit
from kubewitness.evaluate.rehearsal.rights import Right, Rights

_PRINCIPALS, _KINDS, _PLACES, _NAMES = 5_000, 3_000, 5_000, 200
_EXAMPLES = 3
# Objects that controllers put into every namespace.
_EVERYWHERE = frozenset({"kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert"})
_READS = frozenset({"get", "list", "watch"})
OK = 200
"""Stands for every answer below 400."""
_EXAMPLE_BYTES = 64 << 10
_TEXT_BYTES, _PATH = 8 << 10, 200


class Example(NamedTuple):
    """A request as this cluster logs it: each of its stages, as JSON."""

    audit_id: str
    stages: dict[str, bytes]


class _Ref(msgspec.Struct):
    resource: str = ""
    namespace: str = ""
    name: str = ""
    apiGroup: str = ""  # noqa: N815
    apiVersion: str = ""  # noqa: N815
    subresource: str = ""


class _Status(msgspec.Struct):
    code: int = 0


class _User(msgspec.Struct):
    username: str = ""


class _Event(msgspec.Struct):
    auditID: str  # noqa: N815
    stage: str
    verb: str
    level: str
    requestURI: str  # noqa: N815
    user: msgspec.Raw
    requestReceivedTimestamp: datetime  # noqa: N815
    stageTimestamp: datetime  # noqa: N815
    sourceIPs: tuple[str, ...] = ()  # noqa: N815
    userAgent: str = ""  # noqa: N815
    objectRef: _Ref | None = None  # noqa: N815
    responseStatus: _Status | None = None  # noqa: N815
    annotations: dict[str, Any] = {}


_event = msgspec.json.Decoder(_Event).decode
_username = msgspec.json.Decoder(_User).decode


class Survey:
    """Looks at every line once (``see``); ``rng`` chooses the examples."""

    def __init__(self, rng: random.Random) -> None:
        self.habits: dict[str, Habit] = {}
        self.rights = Rights()
        self.namespaces: dict[str, tuple[datetime, datetime]] = {}
        """When each was seen first and last."""
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.received = False
        self._rng = rng
        self._examples: dict[tuple[Right, int], dict[PrincipalClass, list[Example]]] = {}
        self._met: Counter[tuple[Right, int, PrincipalClass]] = Counter()
        self._started: set[tuple[Right, int]] = set()
        self._open: dict[str, Example] = {}
        self._objects: dict[tuple[str, str], dict[str, datetime]] = {}
        self._versions: dict[str, str] = {}
        self._levels: dict[tuple[str, str], str] = {}
        self._hops: set[tuple[tuple[str, ...], str]] = set()
        self._proxies: frozenset[str] | None = None

    def see(self, line: bytes) -> datetime:
        """One event, as its line of JSON; returns when it was received.

        Raises ``msgspec.MsgspecError`` if it is none.
        """
        event = _event(line)
        at = event.requestReceivedTimestamp
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        if event.stage == "RequestReceived":
            self.received = True
            return at
        if event.auditID in self._open:
            self._open[event.auditID].stages.setdefault(event.stage, line)
            return at
        user = _username(event.user).username
        kind = principal_class(user)
        ref = event.objectRef or _Ref()
        resource = f"{ref.resource}.{ref.apiGroup}" if ref.apiGroup else ref.resource
        path = event.requestURI.partition("?")[0][:_PATH]
        right = (event.verb, resource or path, ref.subresource)
        code = event.responseStatus.code if event.responseStatus else 0
        allowed = 0 < code < 400
        answer = OK if allowed else code
        if event.stage == "ResponseStarted" and len(self._started) < _KINDS:
            self._started.add((right, answer))
        # The end of a request whose beginning was not kept is half an example.
        if event.stage == "ResponseStarted" or (right, answer) not in self._started:
            self._example((right, answer), kind, Example(event.auditID, {event.stage: line}))
        if allowed:
            reason = event.annotations.get("authorization.k8s.io/reason")
            if resource and isinstance(reason, str) and reason:
                self.rights.learn(right, reason)
            self._object(resource, ref, at, event)
        if len(self._hops) < 50_000:
            self._hops.add((event.sourceIPs, user))
        # Nobody real is called so long a name, or uses such a program.
        if kind == "anonymous" or len(event.user) + len(event.userAgent) > _TEXT_BYTES:
            return at
        if user not in self.habits and len(self.habits) < _PRINCIPALS:
            self.habits[user] = Habit(user, kind)
        habit = self.habits.get(user)
        if habit is not None:
            habit.saw(at, bytes(event.user), event.sourceIPs, event.userAgent)
            if allowed:
                habit.did(right, ref.namespace)
        return at

    def _example(self, key: tuple[Right, int], kind: PrincipalClass, example: Example) -> None:
        if any(len(line) > _EXAMPLE_BYTES for line in example.stages.values()) or (
            key not in self._examples and len(self._examples) >= _KINDS
        ):
            return
        kept = self._examples.setdefault(key, {}).setdefault(kind, [])
        self._met[(*key, kind)] += 1
        place = len(kept)
        if place < _EXAMPLES:
            kept.append(example)
        else:
            place = self._rng.randrange(self._met[(*key, kind)])
            if place >= _EXAMPLES:
                return
            self._open.pop(kept[place].audit_id, None)
            kept[place] = example
        self._open[example.audit_id] = example

    def _object(self, resource: str, ref: _Ref, at: datetime, event: _Event) -> None:
        if not resource:
            return
        self._versions.setdefault(resource, ref.apiVersion)
        self._levels.setdefault((event.verb, resource), event.level)
        if ref.namespace in self.namespaces or (ref.namespace and len(self.namespaces) < _PLACES):
            first, last = self.namespaces.get(ref.namespace, (at, at))
            self.namespaces[ref.namespace] = (min(first, at), max(last, at))
        if ref.name and event.verb != "delete" and ref.name not in _EVERYWHERE:
            key = (f"{resource}/{ref.subresource}" if ref.subresource == "token" else resource,
                   ref.namespace)  # fmt: skip
            if key in self._objects or len(self._objects) < _PLACES:
                names = self._objects.setdefault(key, {})
                names.pop(ref.name, None)
                names[ref.name] = at
                if len(names) > _NAMES:
                    del names[next(iter(names))]

    def example(
        self, right: Right, answer: int, kind: PrincipalClass, rng: random.Random
    ) -> Example | None:
        """A request like this with this answer, by a principal of this class if there is one."""
        found = self._examples.get((right, answer))
        if not found:
            return None
        return rng.choice(found[kind if kind in found else min(found)])

    def known(self, answer: int) -> list[Right]:
        """Every kind of request of which there is an example with this answer."""
        return sorted(right for right, given in self._examples if given == answer)

    def version(self, resource: str) -> str:
        return self._versions.get(resource) or "v1"

    def level(self, verb: str, resource: str) -> str | None:
        """The level at which such requests are logged: as these were, as others on the resource
        that read or write, too, or as most of this verb; ``None`` if there were none."""
        if (verb, resource) in self._levels:
            return self._levels[verb, resource]
        alike = [
            level
            for (other, kind), level in self._levels.items()
            if kind == resource and (other in _READS) == (verb in _READS)
        ] or [level for (other, _), level in self._levels.items() if other == verb]
        return max(sorted(set(alike)), key=alike.count, default=None)

    def names(self, resource: str, namespace: str, since: datetime | None = None) -> list[str]:
        """Objects of a kind in a namespace, those alone that were seen at that time or later."""
        seen = self._objects.get((resource, namespace), {})
        return sorted(name for name, last in seen.items() if since is None or last >= since)

    def places(self, resource: str) -> list[str]:
        """The namespaces in which objects of a kind were seen."""
        return sorted(namespace for kind, namespace in self._objects if kind == resource)

    @property
    def proxies(self) -> frozenset[str]:
        """Addresses that stand last for nearly everyone."""
        if self._proxies is None:
            self._proxies = learn_proxies(sorted(self._hops))
        return self._proxies

    def peer(self, addresses: tuple[str, ...]) -> str:
        return peer_address(addresses, self.proxies)

    @property
    def networks(self) -> frozenset[str]:
        """Every network that anybody came from."""
        return frozenset(
            network(self.peer(addresses)).prefix for addresses, _ in self._hops if addresses
        )
