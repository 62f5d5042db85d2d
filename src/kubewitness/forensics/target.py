"""The object that a question is about, as people name one: ``secret/payments-db``."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

import duckdb

from kubewitness.errors import KubewitnessError
from kubewitness.events.normalisation import quoted

# As kubectl knows them (kubectl api-resources).
_SHORT = {
    "cm": "configmaps",
    "crd": "customresourcedefinitions",
    "cj": "cronjobs",
    "csr": "certificatesigningrequests",
    "deploy": "deployments",
    "ds": "daemonsets",
    "ep": "endpoints",
    "ev": "events",
    "hpa": "horizontalpodautoscalers",
    "ing": "ingresses",
    "netpol": "networkpolicies",
    "no": "nodes",
    "ns": "namespaces",
    "pdb": "poddisruptionbudgets",
    "po": "pods",
    "pv": "persistentvolumes",
    "pvc": "persistentvolumeclaims",
    "quota": "resourcequotas",
    "rs": "replicasets",
    "sa": "serviceaccounts",
    "sts": "statefulsets",
    "svc": "services",
}


class Target(NamedTuple):
    """One object; ``namespace`` is '' for those of the whole cluster."""

    group: str
    resource: str
    namespace: str
    name: str

    @property
    def kind(self) -> str:
        """``resource[.group]``."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


def resources(kind: str) -> frozenset[str]:
    """The names of resources that ``kind`` may stand for, without group.

    >>> sorted(resources("deploy")), "secrets" in resources("Secret")
    (['deployments'], True)
    >>> "networkpolicies" in resources("networkpolicy"), "ingresses" in resources("ingress")
    (True, True)
    """
    kind = kind.lower()
    if kind in _SHORT:
        return frozenset({_SHORT[kind]})
    return frozenset({kind, f"{kind}s", f"{kind}es", f"{kind.removesuffix('y')}ies"})


def find(connection: duckdb.DuckDBPyConnection, text: str, namespace: str | None) -> Target:
    """The object that ``KIND/NAME`` means in the view ``events`` (of one cluster).

    KIND is a resource or kind, short or long, with its group where it needs one
    (``deployments.apps``). Raises ``KubewitnessError``, with what was perhaps meant, where the
    log has no such object, or several in different namespaces or groups.
    """
    # an argument that is no UTF-8 names nothing that a log can hold
    kind, slash, name = text.encode("utf-8", "replace").decode().partition("/")
    if not (kind and slash and name):
        raise KubewitnessError(
            f"{text!r} names no object", remedy="write KIND/NAME, as secret/payments-db"
        )
    wanted, _, group = kind.partition(".")
    plurals = ", ".join(map(quoted, sorted(resources(wanted))))
    rows = connection.execute(
        f"""SELECT DISTINCT api_group, resource,
            CASE WHEN resource = 'namespaces' THEN '' ELSE coalesce(namespace, '') END, name
        FROM events WHERE resource IN ({plurals}) AND name = {quoted(name)}"""
    ).fetchall()
    named = [one for one in map(Target._make, rows) if not group or one.group == group.lower()]
    found = [one for one in named if namespace is None or one.namespace in (namespace, "")]
    if len(found) == 1:
        return found[0]
    if found:
        raise KubewitnessError(
            f"{text!r} is several objects: {_listed(found)}",
            remedy="say which one with -n NAMESPACE, or with the group: KIND.GROUP/NAME",
        )
    if named:
        raise KubewitnessError(
            f"no {text!r} in namespace {namespace!r} in this log",
            remedy=f"there is {_listed(named)}",
        )
    raise KubewitnessError(
        f"no request in this log named {text!r}",
        remedy=_near(connection, wanted, name, namespace)
        or "look at the kinds and names with 'kubewitness summary', or give more of the log",
    )


def _near(
    connection: duckdb.DuckDBPyConnection, kind: str, name: str, namespace: str | None
) -> str:
    """What was perhaps meant, as advice; '' where nothing is like it."""
    rows = connection.execute(
        """SELECT DISTINCT api_group, resource, coalesce(namespace, ''), name FROM events
        WHERE name <> '' AND list_contains(?, resource) AND (? IS NULL OR namespace = ?)""",
        [sorted(resources(kind)), namespace, namespace],
    ).fetchall()
    known: dict[str, Target] = {row[3]: Target._make(row) for row in rows}
    like = get_close_matches(name, known, n=4, cutoff=0.5)
    like += [one for one in sorted(known) if name in one and one not in like][:4]
    return f"did you mean {_listed([known[one] for one in like])}?" if like else ""


def _listed(targets: Sequence[Target]) -> str:
    told = [
        f"{one.kind}/{one.name}" + (f" -n {one.namespace}" if one.namespace else "")
        for one in sorted(targets)
    ]
    return ", ".join(told[:6]) + (f" and {len(told) - 6} more" if len(told) > 6 else "")
