"""A small cluster's week in which roles are made, used, read and taken away again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from activities import START
from audit_log import Event, event

RBAC = "rbac.authorization.k8s.io"
API = "system:serviceaccount:shop:api"
DAY = timedelta(days=1)
_RESOURCES = {
    "Role": "roles",
    "ClusterRole": "clusterroles",
    "RoleBinding": "rolebindings",
    "ClusterRoleBinding": "clusterrolebindings",
}


def role(name: str, *rules: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    kind = "Role" if namespace else "ClusterRole"
    return {"kind": kind, "metadata": _metadata(name, namespace), "rules": list(rules)}


def rule(verbs: str, resources: str, group: str = "", **more: Any) -> dict[str, Any]:
    return {
        "verbs": verbs.split(),
        "apiGroups": [group],
        "resources": resources.split(),
        **more,
    }


def binding(
    name: str, to: str, *subjects: tuple[str, str], namespace: str = "", kind: str = "ClusterRole"
) -> dict[str, Any]:
    """``subjects`` are (kind, name); a service account's name is NAMESPACE/NAME."""
    bound = []
    for subject, who in subjects:
        home, _, account = who.rpartition("/")
        bound.append({"kind": subject, "name": account} | ({"namespace": home} if home else {}))
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": to},
        "subjects": bound,
    }


def wrote(
    manifest: dict[str, Any],
    at: datetime = START,
    verb: str = "create",
    level: str = "RequestResponse",
    **fields: Any,
) -> Event:
    """An administrator's write of a role or binding, with as much of it as ``level`` tells."""
    bodies = {
        "Metadata": {},
        "Request": {"requestObject": manifest},
        "RequestResponse": {"requestObject": manifest, "responseObject": manifest},
    }[level]
    return event(
        at,
        "root",
        verb,
        _RESOURCES[manifest["kind"]],
        namespace=manifest["metadata"].get("namespace", ""),
        name=manifest["metadata"]["name"],
        group=RBAC,
        groups=("system:masters",),
        level=level,
        **{**bodies, **fields},
    )


def permitted(
    by: str, role_name: str, to: str, *args: Any, role_kind: str = "ClusterRole", **fields: Any
) -> Event:
    """An event that a binding allowed; ``by`` is a name, or NAME/NAMESPACE of a RoleBinding."""
    kind = "RoleBinding" if "/" in by else "ClusterRoleBinding"
    subject, _, name = to.partition(" ")
    reason = f'RBAC: allowed by {kind} "{by}" of {role_kind} "{role_name}" to {subject} "{name}"'
    annotations = {
        "authorization.k8s.io/decision": "allow",
        "authorization.k8s.io/reason": reason,
    }
    return event(*args, annotations=annotations, **fields)


def _metadata(name: str, namespace: str) -> dict[str, str]:
    return {"name": name} | ({"namespace": namespace} if namespace else {})


READER = role("reader", rule("get list watch", "secrets"), rule("get", "pods"))
READERS = binding("readers", "reader", ("Group", "dev"), namespace="shop")
API_READS = binding("api", "reader", ("ServiceAccount", "shop/api"), namespace="shop")
KEEPER = binding("keeper", "cluster-admin", ("User", "kim"))


def week() -> list[Event]:
    """ada (dev) and the api read secrets/db of shop every day; bob (dev) never does; kim, of
    another team, does on the last day, and somebody unknown is refused; eve acts as ada."""
    events = [wrote(one) for one in (READER, READERS, API_READS, KEEPER)]
    for day in range(7):
        at = START + day * DAY + timedelta(hours=1)
        events += [
            permitted("readers/shop", "reader", "Group dev", at, "ada", "get", "secrets",
                      name="db"),
            permitted(
                "api/shop", "reader", "ServiceAccount api/shop", at, API, "list", "secrets",
                name="", groups=("system:serviceaccounts",), client="api/v1.2",
                source_ips=("10.244.3.7",),
            ),
            event(at, "bob", "get", "pods"),
        ]  # fmt: skip
    last = START + 6 * DAY + timedelta(hours=2)
    events += [
        permitted("keeper", "cluster-admin", "User kim", last, "kim", "get", "secrets", name="db",
                  groups=("ops",), source_ips=("203.0.113.9",)),
        event(last, "mallory", "list", "secrets", name="", code=403, groups=()),
        permitted("readers/shop", "reader", "Group dev", last, "eve", "get", "secrets", name="db",
                  groups=("ops",), impersonatedUser={"username": "ada", "groups": ["dev"]}),
        # what touches other objects
        event(last, "zoe", "get", "secrets", name="web"),
        event(last, "zoe", "list", "secrets", namespace="bank", name=""),
        event(last, "zoe", "create", "secrets", name="new"),
    ]  # fmt: skip
    return events
