"""Which deed led to which: the kinds of link, each with how it is known.

Every rule takes a scene and an effect, and yields the causes it finds there, the likeliest first.
A rule never asks the log: what is not in the scene is no cause (``forensics.gathering`` fills it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from kubewitness.forensics.causes.attempt import attempt
from kubewitness.forensics.causes.debut import debut
from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.delivery import delivery
from kubewitness.forensics.causes.found import AMID, EVEN, Found, span
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

# A right that is as young may have been given for what is done with it.
_LATELY = timedelta(days=1)


def causes(scene: Scene, effect: Deed, *, sittings: bool = True) -> list[Found]:
    """What led to ``effect``, the likeliest first; without ``sittings`` only what led to it alone,
    not what it was done amid.

    Refused requests led to nothing, but may have been led to.
    """
    found: dict[tuple[str, str], Found] = {}
    for rule in (*_RULES, _session, debut) if sittings else _RULES:
        for one in rule(scene, effect):
            if one.cause.key != effect.key:
                found.setdefault((one.kind, one.cause.audit_id), one)
    return list(found.values())


def doubtful(found: Found) -> bool:
    """Whether it is likelier that a program did it by itself than that somebody had it done, or
    that another certificate was used."""
    return found.kind in ("entry", "delivery", "certificate") and found.confidence < EVEN


def leads_back(found: Found, effect: Deed) -> bool:
    """Whether what led to a cause is part of the same story. Amid what it was done is not; how
    somebody came by a right long ago is a question of its own."""
    if found.kind == "permission":
        return effect.at - found.cause.at <= _LATELY
    return found.kind not in AMID


def _session(scene: Scene, effect: Deed) -> Iterator[Found]:
    """The first request of the sitting in which this one was made, and of what was done in one go
    at its end."""
    if effect.of in ("node", "control-plane"):
        return
    sitting = scene.sitting(effect)
    if sitting is None:
        return
    place = effect.source_ip or "an unknown address"
    because = (
        f"{sitting.n} requests within {span(effect.at - sitting.first.at)} from {place}, none of"
        " them long after another"
    )
    yield Found(sitting.first, "session", False, 0.7, because)
    because = f"done in one go from {place} within {span(effect.at - sitting.run.at)}"
    yield Found(sitting.run, "session", False, 0.7, because)


_RULES: tuple[Callable[[Scene, Deed], Iterator[Found]], ...] = (
    termination, cascade, owner, autoscaling, pod_life, delivery, credential, signing, permission,
    attempt,
)  # fmt: skip
