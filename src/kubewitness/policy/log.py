"""A log as its events, one line of JSON each, whatever format they came in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kubewitness.sources.reading import Reader
from kubewitness.sources.tally import Tally


@contextmanager
def logged_lines(
    paths: Iterable[str | Path], *, stdin: BinaryIO | None = None
) -> Iterator[tuple[Iterator[bytes], Tally]]:
    """The events of ``paths`` as canonical lines, and the count of what was read so far.

    Raises ``SourceError`` for paths that cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="kubewitness-") as scratch:
        spool = Path(scratch) / "spool"
        spool.mkdir()
        quarantine = Path(scratch) / "rejected.jsonl"
        with Reader(paths, quarantine=quarantine, spool=spool, stdin=stdin, sift=True) as reader:
            yield _lines(reader), reader.tally


def _lines(reader: Reader) -> Iterator[bytes]:
    for chunk in reader.chunks():
        with chunk.path.open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)
