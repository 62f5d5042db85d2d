"""What forensics answers with: steps, the links between them, and what could not be told.

One struct for the terminal, JSON and the page. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One deed of a chain. ``id`` counts from 0 in the order of time; ``object`` is
    ``resource/name``; ``binding`` what allowed it, ``acting_as`` whom it impersonated."""

    id: int
    at: datetime
    principal: str
    kind: str
    acting_as: str = ""
    action: str
    object: str = ""
    namespace: str = ""
    source_ip: str = ""
    client: str = ""
    outcome: str = ""
    binding: str = ""
    audit_id: str = ""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """``cause`` led to ``effect`` (ids of steps). ``certain`` links follow from an id in the log
    (uid, owner reference, credential); others are inferred, with ``confidence`` below 1.
    ``because`` says how it is known."""

    cause: int
    effect: int
    kind: str
    certain: bool
    confidence: float
    because: str


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """How something came about: ``line`` are the steps from the first cause to the subject, the
    likeliest cause at each turn; ``steps`` and ``links`` all of it, ``after`` what followed on the
    subject itself. ``origin`` is who began it; ``person`` is '' where the log names none."""

    subject: str
    origin: str
    person: str
    line: tuple[int, ...]
    after: tuple[int, ...]
    steps: tuple[Step, ...]
    links: tuple[Link, ...]
    notes: tuple[str, ...]


class Touched(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to one kind of object in one namespace: ``caused`` by what was asked about,
    or done directly. ``weight`` is how much it matters (activity.technique)."""

    caused: bool
    did: str
    resource: str
    namespace: str
    principals: tuple[str, ...]
    n: int
    refused: int
    objects: int
    examples: tuple[str, ...]
    weight: float
    first: datetime
    last: datetime


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """Blast radius: what was ``touched``, the grave first, and the ``steps`` and ``links`` that
    led there. ``requests`` counts all that is behind ``touched``; ``more`` what was left out."""

    subject: str
    requests: int
    start: datetime
    end: datetime
    principals: tuple[str, ...]
    namespaces: tuple[str, ...]
    touched: tuple[Touched, ...]
    steps: tuple[Step, ...]
    links: tuple[Link, ...]
    more: int
    notes: tuple[str, ...]
