"""The contract of a factor: one question about an activity, answered with a surprise in nats.

A factor is stateless: it takes a table and a horizon and returns what it has learnt, which answers
with one number a row about that table and about rows that come later. That makes batch, live and
fleet the same call.
``FACTORS`` in ``kubewitness.surprise.registry`` lists them;
``tests/test_factors.py`` holds every one to this contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from kubewitness.activity.table import ActivityTable, Floats, Ids, Ints
from kubewitness.baseline.horizon import Horizon

Aspect = Literal["what", "where from", "when", "answer", "whose", "how much"]
"""What a factor speaks of. Within one aspect several factors see the same oddity (a new action
is a new action in this namespace, too), so only the strongest counts."""


@dataclass(frozen=True, slots=True)
class Surprise:
    """``nats``: −ln of the probability of the value in its context, ≥ 0, one entry a row; 0 where
    the question does not arise. ``atom``: the id of (principal, factor, value), the unit in
    which evidence is counted. ``seen``, ``active``: slices with the value and with the context
    in the row's past; ``peers``, ``members``: others of the group with the value, and all."""

    nats: Floats
    atom: Ids
    seen: Ints
    active: Ints
    peers: Ints
    members: Ints


class Factor(Protocol):
    """A question. ``columns`` are the columns whose values answer it, for the explanation.

    ``shown`` tells how a value reads in a table, as a format string over ``columns``. ``told``
    completes "somebody (never) …" in the past tense, over the columns of the ledger and ``where``
    and ``thing`` (the namespace and the object in words). ``holders`` names what ``active`` and
    ``seen`` count where that is not time slices; ``among`` what makes a slice count where being
    active at all is not enough.
    """

    @property
    def name(self) -> str: ...

    @property
    def aspect(self) -> Aspect: ...

    @property
    def question(self) -> str: ...

    @property
    def context(self) -> tuple[str, ...]: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def shown(self) -> str: ...

    @property
    def told(self) -> str: ...

    @property
    def holders(self) -> str: ...

    @property
    def among(self) -> str: ...

    def learn(self, table: ActivityTable, horizon: Horizon) -> Learnt:
        """What ``table`` says of the past of each time slice, as ``horizon`` has it. Never changes
        ``table``."""
        ...


class Learnt(Protocol):
    """What a factor has learnt of one table, under one horizon."""

    def answer(self, table: ActivityTable) -> Surprise:
        """Score every row of ``table``: the one that was learnt, or later rows of the same log,
        which cannot tell before they are learnt, too, what is usual."""
        ...
