"""Server-side apply: a configuration merged by field manager.

Whoever applies states all fields they want to own. Those fields are set; those that they applied
before, state no more and own alone are removed. Who owns what stands in ``metadata.managedFields``.
Source: KEP-555; the list keys are the ``listMapKey`` and ``mapType`` tags of k8s.io/api. Lists of
custom resources may be merged or not: their definition decides, and it is not in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kubewitness.forensics.objects.knowledge import AMBIGUOUS, Open, OpenList, Place, Unknown, child
from kubewitness.forensics.objects.strategic import merge_key

_SECOND_KEYS = {"containerPort": "protocol", "port": "protocol", "topologyKey": "whenUnsatisfiable"}
_ATOMIC_MAPS = frozenset(
    {
        *("selector", "labelSelector", "nodeSelector", "secretKeyRef", "configMapKeyRef"),
        *("fieldRef", "resourceFieldRef", "roleRef", "secretRef", "configMapRef", "claimRef"),
        *("namespaceSelector", "objectSelector", "podSelector", "nodeAffinity"),
    }
)
_ABSENT = object()

RELEASED = "not in what was applied: removed, unless somebody else had set it"

Fields = Mapping[str, Any]


def applied(base: Any, config: dict[str, Any], manager: str, *, custom: bool) -> dict[str, Any]:
    """``base`` after ``manager`` applied ``config``."""
    metadata = child(base, "metadata")
    managed = metadata.get("managedFields", Unknown("") if isinstance(metadata, Open) else [])
    if isinstance(managed, list):
        mine, others = _owned(managed, manager)
        kept = _released(base, mine, config, others)
    else:
        kept = _stated(base, config, (), custom)
    result: dict[str, Any] = _merged(kept, config, (), custom)
    return result


def manager_of(managed: Any, manager: str) -> bool:
    """Whether ``metadata.managedFields`` names ``manager`` as one that applies."""
    return isinstance(managed, list) and any(
        entry.get("manager") == manager and entry.get("operation") == "Apply" for entry in managed
    )


def _owned(managed: list[Any], manager: str) -> tuple[Fields, list[Fields]]:
    mine: Fields = {}
    others: list[Fields] = []
    for entry in managed:
        fields = entry.get("fieldsV1") or {}
        if (
            entry.get("manager") == manager
            and entry.get("operation") == "Apply"
            and not entry.get("subresource")
        ):
            mine = fields
        else:
            others.append(fields)
    return mine, others


def _released(base: Any, mine: Fields, config: Any, others: list[Fields]) -> Any:
    """``base`` without what the manager owned alone and does not state any more."""
    if isinstance(base, dict):
        result = type(base)(base)
        for key, below in mine.items():
            name = key.removeprefix("f:")
            if name == key or name not in base:
                continue
            stated = isinstance(config, dict) and name in config
            shared = [fields[key] for fields in others if key in fields]
            if not set(below) <= {"."}:
                stays = config[name] if stated else None
                result[name] = _released(base[name], below, stays, shared)
            if not stated and not shared and (set(below) <= {"."} or not result[name]):
                del result[name]
        return result
    if isinstance(base, list):
        kept = (_released_item(item, mine, config, others) for item in base)
        return type(base)(item for item in kept if item is not None)
    return base


def _released_item(item: Any, mine: Fields, config: Any, others: list[Fields]) -> Any:
    """The same of an element of a list; ``None`` for one that is removed."""
    for key, below in mine.items():
        if key == f"v:{msgspec.json.encode(item).decode()}":
            owned_alone = not any(key in fields for fields in others)
            return None if owned_alone and item not in (config or ()) else item
        if key.startswith("k:") and _matches(item, identity := msgspec.json.decode(key[2:])):
            stated = next((one for one in config or () if _matches(one, identity)), None)
            shared = [fields[key] for fields in others if key in fields]
            if stated is None and not shared:
                return None
            return _released(item, below, stated, shared)
    return item


def _stated(base: Any, config: Any, path: Place, custom: bool) -> Any:
    """What of ``base`` surely stays where nobody knows who owned what: all that is stated again."""
    if isinstance(base, dict) and isinstance(config, dict):
        return type(base)(
            (key, _stated(item, config[key], (*path, key), custom))
            if key in config
            else (key, Unknown(RELEASED))
            for key, item in base.items()
        )
    if isinstance(base, list) and isinstance(config, list) and not _undefined(path, custom):
        kept = []
        for item in base:
            alike = (one for one in config if item == one or _matches(item, _identity(one, path)))
            if (stated := next(alike, _ABSENT)) is not _ABSENT:
                kept.append(_stated(item, stated, (*path, 0), custom))
        return (type(base) if len(kept) == len(base) else OpenList)(kept)
    return base


def _merged(base: Any, config: Any, path: Place, custom: bool) -> Any:
    if isinstance(config, dict):
        if path and path[-1] in _ATOMIC_MAPS and not custom:
            return config
        below = base if isinstance(base, dict) else Open()
        result = type(below)(below)
        for name, value in config.items():
            if isinstance(value, dict | list):
                there = child(below, name)
                result[name] = _merged(there, value, (*path, name), custom)
            elif value is not None:
                result[name] = value
        return result
    if isinstance(config, list):
        return _merged_list(base, config, path, custom)
    return config


def _merged_list(base: Any, config: list[Any], path: Place, custom: bool) -> Any:
    if not isinstance(base, list):
        base = OpenList() if isinstance(base, Open | Unknown) else []
    if path == ("metadata", "finalizers"):
        return type(base)([*base, *(item for item in config if item not in base)])
    if _undefined(path, custom):
        return config if config == base or not base else Unknown(AMBIGUOUS)
    if not merge_key(path):
        return config
    result = type(base)(base)
    for item in config:
        identity = _identity(item, path)
        place = next((n for n, one in enumerate(result) if _matches(one, identity)), None)
        if place is None:
            result.append(item)
        else:
            result[place] = _merged(result[place], item, (*path, 0), custom)
    return result


def _undefined(path: Place, custom: bool) -> bool:
    """Whether a list may be merged or not, and only the definition of its resource tells."""
    return custom and path[:1] != ("metadata",)


def _identity(item: Any, path: Place) -> dict[str, Any]:
    """By what an element of a list is the same as before; of plain values, and of lists that are
    one value, nothing."""
    key = merge_key(path)
    if not key or not isinstance(item, dict):
        return {}
    keys = (key, _SECOND_KEYS[key]) if key in _SECOND_KEYS else (key,)
    return {name: _key(item, name) for name in keys}


def _matches(item: Any, identity: Mapping[str, Any]) -> bool:
    return (
        isinstance(item, dict)
        and bool(identity)
        and all(_key(item, k) == v for k, v in identity.items())
    )


def _key(item: Mapping[str, Any], name: str) -> Any:
    return item.get(name, "TCP" if name == "protocol" else None)
