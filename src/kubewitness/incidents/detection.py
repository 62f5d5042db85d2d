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

from kubewitness.activity.table import DAY, MICROSECONDS, ActivityTable, Mask, combine, load
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
from kubewitness.incidents.explaining import explain
from kubewitness.incidents.ledger import Ledger, enter
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
from kubewitness.surprise.scoring import find
from kubewitness.times import periods

# Values learnt late (MODELS §8): what is judged does not become normal within a week.
LEARNING_DELAY = 7
# Lines that testify less than this share of the strongest are related events, not evidence.
EVIDENCE_SHARE = 0.25
EVIDENCE_IDS = 500
EVENT_IDS = 1000
# What is listed at all: ten a day is more than anybody reads.
LISTED_A_DAY = 10
LISTED_AT_LEAST = 50
_RELATED = 1800 * MICROSECONDS


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
    mode = "retrospective" if since is None else "history and test"
    if not len(table):
        return Detection(mode, (), 0.0, ("There is no activity to judge.",))
    begin, horizon, reference, replayed = plan(table, since)
    broken = find_misconfigurations(connection, cluster, begin)
    prior = shipped() if fleet is None else fleet
    findings = find(table, horizon, reference, factors, prior)
    ledger = enter(table, findings, horizon, connection, broken.excused)
    cases = [weigh(ledger, lines) for lines in link(ledger, begin)]
    past: list[Case] = []
    judged: list[Case] = []
    for case in cases:
        (judged if case.opened >= begin else past).append(case)
    floor = alert_floor(_compared(table, reference))
    if since is None:
        days = max(1.0, float(table.last.max() - table.first[0]) / DAY)
        threshold = alert_threshold([case.score for case in judged], days, floor)
    else:
        scores = [case.score for case in past if case.opened >= replayed]
        threshold = alert_threshold(scores, max(0.0, (begin - replayed) / DAY), floor)
    listed = _listed(judged, (int(table.last.max()) - max(begin, int(table.first[0]))) / DAY)
    reasons = explain(listed, ledger, table, horizon, connection)
    related = _related(listed, ledger, connection)
    incidents = tuple(
        _incident(case, ledger, cluster, told, further, threshold, prior)
        for case, told, further in zip(listed, reasons, related, strict=True)
    )
    missed = sum(case.score > threshold for case in past if case.opened >= replayed)
    notes = tuple(_notes(table, since, missed))
    return Detection(mode, incidents, threshold, notes, broken.misconfigurations)


def plan(table: ActivityTable, since: datetime | None) -> tuple[int, Horizon, Mask, int]:
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
    return begin, prequential(table, first, LEARNING_DELAY), reference, replayed


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
