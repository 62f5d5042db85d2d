"""Which deed led to which: the kinds of link, each with how it is known.

Every rule takes a scene and an effect, and yields the causes it finds there, the likeliest first.
A rule never asks the log: what is not in the scene is no cause (``forensics.gathering`` fills it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.delivery import delivery
from kubewitness.forensics.causes.found import EVEN, Found, span
from kubewitness.forensics.causes.grants import permission
from kubewitness.forensics.causes.ownership import (
    autoscaling,
    cascade,
    owner,
    pod_life,
    termination,
)
from kubewitness.forensics.causes.possession import credential, signing
from kubewitness.forensics.causes.scene import Scene


def causes(scene: Scene, effect: Deed, *, sittings: bool = True) -> list[Found]:
    """What led to ``effect``, the likeliest first; without ``sittings`` only what led to it alone.

    Refused requests led to nothing, but may have been led to.
    """
    found: dict[tuple[str, str], Found] = {}
    for rule in (*_RULES, _session) if sittings else _RULES:
        for one in rule(scene, effect):
            if one.cause.key != effect.key:
                found.setdefault((one.kind, one.cause.audit_id), one)
    return list(found.values())


def doubtful(found: Found) -> bool:
    """Whether it is likelier that a program did it by itself than that somebody had it done."""
    return found.kind in ("entry", "delivery") and found.confidence < EVEN


def _session(scene: Scene, effect: Deed) -> Iterator[Found]:
    """The first request of the sitting in which this one was made."""
    if effect.of in ("node", "control-plane"):
        return
    sitting = scene.sitting(effect)
    if sitting is not None and sitting.first.key != effect.key:
        because = (
            f"{sitting.n} requests within {span(effect.at - sitting.first.at)} from"
            f" {effect.source_ip or 'an unknown address'}, none of them long after another"
        )
        yield Found(sitting.first, "session", False, 0.7, because)


_RULES: tuple[Callable[[Scene, Deed], Iterator[Found]], ...] = (
    termination, cascade, owner, autoscaling, pod_life, delivery, credential, signing, permission,
)  # fmt: skip
