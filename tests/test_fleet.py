"""What stock components do in other clusters quietens the first hours, and nothing but them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities import (
    CLUSTER,
    DAY,
    HOUR,
    OUTSIDE,
    START,
    Row,
    account,
    connected,
    loaded,
    row,
    week,
)
from kubewitness.activity.component import NONE, component
from kubewitness.activity.table import ActivityTable, Floats
from kubewitness.baseline.fleet import NOTHING, Deed, FleetPrior, Program, observe, shipped
from kubewitness.baseline.horizon import guard_for, prequential, retrospective
from kubewitness.incidents.detection import detect
from kubewitness.incidents.model import Incident
from kubewitness.surprise.scoring import find

BACKUP = account("velero/velero")
MINUTE = timedelta(minutes=1)
TEXTS = st.sampled_from(("list pods", "get secrets", "ok", "denied", "own", "cluster", "velero"))
FACTS = st.builds(Deed, TEXTS, TEXTS, TEXTS, TEXTS) | st.builds(Program, TEXTS, TEXTS, TEXTS, TEXTS)
CAPTURES = st.lists(st.frozensets(FACTS, max_size=8), max_size=5)


def backup(at: datetime = START, who: str = BACKUP, **changes: Any) -> Row:
    """The backup tool lists the secrets of a namespace, as it does everywhere."""
    options: dict[str, Any] = {
        "namespace": "shop", "names": (), "source_ip": "10.244.3.3", "client": "velero-server",
        **changes,
    }  # fmt: skip
    return row(at, who, "list", "secrets", **options)


def seen(*rows: Row, of: int = 1) -> FleetPrior:
    """The prior of ``of`` captures, the first of which holds these rows."""
    with connected(rows) as connection:
        first = observe(connection, CLUSTER)
    others = [frozenset({Deed(deed.component, "get /", "ok", "cluster") for deed in first})]
    return FleetPrior.count([first, *(others * (of - 1))])


def floor(prior: FleetPrior, rows: Sequence[Row], *columns: str, history: int = 0) -> Floats:
    """What the prior expects of ``rows``, after some days of history of somebody else's."""
    past = [row(START + day * DAY, "ada", "get", "pods") for day in range(history)]
    table = loaded([*past, *rows])
    judged = np.arange(len(past), len(table))
    horizon = prequential(table, int(table.slice[judged].min()), 7)
    return prior.expected(table, columns).floor(table, judged, horizon)


@given(st.text(max_size=40), st.text(max_size=20))
def test_a_stock_name_is_proven_by_nothing_but_its_namespace(namespace: str, name: str) -> None:
    assert not component(f"system:serviceaccount:{namespace}.x:{name}-velero").home
    assert component(name.removeprefix("system:")).name == ""


def test_only_whoever_kubernetes_calls_a_node_is_a_kubelet() -> None:
    assert component("system:node:w-1").name == "kubelet"
    assert component("system:bootstrap:abcdef") == NONE
    assert component(account("shop/kubelet")) == NONE
    assert component(account("shop/job-controller")) == NONE
    assert component(account("kube-system/job-controller")) == ("job-controller", True)


@given(CAPTURES)
def test_what_is_written_is_read_again(captures: list[frozenset[Deed]]) -> None:
    prior = FleetPrior.count(captures)
    text = prior.written()
    assert FleetPrior.read(text) == prior
    assert FleetPrior.count(captures[::-1]).written() == text


@given(CAPTURES)
def test_a_capture_is_one_vote(captures: list[frozenset[Deed]]) -> None:
    prior = FleetPrior.count(captures)
    assert prior.facts.keys() == frozenset().union(*captures)
    for deed, n in prior.facts.items():
        assert n == sum(deed in one for one in captures)
        assert n <= prior.captures[deed.component] <= len(captures)


def test_the_shipped_prior_is_small_and_as_the_script_writes_it() -> None:
    text = resources.files("kubewitness.baseline").joinpath("fleet.json").read_bytes()
    assert shipped().written() == text
    assert len(text) < 80_000
    regions = {fact.region for fact in shipped().facts if isinstance(fact, Deed)}
    assert regions == {"cluster", "own", "kube-system", "elsewhere"}
    assert {"kubelet", "kube-scheduler", "coredns", "cert-manager"} <= shipped().captures.keys()


def test_no_name_of_a_cluster_is_counted() -> None:
    rows = [
        backup(bearer="velero-*"),
        backup(namespace="velero", client="none"),
        backup(namespace="kube-system", client="none"),
        backup(namespace="", outcome="denied", client="none"),
        row(START, "ada", "list", "secrets", namespace="shop"),
    ]
    with connected(rows) as connection:
        assert observe(connection, CLUSTER) == {
            Deed("velero", "list secrets", "ok", "elsewhere"),
            Deed("velero", "list secrets", "ok", "own"),
            Deed("velero", "list secrets", "ok", "kube-system"),
            Deed("velero", "list secrets", "denied", "cluster"),
            Program("velero", "velero-server", "linux/amd64", "velero-*"),
        }


@pytest.mark.parametrize(("captures", "expected"), [(1, 1 / 2), (2, 1 / 3), (3, 1 / 4)])
def test_a_deed_is_expected_by_its_share_of_the_clusters(captures: int, expected: float) -> None:
    prior = seen(backup(), of=captures)
    assert floor(prior, [backup()], "action") == pytest.approx([expected])
    assert floor(prior, [backup()], "action", "place") == pytest.approx([expected])
    assert floor(prior, [backup(namespace="kube-system")], "action", "place") == [0.0]
    assert floor(prior, [backup(who=account("shop/api"))], "action") == [0.0]


@pytest.mark.parametrize("column", ["network", "source_ip", "bearer", "acting_as"])
def test_where_from_is_nothing_that_a_prior_could_know(column: str) -> None:
    assert floor(seen(backup()), [backup()], column) == [0.0]


def test_a_name_alone_is_believed_no_grave_deed() -> None:
    prior = seen(backup(), row(START, BACKUP, "list", "pods", namespace="shop"))
    namesake = account("shop/velero")
    assert floor(prior, [backup(who=namesake)], "action") == [0.0]
    harmless = row(START, namesake, "list", "pods", namespace="shop")
    assert floor(prior, [harmless], "action")[0] > 0
    assert floor(prior, [backup(acting_as="system:admin")], "action") == [0.0]


def test_what_was_only_refused_elsewhere_is_not_expected_to_be_served() -> None:
    prior = seen(backup(outcome="denied"))
    assert floor(prior, [backup()], "action") == [0.0]
    assert floor(prior, [backup(outcome="denied")], "action", "outcome")[0] > 0


def test_the_history_of_the_cluster_has_the_last_word() -> None:
    prior = seen(backup())
    expected = [
        float(floor(prior, [backup(START + days * DAY)], "action", history=days)[0])
        for days in (1, 3, 7, 14)
    ]
    assert expected == sorted(expected, reverse=True)
    assert expected[0] > 0.1
    assert expected[-1] < 1e-5


def first_hour() -> list[Row]:
    """An hour of a small cluster in which ten programs and a person do the usual."""
    bindings = row(START, "ada", "list", "clusterrolebindings.rbac.authorization.k8s.io", names=())
    rows = [*(row(START, "ada", "list", "secrets", namespace=n) for n in ("shop", "web")), bindings]
    for number in range(0, 60, 2):
        at = START + number * MINUTE
        rows += [
            row(at, account(f"shop/api-{one}"), "get", "configmaps", namespace="shop", client="api",
                source_ip=f"10.244.1.{one}", names=("app",))
            for one in range(10)
        ]  # fmt: skip
        rows += [
            row(at, BACKUP, "list", "leases.coordination.k8s.io", namespace="velero",
                source_ip="10.244.3.3", client="velero-server"),
            row(at, "ada", "get", "pods", namespace="shop"),
        ]  # fmt: skip
    return rows


def judged(rows: Sequence[Row], prior: FleetPrior | None = None) -> list[Incident]:
    with connected(rows) as connection:
        return list(detect(connection, CLUSTER, fleet=prior).incidents)


def about(incidents: Sequence[Incident], who: str) -> list[Incident]:
    return [incident for incident in incidents if who in incident.principals]


def test_the_first_backup_of_an_unknown_cluster_is_no_news() -> None:
    rows = [*first_hour(), *(backup(START + 30 * MINUTE, namespace=n) for n in ("shop", "web"))]

    assert about(judged(rows, NOTHING), BACKUP)
    assert not about(judged(rows), BACKUP)


def test_a_stolen_token_is_seen_by_what_its_component_never_does() -> None:
    binding = row(START + 30 * MINUTE, BACKUP, "create",
                  "clusterrolebindings.rbac.authorization.k8s.io", names=("x",),
                  source_ip="10.244.3.3", client="velero-server")  # fmt: skip
    without, found = (
        about(judged([*first_hour(), binding], prior), BACKUP) for prior in (NOTHING, None)
    )

    assert found
    assert [one.score for one in found] == [one.score for one in without]


def test_a_stolen_token_is_seen_by_where_it_is_used_from() -> None:
    theft = [
        backup(START + 30 * MINUTE, namespace=n, source_ip=OUTSIDE, client="curl")
        for n in ("shop", "web")
    ]
    (incident,) = about(judged([*first_hour(), *theft]), BACKUP)

    assert {"network", "client"} & {reason.factor for reason in incident.reasons}
    assert OUTSIDE in incident.source_ips
    assert any(
        "kinds of activity are known of velero from other clusters" in one
        for one in incident.considered
    )


def evidence(table: ActivityTable, prior: FleetPrior) -> dict[tuple[str, int], float]:
    """The weight of each (factor, row)."""
    horizon = retrospective(table, guard_for(table))
    everything = np.ones(len(table), dtype=bool)
    return {
        (finding.factor.name, int(row)): float(weight)
        for finding in find(table, horizon, everything, fleet=prior)
        for row, weight in zip(finding.rows, finding.weight, strict=True)
    }


def test_the_prior_makes_nothing_stranger() -> None:
    rows = [*first_hour(), backup(START + 30 * MINUTE), row(START + HOUR, "ada", "get", "secrets")]
    table = loaded(rows)
    before, after = evidence(table, NOTHING), evidence(table, shipped())

    assert before.keys() > after.keys()
    assert all(weight <= before[key] for key, weight in after.items())
    stock = {key for key in before if before[key] != after.get(key)}
    assert {int(key[1]) for key in stock} <= set(
        np.flatnonzero(~table.are("component", ("",))).tolist()
    )


def test_who_comes_into_a_known_cluster_is_judged_by_that_cluster() -> None:
    late = [backup(START + 7 * DAY + HOUR, namespace=n) for n in ("shop", "web", "ci")]
    rows = [*week(8), *late]
    with connected(rows) as connection:
        since = START + 7 * DAY
        scores = [
            [one.score for one in detect(connection, CLUSTER, since=since, fleet=prior).incidents
             if BACKUP in one.principals]
            for prior in (NOTHING, None)
        ]  # fmt: skip
    assert scores[0]
    assert scores[1] == pytest.approx(scores[0], rel=0.01)
