"""A log copied event by event, other events woven in where their time has come.

What is there already is copied byte by byte. Files are read one after the other and never held.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec
import zstandard

from kubewitness.errors import KubewitnessError
from kubewitness.sources.compression import Blocks
from kubewitness.sources.reading import Reader
from kubewitness.sources.tally import Tally

_LEVEL = 3


class _Stamp(msgspec.Struct):
    auditID: str  # noqa: N815
    stageTimestamp: datetime  # noqa: N815


_stamp = msgspec.json.Decoder(_Stamp).decode


class Log:
    """The audit logs at ``paths``, to be read as often as needed; ``tally`` is of the last time."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = paths
        self.tally = Tally()

    def lines(self, without: Collection[str] = ()) -> Iterator[tuple[str, bytes]]:
        """(file, event) in the order of the files, none with an auditID in ``without``.

        Each event is one line of JSON, as the API server wrote it if it wrote JSON lines.
        """
        with tempfile.TemporaryDirectory(prefix="kubewitness-") as folder:
            scratch = Path(folder)
            with Reader(
                self._paths, quarantine=scratch / "rejected.jsonl", spool=scratch, sift=True
            ) as reader:
                self.tally = reader.tally
                for chunk in reader.chunks():
                    with chunk.path.open("rb") as file:
                        for line in _split(Blocks(file)):
                            if without and _stamp(line).auditID in without:
                                continue
                            yield chunk.source, line


def _split(blocks: Blocks) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from filter(None, lines)
    if rest:
        yield rest


def weave(
    lines: Iterator[tuple[str, bytes]],
    events: Sequence[tuple[datetime, bytes]],
    folder: Path,
) -> int:
    """Write ``lines`` and, each before the first line of a later time, ``events`` (in order) into
    ``folder``: a file of JSON lines, compressed by zstd, for each file that they come from, and one
    more for events that are later than all lines.

    Returns how many lines were written. Raises ``KubewitnessError`` where the disk refuses.
    """
    waiting = deque(events)
    written = 0

    def woven(group: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
        for _, line in group:
            if waiting:
                at = _stamp(line).stageTimestamp
                while waiting and waiting[0][0] <= at:
                    yield waiting.popleft()[1]
            yield line

    number = 0
    for number, (_, group) in enumerate(groupby(lines, key=itemgetter(0)), 1):
        written += _write(folder, number, woven(group))
    if waiting:
        written += _write(folder, number + 1, (line for _, line in waiting))
    return written


def _write(folder: Path, number: int, lines: Iterator[bytes]) -> int:
    path = folder / f"audit-{number:04}.jsonl.zst"
    written = 0
    try:
        with (
            path.open("wb") as file,
            zstandard.ZstdCompressor(level=_LEVEL).stream_writer(file) as writer,
        ):
            for line in lines:
                writer.write(line + b"\n")
                written += 1
    except OSError as error:
        raise KubewitnessError(
            f"cannot be written: {error.strerror or error}", where=str(path)
        ) from error
    return written
