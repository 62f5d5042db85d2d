"""Scores, thresholds and severities: what may only grow, and what may not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from activities import DAY, OUTSIDE, START, Row, account, ledger_of, row
from kubewitness.incidents.ledger import Ledger
from kubewitness.incidents.model import SEVERITIES
from kubewitness.incidents.ranking import (
    ALERT_FLOOR,
    REPORT_FROM,
    Case,
    alert_threshold,
    severity,
    weigh,
)

NOW = START + 7 * DAY
KNOWN: tuple[Row, dict[str, float]] = (row(START, "ben", "get", "pods"), {})
WHAT, WHERE = {"action": 4.0}, {"network": 4.0}


def case_of(ledger: Ledger) -> Case:
    return weigh(ledger, np.arange(len(ledger)))


def judged(*rows: Row, evidence: dict[str, float] | None = None) -> Case:
    """One case of all rows, each with this evidence."""
    return case_of(ledger_of([KNOWN, *((line, evidence or WHAT) for line in rows)]))


def deed(minute: int, verb: str = "get", resource: str = "secrets", **changes: Any) -> Row:
    return row(NOW + timedelta(minutes=minute), "ada", verb, resource, namespace="shop", **changes)


EVIDENCE = st.dictionaries(
    st.sampled_from(["action", "deed", "impersonation", "network", "client", "hour", "refusal"]),
    st.floats(2.0, 6.0),
    min_size=1,
)


def deeds_within(minutes: int) -> st.SearchStrategy[list[tuple[Row, dict[str, float]]]]:
    """Deeds within so many minutes, each with its evidence."""
    return st.lists(
        st.tuples(
            st.builds(
                deed,
                st.integers(0, minutes),
                st.sampled_from(["get", "create", "delete"]),
                st.sampled_from(["secrets", "pods", "serviceaccounts"]),
                source_ip=st.sampled_from(["10.8.0.4", OUTSIDE]),
            ),
            EVIDENCE,
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda one: one[0]["audit_ids"][0],
    )


@given(deeds_within(300))
@settings(max_examples=25)
def test_stronger_evidence_never_lowers_a_score(told: list[tuple[Row, dict[str, float]]]) -> None:
    ledger = ledger_of([KNOWN, *told])
    # What is little evidence is less in a namespace that is new, and not worth a line.
    assume(len(ledger) > 0)
    cases = [weigh(ledger, np.arange(size)) for size in range(1, len(ledger) + 1)]
    before = cases[-1].score
    for aspect in ledger.weight:
        ledger.weight[aspect] *= 1.5
    assert case_of(ledger).score >= before - 1e-9
    reportable = {case.opened for case in cases if case.score >= REPORT_FROM}
    assert len(reportable) <= 1, "once it is open, the time at which it opened does not change"
    for case in cases:
        assert ledger.first[0] <= case.opened <= ledger.first.max()
        weights = [atom.weight for atom in case.atoms]
        assert weights == sorted(weights, reverse=True)
        assert len({(atom.aspect, ledger.atom[atom.aspect][atom.line]) for atom in case.atoms}) == (
            len(case.atoms)
        )


@given(st.integers(1, 8))
@settings(max_examples=5)
def test_repeating_an_atom_adds_nothing(times: int) -> None:
    repeated = judged(*(deed(minute) for minute in range(times)))
    assert repeated.score <= judged(deed(0)).score
    assert len(repeated.atoms) == 1


@given(deeds_within(25), deeds_within(300))
@settings(max_examples=10)
def test_what_comes_later_never_hides_what_was_done(
    told: list[tuple[Row, dict[str, float]]], later: list[tuple[Row, dict[str, float]]]
) -> None:
    """Whoever goes on with harmless oddities for hours is no less suspect for them."""
    alone = ledger_of([KNOWN, *told])
    pause = 10 * timedelta(hours=1)
    moved = [
        (
            {
                **line,
                **{at: line[at] + pause for at in ("slot", "first", "last")},
                "audit_ids": [f"later {audit_id}" for audit_id in line["audit_ids"]],
            },
            evidence,
        )
        for line, evidence in later
    ]
    both = ledger_of([KNOWN, *told, *moved])
    assert case_of(both).score >= case_of(alone).score - 1e-9


def test_a_story_that_goes_on_had_more_chances_to_be_odd() -> None:
    evidence = [{"action": 4.0}] * 6
    kinds = ("secrets", "pods", "nodes", "services", "jobs", "leases")
    quick, slow = (
        case_of(
            ledger_of(
                [
                    KNOWN,
                    *(
                        (deed(minute * step, resource=kind), one)
                        for step, (kind, one) in enumerate(zip(kinds, evidence, strict=True))
                    ),
                ]
            )
        )
        for minute in (1, 25)
    )
    assert len(quick.atoms) == len(slow.atoms)
    assert quick.score > slow.score


def test_a_repetition_counts_by_its_strongest() -> None:
    told = [(deed(minute), {"action": nats}) for minute, nats in enumerate((3.0, 5.0, 4.0))]
    case = case_of(ledger_of([KNOWN, *told]))
    assert case.score < judged(deed(1), evidence={"action": 5.0}).score
    assert [atom.line for atom in case.atoms] == [1]


def test_the_tenth_of_a_kind_says_less_than_the_first() -> None:
    scores = [
        judged(*(deed(n, verb=f"verb{n}", resource="pods") for n in range(size))).score
        for size in range(1, 6)
    ]
    gains = np.diff([0.0, *scores])
    assert (np.diff(gains) < 0).all()
    assert (gains > 0).all()


def test_what_and_where_from_together_count_for_more_than_apart() -> None:
    what, where = judged(deed(0)), judged(deed(0), evidence=WHERE)
    assert judged(deed(0), evidence={**WHAT, **WHERE}).score > what.score + where.score


def test_within_one_aspect_only_the_strongest_counts() -> None:
    both = judged(deed(0), evidence={"action": 4.0, "deed": 3.0})
    assert both.score == judged(deed(0)).score


def test_what_it_could_be_good_for_weighs() -> None:
    """Secrets and permissions more than pods, by the same surprise."""
    pods, secrets = (judged(deed(0, resource=kind)).score for kind in ("pods", "secrets"))
    rights = judged(deed(0, "create", "clusterroles.rbac.authorization.k8s.io")).score
    assert pods < secrets < rights


def test_a_workload_that_can_take_over_its_node_weighs_more() -> None:
    plain, privileged = (
        judged(deed(0, "create", "pods", traits=traits)) for traits in ("", "privileged, hostPID")
    )
    assert plain.score < privileged.score


def test_what_was_just_installed_is_not_trusted_from_elsewhere() -> None:
    """What it does and with which program is its own affair; where it sits is not."""
    robot = account("fresh/operator")
    later = NOW + 2 * DAY

    def installed(evidence: dict[str, float], born: datetime) -> float:
        first = row(born, "ben", "create", "deployments.apps", namespace="fresh")
        own = row(later, robot, "get", "secrets", namespace="fresh", source_ip=OUTSIDE)
        kinds = [row(START, "ben", "get", "secrets"), first]
        ledger = ledger_of([KNOWN, *((line, {}) for line in kinds), (own, evidence)])
        return float(ledger.total.sum())

    assert installed({"client": 4.0}, NOW + DAY) < installed({"client": 4.0}, START)
    assert installed({"network": 6.0}, NOW + DAY) == installed({"network": 6.0}, START)


def test_a_case_opens_with_the_line_that_makes_it_reportable() -> None:
    kinds = ("pods", "secrets", "jobs")
    rows = [deed(n, verb="get", resource=kind) for n, kind in enumerate(kinds)]
    ledger = ledger_of([KNOWN, *((line, {"action": 5.0}) for line in rows)])
    sizes = [weigh(ledger, np.arange(size)).score for size in (1, 2, 3)]
    first = next(n for n, score in enumerate(sizes) if score >= REPORT_FROM)
    assert first > 0, "the example begins too small to report"
    assert case_of(ledger).opened == ledger.first[first]


@given(st.lists(st.floats(0, 100), max_size=60), st.floats(0, 30))
def test_the_threshold_alerts_at_most_once_a_day_of_its_own_past(
    scores: list[float], days: float
) -> None:
    threshold = alert_threshold(scores, days, ALERT_FLOOR)
    assert threshold >= ALERT_FLOOR
    assert sum(score > threshold for score in scores) <= days
    if threshold > ALERT_FLOOR:
        assert threshold in scores, "no higher than need be"
        assert sum(score >= threshold for score in scores) > int(days)


def test_without_a_past_the_floor_remains() -> None:
    assert alert_threshold([], 0.0, 3.0) == alert_threshold([], 30.0, 3.0) == 3.0


def level(*, alert: bool = True, **changes: Any) -> int:
    line = deed(0, **{"verb": "get", "resource": "pods", **changes})
    ledger = ledger_of([KNOWN, (line, {"action": 6.0, "network": 6.0})])
    return SEVERITIES.index(severity(ledger, case_of(ledger), alert))


RIGHTS: dict[str, Any] = {
    "verb": "create",
    "resource": "clusterrolebindings.rbac.authorization.k8s.io",
}


def test_severity_follows_what_could_be_done() -> None:
    looked, secrets = level(), level(resource="secrets")
    assert looked <= secrets <= level(**RIGHTS)
    assert looked < level(**RIGHTS)
    assert level(resource="secrets", source_ip=OUTSIDE) > secrets, "from outside weighs more"
    assert level(**RIGHTS, source_ip=OUTSIDE) == SEVERITIES.index("critical")
    assert level(alert=False, **RIGHTS, source_ip=OUTSIDE) < SEVERITIES.index("critical"), (
        "no alert"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"verb": "create"},
        {"resource": "secrets"},
        {"subresource": "exec"},
        RIGHTS,
    ],
    ids=["deploy", "secrets", "exec", "permissions"],
)
def test_what_was_refused_is_a_step_less_severe(changes: dict[str, Any]) -> None:
    assert level(**changes, outcome="denied") == level(**changes) - 1


def test_what_gained_nothing_is_not_critical_from_wherever_it_came() -> None:
    assert level(**RIGHTS, source_ip=OUTSIDE) == SEVERITIES.index("critical")
    assert level(**RIGHTS, source_ip=OUTSIDE, outcome="denied") == SEVERITIES.index("medium")


def test_an_alert_is_never_less_severe() -> None:
    robot = row(NOW, account("shop/api"), "create", "pods", namespace="shop", source_ip=OUTSIDE)
    for line in (deed(0), deed(0, resource="pods"), robot):
        ledger = ledger_of([KNOWN, (line, {"action": 6.0, "network": 6.0})])
        case = case_of(ledger)
        quiet, loud = (SEVERITIES.index(severity(ledger, case, alert)) for alert in (False, True))
        assert quiet <= loud
