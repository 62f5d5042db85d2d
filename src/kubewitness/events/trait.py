"""Dangerous settings in what was written: read from bodies where the audit level has them.

Pod specs stand in pods and in the templates of every workload kind, and in containers, init and
ephemeral containers alike; a search in the JSON text finds the setting wherever it stands.
"""

from __future__ import annotations

import re

# The request body as text without needless escapes, see events.normalisation.
_BODY = "written"

_WRITES = ("create", "update", "patch")

# trait → (resources it may stand in, SQL condition on the request body)
_WORKLOADS = [
    "pods",
    "deployments",
    "daemonsets",
    "statefulsets",
    "replicasets",
    "replicationcontrollers",
    "jobs",
    "cronjobs",
    "podtemplates",
]
_WEBHOOKS = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
_ROLES = ["roles", "clusterroles"]
_BINDINGS = ["rolebindings", "clusterrolebindings"]
_CONTROL_PLANE = r"node-role\.kubernetes\.io/(control-plane|master)"
TRAITS: dict[str, tuple[list[str], str]] = {
    "privileged": (_WORKLOADS, f"contains({_BODY}, '\"privileged\":true')"),
    "hostPath": (
        [*_WORKLOADS, "persistentvolumes"],
        f"contains({_BODY}, '\"hostPath\":{{')",
    ),
    "hostNetwork": (_WORKLOADS, f"contains({_BODY}, '\"hostNetwork\":true')"),
    "hostPID": (_WORKLOADS, f"contains({_BODY}, '\"hostPID\":true')"),
    "hostIPC": (_WORKLOADS, f"contains({_BODY}, '\"hostIPC\":true')"),
    "capabilities": (
        _WORKLOADS,
        rf"regexp_matches({_BODY}, '\"add\":\[\"(ALL|SYS_ADMIN|SYS_PTRACE|SYS_MODULE|NET_ADMIN"
        "|BPF)')",
    ),
    "wildcard rule": (
        _ROLES,
        rf"regexp_matches({_BODY}, '\"(verbs|resources|apiGroups)\":\[\"\*\"')",
    ),
    "escalating rule": (
        _ROLES,
        rf"regexp_matches({_BODY}, '\"(escalate|bind|impersonate|nodes/proxy"
        "|serviceaccounts/token|pods/exec|secrets)\"')",
    ),
    "cluster-admin": (
        _BINDINGS,
        rf"regexp_matches({_BODY}, '\"roleRef\":\{{[^}}]*\"(cluster-admin|admin|edit"
        "|system:masters)\"')",
    ),
    "bound to everyone": (
        _BINDINGS,
        rf"regexp_matches({_BODY}, '\"(system:anonymous|system:unauthenticated"
        "|system:authenticated|system:masters|system:serviceaccounts)\"')",
    ),
    "for the control plane": (_WORKLOADS, f"regexp_matches({_BODY}, '{_CONTROL_PLANE}')"),
    "pod security relaxed": (
        ["namespaces"],
        rf"regexp_matches({_BODY}, 'pod-security\.kubernetes\.io(/|~1)enforce\"[^}}]{{0,20}}"
        '("privileged"|null)\')',
    ),
    "fails open": (
        _WEBHOOKS,
        rf"regexp_matches({_BODY}, 'failurePolicy\"[^}}]{{0,20}}\"Ignore\"')",
    ),
    "outside address": (
        ["services"],
        rf"regexp_matches({_BODY}, '\"externalIPs\":\[\"|\"type\":\"ExternalName\"')",
    ),
    "client certificate": (
        ["certificatesigningrequests"],
        f'contains({_BODY}, \'"signerName":"kubernetes.io/kube-apiserver-client"\')',
    ),
    "account token": (
        ["secrets"],
        f'contains({_BODY}, \'"type":"kubernetes.io/service-account-token"\')',
    ),
}
# What Pod Security says of a pod in its audit annotation, where the level hides the body
# (k8s.io/pod-security-admission, policy/check_*.go).
_AUDIT = "pod-security.kubernetes.io/audit-violations"
_VIOLATIONS = f"""coalesce(json_extract_string(annotations, '$."{_AUDIT}"'), '')"""
_ANNOTATED = {
    "privileged": "securityContext.privileged=true",
    "hostPath": "hostPath volumes",
    "hostNetwork": "hostNetwork=true",
    "hostPID": "hostPID=true",
    "hostIPC": "hostIPC=true",
}


# All settings of pods at once: one search of a body instead of six, and hardly any body has one.
_POD_SETTING = (
    rf"regexp_matches({_BODY}, '\"(privileged\":true|host(Path\":[{{]|(Network|PID|IPC)\":true)"
    rf"|add\":\[|{_CONTROL_PLANE})')"
)
# Bodies of other requests have none of these.
TELLING = (
    f"verb IN {_WRITES} AND resource IN ("
    + ", ".join(repr(r) for r in sorted({r for of, _ in TRAITS.values() for r in of}))
    + ")"
)
"""SQL, over event columns: whether traits or origins can stand in the request body at all."""

# REGISTRY[:PORT]/OWNER of REGISTRY[:PORT]/OWNER/NAME:TAG@DIGEST
_ORIGIN = re.compile(r"(?:([^@]+)/)?[^/]+")


_IMAGE = r'"image":"([^"\\ ]+)"'


def images_sql() -> str:
    """A SQL expression over event columns and ``written``: the images of a written workload,
    sorted and separated by spaces, '' if it names none."""
    return (
        f"CASE WHEN {_BODY} IS NOT NULL AND resource IN"
        f" ({', '.join(repr(r) for r in _WORKLOADS)}) THEN array_to_string(list_sort(list_distinct("
        f"regexp_extract_all({_BODY}, '{_IMAGE}', 1))), ' ') ELSE '' END"
    )


def images(verb: str | None, resource: str | None, written: str | None) -> str:
    """What ``images_sql`` says of one request, ``written`` being its body without needless escapes.

    >>> images("create", "pods", '{"spec":{"containers":[{"image":"web:1"},{"image":"db:1"}]}}')
    'db:1 web:1'
    """
    if written is None or verb not in _WRITES or resource not in _WORKLOADS:
        return ""
    return " ".join(sorted(set(re.findall(_IMAGE, written)), key=str.encode))


def origins(images: str) -> str:
    """Where images come from (registry and owner), sorted and comma-separated; a bare name is
    Docker Hub's own.

    >>> origins("nginx:1 ghcr.io/flux/kustomize:v1 ghcr.io/flux/helm@sha256:0a")
    'docker.io/library, ghcr.io/flux'
    """
    found = (_ORIGIN.fullmatch(image) for image in images.split(" ") if image)
    return ", ".join(sorted({one[1] or "docker.io/library" for one in found if one}))


def sensitive_setting_sql() -> str:
    """A SQL expression over event columns and ``written``: the traits of a write,
    comma-separated, '' if none.

    Reads that are logged with bodies show what exists, not what somebody asked for: only writes
    count. Where the level hides bodies, Pod Security's own audit annotation still speaks.
    """
    cases = ", ".join(
        f"CASE WHEN resource IN ({', '.join(repr(r) for r in resources)}) AND ({condition}"
        + (f" OR contains({_VIOLATIONS}, '{_ANNOTATED[trait]}')" if trait in _ANNOTATED else "")
        + f") THEN '{trait}' END"
        for trait, (resources, condition) in TRAITS.items()
    )
    annotated = f"CASE WHEN {_VIOLATIONS} <> '' THEN 'pod security violation' END"
    workloads = ", ".join(repr(r) for r in _WORKLOADS)
    return (
        f"CASE WHEN ({TELLING} AND (resource NOT IN ({workloads}) OR {_POD_SETTING})) OR"
        f" (verb IN {_WRITES} AND contains(annotations, '{_AUDIT}'))"
        f" THEN concat_ws(', ', {cases}, {annotated}) ELSE '' END"
    )
