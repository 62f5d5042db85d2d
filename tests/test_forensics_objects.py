"""History, state, difference and inventory of objects, from logs written by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from activities import START
from audit_log import Event, event, write
from kubewitness.errors import KubewitnessError, QueryError
from kubewitness.forensics.kind import of
from kubewitness.forensics.objects.condition import where
from kubewitness.forensics.objects.history import history
from kubewitness.forensics.objects.inventory import holdings, inventory
from kubewitness.forensics.objects.knowledge import fits, known
from kubewitness.forensics.objects.model import Snapshot
from kubewitness.forensics.objects.record import records
from kubewitness.forensics.objects.replay import replayed
from kubewitness.forensics.objects.selection import selects
from kubewitness.forensics.objects.state import difference, snapshot
from kubewitness.forensics.objects.writing import written
from kubewitness.forensics.target import Target, find
from kubewitness.inquiry import opened

EXAMPLE = Path(__file__).parents[1] / "examples"
CAPTURE = Path(__file__).parents[2] / "shared" / "data" / "capture"

CONTROLLER = "system:serviceaccount:kube-system:deployment-controller"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def deployment(replicas: int = 1, image: str = "web:1", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", **metadata},
        "spec": {
            "replicas": replicas,
            "template": {
                "spec": {
                    "serviceAccountName": "web",
                    "containers": [
                        {
                            "name": "web",
                            "image": image,
                            "envFrom": [{"secretRef": {"name": "web-env"}}],
                        }
                    ],
                    "volumes": [{"name": "c", "configMap": {"name": "web-config"}}],
                }
            },
        },
    }


def write_of(
    minutes: float,
    verb: str,
    request: Any = None,
    response: Any = None,
    *,
    who: str = "ada",
    **fields: Any,
) -> Event:
    level = "Metadata" if request is None else "Request" if response is None else "RequestResponse"
    group = fields.pop("group", "apps")
    return event(
        at(minutes),
        who,
        verb,
        fields.pop("resource", "deployments"),
        group=group,
        level=level,
        requestObject=request,
        responseObject=response,
        **fields,
    )


@contextmanager
def log(tmp_path: Path, *events: Event) -> Iterator[duckdb.DuckDBPyConnection]:
    path = write(tmp_path / "audit.jsonl", events)
    with opened([path], bodies=True) as (_, connection, intake):
        assert intake.events == len(events)
        yield connection


def state(tmp_path: Path, minutes: float, *events: Event) -> Snapshot:
    with log(tmp_path, *events) as connection:
        return snapshot(connection, find(connection, "deploy/web"), at(minutes))


IMAGE = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}
CREATED = write_of(0, "create", deployment(), deployment(), code=201)


# --- what is known ------------------------------------------------------------------------------


def test_the_answer_is_the_state(tmp_path: Path) -> None:
    patched = write_of(5, "patch", IMAGE, deployment(image="web:2"))
    before, after = (state(tmp_path, minutes, CREATED, patched) for minutes in (1, 6))
    assert before.object == deployment()
    assert after.object == deployment(image="web:2")
    assert after.gaps == ()
    assert [one.audit_id for one in after.sources] == [patched["auditID"]]
    assert after.created_at == at(0) + timedelta(milliseconds=3)


def test_without_an_answer_the_request_is_applied_to_what_was_known(tmp_path: Path) -> None:
    patched = write_of(5, "patch", IMAGE, query="fieldManager=kubectl-client-side-apply")
    found = state(tmp_path, 6, CREATED, patched)
    assert found.object["spec"] == deployment(image="web:2")["spec"]
    assert [one.gave for one in found.sources] == ["answer", "request"]
    assert "metadata.resourceVersion" in {gap.path for gap in found.gaps}


def test_a_patch_of_an_object_that_was_never_seen_tells_its_fields_only(tmp_path: Path) -> None:
    patched = write_of(5, "patch", {"spec": {"replicas": 3}})
    found = state(tmp_path, 6, patched)
    assert found.object["spec"] == {"replicas": 3}
    assert found.gaps[0].path == "*"
    assert found.existence == "exists"
    assert found.created_at is None


def test_a_patch_of_which_the_kind_is_not_known_is_not_guessed(tmp_path: Path) -> None:
    # As a merge patch it replaces the list, as a strategic one it merges it.
    env = {"spec": {"template": {"spec": {"containers": [{"name": "log", "image": "log:1"}]}}}}
    found = state(tmp_path, 6, CREATED, write_of(5, "patch", env))
    assert found.object["spec"]["replicas"] == 1
    assert "containers" not in found.object["spec"]["template"]["spec"]
    gaps = {gap.path: gap.why for gap in found.gaps}
    assert "which kind of patch" in gaps["spec.template.spec.containers"]


def test_at_level_metadata_only_its_being_there_is_known(tmp_path: Path) -> None:
    bare = write_of(5, "update")
    found = state(tmp_path, 6, CREATED, bare)
    assert found.existence == "exists"
    assert found.object["metadata"]["name"] == "web"
    assert "spec" not in found.object
    assert any(gap.path == "spec" and "Metadata" in gap.why for gap in found.gaps)


def test_what_is_applied_no_more_is_not_known_where_nobody_knows_who_owned_it(
    tmp_path: Path,
) -> None:
    def applied(minutes: float, image: str, **labels: str) -> Event:
        spec = {"containers": [{"name": image, "image": image}], "nodeSelector": {"a": "b"}}
        config = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "labels": labels},
            "spec": {"template": {"spec": spec}},
        }
        return write_of(minutes, "patch", config, code=201 if minutes == 0 else 200,
                        query="fieldManager=kubectl&force=false")  # fmt: skip

    found = state(tmp_path, 6, applied(0, "a:1", x="1", y="2"), applied(5, "b:1", x="1"))
    spec = found.object["spec"]["template"]["spec"]
    assert found.object["metadata"]["labels"] == {"x": "1"}
    assert spec == {"containers": [{"name": "b:1", "image": "b:1"}], "nodeSelector": {"a": "b"}}
    gaps = {gap.path: gap.why for gap in found.gaps}
    assert "not in what was applied" in gaps["metadata.labels.y"]


def test_a_status_written_without_bodies_leaves_the_spec_known(tmp_path: Path) -> None:
    found = state(tmp_path, 6, CREATED, write_of(5, "update", subresource="status"))
    assert found.object["spec"] == deployment()["spec"]
    assert any(gap.path == "status" for gap in found.gaps)


def test_a_scale_changes_replicas(tmp_path: Path) -> None:
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 7}}
    found = state(tmp_path, 6, CREATED, write_of(5, "update", scale, scale, subresource="scale"))
    assert found.object["spec"]["replicas"] == 7
    assert found.object["spec"]["template"] == deployment()["spec"]["template"]


def test_dry_runs_and_refusals_change_nothing(tmp_path: Path) -> None:
    dry = write_of(5, "patch", IMAGE, deployment(image="web:2"), query="dryRun=All")
    denied = write_of(6, "patch", IMAGE, code=403)
    found = state(tmp_path, 7, CREATED, dry, denied)
    assert found.object == deployment()


def test_a_deletion_that_is_a_dry_run_by_its_body_deletes_nothing(tmp_path: Path) -> None:
    options = {"kind": "DeleteOptions", "dryRun": ["All"]}
    asked = write_of(5, "delete", options, {"kind": "Status", "status": "Success"})
    swept = write_of(6, "deletecollection", options, name="")
    with log(tmp_path, CREATED, asked, swept) as connection:
        found = snapshot(connection, find(connection, "deploy/web"), at(60))
        assert [one.subject.name for one in inventory(connection, at(60)).workloads] == ["web"]
    assert found.existence == "exists"


def test_only_what_deletes_has_options_in_its_body(tmp_path: Path) -> None:
    made = {**deployment(5), "dryRun": ["All"]}  # as a custom resource may have
    assert state(tmp_path, 6, CREATED, write_of(5, "update", made, made)).object == made


def test_a_webhooks_patch_is_applied_where_it_was_logged(tmp_path: Path) -> None:
    note = (
        '{"configuration":"c","webhook":"w","patch":[{"op":"add","path":"/metadata/labels",'
        '"value":{"injected":"yes"}}],"patchType":"JSONPatch"}'
    )
    annotations = {"patch.webhook.admission.k8s.io/round_0_index_0": note}
    made = write_of(0, "create", deployment(), code=201, annotations=annotations)
    assert state(tmp_path, 1, made).object["metadata"]["labels"] == {"injected": "yes"}


def test_redacted_values_are_compared_by_their_hash(tmp_path: Path) -> None:
    def secret(minutes: float, verb: str, value: str) -> Event:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "db", "namespace": "shop"},
            "data": {"password": value, "user": "c2FtZQ=="},
        }
        return write_of(minutes, verb, body, body, resource="secrets", group="", name="db")

    events = (secret(0, "create", "b25l"), secret(2, "update", "b25l"), secret(4, "update", "dHdv"))
    with log(tmp_path, *events) as connection:
        found = history(connection, find(connection, "secret/db"))
    assert [one.effect for one in found.changes] == ["created", "unchanged", "changed"]
    (field,) = found.changes[2].fields
    assert field.path == "data.password"
    assert field.before.startswith("redacted:")
    assert field.before != field.after


def test_of_many_answers_only_the_last_is_read_and_nothing_is_lost(tmp_path: Path) -> None:
    many = [write_of(n, "update", deployment(n), deployment(n)) for n in range(20, 90)]
    again = write_of(9, "create", deployment(uid="u1"), deployment(uid="u1"), code=201)
    events = (write_of(0, "create", deployment(), deployment(), code=201), gone(5), again, *many)
    found = state(tmp_path, 80.5, *events)
    assert found.object["spec"]["replicas"] == 80
    assert (found.life, found.created_at) == (2, at(9) + timedelta(milliseconds=3))
    with log(tmp_path, *events) as connection:
        target = find(connection, "deploy/web")
        (field,) = difference(connection, target, at(30.5), at(80.5)).fields
        late = history(connection, target, since=at(79.5), until=at(81.5))
    assert (field.before, field.after) == (30, 80)
    assert [one.fields[0].before for one in late.changes] == [79, 80]


# --- lives --------------------------------------------------------------------------------------


def gone(minutes: float, uid: str = "u1") -> Event:
    status = {"kind": "Status", "status": "Success", "details": {"name": "web", "uid": uid}}
    return write_of(minutes, "delete", {"kind": "DeleteOptions"}, status)


def test_a_name_that_is_used_again_is_another_object(tmp_path: Path) -> None:
    again = write_of(9, "create", deployment(5, uid="u2"), deployment(5, uid="u2"), code=201)
    events = (CREATED, gone(4), again)
    with log(tmp_path, *events) as connection:
        target = find(connection, "deploy/web")
        found = history(connection, target)
        between = snapshot(connection, target, at(5))
        change = difference(connection, target, at(1), at(10))
    assert [(one.life, one.uid, one.effect) for one in found.changes] == [
        (1, "u1", "created"),
        (1, "u1", "deleted"),
        (2, "u2", "created"),
    ]
    assert found.lives == 2
    assert between.existence == "gone"
    assert change.notes
    assert {one.path for one in change.fields} >= {"metadata.uid", "spec.replicas"}


def test_another_uid_is_another_object_even_if_its_creation_was_not_logged(tmp_path: Path) -> None:
    other = write_of(9, "update", deployment(uid="u2"), deployment(uid="u2"))
    with log(tmp_path, CREATED, other) as connection:
        found = history(connection, find(connection, "deploy/web"))
    assert found.lives == 2
    assert "another object" in found.changes[-1].note


def test_finalizers_keep_an_object_until_they_are_gone(tmp_path: Path) -> None:
    held = deployment(deletionTimestamp="2026-03-02T08:04:00Z", finalizers=["a"])
    freed = deployment(deletionTimestamp="2026-03-02T08:04:00Z")
    events = (
        CREATED,
        write_of(4, "delete", {"kind": "DeleteOptions"}, held),
        write_of(6, "patch", {"metadata": {"finalizers": None}}, freed),
    )
    with log(tmp_path, *events) as connection:
        target = find(connection, "deploy/web")
        effects = [one.effect for one in history(connection, target).changes]
        assert snapshot(connection, target, at(5)).existence == "terminating"
    assert effects == ["created", "terminating", "deleted"]


def test_what_is_known_to_wait_for_finalizers_is_terminating_without_an_answer(
    tmp_path: Path,
) -> None:
    held = deployment(finalizers=["a"])
    kept = write_of(0, "create", held, held, code=201)
    waiting = write_of(4, "delete", {"kind": "DeleteOptions", "propagationPolicy": "Foreground"})
    plain = write_of(4, "delete", {"kind": "DeleteOptions"})
    let_go = write_of(6, "patch", {"metadata": {"finalizers": None}})
    for events in ((CREATED, waiting), (kept, plain)):
        assert state(tmp_path, 5, *events).existence == "terminating"
        assert state(tmp_path, 7, *events, let_go).existence == "gone"
    labelled = write_of(6, "patch", {"metadata": {"labels": {"a": "b"}}})
    assert state(tmp_path, 7, kept, plain, labelled).existence == "terminating"


def test_where_finalizers_are_not_known_a_deletion_says_so(tmp_path: Path) -> None:
    plain = write_of(4, "delete", {"kind": "DeleteOptions"})
    sure = state(tmp_path, 5, CREATED, plain)
    unsure = state(tmp_path, 5, write_of(0, "create", deployment(), code=201), plain)
    assert (sure.existence, sure.notes) == ("gone", ())
    assert unsure.existence == "gone"
    assert any("finalizers" in note for note in unsure.notes)


def test_a_deletecollection_takes_what_it_selects(tmp_path: Path) -> None:
    made = write_of(0, "create", deployment(), deployment(labels={"app": "web"}), code=201)

    def swept(query: str, response: Any = None) -> str:
        request = {"kind": "DeleteOptions"} if response else None
        one = write_of(4, "deletecollection", request, response, name="", query=query)
        return state(tmp_path, 5, made, one).existence

    assert swept("labelSelector=app%3Dweb") == "gone"
    assert swept("labelSelector=app%3Dother") == "exists"
    assert swept("") == "gone"
    assert swept("fieldSelector=spec.x%3D1") == "unknown"
    item = {"metadata": {"name": "web", "uid": "u1"}}
    assert swept("", {"kind": "DeploymentList", "items": [item]}) == "gone"
    assert swept("", {"kind": "DeploymentList", "items": []}) == "exists"


def test_selectors() -> None:
    labels = {"app": "web", "tier": "a"}
    assert selects("app=web,tier in (a, b),!old", labels)
    assert selects("app==web,other notin (x),tier", labels)
    assert not selects("app!=web", labels)
    assert selects("app ~ web", labels) is None


# --- history ------------------------------------------------------------------------------------


def test_updates_without_a_change_are_folded(tmp_path: Path) -> None:
    same = [write_of(n, "update", deployment(), deployment(), who=CONTROLLER) for n in range(1, 13)]
    with log(tmp_path, CREATED, *same) as connection:
        found = history(connection, find(connection, "deploy/web"))
    assert [(one.effect, one.n) for one in found.changes] == [("created", 1), ("unchanged", 12)]
    assert len(found.changes[1].audit_ids) == 12
    assert found.changes[1].until == at(12) + timedelta(milliseconds=3)


def test_a_change_says_who_for_whom_from_where_and_allowed_by_what(tmp_path: Path) -> None:
    reason = 'RBAC: allowed by ClusterRoleBinding "ops" of ClusterRole "edit" to Group "dev"'
    patched = write_of(
        5,
        "patch",
        IMAGE,
        deployment(image="web:2"),
        impersonatedUser={"username": "system:admin"},
        source_ips=("203.0.113.9", "10.0.0.1"),
        annotations={"authorization.k8s.io/reason": reason},
    )
    with log(tmp_path, CREATED, patched) as connection:
        change = history(connection, find(connection, "deploy/web")).changes[-1]
    assert (change.principal, change.acting_as) == ("ada", "system:admin")
    assert change.source_ips == ("203.0.113.9", "10.0.0.1")
    assert change.reason == reason
    assert change.how == "strategic merge patch"  # as a merge patch the rest would be missing
    (field,) = change.fields
    assert field.path == "spec.template.spec.containers[web].image"
    assert (field.op, field.before, field.after) == ("replace", "web:1", "web:2")


def test_a_controllers_change_names_the_owner(tmp_path: Path) -> None:
    owners = [{"kind": "App", "name": "shop", "uid": "o", "controller": True}]
    made = deployment(ownerReferences=owners)
    with log(tmp_path, write_of(0, "create", made, made, who=CONTROLLER, code=201)) as connection:
        (change,) = history(connection, find(connection, "deploy/web")).changes
    assert change.owner == "App/shop"


def test_use_of_a_pod_is_told_but_is_no_change(tmp_path: Path) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}}
    made = write_of(0, "create", pod, pod, resource="pods", group="", code=201)
    shell = event(at(3), "eve", "get", "pods", subresource="exec", code=101)
    begun = {**shell, "stage": "ResponseStarted", "auditID": shell["auditID"]}
    read = event(at(4), "eve", "get", "pods")
    with log(tmp_path, made, begun, shell, read) as connection:
        found = history(connection, find(connection, "pod/web"))
    assert [(one.effect, one.subresource) for one in found.changes] == [
        ("created", ""),
        ("touched", "exec"),
    ]


def test_applies_are_told_by_their_field_manager(tmp_path: Path) -> None:
    fields = [{"manager": "argo", "operation": "Apply", "fieldsV1": {}}]
    config = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2}}
    answer = deployment(2, managedFields=fields)
    one = write_of(5, "patch", config, answer, query="fieldManager=argo")
    with log(tmp_path, CREATED, one) as connection:
        change = history(connection, find(connection, "deploy/web")).changes[-1]
    assert change.how == "server-side apply by argo"
    assert [field.path for field in change.fields] == ["spec.replicas"]


@pytest.mark.parametrize(
    ("client", "how"),
    [
        ("kubectl-label", "merge patch"),
        ("kubectl-annotate", "merge patch"),
        ("kubectl-edit", "strategic merge patch"),
        ("kubectl-patch", "strategic merge patch or merge patch"),
    ],
)
def test_kubectl_is_known_by_its_field_manager(tmp_path: Path, client: str, how: str) -> None:
    labels = {"metadata": {"labels": {"a": "b"}}}
    one = write_of(5, "patch", labels, query=f"fieldManager={client}")
    with log(tmp_path, CREATED, one) as connection:
        assert history(connection, find(connection, "deploy/web")).changes[-1].how == how


def test_what_an_apply_made_is_there(tmp_path: Path) -> None:
    made = write_of(
        0, "patch", deployment(), deployment(), code=201, query="fieldManager=x&force=true"
    )
    later = write_of(9, "patch", IMAGE, query="fieldManager=kubectl-set")
    with log(tmp_path, made, later) as connection:
        (change, _) = history(connection, find(connection, "deploy/web")).changes
        (one,) = inventory(connection, at(10)).workloads
    assert (change.effect, one.created_at) == ("created", change.at)


def test_a_log_without_bodies_says_so(tmp_path: Path) -> None:
    with log(tmp_path, write_of(0, "patch"), write_of(1, "delete")) as connection:
        found = history(connection, find(connection, "deploy/web"))
    assert [one.effect for one in found.changes] == ["not knowable", "deleted"]
    assert any("Metadata" in note for note in found.notes)
    assert any("before this log" in note for note in found.notes)


def test_an_answer_that_the_request_does_not_explain_is_pointed_out(tmp_path: Path) -> None:
    unseen = deployment(image="web:2")
    unseen["spec"]["replicas"] = 9
    with log(tmp_path, CREATED, write_of(5, "patch", IMAGE, unseen)) as connection:
        change = history(connection, find(connection, "deploy/web")).changes[-1]
    assert "a write that this log does not hold" in change.note


# --- finding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["deploy", "deployment", "deployments", "Deployment", "deployments.apps", "deploy.v1.apps"],
)
def test_kinds_are_called_as_kubectl_calls_them(tmp_path: Path, name: str) -> None:
    with log(tmp_path, CREATED) as connection:
        assert str(find(connection, f"{name}/web")) == "deployments.apps/web"


def test_custom_resources_are_found_in_the_log(tmp_path: Path) -> None:
    policy = write_of(0, "create", resource="proxies", group="example.org", name="edge")
    with log(tmp_path, policy) as connection:
        for name in ("proxy", "Proxies", "proxy.example.org"):
            assert find(connection, f"{name}/edge").kind == of("proxies", "example.org")


@pytest.mark.parametrize(
    ("reference", "namespace", "what", "remedy"),
    [
        ("deploy/wb", None, "no deployments.apps/wb", "of similar name: web -n shop"),
        ("deploy/web", "else", "in namespace else", "deployments.apps/web -n shop"),
        ("sts/web", None, "no statefulsets.apps/web", "there is: deployments.apps/web -n shop"),
        ("gizmo/web", None, "no kind 'gizmo'", "proxies.example.org"),
        ("proxy/edge", None, "several groups", "proxies.example.org, proxies.example.net"),
        ("svc/web", None, "2 namespaces", "say which with -n: lab, shop"),
        ("web", None, "names no object", "KIND/NAME"),
    ],
)
def test_what_is_not_found_says_what_there_is(
    tmp_path: Path, reference: str, namespace: str | None, what: str, remedy: str
) -> None:
    events = [
        CREATED,
        *(write_of(1, "create", resource="proxies", group=f"example.{top}", name="edge")
          for top in ("org", "net")),
        *(write_of(2, "create", resource="services", group="", namespace=home)
          for home in ("shop", "lab")),
    ]  # fmt: skip
    with log(tmp_path, *events) as connection, pytest.raises(KubewitnessError) as error:
        find(connection, reference, namespace=namespace)
    assert what in error.value.what
    told = error.value.remedy
    assert all(part in told for part in remedy.split(", "))


def test_a_time_before_the_log_is_refused_with_where_it_begins(tmp_path: Path) -> None:
    with log(tmp_path, write_of(5, "update", deployment(), deployment())) as connection:
        target = find(connection, "deploy/web")
        with pytest.raises(KubewitnessError, match="not knowable") as error:
            snapshot(connection, target, at(1))
    assert f"{at(5):%H:%M}" in error.value.remedy


# --- inventory ----------------------------------------------------------------------------------


def test_the_inventory_is_what_was_there_at_a_time(tmp_path: Path) -> None:
    patched = write_of(5, "patch", IMAGE, deployment(image="web:2"))
    with log(tmp_path, CREATED, patched, gone(8)) as connection:
        (one,) = inventory(connection, at(1)).workloads
        (later,) = inventory(connection, at(6)).workloads
        assert inventory(connection, at(9)).workloads == ()
        assert inventory(connection, at(6), condition=where("image ~ web:1")).workloads == ()
        (held,) = holdings(connection, where("image~web:1")).items
        (mounts,) = holdings(connection, where("secret=web-env and namespace=shop")).items
    assert one.images == ("web:1",)
    assert later.images == ("web:2",)
    assert (one.service_account, one.secrets, one.configmaps) == (
        "web",
        ("web-env",),
        ("web-config",),
    )
    assert (held.start, held.end) == (
        at(0) + timedelta(milliseconds=3),
        at(5) + timedelta(milliseconds=3),
    )
    assert held.since_creation
    assert mounts.end == at(8) + timedelta(milliseconds=3)


def test_a_namespace_that_is_emptied_leaves_no_workloads(tmp_path: Path) -> None:
    swept = write_of(4, "deletecollection", name="")
    with log(tmp_path, CREATED, swept) as connection:
        assert inventory(connection, at(5)).workloads == ()


@pytest.mark.parametrize(
    ("told", "created"),
    [
        ("2026-03-01T22:00:00Z", datetime(2026, 3, 1, 22, tzinfo=UTC)),
        ("2026-03-01T22:00:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("yesterday", None),
        (7, None),
    ],
)
def test_a_workload_from_before_the_log_says_when_it_was_created(
    told: object, created: datetime | None, tmp_path: Path
) -> None:
    answer = deployment()
    answer["metadata"]["creationTimestamp"] = told
    with log(tmp_path, write_of(3, "update", deployment(), answer)) as connection:
        (one,) = inventory(connection, at(5)).workloads
    assert one.created_at == created


def test_workloads_of_a_log_without_bodies_are_listed_as_not_known(tmp_path: Path) -> None:
    with log(tmp_path, write_of(0, "create", code=201)) as connection:
        (one,) = inventory(connection, at(1)).workloads
    assert one.images == ()
    assert "not knowable" in one.unknown


CONDITIONS = (
    "image~web:1",
    'image ~ "(?i)WEB" and not secret = other',
    "image = web:2 or configmap = web-config",
    "image like web:* and namespace in (shop, bank)",
    "serviceaccount = web and kind = deployments and name ~ we",
    "secret exists and node not exists and kind = deployments.apps",
    "secret != web-env",
    "not (image ~ web and cluster exists)",
    "namespace = bank or image ~ nothing",
    "",
)


@pytest.mark.parametrize("text", CONDITIONS)
def test_what_is_looked_at_first_leaves_out_nothing_that_meets_a_condition(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched = write_of(5, "patch", IMAGE, deployment(image="web:2"))
    with log(tmp_path, CREATED, patched, gone(8)) as connection:
        found = holdings(connection, where(text))
        monkeypatch.setattr(
            "kubewitness.forensics.objects.workloads.foreseen",
            lambda condition, answered=False: "true",
        )
        assert found == holdings(connection, where(text))
    assert bool(found.items) == (not text.startswith(("secret !=", "not (", "namespace = bank")))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("name = web", True),
        ("kind = deployments", True),
        ("namespace = shop", True),
        ("not image ~ web", True),
        ("name = other or image ~ web", False),
        ("image ~ web", False),
    ],
)
def test_holdings_of_a_log_without_bodies_are_told_by_what_it_has(
    text: str, holds: bool, tmp_path: Path
) -> None:
    status = write_of(2, "patch", subresource="status")
    with log(tmp_path, write_of(0, "create", code=201), status) as connection:
        assert bool(holdings(connection, where(text)).items) == holds


def test_what_was_deleted_twice_is_told_by_what_it_was_before(tmp_path: Path) -> None:
    waits = deployment(finalizers=["foregroundDeletion"])
    made = write_of(0, "create", waits, waits, code=201)
    deletions = [write_of(60 * 7 + n, "delete") for n in (1, 3)]
    with log(tmp_path, made, *deletions) as connection:
        (one,) = inventory(connection, at(60 * 7 + 4)).workloads
    assert (one.existence, one.images) == ("terminating", ("web:1",))


INJECTED = (
    '{"configuration":"c","webhook":"w","patch":[{"op":"add","path":"/spec/template/spec/'
    'initContainers","value":[{"name":"i","image":"mesh/init:1"}]}],"patchType":"JSONPatch"}'
)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        pytest.param(
            "image ~ postgres",
            [CREATED, write_of(5, "patch", [
                {"op": "replace", "path": "/spec/template/spec/containers/0/image",
                 "value": "postgres:16"}], deployment(image="postgres:16"))],
            id="a JSON patch",
        ),
        pytest.param(
            "image = web:2 and secret = web-env",
            [write_of(0, "create", deployment(), code=201), write_of(5, "patch", IMAGE,
                query="fieldManager=kubectl-set")],
            id="one thing each by two writes",
        ),
        pytest.param(
            "image = mesh/init:1",
            [write_of(0, "create", deployment(), code=201, annotations={
                "patch.webhook.admission.k8s.io/round_0_index_0": INJECTED})],
            id="a webhook's patch",
        ),
        pytest.param(
            "image = mesh/proxy:1.2",
            [write_of(0, "create", deployment(), deployment(image="mesh/proxy:1.2"), code=201)],
            id="what admission made of it",
        ),
        pytest.param(
            "serviceaccount = default",
            [write_of(0, "create", {"kind": "Pod"}, {
                "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"serviceAccountName": "default"}}, resource="pods", group="", code=201)],
            id="an account by default",
        ),
        pytest.param(
            "secret ~ web-env",
            [write_of(5, "patch", {"status": {}}, deployment(), subresource="status")],
            id="known from an answer to somebody else",
        ),
    ],
)  # fmt: skip
def test_a_condition_is_met_by_what_no_request_says(
    tmp_path: Path, text: str, events: list[Event]
) -> None:
    with log(tmp_path, *events) as connection:
        assert len(holdings(connection, where(text)).items) == 1
        assert len(inventory(connection, at(60), condition=where(text)).workloads) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image", "image takes ="),
        ("colour~red", "no field 'colour'"),
        ("image~", "a value should stand"),
        ("~x", "a field should stand, there are: image"),
        ("imag = x", "did you mean image?"),
        ("verb = get", "no field 'verb'"),
    ],
)
def test_a_condition_that_is_none_is_pointed_at(text: str, says: str) -> None:
    with pytest.raises(QueryError) as error:
        where(text)
    assert says in str(error.value)
    assert text in error.value.remedy


# --- a real API server --------------------------------------------------------------------------


def targets(connection: duckdb.DuckDBPyConnection, n: int) -> list[Target]:
    rows = connection.execute(
        """SELECT DISTINCT cluster, resource, api_group, coalesce(namespace, ''), name FROM events
        WHERE level = 'RequestResponse' AND verb IN ('update', 'patch') AND code < 300
            AND name <> ''"""
    ).fetchall()
    chosen = random.Random(20).sample(sorted(rows), n)
    return [Target(row[0], of(row[1], row[2]), row[3], row[4]) for row in chosen]


@pytest.fixture(scope="module")
def example() -> Iterator[duckdb.DuckDBPyConnection]:
    """An hour of a real API server, of which events were left out here and there."""
    with opened([EXAMPLE], bodies=True) as (_, connection, _intake):
        yield connection


@pytest.fixture(scope="module")
def real() -> Iterator[duckdb.DuckDBPyConnection]:
    """The same hour, whole."""
    if not CAPTURE.is_dir():
        pytest.skip("the capture is not here")
    paths = [CAPTURE / "train.jsonl.zst", CAPTURE / "test.jsonl.zst"]
    with opened(paths, bodies=True) as (_, connection, _intake):
        yield connection


@pytest.mark.parametrize("which", ["example", "real"])
def test_the_state_is_what_the_api_server_answered_last(
    which: str, request: pytest.FixtureRequest
) -> None:
    real: duckdb.DuckDBPyConnection = request.getfixturevalue(which)
    chance = random.Random(3)
    for target in targets(real, 30):
        answers = [
            one
            for one in records(real, target)
            if one.answered and not one.dry_run and one.outcome == "ok"
        ]
        for one in chance.sample(answers, min(3, len(answers))):
            found = snapshot(real, target, one.at)
            same_instant = [other for other in answers if other.at == one.at]
            assert found.object in [other.answered for other in same_instant]


def test_requests_applied_to_what_was_known_contradict_no_answer(
    real: duckdb.DuckDBPyConnection,
) -> None:
    compared = told = 0
    for target in targets(real, 30):
        for record, before, after in replayed(records(real, target), target):
            answer = record.answered
            if answer is None or record.dry_run or record.verb in ("get", "delete"):
                continue
            if record.outcome != "ok" or (before.life != after.life and record.verb != "create"):
                continue
            base = before.object if before.life == after.life else type(before.object)()
            found = written(base, record, target.kind)
            assert fits(found, answer), (target, record.audit_id)
            compared += 1
            told += known(found).get("spec") == answer.get("spec")
    assert compared > 50
    assert told > compared / 2  # nothing is contradicted by knowing nothing


def test_a_chain_of_requests_alone_contradicts_no_answer(real: duckdb.DuckDBPyConnection) -> None:
    compared = 0
    for target in targets(real, 30):
        for record, before, after in replayed(records(real, target), target, answers=False):
            answer = record.answered
            written_on_it = record.verb in ("update", "patch") and record.outcome == "ok"
            if answer and before.sources and written_on_it and not record.dry_run:
                assert fits(after.object, answer), (target, record.audit_id)
                compared += 1
    assert compared > 20
