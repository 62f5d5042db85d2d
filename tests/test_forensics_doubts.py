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
from kubewitness.errors import KubewitnessError, MisuseError
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
        reach = reach_of(Record(record.connection), ENTRY["auditID"])
    assert "seen 291 times before" in usual.because
    assert usual.confidence < 0.1
    assert all("seen 291 times before" in one.because for one in links(reach, "entry"))
    assert sum(one.n for one in reach.touched if one.caused) <= 1


def test_what_a_pod_never_did_before_is_blamed_on_who_got_in(tmp_path: Path) -> None:
    new = from_pod(60 * 290 + 45, "get", "secrets", name="db")
    with record_of([*ROUTINE, ENTRY, new], tmp_path) as record:
        (unusual,) = links(cause_of(record, new["auditID"]), "entry")
        reach = reach_of(Record(record.connection), ENTRY["auditID"])
    assert "never seen from this pod before" in unusual.because
    assert unusual.confidence > 0.9
    assert (True, "secrets") in {(one.caused, one.resource) for one in reach.touched}


def test_another_pod_of_a_longer_name_is_no_habit(tmp_path: Path) -> None:
    others = [from_pod(60 * n, pod="api-01") for n in range(100)]
    own = from_pod(60 * 100)
    with record_of([*others, entered(60 * 99 + 30), own], tmp_path) as record:
        (link,) = links(cause_of(record, own["auditID"]), "entry")
    assert "never seen from this pod before" in link.because


@pytest.mark.parametrize(("hours", "told"), [(11, True), (13, False)])
def test_what_is_done_to_a_pod_meanwhile_hides_nobody_who_got_in(
    hours: int, told: bool, tmp_path: Path
) -> None:
    labels = [event(at(60 + n), "ada", "patch", name="api-0") for n in range(50)]
    placed = event(at(30), "system:kube-scheduler", "create", "pods", subresource="binding",
                   name="api-0", code=201)  # fmt: skip
    before, entry = entered(10, "mia"), entered(60)
    new = from_pod(60 + 3600 * hours, "get", "secrets", name="db")
    chain = traced_of([before, placed, entry, *labels, new], [new], tmp_path).cause
    assert chain is not None
    assert {chain.steps[one.cause].principal for one in links(chain, "entry")} == (
        {"eve"} if told else set()
    )


def test_what_is_logged_at_each_stage_was_done_once(tmp_path: Path) -> None:
    watch = from_pod(0, "watch")
    came = {
        **watch,
        "stage": "RequestReceived",
        "stageTimestamp": watch["requestReceivedTimestamp"],
    }
    start = {**watch, "stage": "ResponseStarted"}
    again = from_pod(3660, "watch")
    with record_of([came, start, watch, entered(3600), again], tmp_path) as record:
        (link,) = links(cause_of(record, again["auditID"]), "entry")
    assert "seen once before" in link.because


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
        rows = record.connection.execute("SELECT any_value(cluster) FROM events").fetchall()
        (told,) = traced(record.connection, [replace(known, cluster=rows[0][0])])
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


ARGO: dict[str, Any] = {"group": "argoproj.io", "resource": "applications", "namespace": "argocd",
                        "name": "web"}  # fmt: skip
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
        chain = cause_of(record, done["auditID"])
        reach = reach_of(Record(record.connection), "alice")
    (link,) = links(chain, "delivery")
    assert not link.certain
    assert chain.origin == "system:serviceaccount:ci:stolen"
    assert not any(one.caused for one in reach.touched)


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
    tracked = "argocd_web:apps/Deployment:shop/web"
    told = {"annotations": {"argocd.argoproj.io/tracking-id": tracked}}
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
        whole = cause_of(Record(record.connection), "deploy/web", "shop")
        reach = reach_of(Record(record.connection), "mallory")
    assert chain.origin == "ada"
    assert {step.principal for step in whole.steps} == {"ada"}
    assert not any(one.caused for one in reach.touched)
    assert [one.refused for one in reach.touched] == [0]


DRY: dict[str, Any] = {
    "requestObject": {"kind": "DeleteOptions", "dryRun": ["All"]},
    "level": "RequestResponse",
}


def test_a_delete_may_be_a_dry_run_by_its_body(tmp_path: Path) -> None:
    made = deployed(0, "ada", "web:1", "create", code=201)
    tried = event(at(60), "bob", "delete", "deployments", group="apps", name="web", **DRY)
    with record_of([made, tried], tmp_path) as record:
        chain = cause_of(record, "deploy/web", "shop")
    assert [step.principal for step in chain.steps] == ["ada"]
    told = traced_of([made, tried], [tried], tmp_path)
    assert told.prevention == ("Nothing: the API server refused all of it, but for dry runs.",)


@contextmanager
def two_clusters(folder: Path) -> Iterator[Record]:
    """Of the same names: ada made what runs in one, ben in the other."""
    lake = folder / "lake"
    for cluster, who, begin in (("one", "ada", 0), ("two", "ben", 100)):
        events = [
            deployed(begin, who, "web:1", "create", code=201),
            by_token(begin + 5, f"JTI={cluster}"),
            from_pod(begin + 10, "get", "secrets", name=f"db-{cluster}"),
        ]
        log = write(folder / f"{cluster}.log", events)
        with opened([log], lake=lake, cluster=cluster):
            pass
    with opened([], lake=lake) as (_, connection, _):
        yield Record(connection)


def test_one_name_in_two_clusters_is_two_things(tmp_path: Path) -> None:
    with two_clusters(tmp_path) as record:
        for ask in (cause_of, reach_of):
            with pytest.raises(KubewitnessError, match="2 clusters have"):
                ask(Record(record.connection), "deploy/web", "shop")
        for who in (ROBOT, "JTI=one"):
            with pytest.raises(KubewitnessError, match="of 2 clusters"):
                reach_of(Record(record.connection), who)
        one = Record(record.connection, cluster="one")
        assert cause_of(one, "deploy/web", "shop").origin == "ada"
        assert reach_of(Record(record.connection, cluster="two"), ROBOT).requests == 1


def test_an_object_is_found_as_every_other_command_finds_it(tmp_path: Path) -> None:
    core = event(at(0), "ada", "create", "services", code=201)
    knative = event(at(10), "zoe", "create", "services", group="serving.knative.dev", code=201)
    with record_of([core, knative, *ROUTINE[:2]], tmp_path) as record:
        assert cause_of(record, "svc/web", "shop").origin == "ada"
        other = Record(record.connection)
        assert cause_of(other, "services.v1.serving.knative.dev/web", "shop").origin == "zoe"
        reach = reach_of(Record(record.connection), "shop/api")
        assert reach.subject == ACCOUNT
        with pytest.raises(KubewitnessError, match="nobody called 'nobody'"):
            reach_of(Record(record.connection), "nobody")


def test_what_is_applied_where_nothing_was_is_made(tmp_path: Path) -> None:
    with record_of([deployed(0, "ada", "web:1", code=201)], tmp_path) as record:
        chain = cause_of(record, "deploy/web", "shop")
    assert not any("before the log begins" in note for note in chain.notes)


def test_a_time_that_means_nothing_is_refused(tmp_path: Path) -> None:
    made, later = deployed(0, "ada", "web:1", "create", code=201), deployed(60, "ben", "web:2")
    with record_of([made, later], tmp_path) as record:
        for ask in (
            lambda: cause_of(record, made["auditID"], at=at(30)),
            lambda: reach_of(record, made["auditID"], until=at(30)),
        ):
            with pytest.raises(MisuseError) as error:
                ask()
            assert error.value.exit_code == 2
        reach = reach_of(Record(record.connection), "deploy/web", "shop", until=at(30))
    assert reach.principals == ("ada",)


def test_the_creation_of_each_is_among_what_is_known_of_many_names(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(30)]
    events = [event(at(n), "ada", "create", "configmaps", name=name, code=201)
              for n, name in enumerate(names)]  # fmt: skip
    events += [event(at(100 + n), "ben", "patch", "configmaps", name=names[n % 30])
               for n in range(600)]  # fmt: skip
    with record_of(events, tmp_path) as record:
        found = record.named({("shop", name) for name in names}, until=at(1000))
    assert {one.name for one in found if one.creates} == set(names)


def owned_pod(seconds: float, who: str, verb: str, owner_uid: str = "r-1") -> Event:
    owner = [{"kind": "ReplicaSet", "name": SET, "uid": owner_uid, "controller": True}]
    body = manifest("Pod", f"{SET}-x2x4z", "p-1", metadata={"ownerReferences": owner})
    return event(at(seconds), CONTROLLER + who, verb, "pods", name=f"{SET}-x2x4z",
                 code=201 if verb == "create" else 200, **body)  # fmt: skip


def scaled(seconds: float, who: str, replicas: int, verb: str = "patch", uid: str = "r-1",
           **more: Any) -> Event:  # fmt: skip
    spec = {"replicas": replicas, "template": {}}
    return event(at(seconds), who, verb, "replicasets", group="apps", name=SET,
                 **{**manifest("ReplicaSet", SET, uid, spec=spec), **more})  # fmt: skip


def test_a_namespace_that_was_made_again_deletes_nothing(tmp_path: Path) -> None:
    place: dict[str, Any] = {"resource": "namespaces", "name": "shop"}
    gone = owned_pod(400.2, "replicaset-controller", "delete")
    events = [
        event(at(0), "bob", "delete", **place),
        event(at(300), "ada", "create", code=201, **place),
        scaled(320, "ada", 2, "create", code=201),
        owned_pod(320.1, "replicaset-controller", "create"),
        scaled(400, "carol", 1),
        gone,
    ]
    with record_of(events, tmp_path) as record:
        chain = cause_of(record, gone["auditID"])
    assert chain.origin == "carol"
    assert links(chain, "cascade") == []


def test_what_owned_it_has_the_uid_that_the_reference_means(tmp_path: Path) -> None:
    made, hidden = owned_pod(0.2, "replicaset-controller", "create"), {"level": "Metadata"}
    known = [scaled(0, "ada", 1, "create", code=201), made]
    other = [scaled(0, "ada", 1, "create", uid="r-0", code=201), made]
    bare: dict[str, Any] = {**hidden, "requestObject": None, "responseObject": None}
    unknown = [scaled(0, "ada", 1, "create", code=201, **bare), made]
    sure = []
    for number, events in enumerate((known, other, unknown)):
        (tmp_path / str(number)).mkdir()
        with record_of(events, tmp_path / str(number)) as record:
            found = links(cause_of(record, made["auditID"]), "owner")
        sure.append([(one.certain, one.confidence) for one in found])
    assert sure == [[(True, 1.0)], [], [(False, 0.9)]]


def test_an_earlier_pod_of_that_name_is_another_pod(tmp_path: Path) -> None:
    def body(uid: str) -> dict[str, Any]:
        return manifest("Pod", "db-0", uid)

    done = from_pod(1200, "get", "secrets", "db-0", "new", name="s")
    events = [
        entered(0, "ops", "db-0"),
        event(at(600), "system:node:n1", "delete", "pods", name="db-0", **body("old")),
        event(at(601), CONTROLLER + "statefulset-controller", "create", "pods", name="db-0",
              code=201, **body("new")),
        done,
    ]  # fmt: skip
    with record_of(events, tmp_path) as record:
        chain = cause_of(record, done["auditID"])
    assert links(chain, "entry") == []
    assert [one.certain for one in links(chain, "pod")] == [True]


RBAC: dict[str, Any] = {"resource": "clusterroles", "group": "rbac.authorization.k8s.io",
                        "namespace": "", "name": "reader"}  # fmt: skip


def role(seconds: float, who: str, resources: str, verb: str = "patch", **more: Any) -> Event:
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": [resources]}]
    body = manifest("ClusterRole", "reader", "q", rules=rules)
    return event(at(seconds), who, verb, **RBAC, **{**body, **more})


def test_a_permission_comes_of_who_granted_it_not_of_who_labelled_it(tmp_path: Path) -> None:
    reason = 'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "reader" to User "eve"'
    allowed = {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": reason}
    read = event(at(60), "eve", "get", "secrets", name="db", annotations=allowed)
    created = role(0, "bob", "secrets", "create", code=201)
    bare: dict[str, Any] = {"level": "Metadata", "requestObject": None, "responseObject": None}
    expected = {
        "labelled": ([created, role(50, "alice", "secrets"), read], [("bob", True)]),
        "widened": (
            [role(0, "bob", "pods", "create", code=201), role(50, "alice", "secrets"), read],
            [("bob", True), ("alice", True)],
        ),
        "unknown": (
            [created, role(50, "alice", "secrets", **bare), read],
            [("bob", True), ("alice", False)],
        ),
    }
    for case, (events, answer) in expected.items():
        (tmp_path / case).mkdir()
        with record_of(events, tmp_path / case) as record:
            chain = cause_of(record, read["auditID"])
            reach = reach_of(Record(record.connection), "alice")
        told = sorted((one.cause, one.certain) for one in links(chain, "permission"))
        assert [(chain.steps[step].principal, sure) for step, sure in told] == answer, case
        assert any(one.caused for one in reach.touched) == (case != "labelled")


def test_a_collection_that_was_deleted_is_an_end(tmp_path: Path) -> None:
    made = event(at(0), "ada", "create", "configmaps", code=201)
    selected = event(at(50), "ben", "deletecollection", "configmaps", name="",
                     query="labelSelector=app%3Dother")  # fmt: skip
    swept = event(at(60), "mia", "deletecollection", "configmaps", name="")
    again = event(at(90), "zoe", "deletecollection", "configmaps", name="")
    with record_of([made, selected, swept, again], tmp_path) as record:
        chain = cause_of(record, "cm/web", "shop")
        before = cause_of(Record(record.connection), "cm/web", "shop", at(55))
    assert [step.principal for step in chain.steps] == ["ada", "mia"]
    assert [step.principal for step in before.steps] == ["ada"]


def test_prevention_says_no_more_than_the_log(tmp_path: Path) -> None:
    reason = 'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "reader" to User "eve"'
    allowed = {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": reason}
    rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    body = manifest("Role", "all", "q", rules=rules)
    made = event(at(0), "eve", "create", "roles", group=RBAC["group"], name="all", code=201,
                 annotations=allowed, **body)  # fmt: skip
    told = " ".join(traced_of([made], [made], tmp_path).prevention)
    assert "ClusterRoleBinding b (of ClusterRole reader) allowed create roles" in told
    assert "Pod Security" not in told


def test_scaling_makes_no_revision(tmp_path: Path) -> None:
    scaled = event(at(0), "ada", "patch", "deployments", subresource="scale", name="web",
                   group="apps")  # fmt: skip
    deployments = CONTROLLER + "deployment-controller"
    made = event(at(9000), deployments, "create", "replicasets", name="web-7d4b9c5f6",
                 group="apps", code=201)  # fmt: skip
    resized = event(at(1), deployments, "update", "replicasets", name="web-5c9f8b7d4",
                    group="apps")  # fmt: skip
    with record_of([scaled, resized, made], tmp_path) as record:
        assert links(cause_of(record, made["auditID"]), "owner") == []
        assert len(links(cause_of(record, resized["auditID"]), "owner")) == 1
