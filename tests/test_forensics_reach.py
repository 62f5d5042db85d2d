"""How far a blast radius goes: nothing hides an effect, and nothing is told that was not caused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audit_log import Event, event
from forensic_log import CONTROLLER, at
from kubewitness.forensics.causes.chain import cause_of
from kubewitness.forensics.causes.graph import Reach
from kubewitness.forensics.causes.reach import reach_of
from kubewitness.forensics.causes.record import Record
from test_forensics_doubts import record_of

AUTH = "authentication.kubernetes.io"
DAY = 24 * 3600
BACKUP = "system:serviceaccount:shop:backup"


def minted(seconds: float, number: int = 0, who: str = "eve", **more: Any) -> Event:
    issued = {f"{AUTH}/issued-credential-id": f"JTI=t-{number}"}
    return event(at(seconds), who, "create", "serviceaccounts", subresource="token", name="backup",
                 **{"code": 201, "annotations": issued, **more})  # fmt: skip


def used(seconds: float, verb: str = "list", resource: str = "secrets", name: str = "",
         **more: Any) -> Event:  # fmt: skip
    user = {"username": BACKUP, "groups": [], "extra": {f"{AUTH}/credential-id": ["JTI=t-0"]}}
    return event(at(seconds), verb=verb, resource=resource, name=name, user=user,
                 source_ips=("203.0.113.9",), **{"namespace": "payments", **more})  # fmt: skip


def entered(seconds: float, pod: str, who: str = "ada", **more: Any) -> Event:
    return event(at(seconds), who, "create", "pods", subresource="exec", name=pod, code=101, **more)


def in_pod(seconds: float, pod: str, verb: str, resource: str, name: str = "") -> Event:
    user = {"username": "system:serviceaccount:shop:api", "groups": [],
            "extra": {f"{AUTH}/pod-name": [pod]}}  # fmt: skip
    return event(at(seconds), verb=verb, resource=resource, name=name, user=user)


def caused(reach: Reach) -> set[tuple[str, str]]:
    return {(one.resource, one.namespace) for one in reach.touched if one.caused}


def reach(events: list[Event], subject: str, folder: Path, **times: Any) -> Reach:
    events.sort(key=lambda one: str(one["requestReceivedTimestamp"]))
    with record_of(events, folder) as record:
        return reach_of(record, subject, **times)


def test_what_is_repeated_hides_nothing_else(tmp_path: Path) -> None:
    with_token = [used(1 + n, "get", name=f"s-{n}") for n in range(300)]
    gone = used(900, "delete", "namespaces", "shop", namespace="shop")
    found = reach([minted(0), *with_token, gone], "eve", tmp_path)
    assert caused(found) == {("secrets", "payments"), ("namespaces", "shop")}
    assert any("only some of it was read" in note for note in found.notes)
    read = [in_pod(DAY + 1 + n, "web-0", "get", "configmaps", "c") for n in range(300)]
    stolen = in_pod(DAY + 700, "web-0", "list", "secrets")
    before = in_pod(0, "web-0", "get", "configmaps", "c")
    found = reach([before, entered(DAY, "web-0"), *read, stolen], "ada", tmp_path)
    assert ("secrets", "shop") in caused(found)


def test_leader_election_hides_nothing(tmp_path: Path) -> None:
    elected = [event(at(2 + 2 * n), BACKUP, "update", "leases", group="coordination.k8s.io",
                     name="web-leader") for n in range(300)]  # fmt: skip
    patched = [event(at(n), "ada", "patch", "deployments", group="apps", name="web")
               for n in (0, 1300)]  # fmt: skip
    made = event(at(1300.5), CONTROLLER + "deployment-controller", "create", "replicasets",
                 group="apps", name="web-7d9c5b6f4d", code=201)  # fmt: skip
    assert caused(reach([*patched, *elected, made], "ada", tmp_path)) == {
        ("replicasets.apps", "shop")
    }


def test_nameless_requests_of_others_hide_no_cause(tmp_path: Path) -> None:
    old = event(at(0), "ada", "create", "deployments", group="apps", name="web", code=201)
    noise = [event(at(100 + n / 20), "ci", "create", "pods", name="", code=201) for n in range(600)]
    gone = event(at(140), "eve", "delete", "pods", name="web-7d9c5b6f4d-x2x4z")
    made = event(at(141), CONTROLLER + "replicaset-controller", "create", "pods",
                 name="web-7d9c5b6f4d-b4b4b", code=201)  # fmt: skip
    with record_of([old, *noise, gone, made], tmp_path) as record:
        assert cause_of(record, made["auditID"]).origin == "eve"


@pytest.mark.parametrize("why", ["dry run", "refused"])
def test_what_came_to_nothing_takes_no_place(why: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"query": "dryRun=All"} if why == "dry run" else {"code": 403}
    vain = [minted(1 + n, n + 1, annotations={}, **more) for n in range(70)]
    received = [
        {key: value for key, value in one.items() if key != "responseStatus"}
        | {"stage": "RequestReceived", "stageTimestamp": one["requestReceivedTimestamp"]}
        for one in vain
    ]
    found = reach([minted(0), *received, *vain, used(200)], "eve", tmp_path)
    assert caused(found) == {("secrets", "payments")}
    assert not any("followed" in note for note in found.notes)


def test_each_request_is_one_however_many_stages_it_has(tmp_path: Path) -> None:
    begun = [entered(10 * n, f"p-{n}", auditID=f"e{n}", stage="ResponseStarted") for n in range(31)]
    done = [{**one, "stage": "ResponseComplete", "stageTimestamp": entered(10 * n + 5, "")[
        "stageTimestamp"]} for n, one in enumerate(begun)]  # fmt: skip
    found = reach([*begun, *done], "ada", tmp_path)
    assert found.requests == 31
    assert not any("followed" in note for note in found.notes)


@pytest.mark.parametrize("first", ["a", "zz"])
def test_a_short_name_stands_for_no_other_time(first: str, tmp_path: Path) -> None:
    log = [
        event(at(0), "ada", "create", "pods", name=first, code=201),
        entered(18000, "api-0"),
        in_pod(18060, "api-0", "list", "secrets"),
    ]
    assert caused(reach(log, "ada", tmp_path)) == {("secrets", "shop")}


def test_what_was_done_at_other_times_causes_nothing(tmp_path: Path) -> None:
    made = event(at(120.5), CONTROLLER + "deployment-controller", "create", "replicasets",
                 group="apps", name="web-7d9c5b6f4d", code=201)  # fmt: skip
    log = [
        event(at(0), "ada", "create", "deployments", group="apps", name="web", code=201),
        event(at(120), "ada", "patch", "deployments", group="apps", name="web"),
        made,
    ]
    assert caused(reach(log, "ada", tmp_path, until=at(60))) == set()
    assert caused(reach(log, "ada", tmp_path)) == {("replicasets.apps", "shop")}


def test_what_an_account_did_later_with_its_own_token_came_of_it(tmp_path: Path) -> None:
    log = [minted(0, who=BACKUP), used(100)]
    assert caused(reach(log, BACKUP, tmp_path, until=at(60))) == {("secrets", "payments")}
    assert caused(reach(log, BACKUP, tmp_path)) == set()


def test_a_credential_is_known_by_its_own_key(tmp_path: Path) -> None:
    claims = {"username": "mallory", "groups": [], "extra": {"example.com/note": ["JTI=t-0"]}}
    forged = event(at(5), verb="list", resource="configmaps", name="", user=claims)
    found = reach([used(0), forged], "JTI=t-0", tmp_path)
    assert found.principals == (BACKUP,)


def test_an_eviction_that_only_its_body_calls_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    body = {"kind": "Eviction", "deleteOptions": {"dryRun": ["All"]}}
    evicted = event(at(0), "ada", "create", "pods", subresource="eviction", code=201,
                    name="web-7d9c5b6f4d-x2x4z", level="Request", requestObject=body)  # fmt: skip
    made = event(at(1), CONTROLLER + "replicaset-controller", "create", "pods", code=201,
                 name="web-7d9c5b6f4d-b4b4b")  # fmt: skip
    for subject in ("ada", str(evicted["auditID"])):
        assert caused(reach([evicted, made], subject, tmp_path)) == set()


def test_a_request_counts_in_its_own_cluster(tmp_path: Path) -> None:
    log = [entered(0, "web-0"), in_pod(60, "web-0", "list", "secrets")]
    with record_of([{**one, "cluster": name} for name in ("a", "b") for one in log],
                   tmp_path) as record:  # fmt: skip
        found = reach_of(Record(record.connection, cluster="a"), "ada")
    assert [one.n for one in found.touched if one.caused] == [1]
