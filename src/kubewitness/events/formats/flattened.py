"""Events whose structure was flattened to dotted names, as VictoriaLogs and Kibana's CSV have it.

``{"audit.user.username":…,"audit.annotations.authorization.k8s.io/decision":…}``: the known names
of an event say where a dot separates and where it belongs to a key. Request and response objects
have names that nobody can tell from keys with dots, so they are not rebuilt, which the event notes.
Shape: https://github.com/k0rdent/kof/issues/980.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubewitness.events.formats.canonical import canonical
from kubewitness.events.formats.elastic import dotted
from kubewitness.events.formats.outcome import Found, Part

_PREFIXES = (
    "",
    "audit.",
    "kubernetes.audit.",
    "_source.kubernetes.audit.",
    "log.",
    "log_processed.",
)
_MAPS = ("annotations.", "user.extra.", "impersonatedUser.extra.")
_STRUCTS = ("user.", "impersonatedUser.", "objectRef.", "responseStatus.")
_BODIES = ("requestObject.", "responseObject.")


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    for prefix in _PREFIXES:
        nested = f"{prefix}objectRef.resource" in value or f"{prefix}user.username" in value
        if f"{prefix}verb" in value and (prefix or nested):
            return (_event(value, prefix),)
    return None


def _event(value: Mapping[str, Any], prefix: str) -> Part:
    event: dict[str, Any] = {"timestamp": value.get("@timestamp", value.get("_time"))}
    bodies = False
    for name, member in value.items():
        if not name.startswith(prefix) or member in ("", "-", None):
            continue
        path = name[len(prefix) :]
        bodies = bodies or path.startswith(_BODIES)
        _place(event, path, member)
    outcome = canonical(event)
    if bodies and isinstance(outcome, Found):
        note = "requestObject, responseObject: dropped, flattened"
        return Found(outcome.event, (*outcome.notes, note))
    return outcome


def _place(event: dict[str, Any], path: str, member: Any) -> None:
    for start in _MAPS:
        if path.startswith(start):
            owner = event
            for step in start.split(".")[:-1]:
                owner = _child(owner, step)
            owner[dotted(path[len(start) :])] = member
            return
    if path.startswith(_STRUCTS):
        struct, _, field = path.partition(".")
        _child(event, struct)[field] = member
    elif "." not in path:
        event[path] = member


def _child(owner: dict[str, Any], name: str) -> dict[str, Any]:
    child = owner.get(name)
    if not isinstance(child, dict):
        child = owner[name] = {}
    return child
