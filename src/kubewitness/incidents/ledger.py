"""The ledger: what each row testifies, weighed by what it could be good for.

Several factors see the same oddity (a new action is also a new action in this namespace), so
within one aspect the strongest counts; the aspects add up. An atom (principal, factor, value)
counts once for an incident, however often it is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from kubewitness.activity.table import YOUNG, ActivityTable, Floats, Ids, Ints, Mask, texts
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
    """Rows with evidence, ascending by time.

    ``weight[aspect]``, ``finding[aspect]``, ``entry[aspect]``: the strongest evidence of each
    row, by which of ``findings`` (−1: none) and at which place in it. ``total``: all aspects
    together. ``foreign``: from a network that nobody in the cluster ever used before.
    ``debut``: when its credential (where that has an id) was first used in this log, in µs.
    ``texts``: the columns ``COLUMNS`` of these rows; ``techniques`` likewise.
    """

    rows: Ints
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


def enter(
    table: ActivityTable,
    findings: Sequence[Findings],
    horizon: Horizon,
    connection: duckdb.DuckDBPyConnection,
    excused: Ints = NOTHING,
) -> Ledger:
    """Weigh the findings and keep the rows whose testimony is worth telling; ``excused`` rows of
    the table are explained otherwise and testify nothing."""
    found = np.zeros(len(table), dtype=bool)
    for finding in findings:
        found[finding.rows] = True
    rows = np.flatnonzero(found)
    place = np.full(len(table), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    deeds = texts(connection, rows, ("verb", "resource", "subresource", "namespace", "traits"))
    every = [technique(*deed) for deed in zip(*deeds.values(), strict=True)]
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
        at = place[finding.rows]
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
    kept = np.flatnonzero((total >= MINIMUM_ROW) & ~np.isin(rows, excused))
    lower, upper = horizon.at(table.slice[rows])
    network = table.ids["network"]
    foreign = Occasions(network, table.slice).outside(network[rows], lower, upper) == 0
    _, met, credential = np.unique(table.ids["credential"], return_index=True, return_inverse=True)
    return Ledger(
        foreign=foreign[kept],
        debut=table.first[met[credential[rows[kept]]]],
        rows=rows[kept],
        first=table.first[rows[kept]],
        last=table.last[rows[kept]],
        total=total[kept],
        weight={aspect: weight[aspect][kept] for aspect in ASPECTS},
        finding={aspect: chosen[aspect][kept] for aspect in ASPECTS},
        entry={aspect: entry[aspect][kept] for aspect in ASPECTS},
        atom={aspect: atom[aspect][kept] for aspect in ASPECTS},
        findings=findings,
        texts=texts(connection, rows[kept], COLUMNS),
        techniques=[every[index] for index in kept],
    )
