"""Which stock component a principal is: a part of Kubernetes itself or a widespread add-on.

Names are the upstream projects' own (default service accounts and the namespaces of their
manifests). A service account's name is chosen by whoever made it: it is a claim, which is proven
only in a namespace that the upstream project fixes (``Component.home``).
"""

from __future__ import annotations

from typing import NamedTuple

from kubewitness.activity.principal import account_namespace, principal_class

# The default service accounts of add-ons, by the namespace that upstream installs them into.
_ACCOUNTS = {
    "kube-system": (
        "aws-load-balancer-controller aws-node calico-kube-controllers calico-node cilium"
        " cilium-operator cluster-autoscaler coredns csi-azuredisk-controller-sa"
        " csi-azurefile-controller-sa csi-gce-pd-controller-sa ebs-csi-controller"
        " ebs-csi-controller-sa efs-csi-controller-sa karpenter konnectivity-agent kube-dns"
        " kube-proxy metrics-server node-local-dns sealed-secrets-controller snapshot-controller"
    ),
    "argocd": (
        "argocd-application-controller argocd-applicationset-controller argocd-dex-server"
        " argocd-notifications-controller argocd-repo-server argocd-server"
    ),
    "calico-system": "calico-kube-controllers calico-node",
    "cert-manager": (
        "cert-manager cert-manager-cainjector cert-manager-startupapicheck cert-manager-webhook"
    ),
    "external-dns": "external-dns",
    "external-secrets": (
        "external-secrets external-secrets-cert-controller external-secrets-webhook"
    ),
    "flux-system": (
        "helm-controller image-automation-controller image-reflector-controller"
        " kustomize-controller notification-controller source-controller"
    ),
    "gatekeeper-system": "gatekeeper-admin",
    "ingress-nginx": "ingress-nginx ingress-nginx-admission",
    "istio-system": "istiod",
    "keda": "keda-metrics-server keda-operator",
    "kube-flannel": "flannel",
    "kyverno": (
        "kyverno kyverno-admission-controller kyverno-background-controller"
        " kyverno-cleanup-controller kyverno-reports-controller"
    ),
    "longhorn-system": "longhorn-service-account",
    "monitoring": (
        "grafana kube-prometheus-stack-operator kube-prometheus-stack-prometheus"
        " kube-state-metrics prometheus prometheus-adapter prometheus-k8s prometheus-operator"
    ),
    "sealed-secrets": "sealed-secrets-controller",
    "trivy-system": "trivy-operator",
    "velero": "velero velero-server",
    # Upstream leaves the namespace to whoever installs them.
    "": "fluent-bit fluentd postgres-operator promtail strimzi-cluster-operator traefik vector",
}
# One program under the names that its manifests and its charts gave it.
_ALSO = {
    "ebs-csi-controller-sa": "ebs-csi-controller",
    "kube-prometheus-stack-operator": "prometheus-operator",
    "kube-prometheus-stack-prometheus": "prometheus",
    "prometheus-k8s": "prometheus",
    "velero-server": "velero",
}
_HOMES: dict[str, set[str]] = {}
for _namespace, _accounts in _ACCOUNTS.items():
    for _account in _accounts.split():
        _HOMES.setdefault(_account, set()).add(_namespace)
_CONTROL_PLANE = {
    "system:apiserver": "kube-apiserver",
    "system:kube-controller-manager": "kube-controller-manager",
    "system:kube-proxy": "kube-proxy",
    "system:kube-scheduler": "kube-scheduler",
}


class Component(NamedTuple):
    """``name``: the upstream name, '' for what is no stock component. ``home``: nobody else can
    have this name, or it is in the namespace that upstream installs it into."""

    name: str
    home: bool


NONE = Component("", False)


def component(user: str) -> Component:
    """The stock component that a username stands for. Charts put a release's name before it.

    >>> component("system:node:w-1"), component("system:serviceaccount:cert-manager:cert-manager")
    (Component(name='kubelet', home=True), Component(name='cert-manager', home=True))
    >>> component("system:serviceaccount:shop:eu-velero"), component("velero")
    (Component(name='velero', home=False), Component(name='', home=False))
    """
    match principal_class(user):
        # A bootstrap token is no node yet: whoever holds it asks for a certificate.
        case "node" if user.startswith("system:node:"):
            return Component("kubelet", True)
        case "control-plane":
            name = _CONTROL_PLANE.get(user, account_name(user))
            return Component(name, True) if name else NONE
        case "workload":
            return _addon(account_namespace(user), account_name(user))
    return NONE


def account_name(user: str) -> str:
    """The name of a service account, '' for anybody else."""
    return user.split(":", 3)[3] if account_namespace(user) else ""


def _addon(namespace: str, account: str) -> Component:
    known = account
    while known not in _HOMES:
        _, dash, known = known.partition("-")
        if not dash:
            return NONE
    return Component(_ALSO.get(known, known), namespace in _HOMES[known] - {""})
