"""A log of any size from a small one: the example log again and again, with other names and times.

A copy keeps who does what, how often, how fast and in which order, so behaviour repeats from hour
to hour as it does in a cluster; what is unique in life is new in each copy: auditIDs, times,
resource versions, and whatever a machine made up in a name (pods, jobs, events). The same bytes for
the same arguments.

The example log holds one in ten of the requests of machines, so of most pods and jobs in it nobody
is seen to delete them. With new names in each copy they would pile up for ever; here each of them
is deleted in the hour in which it was seen, as the log shows such deletions of others.
"""

from __future__ import annotations

import io
import json
import random
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

START = datetime(2026, 1, 5, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_SAFE = b"bcdfghjklmnpqrstvwxz2456789"
# (kind, where): what is told anew in every copy. The alphabet of generated suffixes is that of
# k8s.io/apimachinery/pkg/util/rand, of template hashes too; a CronJob's jobs carry the minute, an
# event its time in hex, and what a pipeline makes some hexadecimal digits.
_VARIABLE = re.compile(
    rb'(?:(?<="auditID":")(?P<id>[0-9a-f]{8})(?=-))'
    rb'|(?:(?<=Timestamp":")(?P<time>[0-9T:.-]{26}Z)(?="))'
    rb"|(?:(?<=-)(?P<minute>29\d{6})(?!\d))"
    rb"|(?:(?<=-)(?P<suffix>[" + _SAFE + rb"]{5}(?!-)|[" + _SAFE + rb"]{8,10}|"
    rb"(?=[0-9a-f]*[0-9])[0-9a-f]{6,7}(?!-))(?![A-Za-z0-9]))"
    rb"|(?:(?<=\.)(?P<hex>1[0-9a-f]{15})(?![0-9a-f]))"
    rb'|(?:(?<="resourceVersion":")(?P<version>[1-9]\d*)(?="))'
)
# More than the resource versions of an hour.
_VERSIONS = 1_000_000
_MARK = re.compile(rb'"(?:requestReceived|stage)Timestamp":"$')


class Replay:
    """The lines of ``log`` (NDJSON, zstd) over and over."""

    def __init__(self, log: Path) -> None:
        with log.open("rb") as file:
            text = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)).read()
        text = b"".join(_ended(text.splitlines(keepends=True)))
        self.lines = text.count(b"\n")
        self._fixed: list[bytes] = []
        self._slots: list[tuple[str, bytes]] = []
        at = 0
        for found in _VARIABLE.finditer(text):
            kind = str(found.lastgroup)
            # Times in bodies stay as they are.
            if kind == "time" and not _MARK.search(text, max(0, found.start() - 30), found.start()):
                continue
            self._fixed.append(text[at : found.start()])
            self._slots.append((kind, found[0]))
            at = found.end()
        self._fixed.append(text[at:])
        times = sorted(value for kind, value in self._slots if kind == "time")
        self._first = _time(times[0])
        self._minutes = (_time(times[-1]) - self._first) // _MINUTE + 1

    def write(self, target: Path, events: int) -> int:
        """Write ``events`` lines to ``target`` as one plain file; returns its size in bytes."""
        size, left = 0, events
        with target.open("wb") as file:
            for copy in self.copies():
                if left < self.lines:
                    copy = b"".join(copy.splitlines(keepends=True)[:left])  # noqa: PLW2901
                size += file.write(copy)
                left -= self.lines
                if left <= 0:
                    return size
        return size

    def pieces(self, target: Path, events: int, size: int) -> Iterator[Path]:
        """Write ``events`` lines to ``target`` in files of about ``size`` lines, one after the
        other in the same place: each is gone when the next is asked for."""
        piece: list[bytes] = []
        left = events
        for copy in self.copies():
            piece += copy.splitlines(keepends=True)[: left - len(piece)]
            if len(piece) < min(size, left):
                continue
            target.write_bytes(b"".join(piece))
            left -= len(piece)
            piece = []
            yield target
            if not left:
                return

    def copies(self) -> Iterator[bytes]:
        distinct = sorted(set(self._slots))
        places = {slot: place for place, slot in enumerate(distinct)}
        order = [places[slot] for slot in self._slots]
        offsets = np.array(
            [
                (_time(value) - self._first) // timedelta(microseconds=1)
                for kind, value in distinct
                if kind == "time"
            ]
        ).astype("timedelta64[us]")
        pieces: list[bytes] = [b""] * (2 * len(order) + 1)
        pieces[::2] = self._fixed
        for number in count():
            later = number * self._minutes
            start = np.datetime64((START + later * _MINUTE).replace(tzinfo=None), "us")
            times = iter(np.datetime_as_string(start + offsets, unit="us"))
            alphabet = bytearray(_SAFE)
            random.Random(number).shuffle(alphabet)
            other = bytes.maketrans(_SAFE, bytes(alphabet))
            told = []
            for kind, value in distinct:
                if kind == "time":
                    told.append(f"{next(times)}Z".encode())
                elif kind == "suffix":
                    told.append(value.translate(other))
                elif kind == "minute":
                    told.append(b"%08d" % (int(value) + later))
                elif kind == "id":
                    told.append(b"%08x" % ((int(value, 16) + 2654435769 * number) % 2**32))
                elif kind == "version":
                    told.append(b"%d" % (int(value) + _VERSIONS * number))
                else:
                    told.append(b"%016x" % (int(value, 16) + 60_000_000_000 * later))
            pieces[1::2] = [told[place] for place in order]
            yield b"".join(pieces)


def _ended(lines: Iterable[bytes]) -> list[bytes]:
    """These lines, and deletions of what has another name in each copy and is not deleted."""
    timed: list[tuple[str, bytes]] = []
    seen: dict[tuple[str, str, str], str] = {}
    deletions: dict[str, dict[str, Any]] = {}
    for line in lines:
        event = json.loads(line)
        at = event["stageTimestamp"]
        timed.append((at, line))
        what = event.get("objectRef", {})
        if event["verb"] not in _WRITES or event.get("responseStatus", {}).get("code", 500) > 299:
            continue
        named = what.get("name") or event.get("responseObject", {}).get("metadata", {}).get("name")
        if not named or not _VARIABLE.search(named.encode()):
            continue
        seen[what["resource"], what.get("namespace", ""), named] = at
        if event["verb"] == "delete" and not what.get("subresource"):
            seen[what["resource"], what.get("namespace", ""), named] = ""
            # Of pods the node's, which is the last.
            if event["user"]["username"].startswith("system:node:") or what["resource"] != "pods":
                deletions.setdefault(what["resource"], event)
    chance = random.Random(0)
    end = _time(max(at for at, _ in timed).encode())
    for (resource, namespace, name), last in sorted(seen.items()):
        if last and resource in deletions:
            begin = _time(last.encode())
            at = begin + (end - begin) * chance.random()
            event = _deletion(deletions[resource], namespace, name, at, chance)
            timed.append((f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", event))
    return [line for _, line in sorted(timed, key=lambda one: one[0])]


_WRITES = ("create", "update", "patch", "delete")


def _deletion(
    like: dict[str, Any], namespace: str, name: str, at: datetime, chance: random.Random
) -> bytes:
    """The line of a deletion, of which no answer is logged."""
    what = {**like["objectRef"], "namespace": namespace, "name": name}
    event = {
        **{key: value for key, value in like.items() if key != "responseObject"},
        "level": "Request" if "requestObject" in like else "Metadata",
        "auditID": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "requestURI": f"{like['requestURI'].partition('/namespaces/')[0]}/namespaces/{namespace}"
        f"/{what['resource']}/{name}",
        "objectRef": what,
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": f"{at - timedelta(milliseconds=4):%Y-%m-%dT%H:%M:%S.%fZ}",
        "stageTimestamp": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }
    # Which uid it had to have is that of another object.
    event.get("requestObject", {}).pop("preconditions", None)
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def _time(value: bytes) -> datetime:
    return datetime.fromisoformat(value.decode())
