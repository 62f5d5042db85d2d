"""What GitOps controllers applied, and who had declared it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from kubewitness.activity.principal import account_namespace
from kubewitness.forensics.causes.body import Application
from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.found import Found, span
from kubewitness.forensics.causes.scene import (
    CHANGES,
    DELETES,
    DELIVERED,
    Scene,
    Thing,
    thing,
)

DELIVERY = timedelta(minutes=15)
# Whoever may write an object may write its labels, too.
_LABELLED = 0.4


def delivery(scene: Scene, effect: Deed) -> Iterator[Found]:
    if effect.of != "workload" or effect.verb not in CHANGES | DELETES:
        return
    if effect.resource in DELIVERED:
        return
    told = scene.body(effect)
    named = told.applications if told is not None else ()
    for deed in scene.steering(DELIVERED, effect.at):
        if deed.principal == effect.principal or deed.verb not in CHANGES or deed.subresource:
            continue
        wait = effect.at - deed.at
        akin = deed.name and deed.name in (effect.name, f"{effect.namespace}-{effect.name}")
        if any(_names(one, deed) for one in named):
            because = f"the object says that {deed.resource}/{deed.name} manages it"
            certain = _delivers(scene, effect.principal, thing(deed))
            sure = 1.0 if certain else _LABELLED
            if not certain:
                because += f", not that it was {effect.principal} who applied it"
        elif not named and wait <= DELIVERY and akin:
            because = f"the name is alike, and it was changed {span(wait)} before"
            certain, sure = False, 0.6 if _delivers(scene, effect.principal, thing(deed)) else 0.3
        else:
            continue
        yield Found(deed, "delivery", certain, sure, because)
        return


def _names(application: Application, deed: Deed) -> bool:
    """Whether a label means the object of a deed; without a namespace it may be in any."""
    same = (application.group, application.name) == (deed.group, deed.name)
    return same and application.namespace in ("", deed.namespace)


def _delivers(scene: Scene, principal: str, what: Thing) -> bool:
    """Whether somebody is the controller of a GitOps object: it tells its status, which Argo CD
    writes, from the namespace of the object, into the object itself."""
    at_home = account_namespace(principal) == what[1]
    return any(
        deed.principal == principal and (deed.subresource == "status" or at_home)
        for deed in scene.of(what)
    )
