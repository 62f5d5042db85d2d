"""Peers: how many others of the same team, class and cluster have this value in their past?

Back-off from the principal to its team, its class and the cluster; each level lends the next
smaller one as much as one peer's weight (a Pitman–Yor hierarchy with distinct principals as
customers: one loud principal is one vote).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kubewitness.activity.table import Floats, Ids, Ints, combine
from kubewitness.baseline.counts import Occasions
from kubewitness.baseline.horizon import NEVER, Horizon


class Company(NamedTuple):
    """Of ``members`` others in the group, ``sharing`` have the value in their past."""

    sharing: Ints
    members: Ints


class Peers:
    """Counts the principals of a group that show a value outside a row's own window."""

    def __init__(
        self, group: Ids, principal: Ids, value: Ids, slices: Ints, horizon: Horizon
    ) -> None:
        self._horizon = horizon
        self._values = _Extents(combine(group, value), principal, slices, horizon)
        self._members = _Extents(group, principal, slices, horizon)

    def company(
        self, group: Ids, value: Ids, slices: Ints, knows_value: Ints, knows_any: Ints
    ) -> Company:
        """``knows_value`` and ``knows_any`` (counts of the row's own principal) take the
        principal itself out of its peers."""
        lower, upper = self._horizon.at(slices)
        sharing = self._values.outside(combine(group, value), lower, upper) - (knows_value > 0)
        members = self._members.outside(group, lower, upper) - (knows_any > 0)
        return Company(np.maximum(sharing, 0), np.maximum(members, 0))


class _Extents:
    """For each key the first and last slice of each member; counts members seen outside."""

    def __init__(self, key: Ids, member: Ids, slices: Ints, horizon: Horizon) -> None:
        order = np.lexsort((slices, member, key))
        key, member, slices = key[order], member[order], slices[order]
        edge = np.ones(len(key), dtype=bool)
        edge[1:] = (key[1:] != key[:-1]) | (member[1:] != member[:-1])
        begin = np.flatnonzero(edge)
        end = np.append(begin[1:], len(key)) - 1 if len(begin) else begin
        first, last = slices[begin], slices[end]
        self._first = Occasions(key[begin], first, distinct=False)
        # Only a member whose whole life is short can lie inside a window; each is entered at
        # every slice whose window holds all of it.
        reach = horizon.reach
        short = (last - first <= reach) if reach else np.zeros(len(begin), dtype=bool)
        half = reach // 2
        keys, centres = [], []
        for offset in range(reach + 1) if reach else ():
            centre = last[short] - half + offset
            holds = (centre - half <= first[short]) & (centre >= 0)
            keys.append(key[begin][short][holds])
            centres.append(centre[holds])
        self._inside = (
            Occasions(np.concatenate(keys), np.concatenate(centres), distinct=False)
            if keys
            else None
        )
        self._half = half

    def outside(self, key: Ids, lower: Ints, upper: Ints) -> Ints:
        far = np.full_like(lower, NEVER)
        if self._inside is None:
            return self._first.outside(key, lower, far)
        everyone = self._first.outside(key, far, far)
        centre = lower + self._half
        within = everyone * 0
        # occasions exactly at the centre = all of them - those before - those after
        total = self._inside.outside(key, far, far)
        apart = self._inside.outside(key, centre, centre)
        within = total - apart
        return everyone - within


def share(company: Company, prior: Floats, weight: float) -> Floats:
    """The smoothed share of peers with the value; ``prior`` stands for ``weight`` peers."""
    smoothed: Floats = (company.sharing + weight * prior) / (company.members + weight)
    return smoothed
