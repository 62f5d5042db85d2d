"""Text encodings: UTF-8 with or without a mark, and the UTF-16 that PowerShell's ``>`` writes."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def utf8(blocks: Iterable[bytes], head: bytes) -> Iterator[bytes]:
    """``blocks``, whose beginning is ``head``, in UTF-8 and without a byte order mark."""
    mark = codecs.BOM_UTF8 if head.startswith(codecs.BOM_UTF8) else head[:2]
    encoding = _UTF16.get(mark)
    if encoding is None and mark != codecs.BOM_UTF8:
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace") if encoding else None
    passed = 0
    for block in blocks:
        # The mark may be spread over blocks of a byte each.
        rest = block[max(0, len(mark) - passed) :]
        passed += len(block)
        yield decoder.decode(rest).encode() if decoder else rest
