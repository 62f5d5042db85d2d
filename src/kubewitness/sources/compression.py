"""Decompression told by magic bytes, never by name, block by block.

gzip with any number of members (https://www.rfc-editor.org/rfc/rfc1952), zstd with any number of
frames (https://www.rfc-editor.org/rfc/rfc8878), bzip2 and xz. A file that is cut or damaged gives
what can be read before the damage.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal, TypeAlias

import zstandard

Compression: TypeAlias = Literal["none", "gzip", "zstd", "bzip2", "xz"]

BLOCK = 1 << 20
"""Bytes that are decompressed at a time; zstd may give 64 times as many of a file of zeros."""

_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_OPENERS: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
# A zstd block of four bytes can stand for 128 KiB, so this much for 64 MiB.
_ZSTD_FEED = 2048


def compression(head: bytes) -> Compression:
    """
    >>> compression(b"\\x1f\\x8b\\x08")
    'gzip'
    """
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "none")


class Blocks:
    """The decompressed blocks of ``file``, once.

    ``compression`` is known at once, ``problem`` after the last block: ``""``, or what is wrong
    with the file. ``head`` looks ahead.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = io.BufferedReader(file, BLOCK) if isinstance(file, io.RawIOBase) else file
        self._ahead: list[bytes] = []
        self.problem = ""
        begin = self._file.read(6)
        self.compression = compression(begin)
        joined = _Joined(begin, self._file)
        self._blocks = iter(self._read(joined))

    def head(self, size: int) -> bytes:
        """The first ``size`` bytes or more, fewer only where there are no more."""
        while sum(map(len, self._ahead)) < size:
            block = next(self._blocks, None)
            if block is None:
                break
            self._ahead.append(block)
        return b"".join(self._ahead)

    def __iter__(self) -> Iterator[bytes]:
        while self._ahead:
            yield self._ahead.pop(0)
        yield from self._blocks

    def _read(self, file: _Joined) -> Iterator[bytes]:
        if self.compression == "none":
            while block := file.read(BLOCK):
                yield block
            return
        try:
            yield from _zstd(file) if self.compression == "zstd" else self._members(file)
        except EOFError:
            self.problem = f"cut off: the {self.compression} stream does not end"
        except (OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            self.problem = f"damaged {self.compression} stream"

    def _members(self, file: _Joined) -> Iterator[bytes]:
        # read1 gives what one step has decompressed: nothing is lost to an error behind it.
        with _OPENERS[self.compression](file) as stream:
            while block := stream.read1(BLOCK):
                yield block


def _zstd(file: _Joined) -> Iterator[bytes]:
    data = file.read(_ZSTD_FEED)
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:
            if not data:
                raise EOFError
            if block := frame.decompress(data):
                yield block
            data = b"" if frame.eof else file.read(_ZSTD_FEED)
        data = frame.unused_data + file.read(_ZSTD_FEED)


class _Joined(io.RawIOBase):
    """A file whose first bytes were read already; stdin cannot seek back."""

    def __init__(self, begin: bytes, file: BinaryIO | io.BufferedReader) -> None:
        super().__init__()
        self._begin = begin
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if self._begin:
            begin = self._begin if size < 0 else self._begin[:size]
            self._begin = self._begin[len(begin) :]
            return begin
        return self._file.read(size)
