"""What is no cause, and how sure a cause is: where two explanations compete, the log decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from audit_log import Event, event, write
from evaluate_fixtures import incident
from forensic_log import CONTROLLER, at
from kubewitness.forensics.causes.chain import cause_of
from kubewitness.forensics.causes.graph import Chain, Link, Reach
from kubewitness.forensics.causes.reach import reach_of
from kubewitness.forensics.causes.record import Record
from kubewitness.incidents import tracing
from kubewitness.incidents.model import Incident
from kubewitness.incidents.tracing import traced
from kubewitness.inquiry import opened

ACCOUNT = "system:serviceaccount:shop:api"


@contextmanager
def record_of(events: Sequence[Event], folder: Path) -> Iterator[Record]:
    log = write(folder / "audit.log", events)
    with opened([log], bodies=True) as (_, connection, _):
        yield Record(connection)


def from_pod(seconds: float, verb: str = "list", resource: str = "configmaps", pod: str = "api-0",
             uid: str = "p-1", **fields: Any) -> Event:  # fmt: skip
    """What a pod's service account does with the token of that pod."""
    extra = {"authentication.kubernetes.io/pod-name": [pod],
             "authentication.kubernetes.io/pod-uid": [uid]}  # fmt: skip
    user = {"username": ACCOUNT, "groups": [], "extra": extra}
    return event(at(seconds), verb=verb, resource=resource, user=user, client="api/v1",
                 source_ips=("10.1.1.1",), **{"name": "", **fields})  # fmt: skip


def entered(seconds: float, who: str = "eve", pod: str = "api-0") -> Event:
    return event(at(seconds), who, "create", "pods", subresource="exec", name=pod, code=101)


def links(found: Chain | Reach, kind: str) -> list[Link]:
    return [one for one in found.links if one.kind == kind]


ROUTINE = [from_pod(60 * n) for n in range(300)]
ENTRY = entered(60 * 290 + 30)


def test_what_a_pod_does_each_minute_is_not_blamed_on_who_got_in(tmp_path: Path) -> None:
    with record_of([*ROUTINE, ENTRY], tmp_path) as record:
        (usual,) = links(cause_of(record, ROUTINE[295]["auditID"]), "entry")
        reach = reach_of(Record(record._connection), ENTRY["auditID"])
    assert "seen 291 times before" in usual.because
    assert usual.confidence < 0.1
    assert all("seen 291 times before" in one.because for one in links(reach, "entry"))
    assert sum(one.n for one in reach.touched if one.caused) <= 1


def test_what_a_pod_never_did_before_is_blamed_on_who_got_in(tmp_path: Path) -> None:
    new = from_pod(60 * 290 + 45, "get", "secrets", name="db")
    with record_of([*ROUTINE, ENTRY, new], tmp_path) as record:
        (unusual,) = links(cause_of(record, new["auditID"]), "entry")
        reach = reach_of(Record(record._connection), ENTRY["auditID"])
    assert "never seen from this pod before" in unusual.because
    assert unusual.confidence > 0.9
    assert (True, "secrets") in {(one.caused, one.resource) for one in reach.touched}


def test_another_pod_of_a_longer_name_is_no_habit(tmp_path: Path) -> None:
    others = [from_pod(60 * n, pod="api-01") for n in range(100)]
    own = from_pod(60 * 100)
    with record_of([*others, entered(60 * 99 + 30), own], tmp_path) as record:
        (link,) = links(cause_of(record, own["auditID"]), "entry")
    assert "never seen from this pod before" in link.because


ROBOT = "system:serviceaccount:shop:robot"


def by_token(seconds: float, token: str, resource: str = "pods", **fields: Any) -> Event:
    """What is done with a token of the account ``robot``."""
    extra = {"authentication.kubernetes.io/credential-id": [token]}
    user = {"username": ROBOT, "groups": [], "extra": extra}
    return event(at(seconds), verb="list", resource=resource, user=user, name="", **fields)


def minted(seconds: float, token: str, who: str = "eve") -> Event:
    notes = {"authentication.kubernetes.io/issued-credential-id": token}
    return event(at(seconds), who, "create", "serviceaccounts", subresource="token", name="robot",
                 code=201, annotations=notes)  # fmt: skip


def traced_of(events: Sequence[Event], own: Sequence[Event], folder: Path) -> Incident:
    """An incident of ``own`` among ``events``, with its cause and reach."""
    known = incident(evidence=tuple(one["auditID"] for one in own))
    with record_of(events, folder) as record:
        rows = record._connection.execute("SELECT any_value(cluster) FROM events").fetchall()
        (told,) = traced(record._connection, [replace(known, cluster=rows[0][0])])
    return told


def test_an_incident_finds_what_a_minted_token_did_among_the_routine_of_its_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "_MOST", 50)
    routine = [by_token(10 * n, "JTI=own") for n in range(80)]
    mint = minted(800, "JTI=ab")
    used = [by_token(810 + n, "JTI=ab", "secrets") for n in range(3)]
    other = by_token(815, "JTI=abc", "configmaps")
    told = traced_of([*routine, mint, *used, other], [mint], tmp_path)
    assert told.reach is not None
    assert {(one.resource, one.n) for one in told.reach.touched if one.caused} == {("secrets", 3)}
    assert told.reach.notes == ()


def test_an_incident_says_where_it_read_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "_MOST", 3)
    mint = minted(0, "JTI=ab")
    used = [by_token(10 + n, "JTI=ab", "secrets") for n in range(5)]
    told = traced_of([mint, *used], [mint], tmp_path)
    assert told.cause is not None
    assert any("the latest 3 requests were read" in note for note in told.cause.notes)


def test_an_incident_asks_what_was_usual_before_somebody_got_in(tmp_path: Path) -> None:
    told = traced_of([*ROUTINE, ENTRY], [ENTRY, ROUTINE[295]], tmp_path)
    assert told.cause is not None
    assert ["seen 291 times before" in one.because for one in links(told.cause, "entry")] == [True]


def test_a_credential_is_told_by_the_whole_of_its_id(tmp_path: Path) -> None:
    with record_of([by_token(0, "JTI=ab"), by_token(1, "JTI=abc", "secrets")], tmp_path) as record:
        reach = reach_of(record, "JTI=ab")
    assert {one.resource for one in reach.touched} == {"pods"}


def manifest(kind: str, name: str, uid: str = "", namespace: str = "shop",
             metadata: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:  # fmt: skip
    """Bodies of a request and its answer."""
    made = {"kind": kind, **rest,
            "metadata": {"name": name, "namespace": namespace, **(metadata or {}),
                         **({"uid": uid} if uid else {})}}  # fmt: skip
    return {"requestObject": made, "responseObject": made, "level": "RequestResponse"}


ARGO = {"group": "argoproj.io", "resource": "applications", "namespace": "argocd", "name": "web"}
DECLARED = event(at(0), "alice", "patch", **ARGO)
MANAGED = manifest("Deployment", "web", "d-1", spec={"template": {}},
                   metadata={"labels": {"argocd.argoproj.io/instance": "web"}})  # fmt: skip
CONTROLS = "system:serviceaccount:argocd:argocd-application-controller"


def applied(who: str, **more: Any) -> Event:
    return event(at(300), who, "patch", "deployments", group="apps", **{**MANAGED, **more})


def test_a_gitops_controller_applied_what_somebody_had_declared(tmp_path: Path) -> None:
    status = event(at(301), CONTROLS, "patch", **ARGO)
    done = applied(CONTROLS)
    with record_of([DECLARED, done, status], tmp_path) as record:
        chain = cause_of(record, done["auditID"])
    (link,) = links(chain, "delivery")
    assert (link.certain, chain.origin) == (True, "alice")


def test_a_label_proves_nothing_about_who_applied_it(tmp_path: Path) -> None:
    done = applied("system:serviceaccount:ci:stolen")
    with record_of([DECLARED, done], tmp_path) as record:
        (link,) = links(cause_of(record, done["auditID"]), "delivery")
    assert not link.certain
    assert link.confidence < 0.5


def test_a_minted_token_goes_before_a_label(tmp_path: Path) -> None:
    extra = {"authentication.kubernetes.io/credential-id": ["JTI=ab"]}
    done = applied(ROBOT, user={"username": ROBOT, "groups": [], "extra": extra})
    with record_of([DECLARED, minted(200, "JTI=ab"), done], tmp_path) as record:
        chain = cause_of(record, done["auditID"])
    assert chain.origin == "eve"


@pytest.mark.parametrize(
    "other", [{"group": "example.org"}, {"namespace": "elsewhere"}], ids=["group", "namespace"]
)
def test_a_like_name_is_another_application(other: dict[str, str], tmp_path: Path) -> None:
    declared = event(at(0), "alice", "patch", **{**ARGO, **other})
    told = {"annotations": {"argocd.argoproj.io/tracking-id": "argocd_web:apps/Deployment:shop/web"}}
    body = manifest("Deployment", "web", "d-1", metadata=told)
    done = applied(CONTROLS, **body)
    with record_of([declared, done], tmp_path) as record:
        assert links(cause_of(record, done["auditID"]), "delivery") == []


def template(image: str) -> dict[str, Any]:
    return {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}


def deployed(seconds: float, who: str, image: str, verb: str = "patch", **more: Any) -> Event:
    body = manifest("Deployment", "web", "d-1", spec=template(image))
    return event(at(seconds), who, verb, "deployments", group="apps", name="web",
                 **{**body, **more})  # fmt: skip


OWNED_BY_WEB = {"ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "d-1"}]}
SET = "web-7d9c5b6f4d"
FOLLOWED = event(
    at(100.5), CONTROLLER + "deployment-controller", "create", "replicasets", group="apps",
    name=SET, code=201, **manifest("ReplicaSet", SET, "r-1", metadata=OWNED_BY_WEB),
)  # fmt: skip


def test_a_dry_run_causes_nothing(tmp_path: Path) -> None:
    events = [
        deployed(0, "ada", "web:1", "create", code=201),
        deployed(100, "ada", "web:2"),
        deployed(100.2, "mallory", "web:3", query="fieldManager=kubectl&dryRun=All"),
        FOLLOWED,
    ]
    with record_of(events, tmp_path) as record:
        chain = cause_of(record, f"rs/{SET}", "shop")
        whole = cause_of(Record(record._connection), "deploy/web", "shop")
        reach = reach_of(Record(record._connection), "mallory")
    assert chain.origin == "ada"
    assert {step.principal for step in whole.steps} == {"ada"}
    assert not any(one.caused for one in reach.touched)
    assert [one.refused for one in reach.touched] == [0]


DRY = {"requestObject": {"kind": "DeleteOptions", "dryRun": ["All"]}, "level": "RequestResponse"}


def test_a_delete_may_be_a_dry_run_by_its_body(tmp_path: Path) -> None:
    made = deployed(0, "ada", "web:1", "create", code=201)
    tried = event(at(60), "bob", "delete", "deployments", group="apps", name="web", **DRY)
    with record_of([made, tried], tmp_path) as record:
        chain = cause_of(record, "deploy/web", "shop")
    assert [step.principal for step in chain.steps] == ["ada"]
    told = traced_of([made, tried], [tried], tmp_path)
    assert told.prevention == ("Nothing: the API server refused all of it, but for dry runs.",)
