"""OpenShift: cluster logging (the ViaQ model) merges its own fields into the event.

``level`` is overwritten with the severity of the log record; the audit level is in
``k8s_audit_level`` or ``openshift_audit_level``, the cluster in ``openshift.cluster_id``. Events of
the oauth-server are plain v1: the user is ``system:anonymous``, the person stands in the annotation
``authentication.openshift.io/username``, which is kept. Lines of ``oc adm node-logs`` begin with
the node's name, which ``lines`` takes off.
https://github.com/openshift/cluster-logging-operator, docs/reference/datamodels/viaq
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubewitness.events.formats.outcome import Inner, Part, Skipped

_LEVELS = ("k8s_audit_level", "openshift_audit_level")
_MERGED = ("log_type", "log_source", "openshift", "viaq_msg_id", *_LEVELS)


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    if not any(name in value for name in _MERGED):
        return None
    if value.get("log_type", "audit") != "audit":
        return (Skipped("OpenShift log of another type"),)
    event = {name: member for name, member in value.items() if name not in _MERGED}
    level = next((value[name] for name in _LEVELS if value.get(name)), None)
    if level is not None:
        event["level"] = level
    if len(event) == len(value):
        return None
    openshift = value.get("openshift")
    cluster = openshift.get("cluster_id") if isinstance(openshift, Mapping) else None
    return (Inner(event, cluster if isinstance(cluster, str) else ""),)
