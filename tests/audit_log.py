"""Audit logs by hand: events as an API server writes them, one JSON line each.

``event`` is one of them; ``events_of`` spells out what lines of activity (``activities.py``) stand
for, so that a test can go the whole way from a file to incidents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from activities import START, Row, machinery, office, robots, theft

Event = dict[str, Any]

_CODES = {"ok": 200, "denied": 403, "missing": 404, "conflict": 409, "unauthenticated": 401}


def stamp(at: datetime) -> str:
    """As the API server writes a time.

    >>> stamp(datetime(2026, 3, 2, 8, tzinfo=UTC))
    '2026-03-02T08:00:00.000000Z'
    """
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def event(
    at: datetime = START,
    who: str = "ada",
    verb: str = "get",
    resource: str = "pods",
    *,
    namespace: str = "shop",
    name: str = "web",
    subresource: str = "",
    group: str = "",
    code: int = 200,
    source_ips: tuple[str, ...] = ("10.8.0.4",),
    client: str = "kubectl/v1.36.0 (linux/amd64) kubernetes/74cdb42",
    groups: tuple[str, ...] = ("dev",),
    query: str = "",
    **fields: Any,
) -> Event:
    """One event of stage ResponseComplete at level Metadata; ``fields`` replace what it has (and
    remove it where they are ``None``)."""
    path = f"/apis/{group}/v1" if group else "/api/v1"
    for part in ("namespaces", namespace) if namespace else ():
        path += f"/{part}"
    path += "".join(f"/{part}" for part in (resource, name, subresource) if part)
    reference = {
        "resource": resource,
        "namespace": namespace,
        "name": name,
        "apiGroup": group,
        "apiVersion": "v1",
        "subresource": subresource,
    }
    made: Event = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "",
        "stage": "ResponseComplete",
        "requestURI": path + (f"?{query}" if query else ""),
        "verb": verb,
        "user": {"username": who, "groups": [*groups, "system:authenticated"]},
        "sourceIPs": list(source_ips),
        "userAgent": client,
        "objectRef": {key: value for key, value in reference.items() if value},
        "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": stamp(at),
        "stageTimestamp": stamp(at + timedelta(milliseconds=3)),
        "annotations": {
            "authorization.k8s.io/decision": "forbid" if code == 403 else "allow",
            "authorization.k8s.io/reason": "",
        },
        **fields,
    }
    made["auditID"] = made["auditID"] or hashlib.sha256(repr(made).encode()).hexdigest()[:32]
    return {key: value for key, value in made.items() if value is not None}


def events_of(rows: Iterable[Row]) -> Iterator[Event]:
    """The requests that lines of activity stand for, in the order of time."""
    made = (one for row in rows for one in _requests(row))
    yield from sorted(made, key=lambda one: (one["stageTimestamp"], one["auditID"]))


def _requests(row: Row) -> Iterator[Event]:
    resource, _, group = row["resource"].partition(".")
    release = row["release"]
    names = row["name_samples"] or [""]
    for number in range(row["n"]):
        within = (row["last"] - row["first"]) * number / max(1, row["n"] - 1)
        yield event(
            row["first"] + within,
            row["principal"],
            row["verb"],
            resource,
            namespace=row["namespace"],
            name=names[number % len(names)],
            subresource=row["subresource"],
            group=group,
            code=_CODES[row["outcome"]],
            source_ips=(row["source_ip"],),
            client=f"{row['client']}/v{release}.0 ({row['platform']})",
            groups=() if row["principal"].startswith("system:") else ("dev",),
            auditID=f"{row['audit_ids'][0]}-{number}",
        )


def lines(events: Iterable[Event]) -> bytes:
    """NDJSON, compact, as the API server writes it."""
    return b"".join(
        json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        for one in events
    )


def write(path: Path, events: Iterable[Event]) -> Path:
    path.write_bytes(lines(events))
    return path


STOLEN_AT = START + timedelta(days=3, hours=2)


@cache
def quiet_days() -> bytes:
    """Four days of a small cluster that goes about its business: some 3,000 lines."""
    rows = [*machinery(START, 96, timedelta(hours=4)), *robots(START, 96, timedelta(hours=2))]
    for row in rows:
        row["n"] = min(row["n"], 3)
    return lines(events_of([*rows, *office(START, 4)]))


@cache
def stolen_credential() -> bytes:
    """What somebody does with ada's credential in the last night of ``quiet_days``."""
    return lines(events_of(theft(STOLEN_AT)))
