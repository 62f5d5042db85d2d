"""What an action can be good for: the ATT&CK tactic and technique, and how much it matters.

This is knowledge, not a verdict: every administrator does most of these for good reasons. It
sets the weight of a surprise and the severity of an incident, never whether there is one.
Tactics and techniques as in MITRE ATT&CK for Containers.
"""

from __future__ import annotations

from typing import NamedTuple

READS = frozenset({"get", "list", "watch"})
WRITES = frozenset({"create", "update", "patch"})
DELETES = frozenset({"delete", "deletecollection"})
_CHANGES = WRITES | DELETES
_ANY = READS | _CHANGES


class Technique(NamedTuple):
    """``weight``: 1 is an ordinary change. ``did`` and ``tried`` complete "somebody …" and
    "somebody was refused when trying to …"."""

    tactic: str
    technique: str
    weight: float
    did: str
    tried: str


class _Case(NamedTuple):
    """Applies to these resources (with their API group; all when empty), subresources (all when
    ``None``) and verbs; where given, only to writes with one of these ``traits``, or only in
    namespaces of the ``system``."""

    resources: frozenset[str]
    subresources: frozenset[str] | None
    verbs: frozenset[str]
    technique: Technique
    traits: frozenset[str] = frozenset()
    system: bool = False


def _of(group: str, kinds: str) -> frozenset[str]:
    return frozenset(f"{kind}.{group}" if group else kind for kind in kinds.split())


_ALL: frozenset[str] = frozenset()
_RBAC = _of("rbac.authorization.k8s.io", "roles clusterroles rolebindings clusterrolebindings")
_ADMISSION = _of(
    "admissionregistration.k8s.io",
    "mutatingwebhookconfigurations validatingwebhookconfigurations mutatingadmissionpolicies"
    " mutatingadmissionpolicybindings validatingadmissionpolicies"
    " validatingadmissionpolicybindings",
)
_REVIEWS = _of(
    "authorization.k8s.io",
    "selfsubjectaccessreviews selfsubjectrulesreviews subjectaccessreviews"
    " localsubjectaccessreviews",
) | _of("authentication.k8s.io", "selfsubjectreviews")
_CSR = _of("certificates.k8s.io", "certificatesigningrequests")
_RECURRING = _of("apps", "daemonsets") | _of("batch", "cronjobs")
_WORKLOADS = (
    _RECURRING
    | _of("apps", "deployments statefulsets replicasets")
    | _of("batch", "jobs")
    | _of("", "pods replicationcontrollers podtemplates")
)
_EVENTS = frozenset({"events", "events.events.k8s.io"})
_ROUTING = _of("", "services endpoints") | _of("discovery.k8s.io", "endpointslices")
_ISOLATION = _of("networking.k8s.io", "networkpolicies") | _of("policy", "poddisruptionbudgets")

# What gives a pod its node.
_ESCAPING = frozenset(
    ["privileged", "hostPath", "hostNetwork", "hostPID", "hostIPC", "capabilities"]
)
# Reserved for Kubernetes itself and for the distribution
# (https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/).
SYSTEM_NAMESPACES = ("kube-", "openshift-")

# The first case that applies is taken, so the order is from special to general.
_CASES = (
    _Case(_WORKLOADS, frozenset({""}), WRITES,
          Technique("Privilege Escalation", "T1611", 1.9,
                    "deployed workloads that can take over their node",
                    "deploy workloads that can take over their node"), traits=_ESCAPING),
    _Case(_ALL, frozenset({"exec", "attach"}), _ANY,
          Technique("Execution", "T1609", 1.8, "entered containers", "enter containers")),
    _Case(_ALL, frozenset({"portforward"}), _ANY,
          Technique("Lateral Movement", "T1090", 1.6, "opened tunnels into pods",
                    "open tunnels into pods")),
    _Case(_ALL, frozenset({"ephemeralcontainers"}), WRITES,
          Technique("Execution", "T1610", 1.8, "injected debug containers",
                    "inject debug containers")),
    _Case(_ALL, frozenset({"token"}), WRITES,
          Technique("Credential Access", "T1528", 1.8, "minted service account tokens",
                    "mint service account tokens")),
    _Case(_ALL, frozenset({"proxy"}), _ANY,
          Technique("Lateral Movement", "T1210", 1.9, "reached through the API server's proxy",
                    "reach through the API server's proxy")),
    _Case(_of("", "pods"), frozenset({"log"}), READS,
          Technique("Collection", "T1005", 1.2, "read the logs of containers",
                    "read the logs of containers")),
    _Case(_of("snapshot.storage.k8s.io", "volumesnapshots volumesnapshotcontents"), None, WRITES,
          Technique("Collection", "T1530", 1.5, "copied volumes", "copy volumes")),
    _Case(_of("", "secrets"), None, READS,
          Technique("Credential Access", "T1552.007", 1.7, "read the system's secrets",
                    "read the system's secrets"), system=True),
    _Case(_of("", "secrets"), None, READS,
          Technique("Credential Access", "T1552.007", 1.5, "read secrets", "read secrets")),
    _Case(_of("", "secrets"), None, WRITES,
          Technique("Persistence", "T1098", 1.8, "made tokens that never expire",
                    "make tokens that never expire"), traits=frozenset({"account token"})),
    _Case(_of("", "secrets"), None, _CHANGES,
          Technique("Credential Access", "T1552.007", 1.4, "changed secrets", "change secrets")),
    _Case(_RBAC, None, _CHANGES | {"escalate", "bind"},
          Technique("Privilege Escalation", "T1098.006", 1.9, "changed permissions",
                    "change permissions")),
    _Case(_RBAC, None, READS,
          Technique("Discovery", "T1069.003", 0.9, "read permissions", "read permissions")),
    _Case(_ADMISSION, None, _CHANGES,
          Technique("Persistence", "T1546", 1.9, "changed admission control",
                    "change admission control")),
    _Case(_CSR, frozenset({"approval"}), _CHANGES,
          Technique("Persistence", "T1136", 1.9, "approved client certificates",
                    "approve client certificates")),
    _Case(_CSR, None, _CHANGES,
          Technique("Persistence", "T1136", 1.5, "handled certificate requests",
                    "handle certificate requests")),
    _Case(_REVIEWS, None, WRITES,
          Technique("Discovery", "T1069.003", 1.1, "asked what is permitted",
                    "ask what is permitted")),
    _Case(_of("authentication.k8s.io", "tokenreviews"), None, WRITES,
          Technique("Credential Access", "T1528", 0.8, "had tokens checked",
                    "have tokens checked")),
    _Case(_EVENTS, None, DELETES,
          Technique("Defense Evasion", "T1070", 1.8, "deleted the cluster's events",
                    "delete the cluster's events")),
    _Case(_of("apiregistration.k8s.io", "apiservices"), None, _CHANGES,
          Technique("Credential Access", "T1557", 1.9, "changed API aggregation",
                    "change API aggregation")),
    _Case(_of("apiextensions.k8s.io", "customresourcedefinitions"), None, _CHANGES,
          Technique("Persistence", "T1543", 1.4, "changed API types", "change API types")),
    _Case(_of("", "namespaces"), None, WRITES,
          Technique("Defense Evasion", "T1562.001", 1.8, "relaxed pod security",
                    "relax pod security"), traits=frozenset({"pod security relaxed"})),
    _Case(_of("", "namespaces persistentvolumes persistentvolumeclaims"), None, DELETES,
          Technique("Impact", "T1485", 1.7, "deleted namespaces or storage",
                    "delete namespaces or storage")),
    _Case(_of("", "persistentvolumes"), None, WRITES,
          Technique("Privilege Escalation", "T1611", 1.4, "made volumes", "make volumes")),
    _Case(_of("", "nodes"), None, _CHANGES,
          Technique("Defense Evasion", "T1578", 1.3, "changed nodes", "change nodes")),
    _Case(_of("apps", "daemonsets"), None, DELETES,
          Technique("Defense Evasion", "T1562.001", 1.7, "removed agents from all nodes",
                    "remove agents from all nodes")),
    _Case(_WORKLOADS, None, DELETES,
          Technique("Impact", "T1485", 1.4, "deleted workloads", "delete workloads")),
    _Case(_WORKLOADS, frozenset({""}), WRITES,
          Technique("Defense Evasion", "T1036.005", 1.7, "deployed workloads into the system",
                    "deploy workloads into the system"), system=True),
    _Case(_RECURRING, frozenset({""}), WRITES,
          Technique("Persistence", "T1053.007", 1.5, "deployed recurring workloads",
                    "deploy recurring workloads")),
    _Case(_WORKLOADS, frozenset({""}), WRITES,
          Technique("Execution", "T1610", 1.4, "deployed workloads", "deploy workloads")),
    _Case(_of("", "serviceaccounts"), None, _CHANGES,
          Technique("Persistence", "T1136", 1.4, "changed service accounts",
                    "change service accounts")),
    _Case(_ISOLATION, None, _CHANGES,
          Technique("Defense Evasion", "T1562", 1.5, "changed network isolation",
                    "change network isolation")),
    _Case(_of("", "services"), None, WRITES,
          Technique("Credential Access", "T1557", 1.7, "had outside addresses served",
                    "have outside addresses served"), traits=frozenset({"outside address"})),
    _Case(_ROUTING, None, WRITES,
          Technique("Lateral Movement", "T1557", 1.2, "redirected traffic", "redirect traffic")),
    _Case(_of("", "configmaps"), None, _CHANGES,
          Technique("Persistence", "T1098", 1.7, "changed the system's configuration",
                    "change the system's configuration"), system=True),
    _Case(_of("", "configmaps"), None, _CHANGES,
          Technique("Defense Evasion", "T1565", 1.1, "changed configuration",
                    "change configuration")),
    _Case(_of("", "configmaps"), None, READS,
          Technique("Credential Access", "T1552.001", 0.9, "read configuration",
                    "read configuration")),
    _Case(_ALL, None, DELETES,
          Technique("Impact", "T1485", 1.2, "deleted objects", "delete objects")),
)  # fmt: skip
GRAVE = 1.4
"""The weight from which a deed is what an attack is made of, rather than what surrounds it."""
DEPLOYED = frozenset(
    case.technique.did
    for case in _CASES
    if case.resources and case.resources <= _WORKLOADS and case.verbs == WRITES
)
"""What is said of those who put workloads into the cluster."""
IMPERSONATION = Technique(
    "Privilege Escalation", "T1078", 1.9, "acted as somebody else", "act as somebody else"
)
_CHANGE = Technique("Impact", "T1565", 1.0, "changed objects", "change objects")
_READ = Technique("Discovery", "T1613", 0.6, "looked around", "look around")
_API = Technique(
    "Discovery", "T1613", 0.3, "walked the API's own paths", "walk the API's own paths"
)


def technique(
    verb: str, resource: str, subresource: str, namespace: str = "", traits: str = ""
) -> Technique:
    """The technique that a request could serve; ``resource`` carries its API group, if any, and
    ``traits`` are the dangerous settings in what was written (``events.trait``).

    >>> technique("list", "secrets", "").did, technique("get", "pods", "exec").tactic
    ('read secrets', 'Execution')
    >>> technique("create", "pods", "", "shop", "privileged, hostPID").technique
    'T1611'
    >>> technique("get", "", "").did
    "walked the API's own paths"
    """
    written = frozenset(traits.split(", ")) if traits else _ALL
    system = namespace.startswith(SYSTEM_NAMESPACES)
    for case in _CASES if resource else ():
        if (
            verb in case.verbs
            and (not case.resources or resource in case.resources)
            and (case.subresources is None or subresource in case.subresources)
            and (system or not case.system)
            and (not case.traits or case.traits & written)
        ):
            return case.technique
    if not resource:
        return _API
    return _READ if verb in READS else _CHANGE
