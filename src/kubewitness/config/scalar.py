"""Single values: from the text of a file, a variable or a flag to what a setting holds, and back.

What a text means is told by what is expected, never by how it looks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kubewitness.config.origin import Origin
from kubewitness.config.quantity import duration, size, spelled_duration, spelled_size

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class MistakeError(ValueError):
    """A text that is not what is expected: ``what`` it is instead ("no port"), and the remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class Scalar(NamedTuple):
    """A kind of value: its ``name`` with an article, how it is read and written, an example."""

    name: str
    read: Callable[[str, Origin], Any]
    example: str
    write: Callable[[Any], Any] = lambda value: value


def _path(text: str, origin: Origin) -> Path:
    if not text or "\0" in text:
        raise ValueError("no path")
    if text == "-":  # standard input, of what is followed
        return Path(text)
    try:
        return origin.folder / Path(text).expanduser()
    except RuntimeError:
        raise ValueError("nobody's home, as far as this machine knows") from None


def _boolean(text: str, _: Origin) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("neither true nor false") from None


def _whole(text: str, _: Origin) -> int:
    # int() would take "1_000", " 5" and digits of other scripts.
    if not (text.isascii() and text.removeprefix("-").isdigit()) or len(text) > 18:
        raise ValueError("no whole number")
    return int(text)


def _port(text: str, origin: Origin) -> int:
    try:
        return _whole(text, origin)
    except ValueError:
        raise ValueError("no port") from None


_TEXT = Scalar("text", lambda text, _: text, "")
_WRITTEN = {
    "duration": Scalar(
        "a duration", lambda text, _: duration(text), "90s, 1h30m or 30d", spelled_duration
    ),
    "size": Scalar("a size", lambda text, _: size(text), "64MiB or 4GB", spelled_size),
    "port": Scalar("a port", _port, "a number from 0 to 65535, as 8443"),
    "secret": _TEXT,
}
_KINDS: dict[type, Scalar] = {
    msgspec.inspect.StrType: _TEXT,
    msgspec.inspect.IntType: Scalar("a whole number", _whole, "a number, as 60"),
    msgspec.inspect.BoolType: Scalar("true or false", _boolean, "true or false"),
    msgspec.inspect.CustomType: Scalar("a path", _path, "a path, as certificates/tls.crt", str),
}


def plain_type(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, str, bool]:
    """``kind`` without what is around it: how it is written, and whether it may be null."""
    if isinstance(kind, msgspec.inspect.UnionType):
        (inner,) = (one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType))
        plain, written, _ = plain_type(inner)
        return plain, written, True
    if isinstance(kind, msgspec.inspect.Metadata):
        return kind.type, (kind.extra or {}).get("written", ""), False
    return kind, "", False


def scalar(kind: msgspec.inspect.Type, written: str = "") -> Scalar:
    """How values of ``kind`` are read; ``written`` is what ``config.settings`` says of it."""
    if isinstance(kind, msgspec.inspect.LiteralType):
        return _choice([str(value) for value in kind.values])
    return _WRITTEN[written] if written else _KINDS[type(kind)]


def _choice(values: list[str]) -> Scalar:
    listed = f"{', '.join(values[:-1])} or {values[-1]}"

    def read(text: str, _: Origin) -> str:
        if text not in values:
            raise ValueError("none of those there are")
        return text

    return Scalar(listed, read, listed)


def read_scalar(kind: msgspec.inspect.Type, written: str, text: str, origin: Origin) -> Any:
    """``text`` as a value of ``kind``. Raises ``MistakeError``."""
    expected = scalar(kind, written)
    try:
        value = expected.read(text, origin)
    except ValueError as error:
        raise MistakeError(str(error), f"write {expected.example}") from None
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        if kind.gt is not None and value <= kind.gt:
            raise MistakeError(f"not more than {kind.gt}", f"write {expected.example}")
        if (kind.ge is not None and value < kind.ge) or (kind.le is not None and value > kind.le):
            raise MistakeError(f"not from {kind.ge} to {kind.le}", f"write {expected.example}")
    return value
