"""The event itself: audit.k8s.io/v1, v1beta1, v1alpha1, and copies that lost their apiVersion.

v1beta1 and v1alpha1 name the fields as v1 does, with a ``timestamp`` besides or instead of the two
of v1. Items of a webhook's EventList, and events trimmed by hand, have no kind or apiVersion: a
verb with a requestURI or an objectRef tells them. Sources: the API types
https://github.com/kubernetes/apiserver/tree/master/pkg/apis/audit and the traces of Falco's and
audit2rbac's tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kubewitness.events.formats.canonical import canonical
from kubewitness.events.formats.outcome import Part, Skipped

_GROUP = "audit.k8s.io/"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,39}(?:/[a-z0-9]{1,20})?")


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    kind, version = value.get("kind"), value.get("apiVersion")
    audit = isinstance(version, str) and version.startswith(_GROUP)
    if kind == "Event" or not kind:
        bare = not version and "verb" in value and ("requestURI" in value or "objectRef" in value)
        if (kind == "Event" and audit) or bare:
            return (canonical(value),)
        if kind == "Event" and version:
            return (Skipped(f"not an audit event: Event of {_name(version)}"),)
        return None
    if kind == "EventList" or not version:
        return None
    return (Skipped(f"not an audit event: {_name(kind)}"),)


def _name(value: Any) -> str:
    """A kind or a version, if it looks like one: reasons carry no text from the input."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else "object of unknown kind"
