"""What is told of a gap."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from kubewitness.incidents.model import Severity
from kubewitness.report.inert import plain
from kubewitness.report.wording import plural

Kind = Literal[
    "silence",
    "hole",
    "api-server",
    "heartbeat",
    "level",
    "request",
    "stage",
    "clock",
    "late",
    "backlog",
]
"""``silence``: nothing arrives. ``hole``: nothing came of a time, though later events did.
``api-server``, ``heartbeat``: one API server or some nodes and components are not heard.
``level``, ``request``, ``stage``: the audit policy keeps less than it did. ``clock``: events of the
future. ``late``: events arrive much older than usual. ``backlog``: what was accepted waits."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """What a log does not show since ``since``, until ``until`` (``None``: it goes on).

    ``cluster`` is '' for what concerns the service itself. ``what`` is in the dark, ``why`` says
    what was noticed, ``remedy`` what to do. ``members``: the nodes or kinds of request concerned.
    """

    id: str
    kind: Kind
    cluster: str
    severity: Severity
    since: datetime
    until: datetime | None
    title: str
    what: str
    why: str
    remedy: str
    members: tuple[str, ...] = ()


class Finding(NamedTuple):
    """What a check finds to be so now. ``key`` tells the findings of one kind in a cluster apart
    and stays the same as long as they are the same; ``since``, and ``last`` if it is known when it
    was last so, are in unix seconds."""

    kind: Kind
    key: str
    severity: Severity
    since: float
    title: str
    what: str
    why: str
    remedy: str
    members: tuple[str, ...] = ()
    last: float = 0.0


def named(names: list[str], noun: str, most: int = 3) -> str:
    """A few names from a log in words; of one, the noun before it.

    >>> named(["a"], "node"), named(["a", "b", "c", "d"], "node")
    ('node a', '4 nodes (a, b, c, …)')
    """
    shown = ", ".join(plain(name, 60) for name in names[:most])
    if len(names) == 1:
        return f"{noun} {shown}"
    return f"{plural(len(names), noun)} ({shown}{', …' if names[most:] else ''})"


def listed(names: list[str], most: int = 3) -> str:
    """
    >>> listed(["get pods", "list pods", "get secrets", "list secrets"])
    'get pods, list pods, get secrets, +1 more'
    """
    shown = ", ".join(plain(name, 80) for name in names[:most])
    return f"{shown}, +{len(names) - most} more" if names[most:] else shown
