"""Whoever wrote a workload is judged for what controllers made of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities import CLUSTER, OFFICE, START, Row, connected, row, week
from audit_log import event, write
from kubewitness.activity.attribution import attribute
from kubewitness.activity.rollup import rollup
from kubewitness.incidents.detection import detect
from kubewitness.inquiry import opened

MINUTE = timedelta(minutes=1)
CONTROLLER = "system:serviceaccount:kube-system:replicaset-controller"
POD = "web-7d9c5b6f4d-x2x4z"


def wrote(minute: float, who: str, verb: str = "patch", **more: Any) -> Row:
    more = {"resource": "deployments.apps", "names": ("web",), **more}
    return row(START + minute * MINUTE, who, verb, namespace="shop", **more)


def made(minute: float, traits: str = "", pod: str = POD, **more: Any) -> Row:
    more = {"namespace": "shop", **more}
    return row(
        START + minute * MINUTE, CONTROLLER, "create", "pods", names=(pod,), traits=traits, **more
    )


def judged(*rows: Row) -> dict[str, str]:
    """The traits of each author."""
    with connected(rows) as connection:
        changed = attribute(connection, CLUSTER)
        assert attribute(connection, CLUSTER) == 0
        found = connection.execute(
            "SELECT principal, string_agg(traits, '; ' ORDER BY first) FROM activities"
            f" WHERE principal <> '{CONTROLLER}' GROUP BY 1"
        ).fetchall()
    told = {who: traits.strip("; ") for who, traits in found}
    assert bool(changed) == any(told.values())
    return told


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        pytest.param(
            [wrote(0, "ada", "create"), made(1, "privileged")], {"ada": "privileged"}, id="made"
        ),
        pytest.param(
            [wrote(0, "ada", "create"), made(1), wrote(9, "eve"), made(10, "privileged")],
            {"ada": "", "eve": "privileged"},
            id="the last author, for what is new",
        ),
        pytest.param(
            [wrote(0, "ada", "create"), made(1, "privileged"), wrote(9, "ben"),
             made(10, "privileged", "web-6c8d7b9f5c-b4b4b")],
            {"ada": "privileged", "ben": ""},
            id="a restart asks for nothing",
        ),
        pytest.param(
            [wrote(0, "ben"), made(1, "hostNetwork")], {"ben": ""}, id="what was before is unknown"
        ),
        pytest.param(
            [wrote(0, "ada", "create"), made(1, "privileged", namespace="bank")],
            {"ada": ""},
            id="elsewhere",
        ),
        pytest.param(
            [wrote(0, "ada", "create"), made(1, "privileged", "other-7d9c5b6f4d-x2x4z")],
            {"ada": ""},
            id="another workload",
        ),
        pytest.param(
            [made(1, "privileged"), wrote(5, "ada", "create")], {"ada": ""}, id="too late"
        ),
        pytest.param(
            [wrote(0, "ada", "create", outcome="denied"), made(1, "privileged")],
            {"ada": ""},
            id="refused",
        ),
        pytest.param(
            [wrote(0, "ada", "create", resource="cronjobs.batch"),
             made(60, "hostPath", "web-29561820-x2x4z")],
            {"ada": "hostPath"},
            id="through a job",
        ),
    ],
)  # fmt: skip
def test_what_is_new_about_pods_is_its_authors(rows: list[Row], told: dict[str, str]) -> None:
    assert judged(*rows) == told


def test_traits_stay_in_their_order_and_the_pods_are_shown() -> None:
    ada = wrote(0, "ada", "create", traits="hostPath")
    pod = made(1, "privileged, hostPath, hostNetwork")
    with connected([ada, pod]) as connection:
        assert attribute(connection, CLUSTER) == 1
        found = connection.execute(
            "SELECT traits, audit_ids FROM activities WHERE principal = 'ada'"
        ).fetchall()
    assert found == [("privileged, hostPath, hostNetwork", [*ada["audit_ids"], *pod["audit_ids"]])]


def test_a_log_without_bodies_tells_by_what_pod_security_says(tmp_path: Path) -> None:
    said = "pod-security.kubernetes.io/audit-violations"
    violation = 'would violate PodSecurity "baseline": privileged (container "a" must not set'
    violation += " securityContext.privileged=true)"
    log = write(
        tmp_path / "audit.log",
        [
            event(START, "ada", "create", "deployments", group="apps", name="web", code=201),
            event(START + MINUTE, CONTROLLER, "create", "pods", name=POD, code=201,
                  annotations={said: violation}),
        ],
    )  # fmt: skip
    with opened([log], cluster=CLUSTER) as (_, connection, _):
        rollup(connection, width=timedelta(minutes=5))
        assert attribute(connection, CLUSTER) == 1
        ((traits,),) = connection.execute(
            "SELECT traits FROM activities WHERE principal = 'ada'"
        ).fetchall()
    assert traits == "privileged, pod security violation"


def deployment(at: datetime, who: str, name: str, *, asked: str, got: str) -> list[Row]:
    """Who deploys what, and a minute later its pod."""
    rows = [
        wrote(0, who, "create", names=(name,), traits=asked, source_ip=OFFICE[who]),
        made(1, got, f"{name}-7d9c5b6f4d-x2x4z", source_ip="10.0.0.1",
             client="kube-controller-manager"),
    ]  # fmt: skip
    return [
        {**one, "first": when, "last": when, "slot": when.replace(minute=0)}
        for one, when in zip(rows, (at, at + MINUTE), strict=True)
    ]


@pytest.mark.parametrize(("got", "incidents"), [("privileged, hostPath", 1), ("", 0)])
def test_a_person_is_judged_for_what_became_of_a_deployment(got: str, incidents: int) -> None:
    """Hers have nothing dangerous, and what ben's have is usual for him."""
    log = week(12)
    for day in range(12):
        for n, who in enumerate(OFFICE):
            usual = "hostNetwork" if who == "ben" else ""
            at = START + timedelta(days=day, hours=9, minutes=3 * n)
            log += deployment(at, who, f"{who}-{day}", asked=usual, got=usual)
    begin = START + timedelta(days=9)
    told = deployment(begin + timedelta(hours=10), "ada", "tool", asked="", got=got)
    with connected([*log, *told]) as connection:
        found = detect(connection, CLUSTER, since=begin)
    assert [one.principals for one in found.incidents] == [("ada",)] * incidents
    for one in found.incidents:
        assert [reason.factor for reason in one.reasons] == ["setting"]
        assert {*told[0]["audit_ids"], *told[1]["audit_ids"]} <= {*one.evidence, *one.events}
