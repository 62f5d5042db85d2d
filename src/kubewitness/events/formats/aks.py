"""AKS: the diagnostic logs of Azure Monitor, categories ``kube-audit`` and ``kube-audit-admin``.

- Event Hub and storage account: ``{"records":[…]}`` or one record a line, each
  ``{"category":…,"resourceId":…,"properties":{"log":<event as text or as object>}}``
- Log Analytics, table AzureDiagnostics: the event is the text column ``log_s``
- Log Analytics, tables AKSAudit and AKSAuditAdmin: one PascalCase column a field, whose structures
  may be JSON text; there is none for an impersonated user. The portal adds `` [UTC]`` to times
- the query API: ``{"tables":[{"columns":[{"name":…}],"rows":[…]}]}``

Other categories (``guard``, ``kube-apiserver``, …) are no audit logs. Resource ids come in upper
and in lower case for the same cluster, so its name is lower-cased.
https://learn.microsoft.com/azure/aks/monitor-aks-reference
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kubewitness.events.formats.canonical import canonical
from kubewitness.events.formats.outcome import Broken, Inner, Part, Skipped

_CLUSTER = re.compile(r"/managedclusters/([^/]+)", re.IGNORECASE)
_CATEGORIES = ("kube-audit", "kube-audit-admin")
_COLUMNS = {
    "AuditId": "auditID",
    "Stage": "stage",
    "Level": "level",
    "RequestUri": "requestURI",
    "Verb": "verb",
    "User": "user",
    "SourceIps": "sourceIPs",
    "UserAgent": "userAgent",
    "ObjectRef": "objectRef",
    "ResponseStatus": "responseStatus",
    "RequestObject": "requestObject",
    "ResponseObject": "responseObject",
    "Annotations": "annotations",
    "RequestReceivedTime": "requestReceivedTimestamp",
    "StageReceivedTime": "stageTimestamp",
}


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    tables = value.get("tables")
    if isinstance(tables, list):
        return _rows(tables)
    category = value.get("category") or value.get("Category")
    cluster = _cluster(value)
    if "log_s" in value:
        return (_log(category, value["log_s"], cluster),)
    if "AuditId" in value and "Verb" in value:
        return (_table_row(value, cluster),)
    properties = value.get("properties")
    if category is None or not isinstance(properties, Mapping):
        return None
    return (_log(category, properties.get("log", properties), cluster),)


def _log(category: Any, log: Any, cluster: str) -> Part:
    if category is not None and category not in _CATEGORIES:
        return Skipped("Azure log of another category")
    return Inner(log, cluster) if log else Broken("Azure record without log")


def _table_row(row: Mapping[str, Any], cluster: str) -> Part:
    named = {column.removesuffix(" [UTC]"): value for column, value in row.items()}
    event = {field: named[column] for column, field in _COLUMNS.items() if named.get(column)}
    event["timestamp"] = named.get("TimeGenerated")
    return canonical(event, cluster=cluster)


def _rows(tables: list[Any]) -> Iterator[Part]:
    for table in tables:
        columns = table.get("columns") if isinstance(table, Mapping) else None
        rows = table.get("rows") if isinstance(table, Mapping) else None
        if not isinstance(columns, list) or not isinstance(rows, list):
            yield Broken("Log Analytics table without columns and rows")
            continue
        names = [str(c.get("name", "")) if isinstance(c, Mapping) else str(c) for c in columns]
        for row in rows:
            if isinstance(row, list) and len(row) == len(names):
                yield Inner(dict(zip(names, row, strict=True)))
            else:
                yield Broken("Log Analytics row of another length than its columns")


def _cluster(value: Mapping[str, Any]) -> str:
    for name in ("resourceId", "_ResourceId", "ResourceId"):
        resource = value.get(name)
        match = _CLUSTER.search(resource) if isinstance(resource, str) else None
        if match:
            return match[1].lower()
    return ""
