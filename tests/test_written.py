"""What a request body tells: dangerous settings and images, without the body being kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audit_log import Event, event, write
from kubewitness.events.trait import TRAITS
from kubewitness.inquiry import opened

WORKLOAD: dict[str, Any] = {
    "privileged": {"containers": [{"securityContext": {"privileged": True}}]},
    "hostPath": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]},
    "hostNetwork": {"hostNetwork": True},
    "hostPID": {"hostPID": True},
    "hostIPC": {"hostIPC": True},
    "capabilities": {
        "initContainers": [{"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]
    },
    "for the control plane": {"tolerations": [{"key": "node-role.kubernetes.io/control-plane"}]},
}
ROLE = {
    "wildcard rule": {"rules": [{"verbs": ["*"]}]},
    "escalating rule": {"rules": [{"resources": ["pods/exec"]}]},
}
BINDING = {
    "cluster-admin": {"roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}},
    "bound to everyone": {"subjects": [{"name": "system:anonymous"}]},
}
ENFORCE = "pod-security.kubernetes.io/enforce"
OTHERS: list[tuple[str, str, Any]] = [
    ("namespaces", "pod security relaxed", {"metadata": {"labels": {ENFORCE: "privileged"}}}),
    ("namespaces", "pod security relaxed", {"metadata": {"labels": {ENFORCE: None}}}),
    (
        "namespaces",
        "pod security relaxed",
        [
            {
                "op": "replace",
                "path": f"/metadata/labels/{ENFORCE.replace('/', '~1')}",
                "value": "privileged",
            }
        ],
    ),
    ("mutatingwebhookconfigurations", "fails open", {"webhooks": [{"failurePolicy": "Ignore"}]}),
    ("services", "outside address", {"spec": {"externalIPs": ["203.0.113.1"]}}),
    ("services", "outside address", {"spec": {"type": "ExternalName"}}),
    (
        "certificatesigningrequests",
        "client certificate",
        {"spec": {"signerName": "kubernetes.io/kube-apiserver-client"}},
    ),
    ("secrets", "account token", {"type": "kubernetes.io/service-account-token"}),
]
TOLD = [
    *OTHERS,
    *(("daemonsets", trait, {"spec": {"template": {"spec": s}}}) for trait, s in WORKLOAD.items()),
    *(("pods", trait, {"spec": spec}) for trait, spec in WORKLOAD.items()),
    *(("clusterroles", trait, body) for trait, body in ROLE.items()),
    *(("rolebindings", trait, body) for trait, body in BINDING.items()),
]


def written(body: Any, resource: str = "pods", verb: str = "create") -> Event:
    return event(verb=verb, resource=resource, level="Request", requestObject=body)


def told(
    tmp_path: Path, one: Event, lake: Path | None = None, *, text: str = ""
) -> tuple[str, str, str | None]:
    """Traits, images and the request body of an event, from a log with ``text`` as its line."""
    log = write(tmp_path / "audit.log", [one])
    if text:
        log.write_text(text + "\n")
    with opened([log], lake=lake) as (_, connection, _intake):
        (row,) = connection.execute("SELECT traits, images, request_object FROM events").fetchall()
        return (row[0], row[1], row[2])


def test_every_trait_has_an_example() -> None:
    assert {trait for _, trait, _ in TOLD} == set(TRAITS)


@pytest.mark.parametrize(("resource", "trait", "body"), TOLD)
def test_a_dangerous_setting_is_told(
    tmp_path: Path, resource: str, trait: str, body: dict[str, Any]
) -> None:
    assert told(tmp_path, written(body, resource))[0] == trait
    assert told(tmp_path, written(body, resource, verb="get"))[0] == ""
    assert told(tmp_path, written(body, "configmaps"))[0] == ""


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        ("namespaces", {"metadata": {"labels": {ENFORCE: "restricted"}}}),
        ("services", {"spec": {"externalIPs": [], "type": "ClusterIP"}}),
        ("mutatingwebhookconfigurations", {"webhooks": [{"failurePolicy": "Fail"}]}),
        ("secrets", {"type": "Opaque"}),
        ("pods", {"spec": {"hostNetwork": False, "tolerations": [{"key": "gpu"}]}}),
    ],
)
def test_an_ordinary_setting_is_not(tmp_path: Path, resource: str, body: dict[str, Any]) -> None:
    assert told(tmp_path, written(body, resource))[0] == ""


def test_where_bodies_are_hidden_pod_security_speaks(tmp_path: Path) -> None:
    violations = (
        'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true), hostPath'
        ' volumes (volume "root"), privileged (container "c" must not set'
        " securityContext.privileged=true)"
    )
    one = event(
        verb="create",
        resource="pods",
        annotations={"pod-security.kubernetes.io/audit-violations": violations},
    )
    traits = told(tmp_path, one)[0]
    assert traits == "privileged, hostPath, hostPID, pod security violation"


def test_several_settings_are_told_in_one_order(tmp_path: Path) -> None:
    spec = {**WORKLOAD["hostPID"], **WORKLOAD["hostPath"], **WORKLOAD["privileged"]}
    assert told(tmp_path, written({"spec": spec}))[0] == "privileged, hostPath, hostPID"


def test_images_are_told_once_and_sorted(tmp_path: Path) -> None:
    images = ["nginx:1", "ghcr.io/flux/helm@sha256:0a", "nginx:1"]
    body = {"spec": {"containers": [{"image": image} for image in images]}}
    assert told(tmp_path, written(body))[1] == "ghcr.io/flux/helm@sha256:0a nginx:1"
    assert told(tmp_path, written(body, "configmaps"))[1] == ""


def test_needless_escapes_hide_nothing(tmp_path: Path) -> None:
    body = {"spec": {"hostPID": True, "containers": [{"image": "evil.example/x/y"}]}}
    line = json.dumps(written(body), separators=(",", ":"))
    hidden = line.replace("hostPID", r"\u0068ostPID").replace("evil", r"\u0065vil")
    assert hidden != line
    traits, images, _ = told(tmp_path, written(body), text=hidden)
    assert (traits, images) == ("hostPID", "evil.example/x/y")


def test_a_secret_in_the_name_of_an_image_is_redacted(tmp_path: Path) -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
    body = {"spec": {"containers": [{"image": f"{token}:1"}]}}
    for lake in (None, tmp_path / "lake"):
        _, images, kept = told(tmp_path, written(body), lake)
        assert images.startswith("redacted:")
        assert token not in (kept or "")


def test_only_a_lake_that_lasts_keeps_bodies(tmp_path: Path) -> None:
    one = written({"spec": {"hostPID": True}})
    assert told(tmp_path, one)[2] is None
    kept = told(tmp_path, one, tmp_path / "lake")[2]
    assert json.loads(kept or "") == {"spec": {"hostPID": True}}
