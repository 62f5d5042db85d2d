"""What an action can be good for: the ATT&CK tactic and technique, and how much it matters.

This is knowledge, not a verdict: every administrator does most of these for good reasons. It
sets the weight of a surprise and the severity of an incident, never whether there is one.
Tactics and techniques as in MITRE ATT&CK for Containers.
"""

from __future__ import annotations

from typing import NamedTuple

_READ = {"get", "list", "watch"}
_WRITE = {"create", "update", "patch"}
_DELETE = {"delete", "deletecollection"}
_RBAC = {
    f"{kind}.rbac.authorization.k8s.io"
    for kind in ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
}
_ADMISSION = {
    f"{kind}.admissionregistration.k8s.io"
    for kind in (
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    )
}
_CONTROLLERS = {
    "deployments.apps",
    "daemonsets.apps",
    "statefulsets.apps",
    "replicasets.apps",
    "jobs.batch",
    "cronjobs.batch",
    "replicationcontrollers",
    "podtemplates",
}
_REVIEWS = {
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
    "selfsubjectreviews.authentication.k8s.io",
    "subjectaccessreviews.authorization.k8s.io",
    "localsubjectaccessreviews.authorization.k8s.io",
}


class Technique(NamedTuple):
    """``weight``: 1 is an ordinary change; ``phrase`` completes "somebody …"."""

    tactic: str
    technique: str
    weight: float
    phrase: str


ORDINARY_READ = Technique("Discovery", "T1613", 0.6, "looked around")
_ORDINARY_WRITE = Technique("Impact", "T1565", 1.0, "changed objects")
_METADATA = Technique("Discovery", "T1613", 0.3, "walked the API's own descriptions")


def technique(verb: str, resource: str, subresource: str) -> Technique:  # noqa: PLR0911, PLR0912
    """The technique that a request could serve; ``resource`` may carry its API group.

    >>> technique("list", "secrets", "").phrase, technique("get", "pods", "exec").tactic
    ('read secrets', 'Execution')
    """
    if subresource in ("exec", "attach"):
        return Technique("Execution", "T1609", 1.8, "entered containers")
    if subresource == "portforward":
        return Technique("Lateral Movement", "T1090", 1.6, "opened tunnels into pods")
    if subresource == "ephemeralcontainers" and verb in _WRITE:
        return Technique("Execution", "T1610", 1.8, "injected debug containers")
    if subresource == "token" and verb == "create":
        return Technique("Credential Access", "T1528", 1.8, "minted service account tokens")
    if subresource == "proxy":
        return Technique("Lateral Movement", "T1210", 1.9, "reached through the API server's proxy")
    if verb == "impersonate":
        return Technique("Privilege Escalation", "T1078", 1.9, "impersonated others")
    if resource == "secrets":
        if verb in _READ:
            return Technique("Credential Access", "T1552.007", 1.5, "read secrets")
        return Technique("Credential Access", "T1552.007", 1.4, "changed secrets")
    if resource in _RBAC and verb not in _READ:
        return Technique("Privilege Escalation", "T1098.006", 1.9, "changed permissions")
    if resource in _ADMISSION and verb not in _READ:
        return Technique("Persistence", "T1546", 1.9, "changed admission control")
    if resource.startswith("certificatesigningrequests") and verb not in _READ:
        return Technique("Persistence", "T1136", 1.9, "had client certificates issued")
    if resource in _REVIEWS and verb == "create":
        return Technique("Discovery", "T1069.003", 1.1, "asked what is permitted")
    if resource == "tokenreviews.authentication.k8s.io":
        return Technique("Credential Access", "T1528", 0.8, "had tokens checked")
    if resource in ("events", "events.events.k8s.io") and verb in _DELETE:
        return Technique("Defense Evasion", "T1070", 1.8, "deleted the cluster's events")
    if resource.startswith("customresourcedefinitions") and verb not in _READ:
        return Technique("Persistence", "T1543", 1.4, "changed API types")
    if resource.startswith("apiservices") and verb not in _READ:
        return Technique("Credential Access", "T1557", 1.9, "changed API aggregation")
    if resource == "nodes" and verb not in _READ:
        return Technique("Defense Evasion", "T1578", 1.3, "changed nodes")
    if resource in ("namespaces", "persistentvolumes", "persistentvolumeclaims") and verb in _DELETE:
        return Technique("Impact", "T1485", 1.7, "deleted namespaces or storage")
    if resource == "persistentvolumes" and verb in _WRITE:
        return Technique("Privilege Escalation", "T1611", 1.4, "made volumes")
    if resource in _CONTROLLERS or resource == "pods":
        if verb in _DELETE:
            return Technique("Impact", "T1485", 1.4, "deleted workloads")
        if verb in _WRITE and not subresource:
            if resource in ("daemonsets.apps", "cronjobs.batch"):
                return Technique("Persistence", "T1053.007", 1.5, "deployed recurring workloads")
            return Technique("Execution", "T1610", 1.4, "deployed workloads")
    if resource == "serviceaccounts" and verb not in _READ:
        return Technique("Persistence", "T1136", 1.4, "changed service accounts")
    if resource in ("services", "endpoints", "endpointslices.discovery.k8s.io") and verb in _WRITE:
        return Technique("Lateral Movement", "T1557", 1.2, "redirected traffic")
    if "networkpolicies" in resource and verb not in _READ:
        return Technique("Defense Evasion", "T1562", 1.5, "changed network isolation")
    if resource == "configmaps" and verb in _WRITE | _DELETE:
        return Technique("Defense Evasion", "T1565", 1.1, "changed configuration")
    if resource in _RBAC:
        return Technique("Discovery", "T1069.003", 0.9, "read permissions")
    if verb in _DELETE:
        return Technique("Impact", "T1485", 1.2, "deleted objects")
    if verb in _WRITE:
        return _ORDINARY_WRITE
    return ORDINARY_READ if resource else _METADATA
