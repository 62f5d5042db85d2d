"""Bytes to JSON values, bounded in depth and in size, and never surprised.

msgspec decodes; what it refuses and other readers accept (half of a surrogate pair, numbers too
large for a double) is decoded once more by the standard library before it counts as broken.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from typing import Any, NoReturn

import msgspec

LINE_LIMIT = 64 << 20
"""Bytes of one line or JSON value, also after decompression; what is longer is broken."""

DEPTH_LIMIT = 500
"""Arrays and objects inside each other."""

TOO_LARGE = f"more than {LINE_LIMIT >> 20} MiB when decompressed"

_GZIP = b"\x1f\x8b"
_KEY = re.compile(rb'[\s{,]*+"([^"\\]*+)"\s*+:\s*+')
_END = re.compile(rb"\s*+\}\s*+|\s*+\{\s*+\}\s*+")
_decode = msgspec.json.Decoder().decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class UndecodableError(ValueError):
    """No JSON value; ``reason`` says why in a few stable words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes) -> Any:
    """The one JSON value that ``data`` is. Raises ``UndecodableError``."""
    try:
        return _decode(data)
    except RecursionError:
        raise UndecodableError("nested too deeply") from None
    except UnicodeDecodeError:
        raise UndecodableError("not UTF-8") from None
    except msgspec.DecodeError as refusal:
        cut = "truncated" in str(refusal)
    try:
        return json.loads(data.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise UndecodableError("not UTF-8") from None
    except RecursionError:
        raise UndecodableError("nested too deeply") from None
    except ValueError:
        raise UndecodableError("cut off" if cut else "malformed JSON") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def repeats_keys(data: bytes) -> bool:
    """Whether the object ``data`` names a top-level member twice: readers then disagree on it.

    >>> repeats_keys(b'{"verb":"get","verb":"delete"}')
    True
    """
    try:
        members = _members(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    # Compact JSON, as the API server writes it, is as long as its members with their punctuation.
    if len(data) == 1 + sum(map(len, members)) + sum(map(len, members.values())) + 4 * len(members):
        return False
    # Walks over the members as they were understood: if that accounts for every byte, there is
    # nothing else. The exact answer of the standard library costs far more and is rarely needed.
    at = 0
    for name, member in members.items():
        key = _KEY.match(data, at)
        value = bytes(member)
        if key is None or key[1] != name.encode() or not data.startswith(value, key.end()):
            return _repeats(data)
        at = key.end() + len(value)
    return _END.fullmatch(data, at) is None and _repeats(data)


def _repeats(data: bytes) -> bool:
    try:
        pairs = json.loads(data, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return False
    return isinstance(pairs, _Pairs) and len({name for name, _ in pairs}) < len(pairs)


class _Pairs(list[tuple[str, Any]]):
    pass


def unbase64(text: str) -> bytes | None:
    """The bytes that ``text`` stands for (RFC 4648, either alphabet), ``None`` if it does not."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None


def inflate(data: bytes, limit: int = LINE_LIMIT) -> bytes:
    """``data``, decompressed if it is gzip (all members). Raises ``UndecodableError``.

    ``limit``: bytes that are left of the ``LINE_LIMIT`` of the value that ``data`` is a part of.
    """
    parts: list[bytes] = []
    room = limit
    while data.startswith(_GZIP):
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            part = member.decompress(data, room + 1)
        except zlib.error:
            raise UndecodableError("damaged gzip") from None
        room -= len(part)
        if room < 0:
            raise UndecodableError(TOO_LARGE)
        if not member.eof:
            raise UndecodableError("cut gzip")
        parts.append(part)
        data = member.unused_data
    return b"".join(parts) if parts else data
