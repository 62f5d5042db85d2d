"""YAML as it stands in a file: tables, lists and text, each with its place.

What a text means is for the reader of settings to say, who knows what is expected there: so ``no``
may be a name, and ``1:30`` is no number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kubewitness.config.origin import Origin, below
from kubewitness.config.problem import Problem

# A configuration of a thousand clusters has less of each.
_LARGEST_FILE = 1 << 20
_DEEPEST = 20
_MOST_VALUES = 50_000

_YAML = "tag:yaml.org,2002:"
_SCALARS = ("str", "null", "bool", "int", "float", "timestamp", "value")
_TAGS = {f"{_YAML}{name}" for name in ("map", "seq", *_SCALARS)}
_TABS = "indent with spaces; YAML takes no tabs"


class Text(NamedTuple):
    """A scalar; ``value`` is ``None`` where YAML says null or nothing."""

    value: str | None
    origin: Origin


class Table(NamedTuple):
    """A mapping; each key has its own place."""

    entries: dict[str, tuple[Origin, Value]]
    origin: Origin


class Sequence(NamedTuple):
    """A list."""

    items: tuple[Value, ...]
    origin: Origin


Value = Text | Table | Sequence


class _UnreadableError(Exception):
    """What makes the rest of a file unreadable."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


def read_document(path: Path, problems: list[Problem]) -> Table | None:
    """The table that a file holds; what is wrong in it is added to ``problems``. ``None`` where
    nothing can be read. Raises ``OSError``."""
    with path.open("rb") as file:
        data = file.read(_LARGEST_FILE + 1)
    try:
        found = _Document(path, problems).value(_decoded(data, path))
    except _UnreadableError as end:
        problems.append(end.problem)
        return None
    if isinstance(found, Table):
        return found
    if isinstance(found, Text) and found.value is None:
        return Table({}, _at(path, 1, 1))
    problems.append(Problem(found.origin, "", "a table of keys and values is expected"))
    return None


def _decoded(data: bytes, path: Path) -> str:
    if len(data) > _LARGEST_FILE:
        what = f"larger than {_LARGEST_FILE >> 20} MiB"
        raise _UnreadableError(
            Problem(_at(path, 1, 1), "", what, "a configuration is a few pages of text")
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise _UnreadableError(
            Problem(_at(path, line, column), "", "no UTF-8", "save the file as UTF-8")
        ) from None


def _at(path: Path, line: int, column: int) -> Origin:
    return Origin(str(path), line, column, path.absolute().parent)


class _Document:
    """One file on its way from text to values."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self._path = path
        self._problems = problems
        self._n = 0

    def value(self, text: str) -> Value:
        """What the only document of ``text`` says."""
        try:
            self._measure(text)
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = " ".join(filter(None, (error.context, error.problem)))
            remedy = _TABS if "'\\t'" in what else ""
            raise _UnreadableError(
                Problem(self._at(mark), "", f"no YAML: {what}", remedy)
            ) from None
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            line, column = before.count("\n") + 1, error.position - before.rfind("\n")
            where = _at(self._path, line, column)
            what = f"the character U+{ord(text[error.position]):04X} has no place in YAML"
            raise _UnreadableError(Problem(where, "", what)) from None
        if node is None:
            return Text(None, self._at(None))
        return self._read(node, "", ())

    def _measure(self, text: str) -> None:
        """Refuse what is nested so deeply that composing it would end in a ``RecursionError``."""
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > _DEEPEST:
                raise _UnreadableError(
                    Problem(self._at(event.start_mark), "", f"nested more than {_DEEPEST} deep")
                )

    def _read(self, node: yaml.Node, key: str, above: tuple[yaml.Node, ...]) -> Value:
        origin = self._at(node.start_mark)
        # An alias is its anchor's node again, as often as it is named.
        self._n += 1
        if self._n > _MOST_VALUES:
            raise _UnreadableError(
                Problem(origin, key, f"more than {_MOST_VALUES:,} values, with aliases written out")
            )
        if any(node is one for one in above):
            raise _UnreadableError(Problem(origin, key, "an anchor that holds itself"))
        if node.tag not in _TAGS:
            self._problems.append(
                Problem(origin, key, f"the tag {node.tag} means nothing here", "leave it away")
            )
        if isinstance(node, yaml.MappingNode):
            return Table(dict(self._entries(node, key, (*above, node))), origin)
        if isinstance(node, yaml.SequenceNode):
            items = (
                self._read(one, f"{key}[{n}]", (*above, node)) for n, one in enumerate(node.value)
            )
            return Sequence(tuple(items), origin)
        return Text(None if node.tag == f"{_YAML}null" else node.value, origin)

    def _entries(
        self, node: yaml.MappingNode, key: str, above: tuple[yaml.Node, ...]
    ) -> Iterator[tuple[str, tuple[Origin, Value]]]:
        first: dict[str, Origin] = {}
        for name_node, value_node in node.value:
            origin = self._at(name_node.start_mark)
            if not isinstance(name_node, yaml.ScalarNode):
                self._problems.append(Problem(origin, key, "a key is text"))
                continue
            name = name_node.value
            if name_node.tag == f"{_YAML}merge":
                self._problems.append(
                    Problem(origin, key, "merge keys (<<) are not read", "write the keys out")
                )
            elif name in first:
                self._problems.append(
                    Problem(
                        origin,
                        below(key, name),
                        "stands here a second time",
                        f"first at {first[name]}; keep one of them",
                    )
                )
            else:
                first[name] = origin
                yield name, (origin, self._read(value_node, below(key, name), above))

    def _at(self, mark: Any) -> Origin:
        line, column = (mark.line, mark.column) if mark else (0, 0)
        return _at(self._path, line + 1, column + 1)
