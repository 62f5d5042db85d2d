"""What a sink is: a place where somebody wants to hear of incidents."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from kubewitness.errors import KubewitnessError
from kubewitness.incidents.model import Incident

Kind = Literal["opened", "updated", "test"]


class Notice(msgspec.Struct, frozen=True):
    """An incident that opened or grew, or a test."""

    kind: Kind
    incident: Incident
    revision: int


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
