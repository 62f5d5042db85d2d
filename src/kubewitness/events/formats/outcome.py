"""What a format makes of a value: an event, a reason why not, or something further in.

Reasons are short, stable sentences without values from the input, so that they can be counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]
"""An audit.k8s.io/v1 Event: the top-level names of ``JSON_COLUMNS``, values of their types."""


@dataclass(frozen=True, slots=True)
class Found:
    """An audit event, and which of its fields had to be mended or dropped."""

    event: Event
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """Understood, and no audit event."""

    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Not understood: cut, malformed, or an audit event that lacks what makes it one."""

    reason: str


@dataclass(frozen=True, slots=True)
class Inner:
    """A value inside an envelope, still to be looked at.

    ``value`` is decoded JSON; text is a line or a JSON document, bytes are a whole file (perhaps
    gzip). ``cluster`` is what the envelope says of the cluster, ``""`` where it says nothing.
    """

    value: Any
    cluster: str = ""


Outcome: TypeAlias = Found | Skipped | Broken
Part: TypeAlias = Found | Skipped | Broken | Inner
Format: TypeAlias = Callable[[Mapping[str, Any]], Iterable[Part] | None]
"""Looks at a JSON object: its parts, or ``None`` where the object is of another format."""
