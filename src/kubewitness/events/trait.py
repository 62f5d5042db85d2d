"""Dangerous settings in what was written: read from bodies where the audit level has them.

Pod specs stand in pods and in the templates of every workload kind, and in containers, init and
ephemeral containers alike; a search in the JSON text finds the setting wherever it stands.
"""

from __future__ import annotations

import re

# The request body as text without needless escapes, see events.normalisation.
_BODY = "written"

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
_ROLES = ["roles", "clusterroles"]
_BINDINGS = ["rolebindings", "clusterrolebindings"]
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
}


# All settings of pods at once: one search of a body instead of six, and hardly any body has one.
_POD_SETTING = (
    rf"regexp_matches({_BODY}, '\"(privileged\":true|host(Path\":[{{]|(Network|PID|IPC)\":true)"
    r"|add\":\[)')"
)
# Bodies of other requests have none of these.
TELLING = (
    "verb IN ('create', 'update', 'patch') AND resource IN ("
    + ", ".join(repr(r) for r in sorted({r for of, _ in TRAITS.values() for r in of}))
    + ")"
)
"""SQL, over event columns: whether traits or origins can stand in the request body at all."""

# REGISTRY[:PORT]/OWNER of REGISTRY[:PORT]/OWNER/NAME:TAG@DIGEST
_ORIGIN = re.compile(r"(?:([^@]+)/)?[^/]+")


def images_sql() -> str:
    """A SQL expression over event columns and ``written``: the images of a written workload,
    sorted and separated by spaces, '' if it names none."""
    return (
        f"CASE WHEN {_BODY} IS NOT NULL AND resource IN"
        f" ({', '.join(repr(r) for r in _WORKLOADS)}) THEN array_to_string(list_sort(list_distinct("
        rf"""regexp_extract_all({_BODY}, '"image":"([^"\\ ]+)"', 1))), ' ') ELSE '' END"""
    )


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
        f"CASE WHEN resource IN ({', '.join(repr(r) for r in resources)}) AND {condition}"
        f" THEN '{trait}' END"
        for trait, (resources, condition) in TRAITS.items()
    )
    annotated = (
        "CASE WHEN contains(annotations, 'pod-security.kubernetes.io/audit-violations')"
        " THEN 'pod security violation' END"
    )
    rare = ", ".join(repr(r) for r in [*_ROLES, *_BINDINGS])
    return (
        f"CASE WHEN ({TELLING} AND (resource IN ({rare}) OR {_POD_SETTING})) OR"
        " (verb IN ('create', 'update', 'patch') AND"
        " contains(annotations, 'pod-security.kubernetes.io/audit-violations'))"
        f" THEN concat_ws(', ', {cases}, {annotated}) ELSE '' END"
    )
