"""Events as data: the formats of ``kubewitness query -o``.

Field names are the columns of an event; what an attacker wrote is kept letter by letter, and
written as an escape where a terminal, a reader or a spreadsheet could be fooled by it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import IO, Any

import msgspec

from kubewitness.forensics.search import COLUMNS, Event, Facet, Histogram, Neighbour
from kubewitness.report import inert
from kubewitness.report.exports import API_VERSION, json_bytes, yaml_text
from kubewitness.report.wording import rfc3339

FORMATS = ("json", "jsonl", "yaml", "csv", "name")


def write(
    events: Iterable[Event | Neighbour],
    fmt: str,
    stream: IO[bytes],
    *,
    query: str = "",
    headers: bool = True,
) -> None:
    """Write events to ``stream``, which gets data and nothing else. A neighbour has a field more:
    ``relation``."""
    plain = map(_plain, events)
    match fmt:
        case "jsonl":
            stream.writelines(json_bytes(event) + b"\n" for event in plain)
        case "name":
            stream.writelines(f"event/{inert.plain(e['audit_id'])}\n".encode() for e in plain)
        case "csv":
            stream.writelines(line.encode() for line in _csv(plain, headers=headers))
        case _:
            _document("EventList", {"query": query}, {"items": list(plain)}, fmt, stream)


def write_facets(facets: Sequence[Facet], fmt: str, stream: IO[bytes], *, query: str = "") -> None:
    """Facets as one document."""
    items = [
        {
            "field": facet.field,
            "values": [{"value": value, "count": n} for value, n in facet.values],
            "distinct": facet.distinct,
        }
        for facet in facets
    ]
    _document("FacetList", {"query": query}, {"items": items}, fmt, stream)


def write_histogram(found: Histogram, fmt: str, stream: IO[bytes], *, query: str = "") -> None:
    """A histogram as one document."""
    _document("Histogram", {"query": query}, _builtins(found), fmt, stream)


def _document(
    kind: str, metadata: dict[str, Any], content: dict[str, Any], fmt: str, stream: IO[bytes]
) -> None:
    whole = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, **content}
    match fmt:
        case "json":
            stream.write(msgspec.json.format(json_bytes(whole), indent=2) + b"\n")
        case "jsonl":
            stream.write(json_bytes(whole) + b"\n")
        case "yaml":
            stream.write(yaml_text(whole).encode())
        case _:
            raise ValueError(f"unknown format {fmt!r}: one of {', '.join(FORMATS)}")


def _plain(one: Event | Neighbour) -> dict[str, Any]:
    if isinstance(one, Neighbour):
        return {"relation": one.relation, **_builtins(one.event)}
    found: dict[str, Any] = _builtins(one)
    return found


def _builtins(value: Any) -> Any:
    builtins = msgspec.to_builtins(value, builtin_types=(datetime,))
    return {
        key: rfc3339(item) if isinstance(item, datetime) else item for key, item in builtins.items()
    }


def _csv(events: Iterator[dict[str, Any]], *, headers: bool) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    names: Sequence[str] = COLUMNS
    for number, event in enumerate(events):
        if number == 0:
            names = tuple(event)
            if headers:
                writer.writerow(names)
        writer.writerow([_cell(event[name]) for name in names])
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    # Without any event there are still columns.
    if headers and names is COLUMNS:
        writer.writerow(names)
        yield line.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return inert.cell(value, len(value) * 10 + 10)
    return (
        inert.cell(json_bytes(value).decode(), 10**9) if not isinstance(value, int) else str(value)
    )
