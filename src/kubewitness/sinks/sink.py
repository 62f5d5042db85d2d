"""What a sink is: a place where somebody wants to hear of incidents.

Each kind is a module beside this one. A sink keeps nothing and repeats nothing: whether a notice
is sent again, and when, is decided by whoever holds it until it is delivered.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol, runtime_checkable
from uuid import UUID, uuid5

import msgspec

from kubewitness.config import settings
from kubewitness.errors import KubewitnessError
from kubewitness.incidents.model import Incident

SLOWLY = 300.0
"""Seconds until something is tried again that a person has to mend first."""
Kind = Literal["opened", "updated", "resolved", "test"]
_NAMESPACE = UUID("6e1c9d7a-3c0f-4a55-9a1b-0c6f5d1f2b84")
_TITLES = {"opened": "", "updated": "Grew: ", "resolved": "Over: ", "test": "Test: "}


class Notice(msgspec.Struct, frozen=True):
    """An incident that opened, grew or is over, or a test. ``revision`` counts the notices on one
    incident, from 1."""

    kind: Kind
    incident: Incident
    revision: int

    @property
    def uid(self) -> str:
        """A UUID that is the same whenever this notice is sent, so that receivers can tell a
        repetition."""
        one = self.incident
        name = f"{self.kind}\0{self.revision}\0{one.id}\0{one.cluster}"
        return str(uuid5(_NAMESPACE, name.encode("utf-8", "backslashreplace").decode()))

    @property
    def headline(self) -> str:
        """The title, and whether the incident only grew, is over or is a test. Hostile as any
        text."""
        if self.kind == "resolved" and self.incident.merged_into:
            return f"Part of {self.incident.merged_into} now: {self.incident.title}"
        return _TITLES[self.kind] + self.incident.title


class Standing(NamedTuple):
    """A notice on something that is not over, and when a sink was last told of it."""

    notice: Notice
    told_at: datetime


class DeliveryError(KubewitnessError):
    """A notice that did not arrive.

    ``permanent``: it would not arrive the next time either. ``retry_after``: not to be tried
    again before that many seconds; ``None`` leaves it to the sender.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        remedy: str = "",
        retry_after: float | None = None,
        permanent: bool = False,
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.retry_after = retry_after
        self.permanent = permanent


class Sink(Protocol):
    """Where notices go."""

    @property
    def name(self) -> str:
        """As the configuration calls it."""

    async def send(self, notice: Notice) -> None:
        """Returns once it has arrived. Raises ``DeliveryError``."""

    def show(self, notice: Notice) -> str:
        """What ``send`` would send and where, secrets hidden; nothing is sent."""


@runtime_checkable
class Reminded(Protocol):
    """A sink that forgets, and wants to hear again of what it was told: all of that in the last
    ``lasts`` which is not over, ``every`` so many seconds."""

    @property
    def every(self) -> float: ...

    @property
    def lasts(self) -> timedelta: ...

    async def remind(self, standing: Sequence[Standing]) -> None:
        """Raises ``DeliveryError``; it comes again anyway."""


def sink(wanted: settings.Sink) -> Sink:
    """The sink of these settings, which ``config.sending`` has checked. Raises ``KubewitnessError``
    where a file that they name cannot be used."""
    kind = importlib.import_module(f"kubewitness.sinks.{wanted.type}")
    made: Sink = kind.sink(wanted)
    return made
