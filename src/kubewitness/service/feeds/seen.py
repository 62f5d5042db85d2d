"""Which objects of a bucket were read: all that were written long ago, and of the last week those
that are kept here by name and version, in bounded memory."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from obstore import ObjectMeta

OVERLAP = 7 * 86_400.0
"""Seconds before the newest object within which one may still appear."""

MOST = 50_000
"""Objects that are known by name; beyond, the time for that is shorter."""


class Seen(msgspec.Struct):
    """``floor``: what was written until then (unix seconds) counts as read; ``known``: what was
    read of the rest, a digest each, and when it was written."""

    floor: float = 0.0
    known: dict[bytes, float] = {}

    def __contains__(self, meta: ObjectMeta) -> bool:
        return written(meta) <= self.floor or version(meta) in self.known

    def add(self, meta: ObjectMeta) -> None:
        self.known[version(meta)] = written(meta)

    def settle(self, unread: float, *, overlap: float = OVERLAP, most: int = MOST) -> None:
        """Forgets what nobody will ask for. ``unread``: since when there are objects that are
        neither read nor given up; the floor stays below."""
        times = sorted(self.known.values())
        if not times:
            return
        # A clock that is wrong must not make everything after it old.
        floor = max(self.floor, min(times[-1], time.time()) - overlap)
        if len(times) > most:
            floor = max(floor, times[len(times) - most - 1])
        if floor < unread:
            self.floor = floor
            self.known = {one: at for one, at in self.known.items() if at > floor}


def written(meta: ObjectMeta) -> float:
    return meta["last_modified"].timestamp()


def version(meta: ObjectMeta) -> bytes:
    """Of one object as it was once written."""
    tag = meta["e_tag"] or f"{meta['size']} {meta['last_modified']}"
    return blake2b(f"{meta['path']}\0{tag}".encode("utf-8", "replace"), digest_size=10).digest()
