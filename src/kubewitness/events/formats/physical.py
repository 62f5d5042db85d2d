"""Physical lines of a stream, numbered, for the layouts that are not JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_PART = 16 << 20


def physical_lines(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes of each line, its newline included.

    A line without end is handed out in parts of some 16 MiB, so that memory stays bounded.

    >>> list(physical_lines([b"a\\nb", b"c"]))
    [(1, b'a\\n'), (2, b'bc')]
    """
    number, rest = 1, b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield number, line + b"\n"
            number += 1
        if len(rest) > _PART:
            yield number, rest
            rest = b""
    if rest:
        yield number, rest
