"""As much of an answer as an assistant can read at once, and what was left out of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from kubewitness.report.inert import plain

BYTES = 48 * 1024
"""An answer as JSON is no longer than that."""
_TEXT = 4000
_KEYS = 400
_WITHIN = 20
_DEPTH = 64
# After so many halvings one element of each list is left, and forty characters of each text.
_HALVINGS = 10

Path = tuple[str, ...]
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}(\[\])*")


class Portion(NamedTuple):
    """Plain values, all texts inert, and for whatever is not in them: where, what, and how to ask
    for it."""

    data: dict[str, Any]
    left_out: list[str]


def portion(answer: Mapping[str, Any], *, rows: int, start: int = 0, most: int = BYTES) -> Portion:
    """``answer`` with ``rows`` elements of each of its lists from ``start`` on, in at most ``most``
    bytes of JSON: where that is too much with fewer rows and shorter texts.

    >>> portion({"names": ["a", "b", "c"]}, rows=2)
    Portion(data={'names': ['a', 'b']}, left_out=['names: 1 to 2 of 3; the rest with start=2'])
    """
    for halving in range(_HALVINGS):
        cut = _Cut(rows, start, halving)
        data = {name: cut.value(value, (name,)) for name, value in answer.items()}
        if len(msgspec.json.encode(data)) <= most:
            return Portion(data, cut.told())
    return Portion({}, ["everything: it is too large to be told; ask a narrower question"])


class _Cut:
    """Cuts values to size, and remembers where."""

    def __init__(self, rows: int, start: int, halving: int) -> None:
        self._rows = max(1, rows >> halving)
        self._within = max(1, max(rows, _WITHIN) >> halving)
        self._start = start
        self._text = max(40, _TEXT >> halving)
        self._keys = max(30, _KEYS >> halving)
        self._depth = max(6, _DEPTH >> halving)
        self._pages: list[str] = []
        self._places: dict[tuple[str, str], int] = {}

    def value(self, value: Any, path: Path) -> Any:
        if len(path) > self._depth and isinstance(value, list | dict):
            self._missed(path, "what is deeper")
            return "…"
        if isinstance(value, str):
            if len(value) > self._text:
                self._missed(path, f"the middle of what is longer than {self._text} characters")
            return plain(value, self._text)
        if isinstance(value, list):
            return [
                self.value(one, (*path[:-1], f"{path[-1]}[]")) for one in self._page(value, path)
            ]
        if isinstance(value, dict):
            return self._mapping(value, path)
        return value

    def told(self) -> list[str]:
        more = "; ask with more rows, or a narrower question"
        fewer = "; ask with fewer rows, or a narrower question"
        return self._pages + [
            f"{path}: {what}, in {n} place{'s' if n > 1 else ''}"
            + (more if what.startswith("elements") else fewer)
            for (path, what), n in self._places.items()
        ]

    def _page(self, values: list[Any], path: Path) -> list[Any]:
        begin = self._start if len(path) == 1 else 0
        end = begin + (self._rows if len(path) == 1 else self._within)
        if len(path) == 1 and ((begin and values) or end < len(values)):
            rest = f"; the rest with start={end}" if end < len(values) else ""
            last = min(end, len(values))
            shown = f"{begin + 1} to {last}" if begin < last else "none"
            self._pages.append(f"{path[0]}: {shown} of {len(values)}{rest}")
        elif end < len(values):
            self._missed(path, f"elements after the first {self._within}")
        return values[begin:end]

    def _mapping(self, values: dict[str, Any], path: Path) -> dict[str, Any]:
        if len(values) > self._keys:
            self._missed(path, f"elements after the first {self._keys}")
        told: dict[str, Any] = {}
        for key in list(values)[: self._keys]:
            name = plain(key)
            while name in told:  # two that look alike
                name += "′"
            told[name] = self.value(values[key], (*path, name))
        return told

    def _missed(self, path: Path, what: str) -> None:
        # Keys of maps are from the log: what is no name of a field may be words to a reader.
        parts = [part if _FIELD.fullmatch(part) else "…" for part in path[:4]]
        place = (".".join(parts) + ("…" if len(path) > 4 else ""), what)
        if len(self._places) > 20:
            place = ("elsewhere", what)
        self._places[place] = self._places.get(place, 0) + 1
