"""Who usually touches this object: the same question as for a principal's habits, asked of the
thing that is worth protecting.

    p = P(the object is touched by somebody new) · P(this team | such objects)    when never, else
    p = slices on which this team touched it / slices on which anybody did

A secret that one operator has read every day for a year says much about the first stranger who
reads it, even where that stranger reads new secrets all the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kubewitness.activity.table import ActivityTable, Floats, Ids, Ints
from kubewitness.baseline.counts import Counts, Occasions, Past
from kubewitness.baseline.horizon import Horizon
from kubewitness.surprise.factor import Aspect, Surprise
from kubewitness.surprise.novelty import Exploration, atoms, spread

# What touches the content of an object or gets into it.
_INTO = ("exec", "attach", "portforward", "token", "proxy", "ephemeralcontainers")


@dataclass(frozen=True, slots=True)
class Audience:
    """Is a named secret, or a pod, node or service account that is entered, spoken through or
    impersonated by a token, touched by a team that usually does?

    Kubelets and controllers are left out: the scheduler decides whose secrets they read.
    """

    name: str = "audience"
    aspect: Aspect = "what"
    question: str = "Does this team usually touch this object?"
    context: tuple[str, ...] = ("resource", "subresource", "namespace", "template")
    columns: tuple[str, ...] = ("team",)
    shown: str = "touched by {team}"
    told: str = "touched {thing}"
    holders: str = "{units} in which it was used before saw this team use it"
    among: str = ""

    def learn(self, table: ActivityTable, horizon: Horizon) -> Visitors:
        """See ``Factor.learn``."""
        rows, thing, team = self._visits(table)
        slices = table.slice[rows]
        counts = Counts.learn(thing, team, slices)
        return Visitors(
            question=self,
            horizon=horizon,
            past=Past(counts),
            others=Exploration.learn(counts, thing, _one(rows)),
            everybody=Occasions(_one(rows), slices, distinct=False),
            theirs=Occasions(team, slices, distinct=False),
        )

    def _visits(self, table: ActivityTable) -> tuple[Ints, Ids, Ids]:
        """The rows that are asked about, the thing that was touched, and by whom."""
        sensitive = table.are("resource", ("secrets",)) | table.are("subresource", _INTO)
        chosen = table.are("class", ("human", "workload"))
        # Who makes a secret knows what is in it, and one that is not there tells nobody anything.
        nothing = table.are("action", ("create secrets",)) | table.are("outcome", ("missing",))
        rows = np.flatnonzero(sensitive & chosen & ~nothing & ~table.are("template", ("",)))
        return rows, table.key(*self.context)[rows], table.ids["team"][rows]


@dataclass(frozen=True, slots=True)
class Visitors:
    """What ``Audience`` has learnt."""

    question: Audience
    horizon: Horizon
    past: Past
    others: Exploration
    everybody: Occasions
    theirs: Occasions

    def answer(self, table: ActivityTable) -> Surprise:
        """See ``Learnt.answer``."""
        rows, thing, team = self.question._visits(table)
        slices = table.slice[rows]
        past = self.past.history(thing, team, slices, self.horizon)
        new = self.others.rate(past, _one(rows), slices, self.horizon)
        lower, upper = self.horizon.at(slices)
        everybody = self.everybody.outside(_one(rows), lower, upper)
        theirs = self.theirs.outside(team, lower, upper)
        novel: Floats = new * (theirs + 0.5) / (everybody + 1.0)
        # Of an object that was never touched before nobody is the usual audience.
        novel[past.active == 0] = 1.0
        usual = past.seen / (past.active + 1.0)
        p = np.where(past.seen > 0, np.maximum(usual, novel), novel)
        nats = -np.log(np.clip(p, 1e-9, 1.0))
        none = np.zeros(len(rows), dtype=np.int64)
        atom = atoms(self.question.name, table.ids["actor"][rows], thing, team)
        return spread(table, rows, nats, atom, past.seen, past.active, none, none)


def _one(rows: Ints) -> Ids:
    return np.ones(len(rows), dtype=np.uint64)
