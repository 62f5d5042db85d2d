"""What controllers and nodes do for the objects that they serve: owners, replacements, cascades,
and the life of pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from kubewitness.activity.owner import OWNED, candidates
from kubewitness.forensics.causes.body import Owner
from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.found import Found, span
from kubewitness.forensics.causes.scene import (
    AUTOSCALERS,
    CHANGES,
    DELETES,
    REACTION,
    Scene,
    Thing,
    schedules,
    thing,
)
from kubewitness.forensics.kind import plural

_REPLACED = timedelta(seconds=60)
_BY_NAME = 0.9
# Who deletes what is in a namespace, or owned; a controller manager may do all under one name.
_SWEEPING = frozenset(
    {"namespace-controller", "generic-garbage-collector", "kube-controller-manager"}
)


def owners(scene: Scene, deed: Deed) -> list[tuple[Thing, Owner | None]]:
    """What may own the object of a deed, and the owner reference that says so if one is known."""
    told = [scene.body(deed), *(scene.body(other) for other in scene.of(thing(deed)))]
    for body in told:
        if body is not None and body.owner is not None:
            owner = body.owner
            return [((plural(owner.kind), deed.namespace, owner.name), owner)]
    if any(body is not None and body.uid for body in told):
        return []  # nobody owns it
    controller = deed.controller
    return [
        ((resource, deed.namespace, name), None)
        for resource, name in candidates(deed.resource, deed.name, controller)
    ]


def owner(scene: Scene, effect: Deed) -> Iterator[Found]:
    if effect.of != "control-plane" or effect.resource not in OWNED or effect.subresource:
        return
    if effect.controller == "generic-garbage-collector":
        return
    owned = owners(scene, effect)
    if effect.resource == "pods" and effect.verb == "create":
        yield from _replacement(scene, effect, owned)
    for what, reference in owned:
        found = _maker(scene, what, effect)
        if found is None:
            continue
        cause, doubt, how = found
        if _another(scene, reference, cause):
            continue
        kind = "schedule" if what[0] == "cronjobs" else "owner"
        same, because = _owned_by(scene, what, reference, cause)
        certain = same and doubt >= 1
        because = f"{because}; {how}" if how else because
        yield Found(cause, kind, certain, doubt if same else min(_BY_NAME, doubt), because)
        return


def _owned_by(scene: Scene, what: Thing, reference: Owner | None, cause: Deed) -> tuple[bool, str]:
    """Whether a deed was done to the very object that a reference means, and how that is known."""
    if reference is None:
        return False, f"named after {what[0]}/{what[2]}"
    because = f"ownerReference to {reference.kind} {reference.name} (uid {reference.uid})"
    if reference.uid and scene.life(cause) == reference.uid:
        return True, because
    return False, f"{because}, by its name"


def _another(scene: Scene, reference: Owner | None, cause: Deed) -> bool:
    """Whether a deed was done to another object of the name than a reference means."""
    meant = reference.uid if reference is not None else ""
    uid = scene.life(cause)
    return bool(meant and uid) and uid != meant


def _maker(scene: Scene, what: Thing, effect: Deed) -> tuple[Deed, float, str] | None:
    """The last change of an owner that could make its controller do ``effect``: the deed, how sure
    that is, and how it is known."""
    changes = scene.changes(what)
    unknown: list[Deed] = []
    # A number of pods makes no revision.
    revision = effect.resource == "replicasets" and effect.verb == "create"
    for deed in scene.before(what, effect.at):
        if deed.key not in changes or (revision and deed.subresource == "scale"):
            continue
        changed = changes[deed.key]
        if changed is False and not unknown and _patched(scene, deed):
            how = (
                f"the controller acted {span(effect.at - deed.at)} after this patch of the template"
            )
            return deed, _BY_NAME, how
        if changed:
            if not unknown:
                return deed, 1.0, ""
            break
        if changed is None:
            unknown.append(deed)
    if not unknown:
        return None
    reacted = [one for one in unknown if _reaction(scene, one)]
    likely = reacted[0] if reacted else unknown[0]
    wait = effect.at - likely.at
    sure = 0.9 if wait <= REACTION else 0.7 if reacted else 0.5
    how = f"the controller acted {span(wait)} after this change; bodies that would show what it"
    return likely, sure, f"{how} changed are not in the log"


def _patched(scene: Scene, change: Deed) -> bool:
    """Whether a patch of the template had an effect that its answer does not show."""
    told = scene.body(change)
    return told is not None and told.patched and _reaction(scene, change)


def _reaction(scene: Scene, change: Deed) -> bool:
    """Whether the owner's controller did something to what it owns right after a change."""
    prefix = f"{change.name}-"
    begin = scene.first_after(change.at)
    for deed in scene.deeds[begin:]:
        if deed.at - change.at > REACTION:
            return False
        if (
            deed.namespace == change.namespace
            and deed.resource in OWNED
            and deed.of == "control-plane"
            and (deed.name.startswith(prefix) or not deed.name)
        ):
            return True
    return False


def _replacement(
    scene: Scene, effect: Deed, owned: list[tuple[Thing, Owner | None]]
) -> Iterator[Found]:
    """A pod was deleted or evicted since its owner last changed."""
    for what, reference in owned:
        made = _maker(scene, what, effect)
        gone = [
            deed
            for deed in scene.siblings_gone(effect.namespace, what[2])
            if deed.at < effect.at
            and effect.at - deed.at <= _REPLACED
            and (made is None or deed.at > made[0].at)
            and (deed.of not in ("control-plane", "node") or what[0] == "statefulsets")
        ]
        if gone:
            last = gone[-1]
            known = "the same owner" if reference else "a name of the same owner"
            because = f"{last.name} of {known} went {span(effect.at - last.at)} before"
            yield Found(last, "replacement", False, 0.9 if reference else 0.8, because)
            return


def autoscaling(scene: Scene, effect: Deed) -> Iterator[Found]:
    if effect.controller != "horizontal-pod-autoscaler" or effect.subresource != "scale":
        return
    for deed in scene.steering((AUTOSCALERS,), effect.at):
        same = deed.namespace == effect.namespace
        if not same or deed.verb not in CHANGES or deed.subresource:
            continue
        told = scene.body(deed)
        if told is not None and told.target:
            kind, _, name = told.target.partition(" ")
            if (plural(kind), name) == (effect.resource, effect.name):
                yield Found(deed, "autoscaling", True, 1.0, f"scaleTargetRef names {name}")
                return
        elif deed.name == effect.name:
            yield Found(deed, "autoscaling", False, 0.8, "the autoscaler has the same name")
            return


def cascade(scene: Scene, effect: Deed) -> Iterator[Found]:
    if effect.verb not in DELETES or effect.of != "control-plane":
        return
    if effect.controller == "generic-garbage-collector":
        for what, reference in owners(scene, effect):
            for deed in scene.before(what, effect.at):
                if deed.verb in DELETES and not _another(scene, reference, deed):
                    same, because = _owned_by(scene, what, reference, deed)
                    because += "" if same else ", which was deleted"
                    yield Found(deed, "cascade", same, 1.0 if same else 0.8, because)
                    return
    if effect.controller not in _SWEEPING:
        return
    for deed in scene.before(("namespaces", "", effect.namespace), effect.at):
        if deed.creates:
            return
        if deed.verb == "delete":
            certain = effect.controller == "namespace-controller"
            because = f"namespace {effect.namespace} was deleted"
            yield Found(deed, "cascade", certain, 1.0 if certain else 0.7, because)
            return


def termination(scene: Scene, effect: Deed) -> Iterator[Found]:
    if effect.verb != "delete" or effect.of != "node":
        return
    for deed in scene.before(thing(effect), effect.at):
        if (deed.verb == "delete" and deed.of != "node") or deed.subresource == "eviction":
            same = scene.uid(deed) and scene.uid(deed) == scene.uid(effect)
            because = "same uid" if same else "the deletion of the same name before"
            yield Found(deed, "termination", bool(same), 1.0 if same else 0.9, because)
            return


def pod_life(scene: Scene, effect: Deed) -> Iterator[Found]:
    """Scheduler and node: binding after creation, status after binding."""
    if effect.resource != "pods" or not effect.name:
        return
    if schedules(effect):
        made = _birth(scene, effect)
        if made:
            yield made
    elif effect.subresource == "status" and effect.of == "node":
        for deed in scene.before(thing(effect), effect.at):
            if deed.subresource == "binding":
                uid = scene.uid(deed)
                same = bool(uid) and uid == scene.uid(effect)
                because = f"{effect.principal} reports on this pod"
                because += f" (uid {uid})" if same else ", by name"
                yield Found(deed, "start", same, 1.0 if same else _BY_NAME, because)
                return


def _birth(scene: Scene, effect: Deed) -> Found | None:
    for deed in scene.before(thing(effect), effect.at):
        if deed.creates:
            rivals = scene.rivals.get(deed.key)
            if rivals:
                because = f"a pod was created {span(effect.at - deed.at)} before, its name not yet"
                because += " known" + (f"; {rivals} stood in line" if rivals > 1 else "")
                return Found(deed, "placement", False, round(0.95 / rivals, 2), because)
            same = bool(scene.uid(deed)) and scene.uid(deed) == scene.uid(effect)
            because = f"same uid {scene.uid(effect)}" if same else "same name"
            return Found(deed, "placement", same, 1.0 if same else _BY_NAME, because)
    return None
