"""Elastic and OpenSearch: the Kubernetes integration keeps the event under ``kubernetes.audit``.

Elasticsearch reads dots in field names as nesting, so the integration replaces them in annotation
keys (``authorization_k8s_io/decision``); the domain before a slash cannot have underscores of its
own, so they are put back. Exports wrap documents in ``_source``, searches in ``hits.hits``.
https://www.elastic.co/docs/reference/integrations/kubernetes/audit-logs
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kubewitness.events.formats.outcome import Inner, Part

_DOMAIN = re.compile(r"[a-z0-9-]+(?:_[a-z0-9-]+)*_(?:io|com|org|net|dev|cloud)")


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    source = value.get("_source")
    if isinstance(source, Mapping):
        return (Inner(source),)
    hits = value.get("hits")
    if isinstance(hits, Mapping) and isinstance(hits.get("hits"), list):
        return map(Inner, hits["hits"])
    kubernetes = value.get("kubernetes")
    audit = kubernetes.get("audit") if isinstance(kubernetes, Mapping) else None
    if audit is None:
        audit = value.get("kubernetes.audit")
    if not isinstance(audit, Mapping):
        return None
    return (Inner(_dotted(value, audit), _cluster(value)),)


def _dotted(document: Mapping[str, Any], audit: Mapping[str, Any]) -> dict[str, Any]:
    event = dict(audit)
    if isinstance(audit.get("annotations"), Mapping):
        event["annotations"] = _keys_dotted(audit["annotations"])
    user = audit.get("user")
    if isinstance(user, Mapping) and isinstance(user.get("extra"), Mapping):
        event["user"] = {**user, "extra": _keys_dotted(user["extra"])}
    event.setdefault("@timestamp", document.get("@timestamp"))
    return event


def _keys_dotted(members: Mapping[str, Any]) -> dict[str, Any]:
    return {dotted(name): member for name, member in members.items()}


def dotted(name: str) -> str:
    """
    >>> dotted("authorization_k8s_io/decision"), dotted("canonicalArn"), dotted("session_name")
    ('authorization.k8s.io/decision', 'canonicalArn', 'session_name')
    """
    domain, slash, rest = name.partition("/")
    if slash or _DOMAIN.fullmatch(domain):
        domain = domain.replace("_", ".")
    return f"{domain}{slash}{rest}"


def _cluster(document: Mapping[str, Any]) -> str:
    orchestrator = document.get("orchestrator")
    cluster = orchestrator.get("cluster") if isinstance(orchestrator, Mapping) else None
    name = cluster.get("name") if isinstance(cluster, Mapping) else None
    return name if isinstance(name, str) else ""
