"""Numbers and history in words (more examples are in the docstrings of the module)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_fixtures as fixtures
from kubewitness.incidents.model import Expected
from kubewitness.report import headline, tactics, wording

NETWORK = fixtures.stolen_token().reasons[0]


def test_who_did_it_before_is_told_of_itself_its_peers_and_anyone() -> None:
    reason = msgspec.structs.replace(
        NETWORK, days_self=1, days_active=7, days_peers=2, days_cluster=3
    )
    told = (("itself", "1 of 7"), ("peers", "2"), ("anyone", "3"))
    assert wording.history(reason) == told


def test_somebody_without_a_past_is_not_said_to_have_never_done_it() -> None:
    reason = msgspec.structs.replace(NETWORK, days_self=0, days_active=0)
    assert wording.history(reason)[0] == ("itself", "no history")


def test_a_timeline_is_cut_where_somebody_else_acts() -> None:
    timeline = fixtures.stolen_token().timeline
    scenes = headline.scenes(timeline)
    assert [event for scene in scenes for event in scene.moments] == list(timeline)
    for before, after in pairwise(scenes):
        assert before[:5] != after[:5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("list cronjobs.batch in ci", "list cronjobs in ci"),
        ("“create roles.rbac.authorization.k8s.io”", "“create roles”"),
        ("get volumesnapshots.snapshot.storage.k8s.io", None),
        ("get certificates.cert-manager.io", None),
        ("configmaps shop/settings.apps", None),
    ],
)
def test_only_groups_that_kubernetes_brings_are_left_out(text: str, words: str | None) -> None:
    assert wording.brief(text) == (words or text)


@pytest.mark.parametrize(
    ("action", "object_", "words"),
    [
        ("get secrets", "secrets/stripe", ("get secrets", "stripe")),
        ("get secrets", "stripe", ("get secrets", "stripe")),
        ("list secrets", "secrets", ("list secrets", "")),
        ("list secrets", "", ("list secrets", "")),
        ("list secrets", "*", ("list secrets", "")),
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


@given(st.floats(1e-6, 1))
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
