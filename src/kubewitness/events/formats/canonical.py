"""One event as every later stage expects it: audit.k8s.io/v1, each field of its type.

Whatever arrives, a field of the wrong type is coerced where the meaning is plain and dropped
where it is not, field by field, and each time the event carries a note of it: an event is not
lost because somebody upstream turned its user agent into a number. Source:
https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from kubewitness.events.formats.decoding import UndecodableError, decode
from kubewitness.events.formats.outcome import Broken, Event, Found
from kubewitness.events.formats.times import timestamp

BODY_LIMIT = 16 << 20
"""Bytes of one event as JSON; of a longer one the request and response object are dropped."""

_LEVELS = {level.lower(): level for level in ("None", "Metadata", "Request", "RequestResponse")}
_OBJECT_REF = (
    "resource",
    "namespace",
    "name",
    "uid",
    "apiGroup",
    "apiVersion",
    "resourceVersion",
    "subresource",
)
_Notes: TypeAlias = list[str]


def canonical(raw: Mapping[str, Any], *, cluster: str = "") -> Found | Broken:
    """The event that ``raw`` holds under the v1 names (older versions' ``timestamp`` included).

    An event needs a verb, a requestURI or an objectRef, and a time; without them it is broken.
    Level, stage and auditID are inferred where they are absent, the auditID from the content, so
    that the same event always gets the same one.
    """
    notes: _Notes = []
    event: Event = {"kind": "Event", "apiVersion": "audit.k8s.io/v1"}
    for field, coerce in _FIELDS.items():
        value = raw.get(field)
        if value is not None and (kept := coerce(value, field, notes)) is not None:
            event[field] = kept
    if cluster:
        event["cluster"] = _scrub(cluster)
    if not event.get("verb"):
        return Broken("audit event without verb")
    if not event.get("requestURI") and not event.get("objectRef"):
        return Broken("audit event without requestURI and objectRef")
    reason = _set_times(event, raw, notes)
    if reason:
        return Broken(reason)
    event.setdefault("stage", "ResponseComplete")
    if "level" not in event:
        event["level"] = _level(event)
    if not event.get("auditID"):
        notes.append("auditID: absent, derived from the content")
        event["auditID"] = f"derived-{hashlib.sha256(encode(event)).hexdigest()[:32]}"
    return Found(event, tuple(dict.fromkeys(notes)))


def encode(event: Event) -> bytes:
    """``event`` as one line of JSON, without the newline, that every reader accepts."""
    try:
        return msgspec.json.encode(event)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        return msgspec.json.encode(_scrubbed(event))


def _scrubbed(value: Any) -> Any:
    """``value`` without what JSON cannot say: half surrogate pairs, keys that are no text."""
    if isinstance(value, str):
        return _scrub(value)
    if isinstance(value, Mapping):
        return {_scrub(str(key)): _scrubbed(member) for key, member in value.items()}
    if isinstance(value, list | tuple | set):
        return [_scrubbed(member) for member in value]
    return value


def _scrub(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _level(event: Event) -> str:
    if "responseObject" in event:
        return "RequestResponse"
    return "Request" if "requestObject" in event else "Metadata"


def _set_times(event: Event, raw: Mapping[str, Any], notes: _Notes) -> str:
    """Fills both timestamps from whichever there is; the reason where there is none."""
    metadata = raw.get("metadata")
    created = metadata.get("creationTimestamp") if isinstance(metadata, Mapping) else None
    fallbacks = (raw.get("timestamp"), created, raw.get("@timestamp"))
    written = {
        "stageTimestamp": raw.get("stageTimestamp"),
        "requestReceivedTimestamp": raw.get("requestReceivedTimestamp"),
    }
    times = {field: timestamp(value) for field, value in written.items()}
    for field, value in written.items():
        if value is not None and times[field] is None:
            notes.append(f"{field}: dropped, no time between 2000 and 2100")
    spare = next(filter(None, map(timestamp, fallbacks)), None)
    stage = times["stageTimestamp"] or spare or times["requestReceivedTimestamp"]
    received = times["requestReceivedTimestamp"] or spare or stage
    if stage is None or received is None:
        seen = any(value is not None for value in (*written.values(), *fallbacks))
        return "absurd timestamp" if seen else "audit event without timestamp"
    event["requestReceivedTimestamp"], event["stageTimestamp"] = received, stage
    return ""


def _text(value: Any, field: str, notes: _Notes) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        notes.append(f"{field}: coerced to text")
        return str(value).lower() if isinstance(value, bool) else str(value)
    notes.append(f"{field}: dropped, no text")
    return None


def _verb(value: Any, field: str, notes: _Notes) -> str | None:
    verb = _text(value, field, notes)
    return verb.strip().lower() if verb else None


def _known_level(value: Any, field: str, notes: _Notes) -> str | None:
    level = _LEVELS.get(value.lower()) if isinstance(value, str) else None
    if level is None:
        notes.append(f"{field}: dropped, no audit level")
    return level


def _texts(value: Any, field: str, notes: _Notes) -> list[str] | None:
    value = _embedded(value, "[")
    if isinstance(value, str | int | float):
        notes.append(f"{field}: coerced to a list")
        value = [value]
    if not isinstance(value, list):
        notes.append(f"{field}: dropped, no list")
        return None
    items = (_text(item, field, notes) for item in value if item is not None)
    return [item for item in items if item is not None]


def _addresses(value: Any, field: str, notes: _Notes) -> list[str] | None:
    if isinstance(value, str) and "," in value and not value.lstrip().startswith("["):
        notes.append(f"{field}: coerced to a list")
        value = [part.strip() for part in value.split(",") if part.strip()]
    return _texts(value, field, notes)


def _embedded(value: Any, opening: str) -> Any:
    """What ``value`` says where a table or a store kept a structure as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith(opening):
        try:
            return decode(value.encode("utf-8", "replace"))
        except UndecodableError:
            return value
    return value


def _object(value: Any, field: str, notes: _Notes) -> Mapping[str, Any] | None:
    value = _embedded(value, "{")
    if isinstance(value, Mapping):
        return value
    if value != "":
        notes.append(f"{field}: dropped, no object")
    return None


def _members(
    value: Any,
    field: str,
    notes: _Notes,
    coerce: Callable[[Any, str, _Notes], Any],
) -> dict[str, Any] | None:
    """A map whose keys are data: they are kept out of the notes."""
    members = _object(value, field, notes)
    if members is None:
        return None
    kept = (
        (str(key), coerce(member, field, notes))
        for key, member in members.items()
        if member is not None
    )
    return {key: member for key, member in kept if member is not None}


def _annotation(value: Any, field: str, notes: _Notes) -> str | None:
    if isinstance(value, Mapping | list):
        notes.append(f"{field}: coerced to text")
        return msgspec.json.encode(_scrubbed(value)).decode()
    return _text(value, field, notes)


def _annotations(value: Any, field: str, notes: _Notes) -> dict[str, str] | None:
    return _members(value, field, notes, _annotation)


def _extra(value: Any, field: str, notes: _Notes) -> dict[str, list[str]] | None:
    return _members(value, field, notes, _texts)


_USER: dict[str, Callable[[Any, str, _Notes], Any]] = {
    "username": _text,
    "uid": _text,
    "groups": _texts,
    "extra": _extra,
}


def _user(value: Any, field: str, notes: _Notes) -> dict[str, Any] | None:
    value = _embedded(value, "{")
    if isinstance(value, str) and value:
        notes.append(f"{field}: coerced to an object")
        return {"username": value}
    members = _object(value, field, notes)
    if members is None:
        return None
    user: dict[str, Any] = {}
    for name, coerce in _USER.items():
        member = members.get(name)
        if member is not None and (kept := coerce(member, f"{field}.{name}", notes)) is not None:
            user[name] = kept
    return user


def _object_ref(value: Any, field: str, notes: _Notes) -> dict[str, str] | None:
    members = _object(value, field, notes)
    if members is None:
        return None
    ref: dict[str, str] = {}
    for name in _OBJECT_REF:
        member = members.get(name)
        if member is not None and (text := _text(member, f"{field}.{name}", notes)):
            ref[name] = text
    return ref or None


def _status(value: Any, field: str, notes: _Notes) -> dict[str, Any] | None:
    value = _embedded(value, "{")
    members = {"code": value} if isinstance(value, int | str) else _object(value, field, notes)
    if members is None:
        return None
    status: dict[str, Any] = {}
    for name in ("status", "reason", "message"):
        member = members.get(name)
        if member is not None and (text := _text(member, f"{field}.{name}", notes)):
            status[name] = text
    code = members.get("code")
    if code is not None and (kept := _code(code, f"{field}.code", notes)) is not None:
        status["code"] = kept
    return status


def _code(value: Any, field: str, notes: _Notes) -> int | None:
    try:
        code = int(value) if isinstance(value, int | float | str) else -1
    except (ValueError, OverflowError):
        code = -1
    if not 0 <= code <= 999:
        notes.append(f"{field}: dropped, no HTTP status")
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        notes.append(f"{field}: coerced to a number")
    return code


def _body(value: Any, field: str, notes: _Notes) -> Any:
    return _embedded(value, "{")


_FIELDS: dict[str, Callable[[Any, str, _Notes], Any]] = {
    "cluster": _text,
    "level": _known_level,
    "auditID": _text,
    "stage": _text,
    "requestURI": _text,
    "verb": _verb,
    "user": _user,
    "impersonatedUser": _user,
    "sourceIPs": _addresses,
    "userAgent": _text,
    "objectRef": _object_ref,
    "responseStatus": _status,
    "requestObject": _body,
    "responseObject": _body,
    "annotations": _annotations,
}
