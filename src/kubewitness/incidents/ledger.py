"""The ledger: what each row testifies, weighed by what it could be good for.

Several factors see the same oddity (a new action is also a new action in this namespace), so
within one aspect the strongest counts; the aspects add up. An atom (principal, factor, value)
counts once for an incident, however often it is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np

from kubewitness.activity.table import (
    MICROSECONDS,
    YOUNG,
    ActivityTable,
    Floats,
    Ids,
    Ints,
    Mask,
    texts,
)
from kubewitness.activity.technique import IMPERSONATION, Technique, technique
from kubewitness.baseline.counts import Occasions
from kubewitness.baseline.horizon import Horizon
from kubewitness.surprise.factor import Aspect
from kubewitness.surprise.scoring import Findings

ASPECTS: tuple[Aspect, ...] = ("what", "whose", "answer", "where from", "when")
CIRCUMSTANCES: frozenset[Aspect] = frozenset({"where from", "when"})
# Where and when matter less than what: a stolen credential that only looks around has done little.
_CONTEXT_WEIGHT = 1.2
# A machine in a namespace that is being set up or of one, or on a kind of object that was just
# installed, does what it was installed for.
_YOUNG_WEIGHT = 0.35
# An attempt that gained nothing; and what a machine never did before is seldom a new task of its.
_REFUSED_WEIGHT, _MACHINE_WEIGHT = 0.7, 1.25
_PLACES = frozenset({"network", "source_ip"})
# A row that testifies less than this is not worth a line in a story.
MINIMUM_ROW = 1.5
NOTHING = np.zeros(0, dtype=np.int64)
# auditIDs and names that are kept of an activity.
SAMPLES = 8

COLUMNS = [
    "row",
    "slot",
    "cluster",
    "principal",
    "class",
    "team",
    "acting_as",
    "credential",
    "scheme",
    "issued",
    "issuer",
    "pod",
    "pod_uid",
    "node",
    "action",
    "verb",
    "resource",
    "subresource",
    "namespace",
    "template",
    "source_ip",
    "network",
    "subnet",
    "scope",
    "client",
    "release",
    "platform",
    "outcome",
    "binding",
    "traits",
    "origins",
    "bearer",
    "actor",
    "place",
    "kind",
    "hours",
    "component",
    "region",
    "n",
    "names",
    "first",
    "last",
    "audit_ids",
    "name_samples",
]


@dataclass(frozen=True, slots=True)
class Ledger:
    """Rows of the table ``activity`` with evidence, ascending by time; ``slice`` is that of each.

    ``weight[aspect]``, ``finding[aspect]``, ``entry[aspect]``: the strongest evidence of each
    row, by which of ``findings`` (−1: none) and at which place in it. ``total``: all aspects
    together. ``foreign``: from a network that nobody in the cluster ever used before.
    ``debut``: when its credential (where that has an id) was first used in this log, in µs.
    ``texts``: the columns ``COLUMNS`` of these rows; ``techniques`` likewise.
    """

    rows: Ints
    slice: Ints
    first: Ints
    last: Ints
    total: Floats
    foreign: Mask
    debut: Ints
    weight: dict[Aspect, Floats]
    finding: dict[Aspect, Ints]
    entry: dict[Aspect, Ints]
    atom: dict[Aspect, Ids]
    findings: Sequence[Findings]
    texts: dict[str, list[Any]]
    techniques: list[Technique]

    def __len__(self) -> int:
        return len(self.rows)

    def since(self, begin: int) -> Ledger:
        """The lines from ``begin`` (µs) on."""
        return self._of(self.findings, np.flatnonzero(self.first >= begin))

    def repeat(
        self, line: int, n: int, last: int, audit_ids: Sequence[str], names: Sequence[str]
    ) -> None:
        """The same activity as ``line`` went on, until ``last`` (µs)."""
        self.last[line] = max(self.last[line], last)
        self.texts["last"][line] = max(self.texts["last"][line], _time(last))
        self.texts["n"][line] += n
        for column, more in (("audit_ids", audit_ids), ("name_samples", names)):
            known = dict.fromkeys([*self.texts[column][line], *more])
            self.texts[column][line] = [*known][:SAMPLES]
        self.texts["names"][line] = max(
            self.texts["names"][line], len(self.texts["name_samples"][line])
        )

    def joined(self, later: Ledger) -> Ledger:
        """Both in one order of time; ``later`` was found by the same factors in other rows."""
        before = [len(finding.rows) for finding in self.findings]
        findings = [
            one.followed_by(other) for one, other in zip(self.findings, later.findings, strict=True)
        ]
        shift = np.array([*before, 0])  # the last for "none", which is −1

        def both(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            return np.concatenate([one, other])

        whole = Ledger(
            rows=both(self.rows, later.rows),
            slice=both(self.slice, later.slice),
            first=both(self.first, later.first),
            last=both(self.last, later.last),
            total=both(self.total, later.total),
            foreign=both(self.foreign, later.foreign),
            debut=both(self.debut, later.debut),
            weight={a: both(self.weight[a], later.weight[a]) for a in ASPECTS},
            finding={a: both(self.finding[a], later.finding[a]) for a in ASPECTS},
            entry={
                a: both(self.entry[a], later.entry[a] + shift[later.finding[a]]) for a in ASPECTS
            },
            atom={a: both(self.atom[a], later.atom[a]) for a in ASPECTS},
            findings=findings,
            texts={column: [*self.texts[column], *later.texts[column]] for column in COLUMNS},
            techniques=[*self.techniques, *later.techniques],
        )
        return whole._of(findings, np.lexsort([whole.rows, whole.first]))

    def _of(self, findings: Sequence[Findings], lines: Ints) -> Ledger:
        return Ledger(
            rows=self.rows[lines],
            slice=self.slice[lines],
            first=self.first[lines],
            last=self.last[lines],
            total=self.total[lines],
            foreign=self.foreign[lines],
            debut=self.debut[lines],
            weight={a: self.weight[a][lines] for a in ASPECTS},
            finding={a: self.finding[a][lines] for a in ASPECTS},
            entry={a: self.entry[a][lines] for a in ASPECTS},
            atom={a: self.atom[a][lines] for a in ASPECTS},
            findings=findings,
            texts={column: [told[line] for line in lines] for column, told in self.texts.items()},
            techniques=[self.techniques[line] for line in lines],
        )


@dataclass(frozen=True, slots=True)
class Met:
    """When whom was met: networks by slice, and each credential (sorted) for the first time."""

    networks: Occasions
    credentials: Ids
    first: Ints

    @classmethod
    def learn(cls, table: ActivityTable) -> Met:
        credentials, at = np.unique(table.ids["credential"], return_index=True)
        networks = Occasions(table.ids["network"], table.slice)
        return cls(networks, credentials, table.first[at])

    def foreign(self, table: ActivityTable, rows: Ints, horizon: Horizon) -> Mask:
        """Which rows are from a network that was met nowhere in their past."""
        bounds = horizon.at(table.slice[rows])
        strange: Mask = self.networks.outside(table.ids["network"][rows], *bounds) == 0
        return strange

    def debut(self, table: ActivityTable, rows: Ints) -> Ints:
        """When the credential of each row was first used, there or in ``table`` itself."""
        asked = table.ids["credential"]
        _, at, which = np.unique(asked, return_index=True, return_inverse=True)
        own = table.first[at[which[rows]]]
        if not len(self.credentials):
            return own
        place = np.minimum(np.searchsorted(self.credentials, asked[rows]), len(self.first) - 1)
        known = self.credentials[place] == asked[rows]
        return np.where(known, np.minimum(own, self.first[place]), own)


def enter(
    table: ActivityTable,
    findings: Sequence[Findings],
    horizon: Horizon,
    connection: duckdb.DuckDBPyConnection,
    excused: Ints = NOTHING,
    met: Met | None = None,
) -> Ledger:
    """Weigh the findings and keep the rows whose testimony is worth telling; ``excused`` rows of
    ``activity`` are explained otherwise and testify nothing. ``met`` is what was met by then, of
    the table itself unless told otherwise."""
    met = met or Met.learn(table)
    found = np.zeros(len(table), dtype=bool)
    for finding in findings:
        found[finding.rows - table.offset] = True
    rows = np.flatnonzero(found)
    place = np.full(len(table), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    deeds = texts(
        connection, rows + table.offset, ("verb", "resource", "subresource", "namespace", "traits")
    )
    every = [technique(*one) for one in zip(*deeds.values(), strict=True)]
    what_for = np.array([one.weight for one in every])
    young = {column: table.are(column, (YOUNG,))[rows] for column in ("place", "kind", "home")}
    machine = ~table.are("class", ("human", "anonymous"))[rows]
    installed = machine & (young["place"] | young["kind"] | young["home"])

    workload = table.are("class", ("workload",))[rows]
    served = table.are("outcome", ("ok", "unknown", "throttled"))[rows]
    size = len(rows)
    weight = {aspect: np.zeros(size) for aspect in ASPECTS}
    chosen = {aspect: np.full(size, -1, dtype=np.int64) for aspect in ASPECTS}
    entry = {aspect: np.zeros(size, dtype=np.int64) for aspect in ASPECTS}
    atom = {aspect: np.zeros(size, dtype=np.uint64) for aspect in ASPECTS}
    for number, finding in enumerate(findings):
        aspect = finding.factor.aspect
        at = place[finding.rows - table.offset]
        importance = what_for
        if aspect in CIRCUMSTANCES:
            importance = np.minimum(what_for, _CONTEXT_WEIGHT)
        elif aspect == "whose":
            importance = np.maximum(what_for, IMPERSONATION.weight)
        # Where a new team gathers, everybody is new; what they do there is judged as anywhere.
        local = "place" in (*finding.factor.context, *finding.factor.columns)
        new_there = installed | young["place"] if local else installed
        # What was just installed runs in the cluster: its place is judged like anybody's.
        elsewhere = not _PLACES.isdisjoint(finding.factor.columns)
        trust = np.where(workload, _MACHINE_WEIGHT, 1.0)
        if not elsewhere:
            trust[new_there] *= _YOUNG_WEIGHT
        if aspect in ("what", "answer"):
            trust[~served] *= _REFUSED_WEIGHT
        worth = finding.weight * (trust * importance)[at]
        better = np.flatnonzero(worth > weight[aspect][at])
        weight[aspect][at[better]] = worth[better]
        chosen[aspect][at[better]] = number
        entry[aspect][at[better]] = better
        atom[aspect][at[better]] = finding.atom[better]
    total = np.sum([weight[aspect] for aspect in ASPECTS], axis=0) if size else np.zeros(0)
    explained = np.isin(rows + table.offset, excused)
    kept = np.flatnonzero((total >= MINIMUM_ROW) & ~explained)
    told = rows[kept]
    return Ledger(
        foreign=met.foreign(table, told, horizon),
        debut=met.debut(table, told),
        rows=told + table.offset,
        slice=table.slice[told],
        first=table.first[told],
        last=table.last[told],
        total=total[kept],
        weight={aspect: weight[aspect][kept] for aspect in ASPECTS},
        finding={aspect: chosen[aspect][kept] for aspect in ASPECTS},
        entry={aspect: entry[aspect][kept] for aspect in ASPECTS},
        atom={aspect: atom[aspect][kept] for aspect in ASPECTS},
        findings=findings,
        texts=texts(connection, told + table.offset, COLUMNS),
        techniques=[every[index] for index in kept],
    )


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / MICROSECONDS, UTC).replace(tzinfo=None)
