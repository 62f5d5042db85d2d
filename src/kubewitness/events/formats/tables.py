"""CSV: exports with a header, and the headerless rows that Logstash's csv output writes.

With a header each row is an object of its columns, read like any other: CloudWatch's console
(``timestamp,message``), Splunk (``_raw``), Log Analytics (``log_s``, ``AuditId``), Kibana
(``kubernetes.audit.verb``). Logstash rows have fifteen columns in the order host (JSON), time,
user, verb, resource, subresource, name, empty, URI, auditID, stage, code and three empty ones, as
in https://github.com/hkerma/kubernetes-event-dataset; group and namespace come from the URI.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kubewitness.events.formats.canonical import canonical
from kubewitness.events.formats.decoding import LINE_LIMIT
from kubewitness.events.formats.outcome import Broken, Found
from kubewitness.events.formats.physical import physical_lines
from kubewitness.events.formats.request_info import request_info
from kubewitness.events.formats.splitting import Piece

_LOGSTASH = re.compile(r'"\{""[^\n]*\}",\d{4}-\d\d-\d\dT')
_LOGSTASH_COLUMNS = 12
_ROW_LINES = 1000
_KNOWN_COLUMNS = frozenset(
    {
        "message",
        "@message",
        "_raw",
        "log_s",
        "log",
        "line",
        "Line",
        "AuditId",
        "verb",
        "audit.verb",
        "kubernetes.audit.verb",
    }
)


def cells(row: str, delimiter: str = ",") -> list[str] | None:
    """The cells of one row, which may span lines; ``None`` where its quotes make no sense."""
    csv.field_size_limit(LINE_LIMIT)
    try:
        rows = list(csv.reader((row,), delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def header(line: str) -> tuple[list[str], str] | None:
    """The column names and the delimiter, if ``line`` is the header of a known export.

    >>> header("timestamp,message")
    (['timestamp', 'message'], ',')
    >>> header('{"kind":"Event"}')
    """
    if line.lstrip()[:1] in ("{", "["):
        return None
    for delimiter in (",", ";", "\t"):
        names = cells(line.strip(), delimiter)
        if names and len(names) > 1 and not _KNOWN_COLUMNS.isdisjoint(names):
            return names, delimiter
    return None


def record(names: Sequence[str], row: Sequence[str]) -> dict[str, Any] | Broken:
    """A row as an object; empty cells are absent."""
    if len(row) != len(names):
        return Broken("row of another length than its header")
    return {name: cell for name, cell in zip(names, row, strict=True) if cell}


def headerless_row(line: str) -> Found | Broken | None:
    """The event of a Logstash row; ``None`` where ``line`` is none."""
    if not _LOGSTASH.match(line):
        return None
    row = cells(line)
    if row is None or len(row) < _LOGSTASH_COLUMNS:
        return Broken("cut row")
    _, time, user, verb, resource, subresource, name, _, uri, audit_id, stage, code = row[
        :_LOGSTASH_COLUMNS
    ]
    ref = request_info("GET", uri).object_ref or {}
    columns = {"resource": resource, "subresource": subresource, "name": name}
    ref |= {field: cell for field, cell in columns.items() if cell}
    return canonical(
        {
            "auditID": audit_id,
            "stage": stage,
            "verb": verb,
            "requestURI": uri,
            "user": {"username": user} if user else {},
            "objectRef": ref if resource else None,
            "responseStatus": {"code": int(code)} if code.isdecimal() else None,
            "stageTimestamp": time,
        }
    )


def rows(blocks: Iterable[bytes]) -> Iterator[Piece]:
    """The rows below the header that the stream begins with; a quoted cell may span lines."""
    names: list[str] = []
    delimiter = ","
    begun, parts, size, quotes = 1, list[bytes](), 0, 0
    for number, line in physical_lines(blocks):
        begun = begun if parts else number
        parts.append(line)
        size += len(line)
        quotes += line.count(b'"')
        if quotes % 2 and len(parts) < _ROW_LINES and size < LINE_LIMIT:
            continue
        raw, parts, size, quotes = b"".join(parts), [], 0, 0
        if names:
            yield from _row(begun, raw, names, delimiter)
            continue
        found = header(raw.decode("utf-8", "replace"))
        if found is None:
            yield Piece(begun, raw, Broken("not a known CSV header"))
            return
        names, delimiter = found
    if parts:
        yield Piece(begun, b"".join(parts), Broken("cut row"))


def _row(begun: int, raw: bytes, names: Sequence[str], delimiter: str) -> Iterator[Piece]:
    if not raw.strip():
        return
    try:
        row = cells(raw.decode(), delimiter)
    except UnicodeDecodeError:
        yield Piece(begun, raw, Broken("not UTF-8"))
        return
    yield Piece(begun, raw, Broken("malformed row") if row is None else record(names, row))
