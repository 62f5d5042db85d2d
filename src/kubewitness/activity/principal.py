"""Who acted, and of which class: human, workload, node, control-plane or anonymous."""

from __future__ import annotations

from typing import Literal

PrincipalClass = Literal["human", "workload", "node", "control-plane", "anonymous"]
CLASSES: tuple[PrincipalClass, ...] = ("human", "workload", "node", "control-plane", "anonymous")

UNAUTHENTICATED = "<unauthenticated>"
"""The principal of an event whose ``user`` is empty: the API server answered 401."""

# The controllers of kube-controller-manager, each with a service account of its own
# (kubernetes/kubernetes, plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go).
_CONTROLLERS = frozenset(
    [
        "attachdetach-controller",
        "certificate-controller",
        "clusterrole-aggregation-controller",
        "cloud-provider",
        "cronjob-controller",
        "daemon-set-controller",
        "deployment-controller",
        "device-taint-eviction-controller",
        "disruption-controller",
        "endpoint-controller",
        "endpointslice-controller",
        "endpointslicemirroring-controller",
        "ephemeral-volume-controller",
        "expand-controller",
        "generic-garbage-collector",
        "horizontal-pod-autoscaler",
        "job-controller",
        "legacy-service-account-token-cleaner",
        "namespace-controller",
        "node-controller",
        "persistent-volume-binder",
        "pod-garbage-collector",
        "pv-protection-controller",
        "pvc-protection-controller",
        "replicaset-controller",
        "replication-controller",
        "resource-claim-controller",
        "resourcequota-controller",
        "root-ca-cert-publisher",
        "route-controller",
        "selinux-warning-controller",
        "service-account-controller",
        "service-cidrs-controller",
        "service-ca-cert-publisher",
        "service-controller",
        "statefulset-controller",
        "storage-version-migrator-controller",
        "taint-eviction-controller",
        "token-cleaner",
        "ttl-after-finished-controller",
        "ttl-controller",
        "validatingadmissionpolicy-status-controller",
        "volumeattributesclass-protection-controller",
        "bootstrap-signer",
    ]
)
_SERVICE_ACCOUNT = "system:serviceaccount:"
# Identities of the managed control planes of EKS, AKS and GKE.
_MANAGED = ("eks:", "aks-", "aks:", "system:gke-", "system:gcp-", "system:kubestore-")


def principal_class(user: str) -> PrincipalClass:
    """The class of a username as the API server authenticated it.

    ``system:anonymous`` is not a trusted system principal, and neither is a name that merely
    looks like the control plane's: only the names that Kubernetes itself reserves are.

    >>> principal_class("system:serviceaccount:kube-system:job-controller")
    'control-plane'
    >>> principal_class("system:serviceaccount:shop:job-controller"), principal_class("maria")
    ('workload', 'human')
    """
    if user in ("", UNAUTHENTICATED, "system:anonymous", "system:unauthenticated"):
        return "anonymous"
    # A bootstrap token is how a node introduces itself before it has a certificate.
    if user.startswith(("system:node:", "system:bootstrap:")):
        return "node"
    if user.startswith(_SERVICE_ACCOUNT):
        namespace, _, name = user.removeprefix(_SERVICE_ACCOUNT).partition(":")
        return (
            "control-plane" if namespace == "kube-system" and name in _CONTROLLERS else "workload"
        )
    if user.startswith(("system:", *_MANAGED)):
        return "control-plane"
    return "human"


def account_namespace(user: str) -> str:
    """The namespace of a service account, '' for anybody else.

    >>> account_namespace("system:serviceaccount:shop:api"), account_namespace("maria")
    ('shop', '')
    """
    if not user.startswith(_SERVICE_ACCOUNT):
        return ""
    return user.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]


def team(user: str, groups: tuple[str, ...]) -> str:
    """The peer group that identity alone tells: the service account's namespace, or the groups
    of a person other than those that everybody has.

    >>> team("system:serviceaccount:shop:api", ()), team("maria", ("dev", "system:authenticated"))
    ('serviceaccounts of shop', 'dev')
    """
    if user.startswith(_SERVICE_ACCOUNT):
        return f"serviceaccounts of {user.removeprefix(_SERVICE_ACCOUNT).partition(':')[0]}"
    own = sorted(g for g in groups if not g.startswith("system:") or g == "system:masters")
    return ", ".join(own) if own else principal_class(user)
