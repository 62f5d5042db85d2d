"""Where a credential is used: a token away from its pod or its node, a node away from its address,
a person or a credential in two places at once.

All are facts about addresses rather than habits of a principal, so they need no history of
their own; how often they happen for harmless reasons is learnt from the whole cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kubewitness.activity.table import MICROSECONDS, ActivityTable, Ids, Ints, Mask, combine
from kubewitness.baseline.counts import Occasions
from kubewitness.baseline.horizon import NEVER, Horizon
from kubewitness.surprise.factor import Aspect, Surprise
from kubewitness.surprise.novelty import Habit, Novelty, spread

# Two sessions of one holder that alternate within this time overlap.
OVERLAP = 2 * 3600 * MICROSECONDS


def people(table: ActivityTable) -> Mask:
    """Who may be anywhere, but in one place at a time."""
    return table.are("class", ("human",))


def nodes(table: ActivityTable) -> Mask:
    """Kubelets by their own credential."""
    return table.are("class", ("node",))


def bound(table: ActivityTable) -> Mask:
    """Tokens that were issued to a pod (KEP-1205)."""
    return ~table.are("pod_uid", ("",))


def unbound(table: ActivityTable) -> Mask:
    """Credentials with an id of machines, issued to no pod: nobody else asks where they are."""
    machine = table.are("class", ("workload", "control-plane"))
    return machine & ~bound(table) & ~table.are("credential", ("",))


@dataclass(frozen=True, slots=True)
class Displacement:
    """What has one address for its life is at another: not the first that ``context`` (the uid of
    the pod a token is bound to, or the name of a node) was seen with.

    This is what a token or a certificate looks like that was taken away.
    """

    name: str
    question: str
    context: tuple[str, ...]
    told: str
    holders: str
    asks: Callable[[ActivityTable], Mask]
    aspect: Aspect = "where from"
    columns: tuple[str, ...] = ("source_ip",)
    shown: str = "used from {source_ip}"
    among: str = ""

    def learn(self, table: ActivityTable, horizon: Horizon) -> Whereabouts:
        """See ``Factor.learn``."""
        sessions = Sessions.of(table, self.asks(table), self.context)
        odd = sessions.away(Sessions.none())
        return Whereabouts(self, horizon, sessions, Rate.learn(sessions, odd, horizon))

    def odd(self, sessions: Sessions, past: Sessions) -> Mask:
        """Which of ``sessions`` are where their holder does not belong."""
        return sessions.away(past)

    def atom(self, sessions: Sessions, name: np.uint64) -> Ids:
        """A holder at an address is strange once."""
        return combine(np.full(len(sessions.holder), name), sessions.holder, sessions.address)


@dataclass(frozen=True, slots=True)
class Confinement:
    """A token bound to a pod is used from where neither its node nor a pod of it ever was, but
    others were.

    The pod itself need not have been seen: most pods never speak to the API server, until
    somebody takes their token. Of a place that nobody was at nothing is known; it may be the
    node's own, and whether it is outside is asked by others.
    """

    name: str = "confinement"
    aspect: Aspect = "where from"
    question: str = "Is a token of a pod of this node used from where such pods are?"
    context: tuple[str, ...] = ("node",)
    columns: tuple[str, ...] = ("subnet",)
    shown: str = "used from {subnet}"
    told: str = "used a token that was issued to a pod on node {node} from {subnet}"
    holders: str = "{units} with requests of that node or its pods saw one from there"
    among: str = ""

    def learn(self, table: ActivityTable, horizon: Horizon) -> Ground:
        """See ``Factor.learn``."""
        question = Novelty(
            self.name, self.aspect, self.question, self.context, self.columns, self.shown,
            self.told, _of_a_node,
        )  # fmt: skip
        known = Occasions(table.ids["subnet"], table.slice)
        return Ground(question.learn(table, horizon), known)


@dataclass(frozen=True, slots=True)
class Ground:
    """What ``Confinement`` has learnt: where the pods of a node are, and where anybody ever was."""

    habit: Habit
    known: Occasions

    def answer(self, table: ActivityTable) -> Surprise:
        """See ``Learnt.answer``."""
        answer = self.habit.answer(table)
        bounds = self.habit.horizon.at(table.slice)
        known = self.known.outside(table.ids["subnet"], *bounds) > 0
        elsewhere = bound(table) & (answer.active > 0) & (answer.seen == 0) & known
        return replace(answer, nats=np.where(elsewhere, answer.nats, 0.0))


def _of_a_node(table: ActivityTable) -> Mask:
    return ~table.are("node", ("",))


@dataclass(frozen=True, slots=True)
class Concurrency:
    """The requests of one holder (a person, a credential) alternate between two addresses: one
    session from each at a time.

    Changing the address once (a VPN that reconnects) is not alternating; so a request becomes
    odd in hindsight, within ``OVERLAP``, when the elder address is used again.
    """

    name: str
    question: str
    context: tuple[str, ...]
    told: str
    holders: str
    asks: Callable[[ActivityTable], Mask]
    aspect: Aspect = "where from"
    columns: tuple[str, ...] = ("source_ip",)
    shown: str = "{source_ip} and another address at the same time"
    among: str = ""

    def learn(self, table: ActivityTable, horizon: Horizon) -> Whereabouts:
        """See ``Factor.learn``."""
        sessions = Sessions.of(table, self.asks(table), self.context)
        odd = sessions.alternating(Sessions.none())
        return Whereabouts(self, horizon, sessions, Rate.learn(sessions, odd, horizon))

    def odd(self, sessions: Sessions, past: Sessions) -> Mask:
        """Which of ``sessions`` are of a holder in two places at once."""
        return sessions.alternating(past)

    def atom(self, sessions: Sessions, name: np.uint64) -> Ids:
        """A holder at an address is strange once in a slice."""
        return combine(
            np.full(len(sessions.holder), name),
            sessions.holder,
            sessions.address,
            sessions.slice.astype(np.uint64),
        )


@dataclass(frozen=True, slots=True)
class Sessions:
    """Who was where and when: rows of the table ``activity``, ascending."""

    row: Ints
    holder: Ids
    address: Ids
    at: Ints
    slice: Ints

    @classmethod
    def of(cls, table: ActivityTable, asked: Mask, context: Sequence[str]) -> Sessions:
        """Those rows of a table that are asked for."""
        row = np.flatnonzero(asked)
        holder, address = table.key(*context)[row], table.ids["source_ip"][row]
        return cls(row + table.offset, holder, address, table.first[row], table.slice[row])

    @classmethod
    def none(cls) -> Sessions:
        """Nobody anywhere."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(nothing, _one(nothing), _one(nothing), nothing, nothing)

    def before(self, row: int) -> Sessions:
        """Those of the rows before ``row``."""
        n = int(np.searchsorted(self.row, row))
        return Sessions(
            self.row[:n], self.holder[:n], self.address[:n], self.at[:n], self.slice[:n]
        )

    def away(self, past: Sessions) -> Mask:
        """Which are not where their holder was first met, in the ``past`` or among these."""
        holder = np.concatenate([past.holder, self.holder])
        address = np.concatenate([past.address, self.address])
        _, at, inverse = np.unique(holder, return_index=True, return_inverse=True)
        moved: Mask = address != address[at][inverse]
        return moved[len(past.row) :]

    def alternating(self, past: Sessions) -> Mask:
        """Which alternate with another address of their holder, in the ``past`` or among these."""
        holder = np.concatenate([past.holder, self.holder])
        address = np.concatenate([past.address, self.address])
        return _alternates(holder, address, np.concatenate([past.at, self.at]))[len(past.row) :]


@dataclass(frozen=True, slots=True)
class Rate:
    """How many holders there were and how many of them were ever odd, for rows in each slice."""

    everybody: Ints
    moved: Ints

    @classmethod
    def learn(cls, sessions: Sessions, odd: Mask, horizon: Horizon) -> Rate:
        """By the slices before which things are known."""
        slices = np.arange(len(horizon.lower), dtype=np.int64)
        bounds = horizon.at(slices)
        return cls(
            _distinct(sessions.holder, sessions.slice).outside(_one(slices), *bounds),
            _distinct(sessions.holder[odd], sessions.slice[odd]).outside(_one(slices), *bounds),
        )


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What ``Displacement`` and ``Concurrency`` have learnt: where everybody was."""

    question: Displacement | Concurrency
    horizon: Horizon
    past: Sessions
    rate: Rate

    def answer(self, table: ActivityTable) -> Surprise:
        """See ``Learnt.answer``. Surprise by how many holders were ever odd, of all."""
        sessions = Sessions.of(table, self.question.asks(table), self.question.context)
        strange = self.question.odd(sessions, self.past.before(table.offset))
        rows, slices = sessions.row[strange] - table.offset, sessions.slice[strange]
        everybody, moved = self.rate.everybody[slices], self.rate.moved[slices]
        rate = np.minimum((moved + 0.5) / (everybody + 1.0), 1.0)
        nothing = np.zeros(len(rows), dtype=np.int64)
        atom = self.question.atom(sessions, table.id_of(self.question.name))[strange]
        return spread(table, rows, -np.log(rate), atom, moved, everybody, nothing, nothing)


def _alternates(holder: Ids, address: Ids, at: Ints) -> Mask:
    """Which rows are of an address that came later than the one it alternates with.

    Both ends of an alternation are in two places at once; the newcomer is the one to explain.
    """
    order = np.lexsort((at, holder))
    place, when = combine(holder, address)[order], at[order]
    position = np.arange(len(order))
    by_place = np.lexsort((position, place))
    # from the previous row of the same holder at the same address to its return
    away, back = by_place[:-1], by_place[1:]
    returned = (
        (place[away] == place[back]) & (back - away > 1) & (when[back] - when[away] <= OVERLAP)
    )
    away, back = away[returned], back[returned]
    _, met, inverse = np.unique(place, return_index=True, return_inverse=True)
    known_since = met[inverse]
    marked = np.empty(len(order), dtype=bool)
    # Meanwhile whatever is newer than the address that is returned to.
    marked[order] = _least(away + 1, back, known_since[back], len(order)) < known_since
    return marked


def _least(begin: Ints, end: Ints, value: Ints, size: int) -> Ints:
    """The least value of all stretches [begin, end) that hold a position (``NEVER``: none).

    Each stretch is two that overlap, 2^k long; from the longest on they are handed down to halves.
    """
    least = np.full(size, NEVER)
    level = np.frexp(end - begin)[1] - 1
    for k in range(int(level.max(initial=0)), -1, -1):
        at = level == k
        np.minimum.at(least, begin[at], value[at])
        np.minimum.at(least, end[at] - (1 << k), value[at])
        if k:
            half = 1 << (k - 1)
            least[half:] = np.minimum(least[half:], least[:-half])
    return least


def _one(slices: Ints) -> Ids:
    return np.zeros(len(slices), dtype=np.uint64)


def _distinct(holder: Ids, slices: Ints) -> Occasions:
    """Holders by the slice in which each was first met, all under one key."""
    _, first = np.unique(holder, return_index=True)
    return Occasions(
        np.zeros(len(first), dtype=np.uint64), slices[first].astype(np.int64), distinct=False
    )
