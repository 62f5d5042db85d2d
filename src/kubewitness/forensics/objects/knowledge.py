"""What is known of an object: JSON in which some places are not known, and say so.

A log tells of an object in parts. An answer of the API server is the whole of it; a request holds
what was asked for, without what the server filled in; a patch holds a few fields. So a value is

- plain JSON, known to the last field,
- an ``Open`` map or ``OpenList``: what it holds is known, there may be more in it,
- ``Unknown``: something may stand there, and nobody can tell what from this log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Place = tuple[str | int, ...]

DEFAULTED = "what the API server fills in is not in a request"
NEVER_SEEN = "the object as it was before was never logged"
AMBIGUOUS = "the log does not say which kind of patch it was, and they differ here"
REMOVED = "removed by the request, or back at the server's default"

# Below these, what is removed is gone: no default comes back.
_WITHOUT_DEFAULTS = frozenset(
    {"metadata", "labels", "annotations", "data", "binaryData", "nodeSelector", "matchLabels"}
)
# What the API server may write as well as leave out.
EMPTY: tuple[Any, ...] = ({}, [], None)

# By what the elements of a list of maps are told apart, the first that all of them have.
_ELEMENT_KEYS = (
    *("name", "type", "containerPort", "port", "mountPath", "devicePath", "uid", "ip", "key"),
    "topologyKey",
)


class Open(dict[str, Any]):
    """A map that may hold more than is known."""


class OpenList(list[Any]):
    """A list that may hold more than is known."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that cannot be known, and why."""

    reason: str


def child(parent: Any, key: str) -> Any:
    """What stands at ``key`` of a map, to be merged into: an empty map where nothing does."""
    if isinstance(parent, dict) and key in parent and not isinstance(parent[key], Unknown):
        return parent[key]
    known = isinstance(parent, dict) and not isinstance(parent, Open) and key not in parent
    return {} if known else Open()


def requested(value: Any, key: str | int = "") -> Any:
    """A value as a request has it: the API server may have filled in more.

    Lists of maps (volumes, tolerations) and finalizers are what admission adds to; a list of plain
    values (a command) is what it is. A ``null`` asks for nothing.
    """
    if isinstance(value, dict):
        return Open(
            {name: requested(item, name) for name, item in value.items() if item is not None}
        )
    if isinstance(value, list) and (key == "finalizers" or _maps(value)):
        return OpenList(requested(item) for item in value)
    return value


def as_requested(before: Any, after: Any, path: Place = ()) -> Any:
    """``after`` a request took effect on ``before``: what it left alone stays known, what it
    brought is as requested, what it took away may be back as a default."""
    if isinstance(before, Unknown) or isinstance(after, Unknown):
        return after if isinstance(after, Unknown) else requested(after, path[-1] if path else "")
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, Any] = Open() if isinstance(before, Open) else {}
        for key, item in after.items():
            if item is None and key in before and before[key] is None:
                found[key] = None  # some fields are written even where there is nothing
            elif item is not None:
                fresh = requested(item, key)
                found[key] = (
                    as_requested(before[key], item, (*path, key)) if key in before else fresh
                )
        if not _WITHOUT_DEFAULTS & set(path):
            gone = (k for k in before if before[k] is not None and after.get(k) is None)
            found.update((key, Unknown(REMOVED)) for key in gone)
        return found
    if isinstance(before, list) and isinstance(after, list) and _maps(after):
        key = element_key(before, after)
        known = {item[key]: item for item in before} if key else {}
        items = (
            as_requested(known[item[key]], item, (*path, 0))
            if key and item[key] in known
            else requested(item)
            for item in after
        )
        opened = isinstance(before, OpenList) or isinstance(after, OpenList)
        return OpenList(items) if opened else list(items)
    return before if before == after else requested(after, path[-1] if path else "")


def agreed(one: Any, other: Any) -> Any:
    """What two readings of the same log have in common."""
    if isinstance(one, dict) and isinstance(other, dict):
        common: dict[str, Any] = Open() if isinstance(one, Open) or isinstance(other, Open) else {}
        for key in {**one, **other}:
            both = key in one and key in other
            common[key] = agreed(one[key], other[key]) if both else Unknown(AMBIGUOUS)
        return common
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other) and _maps(one):
        return type(one)(agreed(left, right) for left, right in zip(one, other, strict=True))
    return one if one == other and type(one) is type(other) else Unknown(AMBIGUOUS)


def element_key(one: list[Any], other: list[Any]) -> str:
    """The field that tells the elements of both lists apart, '' if there is none.

    >>> element_key([{"name": "a", "port": 1}], [{"name": "b"}]), element_key(["a"], [])
    ('name', '')
    """
    if not _maps([*one, *other]):
        return ""
    for key in _ELEMENT_KEYS:
        if all(_is_name(item.get(key)) for item in (*one, *other)) and all(
            len({item[key] for item in items}) == len(items) for items in (one, other)
        ):
            return key
    return ""


def known(value: Any) -> Any:
    """The plain JSON of what is known, without what is not."""
    if isinstance(value, dict):
        return {k: known(item) for k, item in value.items() if not isinstance(item, Unknown)}
    if isinstance(value, list):
        return [known(item) for item in value if not isinstance(item, Unknown)]
    return None if isinstance(value, Unknown) else value


def fits(value: Any, whole: Any) -> bool:
    """Whether an object that is ``whole`` contradicts nothing that is known of it.

    >>> fits(Open(a=1, b=Unknown("")), {"a": 1, "c": 2}), fits({"a": 1}, {"a": 1, "c": 2})
    (True, False)
    """
    if isinstance(value, Unknown):
        return True
    if isinstance(value, dict) and isinstance(whole, dict):
        more = isinstance(value, Open) or all(key in value or whole[key] in EMPTY for key in whole)
        return more and all(
            fits(item, whole[key]) if key in whole else _may_be_absent(item)
            for key, item in value.items()
        )
    if isinstance(value, OpenList) and isinstance(whole, list):
        return all(any(fits(item, one) for one in whole) for item in value)
    if isinstance(value, list) and isinstance(whole, list):
        return len(value) == len(whole) and all(map(fits, value, whole))
    return bool(value == whole)


def gaps(
    value: Any, more: str = DEFAULTED, path: Place = (), *, within: bool = False
) -> Iterator[tuple[Place, str]]:
    """Every place that is not known, and why; ``more`` is why open maps may hold more, and of
    those within each other only the outermost is named."""
    if isinstance(value, Unknown):
        yield path, value.reason
        return
    if isinstance(value, Open | OpenList) and not within:
        yield (*path, "*"), more
        within = True
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list) and _maps(value):
        key = element_key(value, [])
        items = [(f"[{item[key]}]" if key else n, item) for n, item in enumerate(value)]
    for name, item in items:
        yield from gaps(item, more, (*path, name), within=within)


def written(path: Place) -> str:
    """A path as people write it.

    >>> written(("spec", "containers", "[web]", "image")), written(("metadata", "labels", "a.b/c"))
    ('spec.containers[web].image', 'metadata.labels["a.b/c"]')
    >>> written(("data", "*")), written(())
    ('data.*', '.')
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.startswith("[") and part.endswith("]"):
            text += part
        elif part == "*" or part.replace("-", "").replace("_", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += '["' + part.replace('"', '\\"') + '"]'
    return text or "."


def _may_be_absent(value: Any) -> bool:
    """Whether nothing is known to stand there."""
    return isinstance(value, Unknown) or known(value) in EMPTY


def _maps(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) for item in items)


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
