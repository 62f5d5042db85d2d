"""Strategic merge patch: a merge patch that knows which lists of the well-known types are merged.

Source: k8s.io/apimachinery, pkg/util/strategicpatch; the keys are the ``patchMergeKey`` tags of
k8s.io/api. What has none is replaced as a whole. Custom resources have no strategic merge patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubewitness.forensics.objects.knowledge import Open, OpenList, Place, Unknown, child

# Fields of these names are merged by this key wherever they stand in a well-known type…
_MERGE_KEYS = {
    **dict.fromkeys(("containers", "initContainers", "ephemeralContainers", "volumes"), "name"),
    **dict.fromkeys(("env", "resourceClaims", "schedulingGates", "webhooks"), "name"),
    "matchConditions": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "topologySpreadConstraints": "topologyKey",
    "hostAliases": "ip",
    "podIPs": "ip",
    "hostIPs": "ip",
    "conditions": "type",
    "addresses": "type",
    "ownerReferences": "uid",
}
# … and of these names depending on what they stand in.
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_MERGED_PRIMITIVES = frozenset({"finalizers", "podCIDRs"})

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def merge_key(path: Place) -> str:
    """The field by which the elements of the list at ``path`` are merged, '' where the list is
    replaced.

    >>> merge_key(("spec", "ports")), merge_key(("spec", "containers", 0, "ports"))
    ('port', 'containerPort')
    >>> merge_key(("spec", "tolerations"))
    ''
    """
    names = [part for part in path if isinstance(part, str)]
    name, parent = names[-1], names[-2] if len(names) > 1 else ""
    if name == "ports":
        if parent in _CONTAINERS:
            return "containerPort"
        return "port" if names == ["spec", "ports"] else ""
    if name == "imagePullSecrets":
        return "name" if parent == "spec" else ""
    if name == "secrets":
        return "name" if not parent else ""
    return _MERGE_KEYS.get(name, "")


def is_strategic(patch: Any) -> bool:
    """Whether a patch holds directives that no other kind of patch has.

    >>> is_strategic({"spec": {"$retainKeys": ["type"]}}), is_strategic({"spec": {"replicas": 2}})
    (True, False)
    """
    if isinstance(patch, dict):
        return any(key.startswith("$") or is_strategic(value) for key, value in patch.items())
    return isinstance(patch, list) and any(map(is_strategic, patch))


def strategic_patched(document: Any, patch: dict[str, Any], path: Place = ()) -> dict[str, Any]:
    """``document`` (a map, or what is known of one) after a strategic merge patch.

    >>> strategic_patched(
    ...     {"containers": [{"name": "web", "image": "a"}, {"name": "log"}]},
    ...     {"containers": [{"name": "web", "image": "b"}, {"name": "log", "$patch": "delete"}]})
    {'containers': [{'name': 'web', 'image': 'b'}]}
    """
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    base = document if isinstance(document, dict) else Open()
    result: dict[str, Any] = type(base)(base)
    if "$retainKeys" in patch:
        kept = patch["$retainKeys"]
        result = {key: value for key, value in result.items() if key in kept}
    for key, value in patch.items():
        if key.startswith(_DELETE):
            _delete_from(result, key.removeprefix(_DELETE), value)
        elif key.startswith("$"):
            continue
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = strategic_patched(child(result, key), value, (*path, key))
        elif isinstance(value, list):
            result[key] = _merged(child(result, key), value, (*path, key))
        else:
            result[key] = value
    for key, order in patch.items():
        name = key.removeprefix(_ORDER)
        if key.startswith(_ORDER) and isinstance(result.get(name), list):
            before = base.get(name)
            was = before if isinstance(before, list) else []
            result[name] = _ordered(result[name], order, was, merge_key((*path, name)))
    return result


def _delete_from(result: dict[str, Any], name: str, values: list[Any]) -> None:
    items = result.get(name)
    if isinstance(items, list):
        result[name] = type(items)(item for item in items if item not in values)
        if not result[name] and not isinstance(items, OpenList):
            del result[name]


def _merged(base: Any, items: list[Any], path: Place) -> list[Any]:
    key = merge_key(path)
    # ``child`` stands in for a list with a map, open where nothing is known.
    if not isinstance(base, list):
        base = OpenList() if isinstance(base, Open | Unknown) else []
    if path[-1] in _MERGED_PRIMITIVES:
        union: list[Any] = type(base)([*base, *(item for item in items if item not in base)])
        return union
    plain = [item for item in items if item != {"$patch": "replace"}]
    if not key or len(plain) < len(items):
        return plain
    merged: list[Any] = type(base)(base)
    for item in items:
        name = item.get(key)
        places = [n for n, one in enumerate(merged) if one.get(key) == name]
        if item.get("$patch") == "delete":
            merged = type(base)(one for n, one in enumerate(merged) if n not in places)
        elif places:
            merged[places[0]] = strategic_patched(merged[places[0]], item, (*path, 0))
        else:
            fresh = Open() if isinstance(base, OpenList) else {}
            merged.append(strategic_patched(fresh, item, (*path, 0)))
    return merged


def _ordered(items: list[Any], order: Sequence[Any], before: list[Any], key: str) -> list[Any]:
    """``items`` in the order that the patch asks for; those it does not name stay, as far as
    possible, where the server had them (normalizeElementOrder)."""

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [name(item) for item in order]
    was = [name(item) for item in before]
    named = sorted(
        (item for item in items if name(item) in wanted), key=lambda item: wanted.index(name(item))
    )
    others = [item for item in items if name(item) not in wanted]
    result: list[Any] = type(items)()
    while named and others:
        left, right = name(others[0]), name(named[0])
        first = left in was and right in was and was.index(left) < was.index(right)
        result.append((others if first else named).pop(0))
    result.extend([*named, *others])
    return result
