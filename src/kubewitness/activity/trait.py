"""Dangerous settings in what was written: read from bodies where the audit level has them.

Pod specs stand in pods and in the templates of every workload kind, and in containers, init and
ephemeral containers alike; a search in the JSON text finds the setting wherever it stands.
"""

from __future__ import annotations

_BODY = "CAST(request_object AS VARCHAR)"

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


# REGISTRY[:PORT]/OWNER of REGISTRY[:PORT]/OWNER/NAME:TAG; a bare NAME is Docker Hub's own.
_ORIGIN = r'"image":\s*"(?:([^"@]+)/)?[^"/]+"'


def origins_sql() -> str:
    """A SQL expression over event columns: where the images of a written workload come from
    (registry and owner), sorted and comma-separated, '' if it names none."""
    return (
        f"CASE WHEN verb IN ('create', 'update', 'patch') AND resource IN"
        f" ({', '.join(repr(r) for r in _WORKLOADS)}) AND contains({_BODY}, '\"image\":')"
        f" THEN array_to_string(list_sort(list_distinct(list_transform(regexp_extract_all("
        f"{_BODY}, '{_ORIGIN}', 1), lambda origin: coalesce(nullif(origin, ''),"
        f" 'docker.io/library')))), ', ') ELSE '' END"
    )


def sensitive_setting_sql() -> str:
    """A SQL expression over event columns: the traits of a write, comma-separated, '' if none.

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
    return (
        "CASE WHEN verb IN ('create', 'update', 'patch') AND (request_object IS NOT NULL OR"
        " contains(annotations, 'pod-security.kubernetes.io/audit-violations'))"
        f" THEN concat_ws(', ', {cases}, {annotated}) ELSE '' END"
    )
