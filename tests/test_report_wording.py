"""Numbers and history in words (more examples are in the docstrings of the module)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_fixtures as fixtures
from kubewitness.incidents.model import Expected
from kubewitness.report import tactics, wording

NETWORK = fixtures.stolen_token().reasons[0]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ((0, 0, 0), "never seen before in 7 days, by anyone"),
        ((0, 0, 1), "new for it and its peers (workloads of payments); others did it on 1 day"),
        ((0, 2, 3), "never by this principal; on 2 days by its peers (workloads of payments)"),
        ((1, 2, 3), "seen on 1 of 7 days by this principal, on 2 by its peers (workloads of "
                    "payments)"),
    ],
)  # fmt: skip
def test_who_did_it_before(days: tuple[int, int, int], words: str) -> None:
    own, peers, cluster = days
    reason = msgspec.structs.replace(NETWORK, days_self=own, days_peers=peers, days_cluster=cluster)
    assert wording.seen(reason) == words


def test_a_short_log_counts_in_its_own_unit() -> None:
    reason = msgspec.structs.replace(NETWORK, unit="hours", days_active=1, peers="")
    assert wording.seen(reason) == "never seen before in 1 hour, by anyone"


@pytest.mark.parametrize(
    ("action", "object_", "words"),
    [
        ("get secrets", "secrets/stripe", ("get secrets", "stripe")),
        ("get secrets", "stripe", ("get secrets", "stripe")),
        ("list secrets", "secrets", ("list secrets", "")),
        ("list secrets", "", ("list secrets", "")),
        ("create pods/eviction", "pods/web-0", ("create pods/eviction", "web-0")),
        ("exec pods", "pods/a/b", ("exec pods", "a/b")),
        ("get", "secrets/stripe", ("get", "secrets/stripe")),
    ],
)  # fmt: skip
def test_a_deed_names_its_resource_once(action: str, object_: str, words: tuple[str, str]) -> None:
    event = msgspec.structs.replace(
        fixtures.stolen_token().timeline[0], action=action, object=object_
    )
    assert wording.deed(event) == words


def test_usual_values_are_few_and_the_rest_counted() -> None:
    many = tuple(Expected(f"v{i}", 0.1) for i in range(10))
    reason = msgspec.structs.replace(NETWORK, expected=many)
    assert wording.usual(reason) == "v0 10%, v1 10%, v2 10%, +7 more"
    assert wording.usual(msgspec.structs.replace(NETWORK, expected=())) == "nothing of the kind"


@given(st.floats(1e-12, 1))
def test_a_chance_is_rounded_but_near(p: float) -> None:
    odds = float(wording.chance(p).removeprefix("1 in ").replace(",", ""))
    assert odds == pytest.approx(1 / p, rel=0.06)


@given(st.timedeltas(timedelta(0), timedelta(days=4000)))
def test_spans_of_time_have_at_most_two_units(span: timedelta) -> None:
    assert len(wording.duration(span).split()) in (2, 4)
    assert " " not in wording.age(span)


def test_times_in_other_zones_are_shown_in_utc() -> None:
    at = datetime(2026, 3, 14, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert wording.moment(at) == "Fri 13 Mar 23:30"
    assert wording.rfc3339(at) == "2026-03-13T23:30:00Z"


def test_tactics_are_in_the_order_of_an_attack_however_they_are_spelt() -> None:
    incident = msgspec.structs.replace(
        fixtures.escalation(), tactics=("impact", "attack.initial_access", "TA0006", "Novel")
    )
    assert tactics.touched(incident) == ("Initial Access", "Credential Access", "Impact", "Novel")
    strip = tactics.strip(incident)
    assert [step.tactic for step in strip if step.hit] == list(tactics.touched(incident))
    assert "Command and Control" not in {step.tactic for step in strip}
