"""Lists and wrappers: EventList, ``items``, and the boxes that analysts put events into.

The audit webhook posts ``{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[…]}``, whose
items have no kind or apiVersion of their own. Analysts' extracts wrap events as ``{"event":{…}}``,
``{"raw_event":{…}}`` and ``{"suspicious_events":[…]}``; Splunk's HEC posts ``{"event":…}`` too,
with the event as an object or as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubewitness.events.formats.outcome import Inner, Part

_WRAPPERS = ("event", "raw_event", "suspicious_events", "audit_event", "auditEvent")


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    items = value.get("items")
    if isinstance(items, list) and value.get("kind") in (None, "EventList"):
        return map(Inner, items)
    for name in _WRAPPERS:
        inner = value.get(name)
        if isinstance(inner, Mapping | str):
            return (Inner(inner),)
        if isinstance(inner, list):
            return map(Inner, inner)
    return None
