"""What a policy keeps of a log, in events and bytes: the log as it would have been under it.

A policy cannot give back what a log does not have. Where it asks for more than was logged, the
event stays as it is and counts as ``poorer``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

from kubewitness.activity.technique import GRAVE, technique
from kubewitness.policy.policy import LEVELS, Decision, Level, Policy, Request

Event = Mapping[str, Any]


class Share(msgspec.Struct):
    """Events and bytes of one line a JSON event."""

    events: int = 0
    bytes: int = 0

    def add(self, n: int) -> None:
        self.events += 1
        self.bytes += n


class Ruled(msgspec.Struct, frozen=True):
    """What one rule decides: ``line`` is where it begins (0: no rule matched)."""

    line: int
    level: Level
    logged: Share
    kept: Share


class Volume(msgspec.Struct, frozen=True):
    """What is ``logged`` in a log, what a policy ``kept`` of it, by rule, the largest first;
    ``grave`` deeds that it left out, and how often."""

    logged: Share
    kept: Share
    poorer: int
    rules: tuple[Ruled, ...]
    grave: dict[str, int]


def request(event: Event) -> Request:
    """What rules see of the request that an event (audit.k8s.io/v1) is of."""
    user, ref = event.get("user") or {}, event.get("objectRef") or {}
    resource = ref.get("resource", "")
    return Request(
        user=user.get("username", ""),
        groups=tuple(user.get("groups") or ()),
        verb=event["verb"],
        api_group=ref.get("apiGroup", ""),
        resource=resource,
        subresource=ref.get("subresource", ""),
        namespace=ref.get("namespace", ""),
        name=ref.get("name", ""),
        path="" if resource else unquote(event.get("requestURI", "").partition("?")[0]),
    )


class Filter:
    """A policy that is asked of many events."""

    def __init__(self, policy: Policy) -> None:
        self._named = any(one.resource_names for rule in policy.rules for one in rule.resources)
        self._decide = lru_cache(maxsize=1 << 16)(policy.decide)

    def decide(self, event: Event) -> Decision:
        """What the policy says of an event's request."""
        asked = request(event)
        # Few policies look at names, and there are many.
        return self._decide(asked if self._named else asked._replace(name=""))

    def events(self, events: Iterable[Event]) -> Iterator[dict[str, Any]]:
        """The events as the API server would have written them, those that it would have."""
        for event in events:
            kept = written(event, self.decide(event))
            if kept is not None:
                yield kept


def written(event: Event, decision: Decision) -> dict[str, Any] | None:
    """An event as it is logged under ``decision``, if it is.

    >>> event = {"level": "Request", "stage": "ResponseComplete", "requestObject": {"kind": "Pod"}}
    >>> written(event, Decision(0, "Metadata", frozenset(), False))
    {'level': 'Metadata', 'stage': 'ResponseComplete'}
    """
    if decision.level == "None" or event["stage"] in decision.omitted:
        return None
    level = min(event.get("level", "Metadata"), decision.level, key=LEVELS.index)
    kept = {**event, "level": level}
    if level in ("Metadata", "Request"):
        kept.pop("responseObject", None)
    if level == "Metadata":
        kept.pop("requestObject", None)
    if decision.omits_managed_fields:
        for body in ("requestObject", "responseObject"):
            if body in kept:
                kept[body] = _unmanaged(kept[body])
    return kept


def _unmanaged(body: Any) -> Any:
    """A body, or a list of them, without who manages which field. A patch stays as it was sent."""
    if not isinstance(body, dict):
        return body
    metadata, items = body.get("metadata"), body.get("items")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        left = {key: value for key, value in metadata.items() if key != "managedFields"}
        body = {**body, "metadata": left}
    if isinstance(items, list):
        body = {**body, "items": [_unmanaged(item) for item in items]}
    return body


def measure(policy: Policy, lines: Iterable[bytes]) -> Volume:
    """What ``policy`` would have kept of canonical lines (one audit.k8s.io/v1 Event each)."""
    asked = Filter(policy)
    rules: dict[int | None, Ruled] = {}
    grave: Counter[str] = Counter()
    poorer = 0
    for line in lines:
        event = msgspec.json.decode(line)
        decision = asked.decide(event)
        ruled = rules.get(decision.rule)
        if ruled is None:
            ruled = Ruled(policy.line(decision), decision.level, Share(), Share())
            rules[decision.rule] = ruled
        ruled.logged.add(len(line))
        found = written(event, decision)
        if found is not None:
            ruled.kept.add(len(msgspec.json.encode(found)))
            poorer += LEVELS.index(event.get("level", "Metadata")) < LEVELS.index(decision.level)
        elif decision.level == "None":
            grave.update(_grave(event))
    return Volume(
        total(one.logged for one in rules.values()),
        total(one.kept for one in rules.values()),
        poorer,
        tuple(sorted(rules.values(), key=lambda one: -one.logged.bytes)),
        dict(grave.most_common()),
    )


def total(shares: Iterable[Share]) -> Share:
    """All of them together."""
    result = Share()
    for share in shares:
        result.events += share.events
        result.bytes += share.bytes
    return result


def _grave(event: Event) -> Iterator[str]:
    """What was done by a request, in words, if attacks are made of that."""
    asked = request(event)
    resource = f"{asked.resource}.{asked.api_group}" if asked.api_group else asked.resource
    found = technique(asked.verb, resource, asked.subresource, asked.namespace)
    if event["stage"] == "ResponseComplete" and found.weight >= GRAVE:
        yield found.did
