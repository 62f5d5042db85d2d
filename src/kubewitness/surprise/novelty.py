"""Model A: is this value usual in this context, for this principal and for its peers?

    p = P(context shows something new) · P(this value | peers)       when never seen, else
    p = days with the value / days with the context

How often a principal does something new is learnt from how often it did (Good–Turing: values
seen once over active slices): people explore, controllers do not. What a new value is worth is
learnt from its peers: a back-off from team to class to cluster.

Sources: Good, "The population frequencies of species" (Biometrika 1953); Teh, "A hierarchical
Bayesian language model based on Pitman–Yor processes" (ACL 2006); Heard & Rubin-Delanchy,
"Network-wide anomaly detection via the Dirichlet process" (2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kubewitness.activity.table import ActivityTable, Floats, Ids, Ints, Mask, combine
from kubewitness.baseline.counts import Counts, Habits, History, Occasions, Past
from kubewitness.baseline.horizon import Horizon
from kubewitness.baseline.peers import Peers, share
from kubewitness.surprise.factor import Aspect, Surprise

# How often something new is expected of a context is what it showed, and what others of its class
# show, the latter with the weight of this many slices.
OTHERS = 2.0
# A value that nobody in the cluster has: half an occurrence among all principals.
_UNHEARD = 0.5
_CLUSTER = np.uint64(1)
# What each level of the back-off lends the next: class to team as much as one peer, …
_LENT = (1.0, 1.0, 2.0)


def everywhere(table: ActivityTable) -> Mask:
    """The question arises for every row."""
    return np.ones(len(table), dtype=bool)


@dataclass(frozen=True, slots=True)
class Novelty:
    """Novelty of ``columns`` given ``context``, among rows that ``asks`` selects.

    ``context`` always starts with whose habit it is; peers are asked with the rest of it.
    For ``shown`` and ``told`` see ``Factor``.
    """

    name: str
    aspect: Aspect
    question: str
    context: tuple[str, ...]
    columns: tuple[str, ...]
    shown: str
    told: str
    asks: Callable[[ActivityTable], Mask] = everywhere
    holders: str = ""
    among: str = ""

    def learn(self, table: ActivityTable, horizon: Horizon) -> Habit:
        """See ``Factor.learn``."""
        rows, _ = self._distinct(table, np.flatnonzero(self.asks(table)))
        actor = table.ids["actor"][rows]
        slices = table.slice[rows]
        context, value, shared = self._keys(table, rows)
        # A namespace is learnt under its own name too, for when it is no longer young.
        known = self._keys(table, rows, place="namespace")
        counts = Counts.learn(context, value, slices).merge(Counts.learn(*known[:2], slices))
        twice = (np.tile(actor, 2), np.concatenate([shared, known[2]]), np.tile(slices, 2))
        return Habit(
            question=self,
            horizon=horizon,
            past=Past(counts),
            others=Exploration.learn(counts, context, table.ids["class"][rows]),
            values=Occasions(combine(*twice[:2]), twice[2]),
            anything=Occasions(actor, slices),
            peers=tuple(
                Peers(np.tile(group, 2), *twice, horizon) for group in _groups(table, rows)
            ),
            columns=tuple(
                Past(Counts.learn(context, table.ids[column][rows], slices))
                for column in (self.columns if len(self.columns) > 1 else ())
            ),
        )

    def _distinct(self, table: ActivityTable, rows: Ints) -> tuple[Ints, Ints]:
        """One row for all that are alike to this question, and for each row which one.

        All that is counted is distinct, so that answering once for each costs a fraction.
        """
        columns = dict.fromkeys(("actor", "class", "team", *self.context, *self.columns))
        if "place" in columns:
            columns["namespace"] = None
        slices = table.slice[rows].astype(np.uint64)
        alike = combine(*(table.ids[column][rows] for column in columns), slices)
        _, first, whose = np.unique(alike, return_index=True, return_inverse=True)
        return rows[first], whose

    def _keys(self, table: ActivityTable, rows: Ints, place: str = "place") -> tuple[Ids, Ids, Ids]:
        """Context, value, and what peers are asked for (the value with the rest of the context)."""
        context = tuple(place if column == "place" else column for column in self.context)
        columns = tuple(place if column == "place" else column for column in self.columns)
        value = table.key(*columns)[rows]
        shared = table.key(*context[1:], *columns)[rows] if context[1:] else value
        return table.key(*context)[rows], value, shared


def _groups(table: ActivityTable, rows: Ints) -> tuple[Ids, Ids, Ids]:
    """The cluster, the class and the team of each row: whose habits are lent to whom."""
    everybody = np.full(len(rows), _CLUSTER)
    return everybody, table.ids["class"][rows], table.key("class", "team")[rows]


@dataclass(frozen=True, slots=True)
class Habit:
    """What a ``Novelty`` has learnt; sorted arrays, asked by binary search."""

    question: Novelty
    horizon: Horizon
    past: Past
    others: Exploration
    values: Occasions
    anything: Occasions
    peers: tuple[Peers, ...]
    columns: tuple[Past, ...]

    def answer(self, table: ActivityTable) -> Surprise:
        """See ``Learnt.answer``."""
        question, horizon = self.question, self.horizon
        asked = np.flatnonzero(question.asks(table))
        rows, whose = question._distinct(table, asked)
        actor, slices = table.ids["actor"][rows], table.slice[rows]
        context, value, shared = question._keys(table, rows)
        past = self.past.history(context, value, slices, horizon)
        new = self.others.rate(past, table.ids["class"][rows], slices, horizon)
        # Somebody without a past is judged by its peers alone.
        new[past.active == 0] = 1.0
        # What the principal itself did, whatever the rest of its context was, is no peer's.
        lower, upper = horizon.at(slices)
        knows_value = self.values.outside(combine(actor, shared), lower, upper)
        knows_any = self.anything.outside(actor, lower, upper)
        prior = np.full(len(rows), np.nan)
        sharing = members = np.zeros(len(rows), dtype=np.int64)
        groups = _groups(table, rows)
        for level, (peers, group) in enumerate(zip(self.peers, groups, strict=True)):
            company = peers.company(group, shared, slices, knows_value, knows_any)
            if level == 0:
                prior = (company.sharing + _UNHEARD) / (company.members + 1.0)
            else:
                prior = share(company, prior, _LENT[level])
                sharing, members = company.sharing, company.members
        prior = np.maximum(prior, self._expected(table, rows, context))
        novel = new * prior
        usual = past.seen / (past.active + 1.0)
        p = np.where(past.seen > 0, np.maximum(usual, novel), novel)
        nats = -np.log(np.clip(p, 1e-9, 1.0))
        atom = atoms(question.name, actor, context, value)
        answers = (nats, atom, past.seen, past.active, sharing, members)
        return spread(table, asked, *(answer[whose] for answer in answers))

    def _expected(self, table: ActivityTable, rows: Ints, context: Ids) -> Floats:
        """How likely the combination is if its columns have nothing to do with each other: who
        deletes pods and works in this namespace will sooner or later delete pods in it."""
        if not self.columns:
            return np.zeros(len(rows))
        together = np.ones(len(rows))
        for column, known in zip(self.question.columns, self.columns, strict=True):
            past = known.history(context, table.ids[column][rows], table.slice[rows], self.horizon)
            together *= past.seen / (past.active + 1.0)
        return together


@dataclass(frozen=True, slots=True)
class Exploration:
    """How often whole classes of contexts show something new."""

    habits: Habits

    @classmethod
    def learn(cls, counts: Counts, context: Ids, classes: Ids) -> Exploration:
        """``classes``: that of each ``context``; those of ``counts`` are among them."""
        known, at = np.unique(context, return_index=True)
        return cls(counts.habits(classes[at][np.searchsorted(known, counts.context)]))

    def rate(self, past: History, classes: Ids, slices: Ints, horizon: Horizon) -> Floats:
        """The chance that a row's context shows something new in its slice: single values per
        active slice, of its own and, with the weight of ``OTHERS`` slices, of all contexts of its
        class."""
        active, singles = self.habits.outside(classes, *horizon.at(slices))
        others = (singles + 0.5) / (active + 5.0)
        rate: Floats = 1 - np.exp(-(past.singles + OTHERS * others) / (past.active + OTHERS))
        return rate


def atoms(name: str, actor: Ids, context: Ids, value: Ids) -> Ids:
    """The id of (principal, factor, value)."""
    factor = np.full(
        len(actor), np.uint64(int.from_bytes(name.encode()[:8].ljust(8, b"\0"), "big"))
    )
    return combine(factor, actor, context, value)


def spread(
    table: ActivityTable, rows: np.ndarray, nats: np.ndarray, atom: np.ndarray, *counts: np.ndarray
) -> Surprise:
    """Put the answers for some rows into arrays for all rows."""
    size = len(table)
    full = np.zeros(size)
    full[rows] = nats
    ids = np.zeros(size, dtype=np.uint64)
    ids[rows] = atom
    whole = []
    for count in counts:
        column = np.zeros(size, dtype=np.int64)
        column[rows] = count
        whole.append(column)
    return Surprise(full, ids, *whole)
