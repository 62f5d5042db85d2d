"""A cause that was found: what it is, and how well that is known."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from kubewitness.forensics.causes.deed import Deed

KINDS: dict[str, str] = {
    "owner": "a controller did it for the object that owns this one",
    "replacement": "a controller replaced a pod that was deleted or evicted",
    "schedule": "a CronJob's time had come",
    "autoscaling": "an autoscaler scales what it was told to",
    "cascade": "the owner or the namespace was deleted, and this with it",
    "termination": "its deletion had been asked for; the node carried it out",
    "placement": "the scheduler chose a node for a new pod",
    "start": "the node runs a pod that it was given",
    "token": "a token was minted, and used",
    "certificate": "a certificate was approved, and used",
    "account": "a service account was made, and then used",
    "pod": "a pod's service account acts with the token of that pod",
    "entry": "somebody got into the pod before its service account did this",
    "permission": "a binding or role that was changed allowed it",
    "delivery": "a GitOps controller applied what somebody had declared",
    "attempt": "the same had been forbidden before, to another or elsewhere",
    "session": "the same identity from the same place, before",
    "debut": "the same identity was new there, or at such things",
}


EVEN = 0.5
"""As likely as not."""


AMID = frozenset({"session", "debut"})
"""Kinds of link to what a deed was done amid."""
BESIDE = AMID | {"attempt", "permission"}
"""Kinds of link to what neither did it nor had it done."""


class Found(NamedTuple):
    """A cause of a deed: see ``forensics.graph.Link``."""

    cause: Deed
    kind: str
    certain: bool
    confidence: float
    because: str


def span(wait: timedelta) -> str:
    """A time in words."""
    seconds = wait.total_seconds()
    if seconds < 1:
        return f"{max(seconds * 1000, 1):.0f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"
