"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386), on documents known in part.

On plain JSON they do what the RFCs say. Where a document is not known, the patch is all there is:
the API server accepted it, so what it points to was there. Documents are never changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kubewitness.errors import KubewitnessError
from kubewitness.forensics.objects.knowledge import NEVER_SEEN, Open, OpenList, Unknown, child

_INDEX_TOKENS = frozenset("0123456789")
_ABSENT = object()


class PatchError(KubewitnessError):
    """A patch that does not fit the document it is applied to."""


def merge_patched(document: Any, patch: Any) -> Any:
    """``document`` after a JSON merge patch.

    >>> merge_patched({"a": 1, "b": {"c": 2}}, {"a": None, "b": {"d": 3}})
    {'b': {'c': 2, 'd': 3}}
    """
    if not isinstance(patch, dict):
        return patch
    base = {} if not isinstance(document, dict) else document
    if isinstance(document, Unknown):
        base = Open()
    result = type(base)(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merge_patched(child(base, key), value)
        else:
            result[key] = value
    return result


def json_patched(document: Any, operations: Sequence[Any]) -> Any:
    """``document`` after the operations of a JSON patch, one after another.

    Raises ``PatchError`` where one does not fit what is known.

    >>> json_patched({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}])
    {'a': [1, 2]}
    """
    for operation in operations:
        try:
            document = _operated(document, operation)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise PatchError(f"a JSON patch does not fit: {operation!r}") from error
    return document


def pointer(text: str) -> list[str]:
    """The tokens of a JSON pointer (RFC 6901).

    >>> pointer("/metadata/annotations/a~1b~0c")
    ['metadata', 'annotations', 'a/b~c']
    """
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r} is no JSON pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]]


def _operated(document: Any, operation: dict[str, Any]) -> Any:
    tokens, value = pointer(operation["path"]), operation.get("value")
    match operation["op"]:
        case "add":
            result = _added(document, tokens, operation["value"])
        case "replace":
            result = _replaced(document, tokens, operation["value"])
        case "remove":
            result = _removed(document, tokens)
        case "move":
            source = pointer(operation["from"])
            if tokens[: len(source)] == source and tokens != source:
                raise ValueError("moved into itself")
            result = _added(_removed(document, source), tokens, _found(document, source))
        case "copy":
            result = _added(document, tokens, _found(document, pointer(operation["from"])))
        case "test":
            found = _found(document, tokens)
            if not isinstance(found, Unknown) and not same(found, operation["value"]):
                raise ValueError("the test fails")
            # What was not known was so, or the patch would have been refused.
            result = _replaced(document, tokens, value) if isinstance(found, Unknown) else document
        case _:
            raise ValueError("no such operation")
    return result


def _found(node: Any, tokens: Sequence[str]) -> Any:
    for token in tokens:
        if isinstance(node, Unknown | OpenList) or (isinstance(node, Open) and token not in node):
            return Unknown(NEVER_SEEN)
        node = node[_index(token, len(node) - 1)] if isinstance(node, list) else node[token]
    return node


def _added(document: Any, tokens: Sequence[str], value: Any) -> Any:
    def add(parent: Any, token: str) -> None:
        if isinstance(parent, list):
            parent.insert(len(parent) if token == "-" else _index(token, len(parent)), value)
        else:
            parent[token] = value

    return _edited(document, tokens, add) if tokens else value


def _replaced(document: Any, tokens: Sequence[str], value: Any) -> Any:
    def replace(parent: Any, token: str) -> None:
        if isinstance(parent, list):
            parent[_index(token, len(parent) - 1)] = value
        elif token not in parent and not isinstance(parent, Open):
            raise KeyError(token)
        else:
            parent[token] = value

    return _edited(document, tokens, replace) if tokens else value


def _removed(document: Any, tokens: Sequence[str]) -> Any:
    def remove(parent: Any, token: str) -> None:
        if isinstance(parent, list):
            del parent[_index(token, len(parent) - 1)]
        elif parent.pop(token, _ABSENT) is _ABSENT and not isinstance(parent, Open):
            raise KeyError(token)

    return _edited(document, tokens, remove) if tokens else None


def _edited(node: Any, tokens: Sequence[str], edit: Callable[[Any, str], None]) -> Any:
    """A copy of ``node`` in which the place that ``tokens`` lead to is edited."""
    token, *rest = tokens
    if isinstance(node, Unknown):
        # A number may be the place in a list, whose other elements nobody knows.
        if token == "-" or set(token) <= _INDEX_TOKENS:
            return node
        node = Open()
    if isinstance(node, OpenList):
        return Unknown(NEVER_SEEN)  # which element a number means is not known
    if isinstance(node, list):
        copied: Any = list(node)
        if rest:
            place = _index(token, len(node) - 1)
            copied[place] = _edited(node[place], rest, edit)
    elif isinstance(node, dict):
        copied = type(node)(node)
        if rest:
            below = Unknown(NEVER_SEEN) if isinstance(node, Open) else _ABSENT
            below = node.get(token, below)
            if below is _ABSENT:
                raise KeyError(token)
            copied[token] = _edited(below, rest, edit)
    else:
        raise TypeError(f"{token!r} of a plain value")
    if not rest:
        edit(copied, token)
    return copied


def _index(token: str, last: int) -> int:
    if token != "0" and (not token or token[0] == "0" or not set(token) <= _INDEX_TOKENS):
        raise ValueError(f"{token!r} is no place in a list")
    if int(token) > last:
        raise IndexError(token)
    return int(token)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; in JSON, unlike Python, ``true`` is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
