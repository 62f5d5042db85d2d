"""Events as data: the formats of ``kubewitness query -o``.

Field names are the columns of an event; what an attacker wrote is kept letter by letter, and
written as an escape where a terminal, a reader or a spreadsheet could be fooled by it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from kubewitness.forensics.search import COLUMNS, Event, Facet, Histogram, Neighbour
from kubewitness.report import inert
from kubewitness.report.exports import API_VERSION, json_bytes, plain, write_plain

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
    items = map(_plain, events)
    match fmt:
        case "jsonl":
            stream.writelines(json_bytes(event) + b"\n" for event in items)
        case "name":
            stream.writelines(f"event/{inert.plain(e['audit_id'])}\n".encode() for e in items)
        case "csv":
            stream.writelines(line.encode() for line in _csv(items, headers=headers))
        case _:
            _document("EventList", query, {"items": list(items)}, fmt, stream)


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
    _document("FacetList", query, {"items": items}, fmt, stream)


def write_histogram(found: Histogram, fmt: str, stream: IO[bytes], *, query: str = "") -> None:
    """A histogram as one document."""
    _document("Histogram", query, plain(found), fmt, stream)


def _document(kind: str, query: str, content: dict[str, Any], fmt: str, stream: IO[bytes]) -> None:
    metadata = {"query": query}
    whole = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, **content}
    write_plain(whole, fmt, stream)


def _plain(one: Event | Neighbour) -> dict[str, Any]:
    if isinstance(one, Neighbour):
        return {"relation": one.relation, **plain(one.event)}
    return plain(one)


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
