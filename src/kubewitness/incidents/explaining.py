"""Why: for each reason what was observed, what was usual instead, and for whom.

The expected values are looked up in the same past by which the row was judged (its horizon), so
that the explanation and the score speak of the same counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import duckdb
import numpy as np

from kubewitness.activity.table import DAY, MICROSECONDS, YOUNG, ActivityTable
from kubewitness.baseline.horizon import NEVER, Horizon
from kubewitness.incidents.ledger import Ledger
from kubewitness.incidents.model import Expected, Reason
from kubewitness.incidents.ranking import Atom, Case
from kubewitness.incidents.wording import named, place, sentence, thing
from kubewitness.surprise.factor import Factor
from kubewitness.times import periods

# Of a log that is younger than this it is told when it begins: "never" is not long there.
_YOUNG_LOG = 7 * DAY
REASONS = 6
_ALIKE = 3
_EXPECTED = 4


class _Usual(NamedTuple):
    expected: tuple[Expected, ...]
    days_self: int
    days_active: int
    days_peers: int
    days_cluster: int


Looked = dict[tuple[int, int], _Usual]
"""By the number of a factor and the row that it was asked about."""


def explain(
    cases: Sequence[Case],
    ledger: Ledger,
    table: ActivityTable,
    horizon: Horizon,
    connection: duckdb.DuckDBPyConnection,
    usual: Looked | None = None,
) -> list[tuple[Reason, ...]]:
    """The reasons of each case, strongest first; their shares of one case sum to 1. ``table``:
    that of which the slices are. ``usual`` remembers what was looked up before."""
    usual = {} if usual is None else usual
    chosen = [_chosen(case, ledger) for case in cases]
    asked: dict[int, set[int]] = defaultdict(set)
    for atoms in chosen:
        for atom in atoms:
            number = int(ledger.finding[atom.aspect][atom.line])
            if (number, int(ledger.rows[atom.line])) not in usual:
                asked[number].add(atom.line)
    for number, lines in asked.items():
        factor = ledger.findings[number].factor
        for line, answer in _look_up(factor, sorted(lines), ledger, horizon, connection).items():
            usual[number, int(ledger.rows[line])] = answer
    return [
        tuple(
            _reason(
                atom,
                atoms,
                ledger,
                table,
                horizon,
                usual[int(ledger.finding[atom.aspect][atom.line]), int(ledger.rows[atom.line])],
            )
            for atom in atoms
        )
        for atoms in chosen
    ]


def _chosen(case: Case, ledger: Ledger) -> list[Atom]:
    """The strongest atom of each aspect, then the strongest of what is left, but hardly ever the
    same question: that secrets of twenty namespaces are new need not be told twenty times."""
    first: dict[str, Atom] = {}
    for atom in case.atoms:
        first.setdefault(atom.aspect, atom)
    picked = [*first.values()]
    asked = Counter(int(ledger.finding[atom.aspect][atom.line]) for atom in picked)
    for atom in case.atoms:
        question = int(ledger.finding[atom.aspect][atom.line])
        if len(picked) < REASONS and atom not in picked and asked[question] < _ALIKE:
            picked.append(atom)
            asked[question] += 1
    return sorted(picked, key=lambda atom: -atom.weight)


def _reason(
    atom: Atom,
    atoms: Sequence[Atom],
    ledger: Ledger,
    table: ActivityTable,
    horizon: Horizon,
    usual: _Usual,
) -> Reason:
    finding = ledger.findings[int(ledger.finding[atom.aspect][atom.line])]
    entry = int(ledger.entry[atom.aspect][atom.line])
    seen, active = int(finding.seen[entry]), int(finding.active[entry])
    sharing, members = int(finding.peers[entry]), int(finding.members[entry])
    team = str(ledger.texts["team"][atom.line])
    values = {key: column[atom.line] for key, column in ledger.texts.items()}
    before = looked_at(table, horizon, int(ledger.slice[atom.line]))
    days_self, days_active = (0, 0) if finding.factor.holders else (seen, active)
    if _of_all_nodes(finding.factor, values):
        days_self, days_active = usual.days_self, usual.days_active
    total = sum(one.weight for one in atoms)
    return Reason(
        factor=finding.factor.name,
        question=finding.factor.question,
        sentence=told(
            finding.factor, values, (seen, active), (sharing, members), table.unit, before
        ),
        observed=shown(finding.factor, values),
        expected=usual.expected,
        days_self=days_self,
        days_peers=usual.days_peers,
        days_cluster=usual.days_cluster,
        days_active=days_active,
        unit=table.unit,
        peers=f"{sharing} of {members} others of {team}",
        p=float(finding.chance[entry]),
        share=atom.weight / total,
        evidence=tuple(ledger.texts["audit_ids"][atom.line]),
    )


def looked_at(table: ActivityTable, horizon: Horizon, time_slice: int) -> str:
    """Which part of the log is the past of a slice, as a phrase: "before DATE", or, in a log that
    is judged as a whole, what is left out of it."""
    lower, upper = int(horizon.lower[time_slice]), int(horizon.upper[time_slice])
    if upper < NEVER:
        return f"outside {_date(table, max(lower, 0))} to {_date(table, upper)}"
    known = lower * table.slice_width
    begun = f" (the log begins on {_date(table, 0)})" if known < _YOUNG_LOG else ""
    return f"before {_date(table, lower)}{begun}"


def _date(table: ActivityTable, time_slice: int) -> str:
    """When a slice begins, UTC."""
    seconds = (table.start + time_slice * table.slice_width) / MICROSECONDS
    form = "%Y-%m-%d" if table.slice_width == DAY else "%Y-%m-%d %H:%M"
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def _of_all_nodes(factor: Factor, values: dict[str, Any]) -> bool:
    """Whether the habits that were asked for are those of all nodes (``activity.table.load``)."""
    return factor.context[0] == "habit" and values["class"] == "node"


def shown(factor: Factor, values: dict[str, Any]) -> str:
    """How a value of this factor reads in a table.

    An empty namespace is the cluster scope, no name stands for all objects; namespaces that
    are new in this log are one.
    """
    special = {("place", ""): "(cluster scope)", ("place", YOUNG): "(new)", ("template", ""): "*"}
    named = {
        column: special.get((column, values[column])) or values[column] or "(none)"
        for column in factor.columns
    }
    return factor.shown.format(**named)


def told(
    factor: Factor,
    values: dict[str, Any],
    own: tuple[int, int],
    company: tuple[int, int],
    unit: str,
    before: str,
) -> str:
    """What happened, against the habits of who did it (seen in how many of its active slices) and
    of its peers (how many of how many). ``before``: which part of the log that is, see
    ``looked_at``."""
    (seen, active), (sharing, members) = own, company
    deed = factor.told.format(
        **{key: f"an unnamed {key}" if value == "" else value for key, value in values.items()},
        where=place(values["place"]),
        thing=thing(values),
    )
    who = sentence(named(values["principal"]))
    if factor.holders:
        units = periods(2, unit).removeprefix("2 ")
        return f"{who} {deed}; {seen} of {active} {factor.holders.format(units=units)}."
    span = periods(active, unit, "" if factor.among else "active")
    span = f"{span} {factor.among}".rstrip()
    if _of_all_nodes(factor, values):
        # Nodes have their habits in common; one that joins has none of its own.
        times = f"of which nodes did so in only {seen} of {span}" if seen else "as no node did"
        return f"{who} {deed}, {times} {before}."
    if seen:
        habit = f"{who} {deed} in only {seen} of {span} {before}"
    elif active:
        habit = f"{who} never {deed} {before}, in {span}"
    else:
        habit = f"{who} never {deed} {before}"
    if not members:
        return f"{habit}."
    team = f" ({values['team']})" if values["team"] else ""
    peers = f"{members} peer{'s' if members > 1 else ''}{team}"
    if sharing:
        return f"{habit}; {sharing} of {peers} did."
    if seen:
        return f"{habit}; none of {peers} did."
    return f"{habit}; nor did {'its' if members == 1 else 'any of its'} {peers}."


def _look_up(
    factor: Factor,
    lines: Sequence[int],
    ledger: Ledger,
    horizon: Horizon,
    connection: duckdb.DuckDBPyConnection,
) -> dict[int, _Usual]:
    """What was usual instead, for several lines of one factor at once."""
    chosen = np.array(lines, dtype=np.int64)
    lower, upper = horizon.at(ledger.slice[chosen])
    asked = {  # noqa: F841 (DuckDB finds it by its name)
        "line": np.array(lines, dtype=np.int64),
        "row": ledger.rows[chosen],
        "lower": np.asarray(lower, dtype=np.int64),
        "upper": np.asarray(upper, dtype=np.int64),
    }
    context = ", ".join(f'"{column}"' for column in factor.context)
    columns = ", ".join(f'"{column}"' for column in factor.columns)
    same_context = " AND ".join(f'seen."{c}" = mine."{c}"' for c in factor.context)
    rest = [*factor.context[1:], *factor.columns]
    same_value = " AND ".join(f'seen."{c}" = mine."{c}"' for c in rest)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE mine AS
        SELECT line, "lower", "upper", {context}, {columns}, class, team
            {"" if "actor" in factor.context else ", actor"}
        FROM asked JOIN activity USING (row)"""
    )
    # Only what can be compared: the values of this context, and this value of anybody.
    rested = ", ".join(f'"{column}"' for column in rest)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE seen AS
        SELECT DISTINCT {context}, {columns}, class, team, slice
            {"" if "actor" in factor.context else ", actor"}
        FROM activity WHERE ({context}) IN (SELECT ({context}) FROM mine)
            OR ({rested}) IN (SELECT ({rested}) FROM mine)"""
    )
    outside = '(seen.slice < mine."lower" OR seen.slice > mine."upper")'
    expected: dict[int, list[Expected]] = defaultdict(list)
    values = ", ".join(f'seen."{column}"' for column in factor.columns)
    order = ", ".join(f'counted."{column}"' for column in factor.columns)
    for line, days, *found in connection.execute(
        f"""WITH counted AS (
            SELECT line, count(DISTINCT seen.slice) AS days, {values}
            FROM mine JOIN seen ON {same_context} AND {outside}
            GROUP BY line, {values}
        ), active AS (
            SELECT line, count(DISTINCT seen.slice) AS days
            FROM mine JOIN seen ON {same_context} AND {outside} GROUP BY line
        )
        SELECT line, counted.days / active.days, counted.* EXCLUDE (line, days)
        FROM counted JOIN active USING (line)
        QUALIFY row_number() OVER (PARTITION BY line ORDER BY counted.days DESC, {order})
            <= {_EXPECTED}
        ORDER BY line, counted.days DESC, {order}"""
    ).fetchall():
        reading = shown(factor, dict(zip(factor.columns, found, strict=True)))
        expected[line].append(Expected(reading, float(days)))
    company = {
        line: found
        for line, *found in connection.execute(
            f"""SELECT line,
                count(DISTINCT seen.slice) FILTER (seen.actor = mine.actor),
                count(DISTINCT seen.slice) FILTER (seen.class = mine.class
                    AND seen.team = mine.team AND seen.actor <> mine.actor),
                count(DISTINCT seen.slice)
            FROM mine JOIN seen ON {same_value} AND {outside} GROUP BY line"""
        ).fetchall()
    }
    active = dict(
        connection.execute(
            f"""SELECT line, count(DISTINCT seen.slice)
            FROM mine JOIN seen ON {same_context} AND {outside} AND seen.actor = mine.actor
            GROUP BY line"""
        ).fetchall()
    )
    answers = {}
    for line in lines:
        own, peers, everybody = company.get(line, (0, 0, 0))
        answers[line] = _Usual(tuple(expected[line]), own, active.get(line, 0), peers, everybody)
    return answers
