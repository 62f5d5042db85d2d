"""Detection as a whole: what is reported, from when on, and what is said beside it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from activities import CLUSTER, DAY, HOUR, START, Row, connected, theft, week
from kubewitness.incidents.detection import Detection, detect

DAYS = 12
SINCE = START + 9 * DAY
NIGHT = 2 * HOUR


def judged(rows: list[Row], since: timedelta | None = SINCE - START) -> Detection:
    with connected(rows) as connection:
        return detect(connection, CLUSTER, since=None if since is None else START + since)


def test_a_stolen_credential_is_the_first_incident_in_both_ways_of_judging() -> None:
    rows = [*week(DAYS), *theft(START + 10 * DAY + NIGHT)]
    for since in (SINCE - START, None):
        found = judged(rows, since)
        first = found.incidents[0]
        assert first.alert
        assert first.principals == ("ada",)
        assert first.opened_at - (START + 10 * DAY + NIGHT) < timedelta(minutes=5)
        assert {audit_id for line in rows[-3:] for audit_id in line["audit_ids"]} == {
            *first.evidence,
            *first.events,
        }


def test_what_happened_before_since_is_history_and_not_reported() -> None:
    found = judged([*week(DAYS), *theft(START + 7 * DAY + NIGHT)])
    assert not any(incident.opened_at < SINCE for incident in found.incidents)


def test_a_history_that_holds_an_incident_says_so() -> None:
    """Nobody may learn in silence that a theft is usual."""
    quiet = judged(week(DAYS))
    assert not any("history itself" in note for note in quiet.notes)
    poisoned = judged([*week(DAYS), *theft(START + 7 * DAY + NIGHT)])
    assert any("--until 2026-03-11T00:00:00Z" in note for note in poisoned.notes)


@pytest.mark.parametrize("hours", [1, 30])
def test_an_attack_that_goes_on_after_since_is_told_anew(hours: int) -> None:
    """A session that began in the history must not swallow what follows."""
    before, after = SINCE - hours * HOUR, SINCE + HOUR
    found = judged([*week(DAYS), *theft(before), *theft(after)])
    assert any(incident.principals == ("ada",) for incident in found.incidents)


def test_a_quiet_cluster_alerts_about_nothing() -> None:
    for since in (SINCE - START, None):
        assert not any(incident.alert for incident in judged(week(DAYS), since).incidents)


def test_nothing_to_judge_is_no_error() -> None:
    assert judged([]).incidents == ()
    assert judged([]).notes
