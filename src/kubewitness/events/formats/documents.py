"""YAML: documents separated by ``---``, as Google's Kubernetes History Inspector keeps its logs.

Aliases are refused: a few lines of them expand without end.
https://github.com/GoogleCloudPlatform/khi/tree/main/test/logs
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from kubewitness.events.formats.decoding import DEPTH_LIMIT
from kubewitness.events.formats.outcome import Broken
from kubewitness.events.formats.physical import physical_lines
from kubewitness.events.formats.splitting import Piece

if TYPE_CHECKING:
    import yaml

DOCUMENT_LIMIT = 8 << 20
"""Bytes of one document: YAML is slow to read, and audit events are small."""

_JSON_LINE = re.compile(rb"^\s*[{\[]", re.MULTILINE)
_TELLING = re.compile(
    rb"^(?:- )?(?:kind|apiVersion|auditID|insertId|protoPayload|logName|verb)\s*:", re.MULTILINE
)


def looks_like_yaml(head: bytes) -> bool:
    """Whether the beginning of a file has fields of an event as YAML, and no JSON lines."""
    return bool(_TELLING.search(head)) and not _JSON_LINE.search(head)


def documents(blocks: Iterable[bytes]) -> Iterator[Piece]:
    """One piece a document: its value, or ``Broken``."""
    begun, parts, size = 1, list[bytes](), 0
    for number, line in physical_lines(blocks):
        if line.rstrip() == b"---" or line.startswith(b"--- "):
            yield from _document(begun, parts, size)
            begun, parts, size = number, [], 0
            continue
        size += len(line)
        if size <= DOCUMENT_LIMIT:
            parts.append(line)
    yield from _document(begun, parts, size)


def _document(begun: int, parts: list[bytes], size: int) -> Iterator[Piece]:
    raw = b"".join(parts)
    if size > DOCUMENT_LIMIT:
        yield Piece(begun, raw, Broken(f"longer than {DOCUMENT_LIMIT >> 20} MiB"))
    elif any(line.strip() and not line.lstrip().startswith(b"#") for line in parts):
        yield Piece(begun, raw, _load(raw))


def _load(raw: bytes) -> Any:
    import yaml

    try:
        depth = 0
        for event in yaml.parse(raw, Loader=_loader()):
            if isinstance(event, yaml.AliasEvent):
                return Broken("YAML with aliases")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > DEPTH_LIMIT:
                return Broken("nested too deeply")
        return yaml.load(raw, Loader=_loader())
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError):
        return Broken("not YAML")


@cache
def _loader() -> type[yaml.SafeLoader]:
    """A safe loader, in C where there is one, that leaves timestamps the text they are."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolvers = {
        first: [(tag, regexp) for tag, regexp in resolver if not tag.endswith(":timestamp")]
        for first, resolver in base.yaml_implicit_resolvers.items()
    }
    loader: type[yaml.SafeLoader] = type("Loader", (base,), {"yaml_implicit_resolvers": resolvers})
    return loader
