"""What differs between two states of an object, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct

from kubewitness.forensics.objects.knowledge import (
    EMPTY,
    Open,
    OpenList,
    Place,
    Unknown,
    element_key,
    known,
    written,
)
from kubewitness.forensics.objects.patch import same

# What every write changes, and nobody wrote.
BOOKKEEPING = frozenset({"resourceVersion", "managedFields", "generation", "selfLink"})

_ABSENT = object()


class Field(Struct, frozen=True, omit_defaults=True):
    """One field that differs.

    ``op`` is ``add``, ``remove`` or ``replace``; ``set`` where only what it is afterwards is known,
    and ``unknown`` where not even that is. ``why`` says why not.
    """

    path: str
    op: Literal["add", "remove", "replace", "set", "unknown"]
    before: Any = None
    after: Any = None
    why: str = ""


def differences(before: Any, after: Any) -> tuple[Field, ...]:
    """The fields in which two states (JSON as in ``knowledge``) differ, bookkeeping left out.

    >>> [(one.path, one.op) for one in differences({"spec": {"a": 1}}, {"spec": {"b": 1}})]
    [('spec.a', 'remove'), ('spec.b', 'add')]
    """
    return tuple(_differences(before, after, ()))


def _differences(before: Any, after: Any, path: Place) -> Iterator[Field]:
    if isinstance(after, Unknown):
        if not isinstance(before, Unknown):
            yield Field(written(path), "unknown", _plain(before), why=after.reason)
    elif isinstance(before, Unknown):
        yield Field(written(path), "set", after=_plain(after), why=before.reason)
    elif isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            if path != ("metadata",) or key not in BOOKKEEPING:
                left, right = _at(before, key), _at(after, key)
                yield from _member(left, right, before, after, (*path, key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _elements(before, after, path)
    elif not same(before, after):
        yield Field(written(path), "replace", _plain(before), _plain(after))


def _member(left: Any, right: Any, before: Any, after: Any, path: Place) -> Iterator[Field]:
    if (right is _ABSENT and left in EMPTY) or (left is _ABSENT and right in EMPTY):
        return
    if right is _ABSENT:
        # What is missing in something known in part may be there all the same.
        if not isinstance(after, Open | OpenList) and not isinstance(left, Unknown):
            yield Field(written(path), "remove", before=_plain(left))
    elif left is _ABSENT:
        if isinstance(right, Unknown):
            return
        if isinstance(before, Open | OpenList):
            yield Field(written(path), "set", after=_plain(right))
        else:
            yield Field(written(path), "add", after=_plain(right))
    else:
        yield from _differences(left, right, path)


def _elements(before: list[Any], after: list[Any], path: Place) -> Iterator[Field]:
    key = element_key(before, after)
    if not key:
        if not same(before, after):
            yield Field(written(path), "replace", _plain(before), _plain(after))
        return
    left, right = ({item[key]: item for item in items} for items in (before, after))
    for name in {**left, **right}:
        one, other = left.get(name, _ABSENT), right.get(name, _ABSENT)
        yield from _member(one, other, before, after, (*path, f"[{name}]"))


def _at(value: dict[str, Any], key: str) -> Any:
    return value.get(key, _ABSENT)


def _plain(value: Any) -> Any:
    return known(value)
