"""From activity to incidents: the main job, as one function of a table and a point in time.

Without ``since`` the whole log is judged in retrospect, each row by the log without its own
neighbourhood. With it, everything before is history: thresholds are frozen there, and only what
opens at or after ``since`` is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb
import msgspec
import numpy as np

from kubewitness.activity.table import (
    DAY,
    MICROSECONDS,
    ActivityTable,
    Ints,
    Mask,
    combine,
    follow,
    load,
)
from kubewitness.baseline.fleet import FleetPrior, shipped
from kubewitness.baseline.horizon import (
    YOUNGEST,
    Horizon,
    guard_for,
    prequential,
    replayed_from,
    retrospective,
)
from kubewitness.incidents import advice, story, timeline
from kubewitness.incidents.explaining import Looked, explain
from kubewitness.incidents.ledger import Ledger, Met, enter
from kubewitness.incidents.linking import link, session_key
from kubewitness.incidents.misconfiguration import find_misconfigurations
from kubewitness.incidents.model import Incident, Misconfiguration, Reason
from kubewitness.incidents.ranking import (
    REPORT_FROM,
    Case,
    alert_floor,
    alert_threshold,
    severity,
    weigh,
)
from kubewitness.surprise.factor import Factor
from kubewitness.surprise.registry import FACTORS
from kubewitness.surprise.scoring import Scales
from kubewitness.times import periods

# Values learnt late (MODELS §8): what is judged does not become normal within a week.
LEARNING_DELAY = 7
# Lines that testify less than this share of the strongest are related events, not evidence.
EVIDENCE_SHARE = 0.5
EVIDENCE_IDS = 500
EVENT_IDS = 1000
# What is listed at all: ten a day is more than anybody reads.
LISTED_A_DAY = 10
LISTED_AT_LEAST = 50
_RELATED = 1800 * MICROSECONDS
# What makes two refusals the same.
_REFUSED = "actor, acting_as, client, network, outcome, action, namespace"


class Detection(msgspec.Struct, frozen=True):
    """``incidents`` from most to least pressing; ``threshold``: the score that alerts;
    ``misconfigurations``: what is broken, as a kind of finding of its own."""

    mode: str
    incidents: tuple[Incident, ...]
    threshold: float
    notes: tuple[str, ...]
    misconfigurations: tuple[Misconfiguration, ...] = ()


def detect(
    connection: duckdb.DuckDBPyConnection,
    cluster: str,
    *,
    since: datetime | None = None,
    factors: Sequence[Factor] = FACTORS,
    fleet: FleetPrior | None = None,
) -> Detection:
    """Judge one cluster's rows of the table ``activities`` (made by ``activity.rollup``).

    ``fleet``: what stock components do in other clusters; None for what comes with the package.
    """
    table = load(connection, cluster)
    if not len(table):
        mode = "retrospective" if since is None else "history and test"
        return Detection(mode, (), 0.0, ("There is no activity to judge.",))
    return Judge(connection, cluster, table, since=since, factors=factors, fleet=fleet).detection()


class Judge:
    """What is known of one cluster, and the evidence so far.

    Made of a ``table`` with at least one row that ``activity.table.load`` loaded from
    ``connection``. With ``since``, later rows can be heard until ``ahead`` further slices are over.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        cluster: str,
        table: ActivityTable,
        *,
        since: datetime | None = None,
        factors: Sequence[Factor] = FACTORS,
        fleet: FleetPrior | None = None,
        ahead: int = 0,
    ) -> None:
        self._connection = connection
        self._cluster = cluster
        self._table = table
        self._since = since
        self._prior = shipped() if fleet is None else fleet
        self.begin, self._horizon, reference, replayed = plan(table, since, ahead)
        self._broken = find_misconfigurations(connection, cluster, self.begin)
        self._scales = Scales(table, self._horizon, reference, factors, self._prior)
        self._met = Met.learn(table)
        ledger = enter(
            table,
            self._scales.findings,
            self._horizon,
            connection,
            self._broken.excused,
            self._met,
        )
        cases = [weigh(ledger, lines) for lines in link(ledger, self.begin)]
        past = [case for case in cases if case.opened < self.begin]
        judged = [case for case in cases if case.opened >= self.begin]
        floor = alert_floor(_compared(table, reference))
        if since is None:
            days = max(1.0, float(table.last.max() - table.first[0]) / DAY)
            self.threshold = alert_threshold([case.score for case in judged], days, floor)
        else:
            scores = [case.score for case in past if case.opened >= replayed]
            days = max(0.0, (self.begin - replayed) / DAY)
            self.threshold = alert_threshold(scores, days, floor)
        self._missed = sum(case.score > self.threshold for case in past if case.opened >= replayed)
        self._ledger = ledger
        self._judged = judged
        self._looked: Looked = {}

    def detection(self) -> Detection:
        """What was found in the table."""
        table = self._table
        days = (int(table.last.max()) - max(self.begin, int(table.first[0]))) / DAY
        return Detection(
            "retrospective" if self._since is None else "history and test",
            self._incidents(_listed(self._judged, days), self._ledger),
            self.threshold,
            tuple(_notes(table, self._since, self._missed)),
            self._broken.misconfigurations,
        )

    def hear(self) -> tuple[Incident, ...]:
        """Judge the rows of the table ``arrivals``, which came after those of the table; returns
        the alerts that they opened or made grow, from most to least pressing.

        What only hindsight tells (an address that is returned to, a refusal that repeats), and what
        stays below an alert, is left to the next judge.
        """
        table = follow(self._connection, self._cluster, self._table, len(self._horizon.lower))
        if (self._ledger.first < self.begin).any():
            self._ledger = self._ledger.since(self.begin)
        self._repeat()
        if not len(table):
            return ()
        findings = self._scales.find(table)
        excused = self._excused(table)
        fresh = enter(table, findings, self._horizon, self._connection, excused, self._met)
        if not len(fresh):
            return ()
        self._ledger = ledger = self._ledger.joined(fresh)
        news = np.isin(ledger.rows, fresh.rows)
        cases = [weigh(ledger, lines) for lines in link(ledger, self.begin) if news[lines].any()]
        alerts = sorted(
            (case for case in cases if case.score > self.threshold), key=lambda case: case.key
        )
        return self._incidents(alerts, ledger)

    def _repeat(self) -> None:
        """Add to the lines what goes on of them; that is no news."""
        line_of = {int(row): line for line, row in enumerate(self._ledger.rows)}
        for row, n, last, audit_ids, names in self._connection.execute(
            """SELECT row, n, epoch_us(last), audit_ids, name_samples
            FROM arrivals JOIN (FROM heard WHERE row IN (SELECT unnest(?))) AS known
            ON arrivals.rowid = known.id""",
            [[*line_of]],
        ).fetchall():
            self._ledger.repeat(line_of[row], n, last, audit_ids, names)

    def _excused(self, table: ActivityTable) -> Ints:
        """The rows that are refused what was found broken before."""
        return np.array(
            [
                row
                for (row,) in self._connection.execute(
                    f"""SELECT row FROM activity WHERE row >= {table.offset}
                    AND ({_REFUSED}) IN (SELECT ({_REFUSED}) FROM activity
                        WHERE row IN (SELECT unnest(?)))""",
                    [self._broken.excused.tolist()],
                ).fetchall()
            ],
            dtype=np.int64,
        )

    def _incidents(self, cases: Sequence[Case], ledger: Ledger) -> tuple[Incident, ...]:
        reasons = explain(cases, ledger, self._table, self._horizon, self._connection, self._looked)
        related = _related(cases, ledger, self._connection)
        return tuple(
            _incident(case, ledger, self._cluster, told, further, self.threshold, self._prior)
            for case, told, further in zip(cases, reasons, related, strict=True)
        )


def plan(
    table: ActivityTable, since: datetime | None, ahead: int = 0
) -> tuple[int, Horizon, Mask, int]:
    """From when on things are reported, the horizon, what calibrates, and what is replayed."""
    if since is None:
        everything = np.ones(len(table), dtype=bool)
        return int(table.first[0]), retrospective(table, guard_for(table)), everything, 0
    begin = int(since.timestamp() * MICROSECONDS)
    first = int(np.clip((begin - table.start) // table.slice_width, 0, table.slice.max() + 1))
    # The first slices of a history are all novelty: neither calibration nor replay uses them.
    warm = min(YOUNGEST, first // 3)
    reference = (table.slice >= warm) & (table.first < begin)
    replayed = table.start + replayed_from(first) * table.slice_width
    return begin, prequential(table, first, LEARNING_DELAY, ahead=ahead), reference, replayed


def _compared(table: ActivityTable, reference: Mask) -> int:
    """How many (person, slice) there are to compare with; where there are no people, of all."""
    people = reference & table.are("class", ("human",))
    asked = people if people.any() else reference
    return len(np.unique(combine(table.ids["actor"][asked], table.slice[asked].astype(np.uint64))))


def _listed(cases: Sequence[Case], days: float) -> list[Case]:
    reportable = sorted((c for c in cases if c.score >= REPORT_FROM), key=lambda case: case.key)
    return reportable[: max(LISTED_AT_LEAST, int(LISTED_A_DAY * days))]


def _incident(
    case: Case,
    ledger: Ledger,
    cluster: str,
    reasons: tuple[Reason, ...],
    related: tuple[str, ...],
    threshold: float,
    fleet: FleetPrior,
) -> Incident:
    alert = case.score > threshold
    strongest = float(ledger.total[case.lines].max())
    evidence: dict[str, None] = {}
    events: dict[str, None] = {}
    for line in case.lines:
        counts = ledger.total[line] >= EVIDENCE_SHARE * strongest
        for audit_id in ledger.texts["audit_ids"][line]:
            (evidence if counts else events)[audit_id] = None
    events.update(dict.fromkeys(related))
    return Incident(
        id=_identity(ledger, case),
        cluster=cluster,
        score=round(case.score, 3),
        severity=severity(ledger, case, alert),
        alert=alert,
        opened_at=_time(case.opened),
        updated_at=_time(int(ledger.last[case.lines].max())),
        principals=story.principals(ledger, case),
        source_ips=story.addresses(ledger, case),
        title=story.title(ledger, case),
        summary=story.summary(ledger, case, reasons),
        tactics=story.tactics(ledger, case),
        techniques=story.techniques(ledger, case),
        objects=timeline.objects(ledger, case),
        reasons=reasons,
        timeline=timeline.timeline(ledger, case),
        considered=advice.considered(ledger, case, reasons, fleet),
        next_steps=advice.next_steps(ledger, case),
        evidence=tuple(evidence)[:EVIDENCE_IDS],
        events=tuple(audit_id for audit_id in events if audit_id not in evidence)[:EVENT_IDS],
    )


def _identity(ledger: Ledger, case: Case) -> str:
    """Stable while the incident grows: its first line of evidence does not change."""
    line = int(case.lines[0])
    text = f"{session_key(ledger, line)}|{ledger.first[line]}|{ledger.texts['action'][line]}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def _related(
    cases: Sequence[Case], ledger: Ledger, connection: duckdb.DuckDBPyConnection
) -> list[tuple[str, ...]]:
    """What the same identity did with the same program from the same address around then."""
    windows = {
        (
            number,
            ledger.texts["actor"][line],
            ledger.texts["source_ip"][line],
            ledger.texts["client"][line],
        )
        for number, case in enumerate(cases)
        for line in case.lines
    }
    if not windows:
        return [() for _ in cases]
    bounds = [
        (int(ledger.first[case.lines].min()), int(ledger.last[case.lines].max())) for case in cases
    ]
    ordered = sorted(windows)
    asked = {  # noqa: F841 (DuckDB finds it by its name)
        "number": np.array([window[0] for window in ordered], dtype=np.int64),
        "actor": np.array([window[1] for window in ordered], dtype=object),
        "source_ip": np.array([window[2] for window in ordered], dtype=object),
        "client": np.array([window[3] for window in ordered], dtype=object),
        "since": np.array([bounds[w[0]][0] - _RELATED for w in ordered], dtype=np.int64),
        "until": np.array([bounds[w[0]][1] + _RELATED for w in ordered], dtype=np.int64),
    }
    found: list[dict[str, None]] = [{} for _ in cases]
    for number, audit_ids in connection.execute(
        """SELECT number, activity.audit_ids
        FROM asked JOIN activity USING (actor, source_ip, client)
        WHERE epoch_us(activity.first) BETWEEN since AND until
        QUALIFY row_number() OVER (PARTITION BY number ORDER BY activity.row) <= 400
        ORDER BY number, activity.row"""
    ).fetchall():
        found[number].update(dict.fromkeys(audit_ids))
    return [tuple(ids) for ids in found]


def _notes(table: ActivityTable, since: datetime | None, alerting: int) -> list[str]:
    """``alerting``: incidents of the history that would have alerted; nobody has decided about
    them, and what they did has become usual (docs/evaluation.md, "poisoned history")."""
    notes = []
    slices = int(table.slice.max()) + 1
    if slices < 4:
        notes.append(
            f"This log covers only {periods(slices, table.unit)}: what is usual"
            " can hardly be told from it. Add older logs for a better judgement."
        )
    if since is not None and not (table.first < since.timestamp() * MICROSECONDS).any():
        notes.append("Nothing lies before --since: there is no history to judge by.")
    if since is not None and alerting:
        notes.append(
            f"The history itself holds {alerting} incident{'s' if alerting > 1 else ''} worth"
            " attention. What was done there counts as usual here: judge the history, too, with"
            f" --until {since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} instead of --since."
        )
    return notes


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / MICROSECONDS, UTC)
