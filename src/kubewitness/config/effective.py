"""The settings as they are in effect, each with where it was said; never with a secret.

As YAML it is a configuration itself: what it says is read back as equal settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import yaml

from kubewitness.config.origin import DEFAULT, Origins, below
from kubewitness.config.scalar import plain_type, scalar
from kubewitness.config.settings import Settings, shape

# What YAML takes for the text it is, whatever it stands behind.
_BARE = re.compile(r"[A-Za-z0-9/.][A-Za-z0-9/._@+-]*(://?[A-Za-z0-9/._@+:-]*[A-Za-z0-9/])?")
_EMPTY: dict[type, str] = {dict: "{}", list: "[]"}


class Said(NamedTuple):
    """One value: its ``key``, as it is ``written``, and from where (``origin``)."""

    key: str
    written: Any
    origin: str


def effective(settings: Settings, origins: Origins) -> tuple[dict[str, Any], dict[str, str]]:
    """All settings as plain tables and lists, and where each value was said, by its key."""
    table = _plain(shape(), settings, "", origins)
    said = {one.key: one.origin for one in _values(table, "", origins)}
    return table, said


def yaml_of(settings: Settings, origins: Origins) -> str:
    """The settings as YAML, with their origins as comments."""
    table, said = effective(settings, origins)
    lines = [*_lines(table, "", "")]
    width = min(max(len(text) for text, _ in lines), 60)
    return "".join(
        f"{text:<{width}}  # {_comment(said[key])}\n" if key in said else f"{text}\n"
        for text, key in lines
    )


def _plain(kind: msgspec.inspect.Type, value: Any, key: str, origins: Origins) -> Any:
    plain, written, _ = plain_type(kind)
    if value is None:
        return None
    if key in origins.files:
        return {"file": str(origins.files[key])}
    if isinstance(plain, msgspec.inspect.StructType):
        return {
            field.encode_name: _plain(
                field.type, getattr(value, field.name), below(key, field.encode_name), origins
            )
            for field in plain.fields
        }
    if isinstance(plain, msgspec.inspect.DictType):
        return {
            name: _plain(plain.value_type, one, below(key, name), origins)
            for name, one in value.items()
        }
    if isinstance(plain, msgspec.inspect.VarTupleType):
        return [_plain(plain.item_type, one, f"{key}[{n}]", origins) for n, one in enumerate(value)]
    return scalar(plain, written).write(value)


def _values(value: Any, key: str, origins: Origins) -> Iterator[Said]:
    if isinstance(value, dict) and value:
        for name, one in value.items():
            yield from _values(one, below(key, name), origins)
    elif isinstance(value, list) and value:
        for n, one in enumerate(value):
            yield from _values(one, f"{key}[{n}]", origins)
    else:
        origin = origins.said.get(key) or origins.said.get(key.removesuffix(".file"), DEFAULT)
        yield Said(key, value, f"{origin.where}:{origin.line}" if origin.line else origin.where)


def _lines(value: Any, key: str, indent: str) -> Iterator[tuple[str, str]]:
    """Lines of YAML, each with the key of the value in it."""
    for name, one in value.items():
        inner = below(key, name)
        if isinstance(one, dict) and one:
            yield f"{indent}{_text(name)}:", inner
            yield from _lines(one, inner, f"{indent}  ")
        elif isinstance(one, list) and one:
            yield f"{indent}{_text(name)}:", inner
            yield from _items(one, inner, indent)
        else:
            yield f"{indent}{_text(name)}: {_scalar(one)}", inner


def _items(values: list[Any], key: str, indent: str) -> Iterator[tuple[str, str]]:
    for n, one in enumerate(values):
        if isinstance(one, dict):
            dash = f"{indent}- "
            for line, inner in _lines(one, f"{key}[{n}]", f"{indent}  "):
                yield dash + line[len(dash) :], inner
                dash = f"{indent}  "
        else:
            yield f"{indent}- {_scalar(one)}", f"{key}[{n}]"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return _EMPTY[type(value)] if isinstance(value, dict | list) else _text(str(value))


def _text(text: str) -> str:
    if _BARE.fullmatch(text) and text.lower() not in ("null", "yes", "no", "on", "off"):
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', width=1 << 20)
    return quoted.rstrip("\n")


def _comment(origin: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in origin)
