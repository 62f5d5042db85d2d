"""A small cluster by hand in which people and controllers act on each other."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from activities import START
from audit_log import Event, event

CONTROLLER = "system:serviceaccount:kube-system:"
RS, POD = "web-7d9c5b6f4d", "web-7d9c5b6f4d-x2x4z"
_HIDDEN = {"requestObject": None, "responseObject": None, "level": "Metadata"}


def at(seconds: float) -> datetime:
    """So long after the log begins."""
    return START + timedelta(seconds=seconds)


def _body(kind: str, name: str, uid: str, owner: tuple[str, str, str] | None = None,
          **spec: Any) -> dict[str, Any]:  # fmt: skip
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": uid, "generation": 1}
    if owner:
        metadata["ownerReferences"] = [
            {"kind": owner[0], "name": owner[1], "uid": owner[2], "controller": True}
        ]
    made = {"kind": kind, "metadata": metadata, "spec": spec}
    return {"requestObject": made, "responseObject": made, "level": "RequestResponse"}


def _template(image: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "web", "image": image}]}}


def rollout(bodies: bool = True) -> list[Event]:
    """ada deploys, ben scales nothing but changes a label, and the machinery makes a pod."""
    web = _body("Deployment", "web", "d-1", replicas=1, template=_template("web:1"))
    made = [
        event(at(0), "ada", "create", "deployments", group="apps", name="web", code=201, **web),
        event(at(0.1), CONTROLLER + "deployment-controller", "create", "replicasets", group="apps",
              name=RS, code=201, **_body("ReplicaSet", RS, "r-1", ("Deployment", "web", "d-1"),
                                         replicas=1, template=_template("web:1"))),
        event(at(0.2), CONTROLLER + "replicaset-controller", "create", "pods", code=201,
              name=POD if bodies else "",
              **_body("Pod", POD, "p-1", ("ReplicaSet", RS, "r-1"))),
        event(at(0.3), "system:kube-scheduler", "create", "pods", subresource="binding", name=POD,
              code=201, objectRef={"resource": "pods", "namespace": "shop", "name": POD,
                                   "subresource": "binding", "uid": "p-1"}),
        event(at(1), "system:node:node-1", "patch", "pods", subresource="status", name=POD),
        event(at(900), "ben", "patch", "deployments", group="apps", name="web", **web),
    ]  # fmt: skip
    if bodies:
        return made
    return [{key: value for key, value in {**one, **_HIDDEN}.items() if value is not None}
            for one in made]  # fmt: skip


def stolen_token() -> list[Event]:
    """eve mints a token for an account, and it is used from elsewhere, allowed by a binding that
    she had made."""
    used = {"username": "system:serviceaccount:shop:backup", "groups": [],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=t-1"]}}  # fmt: skip
    reason = 'RBAC: allowed by ClusterRoleBinding "spare" of ClusterRole "admin" to User "x"'
    allowed = {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": reason}
    return [
        event(at(0), "eve", "create", "clusterrolebindings", group="rbac.authorization.k8s.io",
              namespace="", name="spare", code=201),
        event(at(10), "eve", "create", "serviceaccounts", subresource="token", name="backup",
              code=201, annotations={
                  "authentication.kubernetes.io/issued-credential-id": "JTI=t-1"}),
        event(at(60), verb="list", resource="secrets", name="", namespace="payments", user=used,
              annotations=allowed, source_ips=("203.0.113.9",)),
    ]  # fmt: skip


def certified() -> list[Event]:
    """eve has a certificate signed for ops, whose fingerprint no body tells, and uses it; ben and
    his old certificate sit at the same address, zoe and a new one elsewhere."""

    def by(who: str, fingerprint: str) -> dict[str, Any]:
        extra = {"authentication.kubernetes.io/credential-id": [f"X509SHA256={fingerprint}"]}
        return {"username": who, "groups": [], "extra": extra}

    def reads(seconds: float, who: str, fingerprint: str, place: str, address: str) -> Event:
        return event(at(seconds), verb="list", resource="secrets", name="", namespace=place,
                     user=by(who, fingerprint), source_ips=(address,))  # fmt: skip

    signing: dict[str, Any] = {
        "resource": "certificatesigningrequests",
        "group": "certificates.k8s.io",
        "namespace": "",
        "name": "ops",
        "source_ips": ("10.8.0.9",),
    }
    return [
        reads(0, "ben", "old", "shop", "10.8.0.9"),
        event(at(10), "eve", "create", code=201, **signing),
        event(at(11), "eve", "update", subresource="approval", **signing),
        reads(60, "ops", "new", "payments", "10.8.0.9"),
        reads(61, "ben", "old", "bank", "10.8.0.9"),
        reads(62, "zoe", "other", "zoo", "10.8.0.77"),
    ]


def collected() -> list[Event]:
    """mia deletes a Deployment; the garbage collector deletes what it owned."""
    return [
        *rollout(),
        event(at(60), "mia", "delete", "replicasets", group="apps", name=RS),
        event(at(61), CONTROLLER + "generic-garbage-collector", "delete", "pods", name=POD),
    ]
