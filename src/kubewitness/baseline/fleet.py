"""The fleet prior: what stock components do in any cluster, counted from benign captures.

It is the last parent of the back-off. On the first hour of a cluster that nobody has seen before,
everything is new; but that a kubelet lists secrets and a backup tool its backups is no news, as
they did so in the clusters that were counted. The prior is a floor, never a ceiling: what was not
seen elsewhere is judged as without it. ``bench/fleet_prior.py`` writes ``fleet.json``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache
from importlib import resources
from itertools import chain

import duckdb
import msgspec
import numpy as np

from kubewitness.activity.table import DAY, ActivityTable, Floats, Ids, Ints, combine, load
from kubewitness.baseline.horizon import Horizon


@dataclass(frozen=True, slots=True, order=True)
class Deed:
    """What a component did, told without any cluster's own names (``activity.table.load``)."""

    component: str
    action: str
    outcome: str
    region: str


@dataclass(frozen=True, slots=True, order=True)
class Program:
    """As what a component acts: the program and platform that it names, and the pods that hold
    its tokens (name without generated suffixes)."""

    component: str
    client: str
    platform: str
    bearer: str


Fact = Deed | Program
Capture = frozenset[Fact]
"""What stock components did in one cluster, and as which programs."""


def observe(connection: duckdb.DuckDBPyConnection, cluster: str) -> Capture:
    """The facts about stock components in the rows of one cluster in the table ``activities``."""
    load(connection, cluster)
    facts: set[Fact] = set()
    for kind, known in ((Deed, "true"), (Program, "client <> 'none'")):
        found = connection.execute(
            f"SELECT DISTINCT {', '.join(field.name for field in fields(kind))} FROM activity"
            f" WHERE component <> '' AND {known}"
        )
        facts.update(kind(*fact) for fact in found.fetchall())
    return frozenset(facts)


@dataclass(frozen=True, slots=True)
class FleetPrior:
    """``captures``: in how many captures each component was seen; ``facts``: in how many of them
    this was seen of it."""

    captures: dict[str, int]
    facts: dict[Fact, int]

    @classmethod
    def count(cls, captures: Collection[Capture]) -> FleetPrior:
        """One capture is one vote, whatever its length."""
        return cls(
            dict(Counter(chain(*({fact.component for fact in one} for one in captures)))),
            dict(Counter(chain(*captures))),
        )

    @classmethod
    def read(cls, text: bytes) -> FleetPrior:
        """From what ``written`` made."""
        known = msgspec.json.decode(text, type=dict[str, _Component])
        facts: dict[Fact, int] = {}
        for name, one in known.items():
            facts |= {
                Program(name, client, platform, bearer): n
                for client, platforms in one.programs.items()
                for platform, bearers in platforms.items()
                for bearer, n in bearers.items()
            }
            facts |= {
                Deed(name, action, outcome, region): n
                for action, outcomes in one.deeds.items()
                for outcome, regions in outcomes.items()
                for region, n in regions.items()
            }
        return cls({name: one.captures for name, one in known.items()}, facts)

    def written(self) -> bytes:
        """As JSON to read and to compare: a line for each component and action."""
        known = {name: _Component(n, {}, {}) for name, n in sorted(self.captures.items())}
        for fact in sorted(self.facts, key=astuple):
            one = known[fact.component]
            if isinstance(fact, Program):
                outer, inner, last = one.programs, (fact.client, fact.platform), fact.bearer
            else:
                outer, inner, last = one.deeds, (fact.action, fact.outcome), fact.region
            outer.setdefault(inner[0], {}).setdefault(inner[1], {})[last] = self.facts[fact]
        return _lines(known).encode()

    def expected(self, table: ActivityTable, columns: Sequence[str]) -> Expected:
        """What is known of values in ``columns``, by the ids of ``table``."""
        shares = self._shares(columns) if _TOLD_BY.keys() >= set(columns) else {}
        if not shares:
            return Expected((), np.zeros(0, dtype=np.uint64), np.zeros(0))
        known = combine(*(table.ids_of(texts) for texts in zip(*shares, strict=True)))
        order = np.argsort(known)
        return Expected(_told_by(columns), known[order], np.array(list(shares.values()))[order])

    def _shares(self, columns: Sequence[str]) -> dict[tuple[str, ...], float]:
        """For each (component, *value in columns) the share of clusters that show it. Where the
        outcome is not asked for, what a component was only refused is nothing that it does."""
        asked = _told_by(columns)
        shares: dict[tuple[str, ...], float] = {}
        for fact, n in self.facts.items():
            refused = isinstance(fact, Deed) and fact.outcome in _REFUSED
            value = tuple(getattr(fact, field, "") for field in asked)
            if all(value) and (not refused or "outcome" in columns):
                share = n / (self.captures[fact.component] + 1)
                shares[value] = max(shares.get(value, 0.0), share)
        return shares


@dataclass(frozen=True, slots=True)
class Expected:
    """``share`` of the clusters that show what has the id ``known``, sorted, made of ``fields``."""

    fields: tuple[str, ...]
    known: Ids
    share: Floats

    def floor(self, table: ActivityTable, rows: Ints, horizon: Horizon) -> Floats:
        """The least chance of each of some rows of ``table``, 0 where nothing is known.

        s of K captures of a component show the value, which is s of K + 1 clusters with the one at
        hand. The cluster's own history has the last word, also on who appears in it later: machines
        go their rounds daily, so that of what they do anywhere exp(−T) is still to be seen after
        T days of history.
        """
        if not (len(self.known) and len(rows)):
            return np.zeros(len(rows))
        asked = combine(*(table.ids[field][rows] for field in self.fields))
        at = np.minimum(np.searchsorted(self.known, asked), len(self.known) - 1)
        lower, upper = horizon.at(table.slice[rows])
        slices = np.maximum(lower, 0) + np.maximum(table.slice.max() - upper, 0)
        days = slices * (table.slice_width / DAY)
        return np.where(self.known[at] == asked, self.share[at] * np.exp(-days), 0.0)


NOTHING = FleetPrior({}, {})
# Which field of a fact, and column of the activity, answers for a column that a factor asks about.
_TOLD_BY = {
    **{column: column for column in ("action", "outcome", "client", "platform", "bearer")},
    "place": "region",
}
_REFUSED = ("denied", "unauthenticated")


def _told_by(columns: Sequence[str]) -> tuple[str, ...]:
    return ("component", *(_TOLD_BY[column] for column in columns))


class _Component(msgspec.Struct):
    captures: int
    programs: dict[str, dict[str, dict[str, int]]]
    deeds: dict[str, dict[str, dict[str, int]]]


def _lines(known: dict[str, _Component]) -> str:
    components = []
    for name, one in known.items():
        deeds = ",\n".join(
            f"  {_json(action)}: {_json(outcomes)}" for action, outcomes in one.deeds.items()
        )
        components.append(
            f'{_json(name)}: {{"captures": {one.captures}, "programs": {_json(one.programs)},'
            f' "deeds": {{\n{deeds}\n}}}}'
        )
    return "{\n" + ",\n".join(components) + "\n}\n"


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


@cache
def shipped() -> FleetPrior:
    """The prior that comes with the package."""
    return FleetPrior.read(
        resources.files("kubewitness.baseline").joinpath("fleet.json").read_bytes()
    )
