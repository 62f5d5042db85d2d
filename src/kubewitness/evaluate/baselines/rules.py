"""The usual rules: what public rule sets for Kubernetes audit logs watch for.

Written from the behaviour that SigmaHQ's and Falco's rules describe, in our own words. As there,
the control plane and nodes are left out of rules about what others may not do, and nothing is
compared with what is usual. A rule alerts whenever it matches.
"""

from __future__ import annotations

from typing import NamedTuple

from kubewitness.evaluate.baselines.hourly import hours, incidents
from kubewitness.evaluate.dataset import Trial
from kubewitness.incidents.model import Incident

LOW, MEDIUM, HIGH, CRITICAL = 1, 2, 3, 4

_MACHINERY = "class IN ('node', 'control-plane')"
_WRITES = "verb IN ('create', 'update', 'patch')"
_RBAC = "contains(resource, 'rbac.authorization.k8s.io')"


class Rule(NamedTuple):
    """``condition``: SQL over activity columns."""

    title: str
    level: int
    condition: str


def _granted(condition: str) -> str:
    return f"outcome = 'ok' AND NOT {_MACHINERY} AND {condition}"


RULES = (
    Rule("a command in a container", MEDIUM, _granted("subresource IN ('exec', 'attach')")),
    Rule("a tunnel into a pod", MEDIUM, _granted("subresource = 'portforward'")),
    Rule(
        "a debug container in a running pod",
        HIGH,
        _granted(f"subresource = 'ephemeralcontainers' AND {_WRITES}"),
    ),
    Rule(
        "secrets read",
        LOW,
        _granted("resource = 'secrets' AND verb IN ('get', 'list')"),
    ),
    Rule(
        "secrets changed or deleted",
        MEDIUM,
        _granted("resource = 'secrets' AND verb NOT IN ('get', 'list', 'watch')"),
    ),
    Rule(
        "a binding to an administrator's role",
        CRITICAL,
        _granted(f"contains(traits, 'cluster-admin') AND {_WRITES}"),
    ),
    Rule(
        "a binding for everyone",
        CRITICAL,
        _granted(f"contains(traits, 'bound to everyone') AND {_WRITES}"),
    ),
    Rule(
        "a role with wildcards or escalating verbs",
        HIGH,
        _granted("(contains(traits, 'wildcard rule') OR contains(traits, 'escalating rule'))"),
    ),
    Rule(
        "roles or bindings changed",
        MEDIUM,
        _granted(f"{_RBAC} AND verb NOT IN ('get', 'list', 'watch')"),
    ),
    Rule(
        "a privileged pod",
        HIGH,
        _granted("(contains(traits, 'privileged') OR contains(traits, 'capabilities'))"),
    ),
    Rule(
        "a pod that shares the host's files, network or processes",
        HIGH,
        _granted(
            "(contains(traits, 'hostPath') OR contains(traits, 'hostNetwork')"
            " OR contains(traits, 'hostPID') OR contains(traits, 'hostIPC'))"
        ),
    ),
    Rule(
        "workloads changed in a system namespace",
        MEDIUM,
        _granted(
            f"namespace IN ('kube-system', 'kube-public', 'kube-node-lease') AND {_WRITES} AND"
            " resource IN ('pods', 'deployments.apps', 'daemonsets.apps', 'statefulsets.apps')"
        ),
    ),
    Rule(
        "a scheduled job written",
        LOW,
        _granted(f"resource = 'cronjobs.batch' AND {_WRITES}"),
    ),
    Rule(
        "workloads deleted",
        LOW,
        _granted(
            "resource IN ('deployments.apps', 'daemonsets.apps', 'statefulsets.apps')"
            " AND verb IN ('delete', 'deletecollection')"
        ),
    ),
    Rule(
        "the cluster's events deleted",
        HIGH,
        _granted("resource IN ('events', 'events.events.k8s.io') AND verb LIKE 'delete%'"),
    ),
    Rule(
        "admission control changed",
        HIGH,
        _granted(
            "contains(resource, 'admissionregistration.k8s.io') AND verb NOT IN"
            " ('get', 'list', 'watch')"
        ),
    ),
    Rule(
        "service accounts changed",
        LOW,
        _granted(
            "resource = 'serviceaccounts' AND verb NOT IN ('get', 'list', 'watch')"
            " AND subresource = ''"
        ),
    ),
    Rule(
        "a service account's token minted",
        MEDIUM,
        _granted("subresource = 'token' AND verb = 'create'"),
    ),
    Rule(
        "permissions listed",
        LOW,
        _granted("resource = 'selfsubjectrulesreviews.authorization.k8s.io'"),
    ),
    Rule("somebody impersonated", MEDIUM, _granted("acting_as <> ''")),
    Rule(
        "an anonymous request that was allowed",
        HIGH,
        "class = 'anonymous' AND outcome = 'ok' AND resource <> ''",
    ),
    Rule(
        "requests refused",
        LOW,
        f"outcome IN ('denied', 'unauthenticated') AND NOT {_MACHINERY}",
    ),
)


def usual_rules(trial: Trial, seed: int = 0) -> list[Incident]:
    """An hour ranks by its most severe rule, then by how many different rules it matched."""
    matches = ", ".join(f"CAST({rule.condition} AS INT) * {rule.level}" for rule in RULES)
    scored = f"""
        SELECT *, list_max([{matches}]) AS severity,
            [{", ".join(f"({rule.condition})" for rule in RULES)}] AS matched,
            severity + 0.01 * len(list_filter(matched, lambda hit: hit)) AS points
        FROM activities"""
    return incidents(trial, hours(trial, scored, share=0.01), alert=True)
