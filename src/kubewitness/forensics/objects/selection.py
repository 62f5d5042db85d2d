"""Label selectors: whether what a ``deletecollection`` selected includes an object.

Source: k8s.io/apimachinery, pkg/labels: ``a=b,c!=d,e in (x,y),f notin (z),g,!h``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_REQUIREMENT = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<no>[^\s,=!()]+)"
    r"|(?P<key>[^\s,=!()]+)\s*(?:(?P<op>==|=|!=)\s*(?P<value>[^\s,()]*)"
    r"|\s(?P<set>in|notin)\s*\((?P<values>[^)]*)\))?)\s*(?:,|$)"
)


def selects(selector: str, labels: Mapping[str, Any]) -> bool | None:
    """Whether ``selector`` matches ``labels``; ``None`` where it cannot be read.

    >>> selects("app=web,tier in (a, b),!old", {"app": "web", "tier": "b"})
    True
    >>> selects("app!=web", {"app": "web"}), selects("what ever", {})
    (False, None)
    """
    place = 0
    while place < len(selector):
        found = _REQUIREMENT.match(selector, place)
        if found is None:
            return None
        place = found.end()
        if not _holds(found, labels):
            return False
    return True


def _holds(found: re.Match[str], labels: Mapping[str, Any]) -> bool:
    if found["absent"]:
        return found["no"] not in labels
    value = labels.get(found["key"])
    if found["set"]:
        values = {one.strip() for one in found["values"].split(",")}
        return (value in values) == (found["set"] == "in")
    if found["op"]:
        return (value == found["value"]) == (found["op"] != "!=")
    return found["key"] in labels
