"""Where a credential is used: a bound token away from its pod, a person in two places at once.

Both are facts about addresses rather than habits of a principal, so they need no history of
their own; how often they happen for harmless reasons is learnt from the whole cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kubewitness.activity.table import MICROSECONDS, ActivityTable, Floats, Ids, Ints, Mask, combine
from kubewitness.baseline.counts import Occasions
from kubewitness.baseline.horizon import Horizon
from kubewitness.surprise.factor import Aspect, Surprise

# Two sessions of one person that alternate within this time overlap.
OVERLAP = 2 * 3600 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class Displacement:
    """A service account token bound to a pod (KEP-1205) is used from an address that is not the
    pod's: the first address that the pod's uid was seen with.

    A pod has one address for its life, so this is what a stolen token looks like.
    """

    name: str = "token"
    aspect: Aspect = "where from"
    question: str = "Is this token used where its pod is?"
    context: tuple[str, ...] = ("pod_uid",)
    columns: tuple[str, ...] = ("source_ip",)
    shown: str = "used from {source_ip}"
    told: str = "used a pod's token from {source_ip}, which is not that pod's address"
    holders: str = "pods ever did before"

    def score(self, table: ActivityTable, horizon: Horizon) -> Surprise:
        """See ``Factor.score``."""
        bound = ~table.are("pod_uid", ("",))
        pod, address = table.ids["pod_uid"], table.ids["source_ip"]
        _, first, inverse = np.unique(pod, return_index=True, return_inverse=True)
        away = bound & (address != address[first][inverse])
        return _fact(table, horizon, away, bound, pod, combine(pod, address))


@dataclass(frozen=True, slots=True)
class Concurrency:
    """A person's requests alternate between two addresses: one session from each at a time.

    Changing the address once (a VPN that reconnects) is not alternating; so a request becomes
    odd in hindsight, within ``OVERLAP``, when the elder address is used again.
    """

    name: str = "concurrency"
    aspect: Aspect = "where from"
    question: str = "Is this person in one place at a time?"
    context: tuple[str, ...] = ("actor",)
    columns: tuple[str, ...] = ("source_ip",)
    shown: str = "{source_ip} and another address at the same time"
    told: str = "worked from {source_ip} and another address at the same time"
    holders: str = "people ever did before"

    def score(self, table: ActivityTable, horizon: Horizon) -> Surprise:
        """See ``Factor.score``."""
        people = table.are("class", ("human",))
        alternating = np.zeros(len(table), dtype=bool)
        rows = np.flatnonzero(people)
        if len(rows):
            alternating[rows] = _alternates(
                table.ids["actor"][rows], table.ids["source_ip"][rows], table.first[rows]
            )
        actor = table.ids["actor"]
        day = combine(actor, table.ids["source_ip"], table.slice.astype(np.uint64))
        return _fact(table, horizon, alternating, people, actor, day)


def _alternates(actor: Ids, address: Ids, at: Ints) -> Mask:
    """Which rows are of an address that came later than the one it alternates with.

    Both ends of an alternation are in two places at once; the newcomer is the one to explain.
    """
    order = np.lexsort((at, actor))
    who, where, when = actor[order], address[order], at[order]
    # the previous row of the same person at the same address
    by_place = np.lexsort((np.arange(len(who)), where, who))
    previous = np.full(len(who), -1, dtype=np.int64)
    same = (who[by_place][1:] == who[by_place][:-1]) & (where[by_place][1:] == where[by_place][:-1])
    previous[by_place[1:][same]] = by_place[:-1][same]
    position = np.arange(len(who))
    returned = (
        (previous >= 0)
        & (position - previous > 1)
        & (when - when[np.maximum(previous, 0)] <= OVERLAP)
    )
    # Between the earlier use of an address and the return to it, whatever is newer than it.
    _, met, place = np.unique(combine(who, where), return_index=True, return_inverse=True)
    known_since = met[place]
    eldest = np.full(len(who), -1, dtype=np.int64)
    for back in np.flatnonzero(returned):
        between = slice(previous[back] + 1, back)
        eldest[between] = np.maximum(eldest[between], 0)
        newer = known_since[between] > known_since[back]
        eldest[between][newer] = 1
    marked = np.empty(len(who), dtype=bool)
    marked[order] = eldest == 1
    return marked


def _fact(
    table: ActivityTable, horizon: Horizon, odd: Mask, asked: Mask, holder: Ids, atom: Ids
) -> Surprise:
    """Surprise of rows in ``odd`` by how many holders were ever odd, of all that were asked."""
    rows = np.flatnonzero(odd)
    slices = np.arange(len(horizon.lower), dtype=np.int64)
    lower, upper = horizon.at(slices)
    everybody = _distinct(holder[asked], table.slice[asked]).outside(_one(slices), lower, upper)
    moved = _distinct(holder[odd], table.slice[odd]).outside(_one(slices), lower, upper)
    rate = (moved + 0.5) / (everybody + 1.0)
    nats: Floats = np.zeros(len(table))
    nats[rows] = -np.log(np.minimum(rate[table.slice[rows]], 1.0))
    nothing = np.zeros(len(table), dtype=np.int64)
    active = nothing.copy()
    active[rows] = everybody[table.slice[rows]]
    seen = nothing.copy()
    seen[rows] = moved[table.slice[rows]]
    factor = np.full(len(table), np.uint64(len(rows) and 0x70726F76))
    return Surprise(nats, combine(factor, atom), seen, active, nothing, nothing)


def _one(slices: Ints) -> Ids:
    return np.zeros(len(slices), dtype=np.uint64)


def _distinct(holder: Ids, slices: Ints) -> Occasions:
    """Holders by the slice in which each was first met, all under one key."""
    _, first = np.unique(holder, return_index=True)
    return Occasions(
        np.zeros(len(first), dtype=np.uint64), slices[first].astype(np.int64), distinct=False
    )
