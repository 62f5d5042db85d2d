"""Who had been forbidden to do what somebody was then allowed to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.found import Found, span
from kubewitness.forensics.causes.scene import Scene

ATTEMPT = timedelta(hours=1)
_SURE = 0.7


def attempted(effect: Deed) -> bool:
    """Whether to ask who had tried the same: a name is chosen by whoever makes an object."""
    made = effect.creates and effect.served and effect.name
    return bool(made) and effect.of not in ("node", "control-plane")


def attempt(scene: Scene, effect: Deed) -> Iterator[Found]:
    """An object of this kind and name was forbidden a moment ago, to somebody else or in another
    namespace: who may not, takes another's credential and the same manifest."""
    if not attempted(effect):
        return
    for deed in scene.forbidden(effect):
        if effect.at - deed.at > ATTEMPT:
            return
        if (deed.principal, deed.namespace) != (effect.principal, effect.namespace):
            because = f"{deed.principal} was forbidden to make {deed.resource}/{deed.name}"
            where = f" in {deed.namespace}" if deed.namespace else ""
            because += f"{where} {span(effect.at - deed.at)} before"
            yield Found(deed, "attempt", False, _SURE, because)
            return
