"""What an auditor reads: every word of it must be borne out by the lines of the incident."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from activities import CLUSTER, DAY, HOUR, OUTSIDE, START, Row, account, connected, ledger_of, row
from activities import loaded as table_of
from activities import week as quiet_week
from kubewitness.baseline.fleet import Deed, FleetPrior
from kubewitness.baseline.horizon import prequential, retrospective
from kubewitness.incidents import advice, story, timeline
from kubewitness.incidents.detection import detect
from kubewitness.incidents.explaining import looked_at, told
from kubewitness.incidents.ledger import Ledger
from kubewitness.incidents.model import Incident
from kubewitness.incidents.ranking import Case, weigh
from kubewitness.surprise.registry import FACTORS

NOW = START + 7 * DAY
API = account("shop/api")


def case(*rows: Row, factors: Sequence[str] = ("action",)) -> tuple[Ledger, Case]:
    """A ledger in which every row is odd by these factors, and the one case of them all."""
    ledger = ledger_of([(line, dict.fromkeys(factors, 4.0)) for line in rows])
    return ledger, weigh(ledger, np.arange(len(ledger)))


def secrets(verb: str = "list", *names: str, who: str = "ada", **changes: Any) -> Row:
    return row(NOW, who, verb, "secrets", namespace="shop", names=names or ("",), **changes)


def test_what_was_only_refused_is_never_told_as_done() -> None:
    ledger, found = case(
        row(NOW, "ada", "get", "pods", namespace="shop"),
        secrets(outcome="denied"),
        row(NOW, "ada", "create", "clusterrolebindings.rbac.authorization.k8s.io",
            outcome="denied"),
    )  # fmt: skip

    title = story.title(ledger, found)
    assert title in (
        "ada tried in vain to read secrets and change permissions",
        "ada tried in vain to change permissions and read secrets",
    )
    steps = " ".join(advice.next_steps(ledger, found))
    assert "Rotate" not in steps
    assert "Compare the permissions" not in steps


def test_who_is_refused_nearly_everything_did_not_look_around() -> None:
    refused = [
        row(NOW, "ada", "list", kind, namespace="shop", outcome="denied")
        for kind in ("pods", "events", "services")
    ]
    ledger, found = case(row(NOW, "ada", "get", "leases.coordination.k8s.io"), *refused)

    assert story.title(ledger, found) == "ada tried in vain to look around"


def test_grave_deeds_are_told_before_ordinary_ones() -> None:
    looking = [row(NOW, "ada", "get", kind) for kind in ("pods", "events", "services")]
    ledger, found = case(
        *looking,
        row(NOW, "ada", "create", "selfsubjectaccessreviews.authorization.k8s.io"),
        row(NOW, "ada", "create", "selfsubjectrulesreviews.authorization.k8s.io"),
        secrets(),
    )

    assert story.title(ledger, found) == "ada read secrets and asked what is permitted"


def test_a_deed_that_was_refused_here_and_served_there_is_told_once() -> None:
    ledger, found = case(secrets(), secrets("get", "db", outcome="denied"))

    assert story.title(ledger, found) == "ada read secrets"
    assert "2 unusual requests, 1 of them refused" in story.summary(ledger, found, ())


def test_the_places_told_are_those_where_it_was_done() -> None:
    ledger, found = case(
        secrets(),
        row(NOW, "ada", "list", "secrets", namespace="vault", outcome="denied"),
        row(NOW, "ben", "get", "pods", namespace="ci"),
    )

    assert "ada read secrets in namespace shop;" in story.summary(ledger, found, ())


def test_an_address_is_told_of_the_one_who_used_it_and_only_as_far_as_it_was_used() -> None:
    inside = row(NOW, API, "create", "clusterrolebindings.rbac.authorization.k8s.io",
                 source_ip="10.244.0.7")  # fmt: skip
    outside = secrets(who=API, source_ip=OUTSIDE)
    other = row(NOW + HOUR, "ben", "get", "pods", source_ip="198.51.100.7")

    ledger, found = case(inside, outside, other, factors=("action", "network"))

    assert story.principals(ledger, found)[0] == API
    assert story.title(ledger, found).endswith(f", partly from a new outside address ({OUTSIDE})")
    assert story.title(ledger, found).startswith("Service account shop/api ")
    assert "198.51.100.7" not in story.title(ledger, found)


def test_the_address_with_most_of_the_evidence_comes_first() -> None:
    ledger, found = case(
        row(NOW, "ada", "get", "pods", source_ip="10.0.0.1"),
        secrets(source_ip=OUTSIDE),
        secrets("get", "db", source_ip=OUTSIDE),
        secrets("get", "web", source_ip=""),
    )

    assert story.addresses(ledger, found) == (OUTSIDE, "10.0.0.1")


@pytest.mark.parametrize(
    ("who", "opening", "step"),
    [
        ("ada", "ada read", "Ask ada whether this was theirs"),
        (API, "Service account shop/api read", "Find out who or what ran this in the pods of"),
        ("system:anonymous", "An anonymous caller read", "should it reach the API server at all?"),
        ("system:node:w-1", "Node w-1 read", "See whether an upgrade or somebody with access"),
    ],
)
def test_each_kind_of_principal_is_named_and_followed_up_in_its_own_way(
    who: str, opening: str, step: str
) -> None:
    ledger, found = case(secrets(who=who))

    assert story.title(ledger, found).startswith(opening)
    assert step in advice.next_steps(ledger, found)[0]


def test_next_steps_name_what_to_look_at() -> None:
    ledger, found = case(
        secrets("get", "db-password"),
        row(NOW, "ada", "create", "pods", subresource="exec", namespace="shop", names=("web-0",)),
        row(NOW, "ada", "delete", "deployments.apps", namespace="shop", names=("web",)),
    )

    steps = advice.next_steps(ledger, found)
    assert "Rotate the secrets that were read: secrets/db-password in shop." in steps
    assert any(step.endswith("typed: pods/web-0 in shop.") for step in steps)
    assert any(step.endswith("restore it if not: deployments/web in shop.") for step in steps)


def test_objects_without_a_name_are_told_as_their_kind() -> None:
    ledger, found = case(secrets(), row(NOW, "ada", "list", "nodes", names=("",)))

    assert set(timeline.objects(ledger, found)) == {"secrets in shop", "nodes"}
    shown = {moment.action: moment.object for moment in timeline.timeline(ledger, found)}
    assert shown == {"list secrets": "*", "list nodes": "*"}


def test_a_generated_name_that_nobody_logged_is_not_told_as_everything() -> None:
    ledger, found = case(row(NOW, "ada", "create", "pods", namespace="shop", names=("",)))

    assert [moment.object for moment in timeline.timeline(ledger, found)] == [""]


@pytest.fixture(scope="module")
def theft() -> Incident:
    """A service account of a quiet cluster whose token somebody uses from outside."""
    rows = [
        *quiet_week(),
        *(
            row(NOW + i * HOUR / 60, API, "list", "secrets", namespace=place, names=("",),
                source_ip=OUTSIDE, client="curl", groups=())
            for i, place in enumerate(("shop", "ci", "kube-system"))
        ),
    ]  # fmt: skip
    with connected(rows) as connection:
        found = detect(connection, CLUSTER, since=NOW).incidents
    return next(incident for incident in found if API in incident.principals)


def test_reasons_are_sentences_about_somebody(theft: Incident) -> None:
    for reason in theft.reasons:
        assert reason.sentence.startswith("Service account shop/api ")
        assert reason.sentence.endswith(".")
        assert (
            " never " in reason.sentence
            or " only " in reason.sentence
            or "ever" in (reason.sentence)
        )
    assert theft.reasons[0].sentence in theft.summary


@pytest.mark.parametrize(
    ("own", "company", "words"),
    [
        (
            (0, 12),
            (0, 3),
            "never used curl before then, in 12 active days; nor did any of its 3 peers (dev).",
        ),
        (
            (0, 1),
            (0, 1),
            "never used curl before then, in 1 active day; nor did its 1 peer (dev).",
        ),
        ((0, 0), (0, 0), "never used curl before then."),
        ((0, 5), (2, 3), "never used curl before then, in 5 active days; 2 of 3 peers (dev) did."),
        (
            (2, 9),
            (0, 3),
            "used curl in only 2 of 9 active days before then; none of 3 peers (dev) did.",
        ),
    ],
)
def test_a_reason_tells_its_own_past_and_that_of_its_peers(
    own: tuple[int, int], company: tuple[int, int], words: str
) -> None:
    client = next(factor for factor in FACTORS if factor.name == "client")
    values = {**row(NOW, "ada", "get", "pods", client="curl"), "place": "shop", "team": "dev"}
    assert told(client, values, own, company, "day", "before then") == f"ada {words}"


def test_days_on_which_a_question_arose_are_not_called_active_days() -> None:
    values = {**row(NOW, "ada", "get", "pods", outcome="denied"), "place": "shop", "team": ""}
    refusal = next(factor for factor in FACTORS if factor.name == "refusal")
    words = "got “denied” for “get pods”"
    assert told(refusal, values, (0, 1), (0, 0), "day", "before then") == (
        f"ada never {words} before then, in 1 day with refusals."
    )
    assert told(refusal, values, (1, 4), (0, 0), "hour", "before then") == (
        f"ada {words} in only 1 of 4 hours with refusals before then."
    )


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ((0, 12), "as no node did before then."),
        ((3, 12), "of which nodes did so in only 3 of 12 active days before then."),
    ],
)
def test_habits_of_all_nodes_are_not_told_as_those_of_one(own: tuple[int, int], words: str) -> None:
    line = row(NOW, "system:node:node-9", "list", "secrets", namespace="shop")
    values = {**line, "place": "shop", "team": ""}
    action = next(factor for factor in FACTORS if factor.name == "action")
    said = told(action, values, own, (0, 2), "day", "before then")
    assert said == f"Node node-9 did “list secrets”, {words}"


def test_never_is_told_with_its_date_and_where_the_log_is_young_with_its_beginning() -> None:
    table = table_of([row(START + n * DAY, "ada", "get", "pods") for n in range(30)])
    bounds = prequential(table, since=12, delay=7)
    assert looked_at(table, bounds, 3) == "before 2026-03-05 (the log begins on 2026-03-02)"
    assert looked_at(table, bounds, 11) == "before 2026-03-08 (the log begins on 2026-03-02)"
    assert looked_at(table, bounds, 14) == "before 2026-03-14", "learnt when the rest began"
    assert looked_at(table, bounds, 25) == "before 2026-03-20", "learnt when a week old"
    assert looked_at(table, retrospective(table, 5), 14) == "outside 2026-03-11 to 2026-03-21"
    minutes = table_of([row(START + n * HOUR / 12, "ada", "get", "pods") for n in range(9)])
    assert looked_at(minutes, prequential(minutes, None, 7), 8) == (
        "before 2026-03-02 00:40 (the log begins on 2026-03-02 00:00)"
    )


def test_a_fact_about_an_address_counts_who_it_ever_held_for() -> None:
    token = next(factor for factor in FACTORS if factor.name == "token")
    values = {**row(NOW, API, "get", "pods", source_ip=OUTSIDE, pod="api-1"), "place": "shop"}
    assert told(token, values, (1, 40), (0, 0), "day", "before then") == (
        f"Service account shop/api used the token of pod api-1 from {OUTSIDE}, which is not"
        " that pod's address; 1 of 40 pods ever did before."
    )


def test_a_new_program_is_told_even_where_the_network_is_the_stronger_reason(
    theft: Incident,
) -> None:
    tried = " ".join(theft.considered)
    assert "both the network and the program are new" in tried
    assert "the program is the usual one" not in tried


@pytest.mark.parametrize(
    ("deeds", "answer"),
    [
        (("list",), "possible; 1 of 1"),
        (("list", "delete"), "only in part; 1 of 2"),
        (("delete",), "no; 0 of 1"),
    ],
)
def test_what_a_stock_component_does_elsewhere_is_told_for_and_against(
    deeds: Sequence[str], answer: str
) -> None:
    backup = account("velero/velero")
    prior = FleetPrior({"velero": 2}, {Deed("velero", "list secrets", "ok", "elsewhere"): 2})
    ledger, found = case(*(secrets(verb, who=backup) for verb in deeds))

    told_of = [one for one in advice.considered(ledger, found, (), prior) if "stock" in one]
    assert told_of == [
        f"A stock component's usual work: {answer} kinds of activity are known of velero from"
        " other clusters (counted in 2)."
    ]
    ledger, found = case(*(secrets(verb) for verb in deeds))
    assert not any("stock" in one for one in advice.considered(ledger, found, (), prior))
