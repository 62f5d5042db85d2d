"""One object of a store, as bodies for the intake: unpacked, and cut where an event ends.

An object holds whatever a cloud exports: lines, JSON behind JSON, one array, a table. It is read in
ranges of a few megabytes, each a request of its own, so that a spool that is full for an hour keeps
no connection waiting, and always of the version that was listed.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, PreconditionError

from kubewitness.events.formats.decoding import LINE_LIMIT, decode
from kubewitness.events.formats.joining import joined
from kubewitness.events.formats.layout import foreign, tabular
from kubewitness.events.formats.outcome import Broken
from kubewitness.events.formats.plain import is_plain
from kubewitness.events.formats.splitting import pieces
from kubewitness.service.feeds.lines import BODY
from kubewitness.sources.compression import Blocks
from kubewitness.sources.encoding import utf8

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ObjectStore

_RANGE = 4 << 20
_HEAD = 64 << 10


FAULTS = (BaseError, OSError, ValueError)
"""What obstore raises."""


class ObjectChangedError(Exception):
    """It was deleted or written anew since it was listed."""


class ObjectUnreadableError(Exception):
    """The store does not give it, now or ever."""


def told(error: Exception) -> str:
    """What obstore says, without what it adds for those who debug it."""
    return str(error).partition("\n")[0] or type(error).__name__


class StoredObject:
    """``problem`` says, after the last body, what is wrong with it: cut off, or damaged.

    Reading raises ``ObjectChangedError`` and ``ObjectUnreadableError``.
    """

    def __init__(self, store: ObjectStore, meta: ObjectMeta) -> None:
        self._blocks = Blocks(io.BufferedReader(_Ranges(store, meta), BODY))

    @property
    def problem(self) -> str:
        return self._blocks.problem

    def bodies(self) -> Iterator[bytes]:
        """Its content, each event in one body; bodies are longer than ``BODY`` only where a value
        is."""
        head = self._blocks.head(_HEAD)
        content = utf8(self._blocks, head)
        head = b""
        while len(head) < _HEAD and (block := next(content, None)) is not None:
            head += block
        if foreign(head):
            return iter((head[:_HEAD],))
        return (_whole if tabular(head) else _values)(chain((head,), content))


def _values(blocks: Iterable[bytes]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    for piece in joined(pieces(blocks, decode=_checked)):
        # What is broken stands alone: it must not be read together with what follows it.
        alone = isinstance(piece.value, Broken)
        if gathered and (alone or size + len(piece.raw) > BODY):
            yield b"\n".join(gathered)
            gathered, size = [], 0
        if alone:
            yield piece.raw
        else:
            gathered.append(piece.raw)
            size += len(piece.raw) + 1
    if gathered:
        yield b"\n".join(gathered)


def _checked(raw: bytes) -> Any:
    return None if is_plain(raw) else decode(raw)


def _whole(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """A table cannot be cut: its rows say nothing without its head."""
    table = b""
    for block in blocks:
        table += block
        if len(table) > LINE_LIMIT:
            raise ObjectUnreadableError(f"a table of more than {LINE_LIMIT >> 20} MiB")
    yield table


class _Ranges(io.RawIOBase):
    def __init__(self, store: ObjectStore, meta: ObjectMeta) -> None:
        super().__init__()
        self._store = store
        self._meta = meta
        self._at = 0
        self._range = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._range and self._at < self._meta["size"]:
            end = min(self._at + _RANGE, self._meta["size"])
            options: GetOptions = {"range": (self._at, end)}
            if self._meta["e_tag"]:
                options["if_match"] = self._meta["e_tag"]
            try:
                got = obstore.get(self._store, self._meta["path"], options=options)
                self._range = memoryview(got.bytes())
            except (FileNotFoundError, PreconditionError) as error:
                raise ObjectChangedError(self._meta["path"]) from error
            except FAULTS as error:
                raise ObjectUnreadableError(told(error)) from error
            self._at = end
        size = min(len(buffer), len(self._range))
        buffer[:size] = self._range[:size]
        self._range = self._range[size:]
        return size
