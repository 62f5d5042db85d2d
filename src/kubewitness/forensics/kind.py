"""Kinds by the names that kubectl takes: plural, singular, Kind, short name, ``name.group``.

The well-known kinds are those of Kubernetes itself; any other is looked for in the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubewitness.errors import KubewitnessError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# group → "plural Kind short,short", cluster-scoped kinds with a star (kubectl api-resources)
_WELL_KNOWN = {
    "": """configmaps ConfigMap cm; endpoints Endpoints ep; events Event ev; limitranges LimitRange
        limits; *namespaces Namespace ns; *nodes Node no; persistentvolumeclaims
        PersistentVolumeClaim pvc; *persistentvolumes PersistentVolume pv; pods Pod po; podtemplates
        PodTemplate; replicationcontrollers ReplicationController rc; resourcequotas ResourceQuota
        quota; secrets Secret; serviceaccounts ServiceAccount sa; services Service svc""",
    "apps": """controllerrevisions ControllerRevision; daemonsets DaemonSet ds; deployments
        Deployment deploy; replicasets ReplicaSet rs; statefulsets StatefulSet sts""",
    "batch": "cronjobs CronJob cj; jobs Job",
    "autoscaling": "horizontalpodautoscalers HorizontalPodAutoscaler hpa",
    "policy": "poddisruptionbudgets PodDisruptionBudget pdb",
    "networking.k8s.io": """ingresses Ingress ing; networkpolicies NetworkPolicy netpol;
        *ingressclasses IngressClass; *ipaddresses IPAddress ip; *servicecidrs ServiceCIDR""",
    "discovery.k8s.io": "endpointslices EndpointSlice",
    "rbac.authorization.k8s.io": """roles Role; rolebindings RoleBinding; *clusterroles ClusterRole;
        *clusterrolebindings ClusterRoleBinding""",
    "coordination.k8s.io": "leases Lease",
    "certificates.k8s.io": "*certificatesigningrequests CertificateSigningRequest csr",
    "apiextensions.k8s.io": "*customresourcedefinitions CustomResourceDefinition crd,crds",
    "apiregistration.k8s.io": "*apiservices APIService",
    "admissionregistration.k8s.io": """*mutatingwebhookconfigurations MutatingWebhookConfiguration;
        *validatingwebhookconfigurations ValidatingWebhookConfiguration;
        *validatingadmissionpolicies ValidatingAdmissionPolicy;
        *validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding""",
    "storage.k8s.io": """*storageclasses StorageClass sc; *volumeattachments VolumeAttachment;
        *csidrivers CSIDriver; *csinodes CSINode; csistoragecapacities CSIStorageCapacity""",
    "scheduling.k8s.io": "*priorityclasses PriorityClass pc",
    "node.k8s.io": "*runtimeclasses RuntimeClass",
    "flowcontrol.apiserver.k8s.io": """*flowschemas FlowSchema; *prioritylevelconfigurations
        PriorityLevelConfiguration""",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource as the log spells it (``deployments`` of ``apps``); ``name`` is its Kind, '' where
    only the log knows it; ``namespaced`` is ``None`` where nobody does."""

    resource: str
    group: str = ""
    name: str = ""
    namespaced: bool | None = None
    short: tuple[str, ...] = ()

    @property
    def custom(self) -> bool:
        return not self.name

    def __str__(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @property
    def names(self) -> set[str]:
        """All that kubectl calls it, in lower case."""
        return {self.resource, *_singulars(self.resource), self.name.lower(), *self.short} - {""}


def _singulars(resource: str) -> set[str]:
    """What a plural may be the plural of.

    >>> sorted(_singulars("policies")), sorted(_singulars("ingresses"))
    (['policie', 'policy'], ['ingress', 'ingresse'])
    """
    found = {resource.removesuffix("s")}
    if resource.endswith("ies"):
        found.add(resource[:-3] + "y")
    elif resource.endswith("es"):
        found.add(resource[:-2])
    return found


def _well_known() -> Iterable[Kind]:
    for group, kinds in _WELL_KNOWN.items():
        for line in kinds.split(";"):
            resource, name, *short = line.split()
            yield Kind(
                resource.lstrip("*"),
                group,
                name,
                not resource.startswith("*"),
                tuple(short[0].split(",")) if short else (),
            )


WELL_KNOWN = tuple(_well_known())
_BY_NAME = {name: kind for kind in reversed(WELL_KNOWN) for name in kind.names}
_BY_RESOURCE = {(kind.resource, kind.group): kind for kind in WELL_KNOWN}
CLUSTER_SCOPED = frozenset(kind.resource for kind in WELL_KNOWN if not kind.namespaced)


def plural(kind: str) -> str:
    """The resource that a kind is served under; of an unknown one, what kubectl would guess.

    >>> plural("deploy"), plural("Pod"), plural("Kustomization"), plural("Gateway")
    ('deployments', 'pods', 'kustomizations', 'gateways')
    >>> plural("ClusterPolicy"), plural("VirtualMesh"), plural("IngressClass"), plural("widgets")
    ('clusterpolicies', 'virtualmeshes', 'ingressclasses', 'widgets')
    """
    word = kind.lower()
    if word in _BY_NAME:
        return _BY_NAME[word].resource
    if re.search("[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    if re.search("(ss|x|z|ch|sh)$", word):
        return f"{word}es"
    return word if word.endswith("s") else f"{word}s"


def of(resource: str, group: str) -> Kind:
    """The kind of a resource in the log.

    >>> of("deployments", "apps").name, str(of("prometheuses", "monitoring.coreos.com"))
    ('Deployment', 'prometheuses.monitoring.coreos.com')
    """
    return _BY_RESOURCE.get((resource, group)) or Kind(resource, group)


def kind_named(text: str, connection: DuckDBPyConnection) -> Kind:
    """The kind that somebody means by ``text``.

    Raises ``KubewitnessError`` where the log knows none, or several groups have one.

    >>> kind_named("deploy", None), kind_named("Pod", None).resource  # doctest: +ELLIPSIS
    (Kind(resource='deployments', group='apps', name='Deployment', ...), 'pods')
    """
    name, _, group = text.lower().partition(".")
    known = _BY_NAME.get(name)
    if known and group in ("", known.group):
        return known
    # A version may stand between kind and group: deployments.v1.apps.
    seen = [of(*row) for row in connection.execute(_KINDS_SEEN).fetchall()]
    named = [kind for kind in seen if name in kind.names]
    found = [
        kind
        for kind in named
        if not group or group == kind.group or group.endswith(f".{kind.group}")
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise KubewitnessError(
            f"several groups have a kind {text!r}",
            remedy=f"say which: {', '.join(sorted(map(str, found)))}",
        )
    others = named or [kind for kind in seen if kind.custom]
    what = ", ".join(sorted(map(str, others))[:12]) or "only Kubernetes' own kinds"
    raise KubewitnessError(f"no kind {text!r} in this log", remedy=f"there are: {what}")


_KINDS_SEEN = """
SELECT DISTINCT resource, api_group FROM events
WHERE resource IS NOT NULL AND (verb NOT IN ('get', 'list', 'watch') OR code < 400)"""
