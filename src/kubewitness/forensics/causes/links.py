"""Which deed led to which: the kinds of link, each with how it is known.

Every rule takes a scene and an effect, and yields the causes it finds there, the likeliest first.
A rule never asks the log: what is not in the scene is no cause (``forensics.gathering`` fills it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import takewhile
from typing import NamedTuple

from kubewitness.activity.network import network
from kubewitness.activity.principal import account_namespace
from kubewitness.forensics.causes.body import Application, Owner
from kubewitness.forensics.causes.deed import INTERACTIVE, Deed
from kubewitness.forensics.causes.owner import OWNED, candidates
from kubewitness.forensics.causes.scene import (
    AUTOSCALERS,
    CHANGES,
    DELETES,
    DELIVERED,
    REACTION,
    SIGNING,
    Habit,
    Scene,
    Thing,
    habit,
    schedules,
    thing,
)
from kubewitness.forensics.kind import plural

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
    "session": "the same identity from the same place, before",
}

# How long somebody may be at work in a pod after getting in.
ENTRY = timedelta(hours=12)
_REPLACED = timedelta(seconds=60)
DELIVERY = timedelta(minutes=15)
_EVEN = 0.5
_BY_NAME = 0.9
# Who deletes what is in a namespace, or owned; a controller manager may do all under one name.
_SWEEPING = frozenset(
    {"namespace-controller", "generic-garbage-collector", "kube-controller-manager"}
)
# Whoever may write an object may write its labels, too.
_LABELLED = 0.4
CERTIFIED = timedelta(days=1)
_RBAC = {"ClusterRoleBinding": "clusterrolebindings", "RoleBinding": "rolebindings",
         "ClusterRole": "clusterroles", "Role": "roles"}  # fmt: skip
RBAC = frozenset(_RBAC.values())


class Found(NamedTuple):
    """A cause of a deed: see ``forensics.graph.Link``."""

    cause: Deed
    kind: str
    certain: bool
    confidence: float
    because: str


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
    return found.kind in ("entry", "delivery") and found.confidence < _EVEN


def rbac(reference: str) -> Thing | None:
    """The object behind ``Kind name`` as the authorizer spells it: ``RoleBinding name/namespace``.

    >>> rbac("RoleBinding team-edit/shop")
    ('rolebindings', 'shop', 'team-edit')
    """
    kind, _, name = reference.partition(" ")
    if kind not in _RBAC:
        return None
    if kind == "RoleBinding":
        name, _, namespace = name.partition("/")
        return (_RBAC[kind], namespace, name)
    return (_RBAC[kind], "", name)


def role_of(effect: Deed) -> Thing | None:
    """The role that allowed a deed; a Role lives where its binding does."""
    role, binding = rbac(effect.role), rbac(effect.binding)
    if role is None or role[0] != "roles":
        return role
    return (role[0], binding[1] if binding else "", role[2])


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


def _owner(scene: Scene, effect: Deed) -> Iterator[Found]:
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
    how = f"the controller acted {_span(wait)} after this change; bodies that would show what it"
    return likely, sure, f"{how} changed are not in the log"


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
            because = f"{last.name} of {known} went {_span(effect.at - last.at)} before"
            yield Found(last, "replacement", False, 0.9 if reference else 0.8, because)
            return


def _autoscaling(scene: Scene, effect: Deed) -> Iterator[Found]:
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


def _cascade(scene: Scene, effect: Deed) -> Iterator[Found]:
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


def _termination(scene: Scene, effect: Deed) -> Iterator[Found]:
    if effect.verb != "delete" or effect.of != "node":
        return
    for deed in scene.before(thing(effect), effect.at):
        if (deed.verb == "delete" and deed.of != "node") or deed.subresource == "eviction":
            same = scene.uid(deed) and scene.uid(deed) == scene.uid(effect)
            because = "same uid" if same else "the deletion of the same name before"
            yield Found(deed, "termination", bool(same), 1.0 if same else 0.9, because)
            return


def _pod_life(scene: Scene, effect: Deed) -> Iterator[Found]:
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
                because = f"a pod was created {_span(effect.at - deed.at)} before, its name not yet"
                because += " known" + (f"; {rivals} stood in line" if rivals > 1 else "")
                return Found(deed, "placement", False, round(0.95 / rivals, 2), because)
            same = bool(scene.uid(deed)) and scene.uid(deed) == scene.uid(effect)
            because = f"same uid {scene.uid(effect)}" if same else "same name"
            return Found(deed, "placement", same, 1.0 if same else _BY_NAME, because)
    return None


def _credential(scene: Scene, effect: Deed) -> Iterator[Found]:
    """Where the credential of a request comes from."""
    minted = scene.issued.get(effect.credential) if effect.credential else None
    if minted is not None and minted.at <= effect.at and _handed(minted, effect):
        because = f"issued-credential-id is {effect.credential}"
        yield Found(minted, "token", True, 1.0, because)
    if effect.pod and effect.of == "workload":
        yield from _in_pod(scene, effect)
    if effect.credential.startswith("X509SHA256=") and effect.of not in ("node", "control-plane"):
        yield from _certificate(scene, effect)


def _handed(minted: Deed, effect: Deed) -> bool:
    """Whether a token was minted to be used by somebody: nodes mint for their pods, and the
    controller manager for its controllers, all day."""
    if effect.of in ("control-plane", "node"):
        mine = minted.source_ip == effect.source_ip
        return mine and network(effect.source_ip).scope != "loopback"
    return minted.of != "node"


def entries(scene: Scene, effect: Deed) -> list[Deed]:
    """Who got into the pod from which a deed was done, before it, the latest first; not who got
    into an earlier pod of that name."""
    if not effect.pod or effect.of != "workload":
        return []
    lived = takewhile(lambda deed: not _born(deed), scene.before(_pod_of(effect), effect.at))
    return [
        deed
        for deed in lived
        if (deed.subresource in INTERACTIVE or deed.subresource == "ephemeralcontainers")
        and deed.subresource != "portforward"
        and deed.of not in ("node", "control-plane")
        and effect.at - deed.at <= ENTRY
    ]


def _born(deed: Deed) -> bool:
    """Whether a pod of a name began with this deed, or the one before it had ended."""
    over = deed.verb == "delete" and deed.of == "node"
    return deed.creates or deed.subresource == "binding" or over


def habits(scene: Scene, effects: Iterable[Deed]) -> set[Habit]:
    """What has to be asked before ``entry`` can be told: whether what was done from a pod that
    somebody had got into was usual before that."""
    return {habit(one, found[-1].at) for one in effects if (found := entries(scene, one))}


def _pod_of(effect: Deed) -> Thing:
    return ("pods", account_namespace(effect.principal), effect.pod)


def _in_pod(scene: Scene, effect: Deed) -> Iterator[Found]:
    pod = _pod_of(effect)
    entered = entries(scene, effect)
    if entered:
        wait, first = effect.at - entered[0].at, entered[-1].at
        before = scene.habit(effect, first)
        sure = _NOT_ASKED if before is None else _unusual(before, wait, scene.span(first))
        known = _BEFORE.get(before, f"seen {before} times before")
        because = f"{_span(wait)} after {entered[0].principal} got in; {known}"
        yield Found(entered[0], "entry", False, sure, because)
    outside = network(effect.source_ip).scope == "public"
    away = "; it was used from an outside address, so not by the pod itself" if outside else ""
    for deed in scene.before(pod, effect.at):
        if deed.creates or deed.subresource == "binding":
            same = effect.pod_uid and scene.uid(deed) == effect.pod_uid
            because = f"the token is that of pod {effect.pod}"
            because += f" (uid {effect.pod_uid})" if same else ", by name"
            sure = (1.0 if same else 0.8) * (0.5 if outside else 1)
            yield Found(deed, "pod", bool(same) and not outside, sure, because + away)
            if deed.creates:
                return


_NOT_ASKED = 0.3
_BEFORE: dict[int | None, str] = {
    None: "how often before was not asked",
    0: "never seen from this pod before that",
    1: "seen once before",
}


def _unusual(before: int, wait: timedelta, span: timedelta) -> float:
    """How unlikely it is that a deed seen ``before`` times in ``span`` falls into ``wait`` by
    itself: a Poisson process at that rate."""
    expected = (before + 0.5) * (wait / max(span, timedelta(minutes=1)))
    return round(min(0.95, max(0.05, math.exp(-expected))), 2)


def _certificate(scene: Scene, effect: Deed) -> Iterator[Found]:
    for deed in scene.steering((SIGNING,), effect.at):
        if deed.subresource != "approval":
            continue
        bodies = [body for other in scene.of(thing(deed)) if (body := scene.body(other))]
        prints = {body.fingerprint for body in bodies} - {""}
        bearers = {body.bearer for body in bodies} - {""}
        if effect.credential in prints:
            because = f"fingerprint of the certificate in {deed.name}"
            yield Found(deed, "certificate", True, 1.0, because)
            return
        if prints or effect.at - deed.at > CERTIFIED or deed.of == "control-plane":
            continue
        if effect.principal in bearers:
            because = (
                f"{deed.name}, a certificate for {effect.principal}, was approved"
                f" {_span(effect.at - deed.at)} before"
            )
            yield Found(deed, "certificate", False, 0.9, because)
            return
        if not bearers:
            because = (
                f"{deed.name} was approved {_span(effect.at - deed.at)} before; the certificate"
                " itself is not in the log"
            )
            yield Found(deed, "certificate", False, 0.4, because)
            return


def _signing(scene: Scene, effect: Deed) -> Iterator[Found]:
    """A signing request before its approval, an account before its token."""
    if effect.resource == "certificatesigningrequests" and not effect.creates:
        for deed in scene.before(thing(effect), effect.at):
            if deed.creates:
                yield Found(deed, "certificate", True, 1.0, f"the request {effect.name}")
                return
    if effect.resource == "serviceaccounts" and effect.subresource == "token":
        for deed in scene.before(thing(effect), effect.at):
            if deed.creates and deed.of != "control-plane":
                yield Found(deed, "account", False, 0.9, "the account of the same name")
                return


def _permission(scene: Scene, effect: Deed) -> Iterator[Found]:
    """Who made what the authorizer names, and who changed last what it grants."""
    for what, reference in ((rbac(effect.binding), effect.binding), (role_of(effect), effect.role)):
        if what is None:
            continue
        because = f"the authorizer names {reference}"
        changes = [deed for deed in scene.before(what, effect.at) if deed.verb in CHANGES]
        known = False
        for deed, before in zip(changes, [*changes[1:], None], strict=False):
            granted = deed.creates or _regranted(scene, deed, before)
            if deed.of != "control-plane" and (
                deed.creates or (granted is not False and not known)
            ):
                known = True
                doubt = "" if granted else "; no bodies show whether this changed what it grants"
                sure = 1.0 if granted else _EVEN
                yield Found(deed, "permission", bool(granted), sure, because + doubt)
            if deed.creates:
                break


def _regranted(scene: Scene, deed: Deed, before: Deed | None) -> bool | None:
    """Whether a change of a role or binding changed what it grants, ``None`` where bodies do not
    tell."""
    now = scene.body(deed)
    then = scene.body(before) if before is not None else None
    if now is None or then is None or not now.grants or not then.grants:
        return None
    return now.grants != then.grants


def _delivery(scene: Scene, effect: Deed) -> Iterator[Found]:
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
            because = f"the name is alike, and it was changed {_span(wait)} before"
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


def _span(wait: timedelta) -> str:
    seconds = wait.total_seconds()
    if seconds < 1:
        return f"{max(seconds * 1000, 1):.0f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def _session(scene: Scene, effect: Deed) -> Iterator[Found]:
    """The first request of the sitting in which this one was made."""
    if effect.of in ("node", "control-plane"):
        return
    sitting = scene.sitting(effect)
    if sitting is not None and sitting.first.key != effect.key:
        because = (
            f"{sitting.n} requests within {_span(effect.at - sitting.first.at)} from"
            f" {effect.source_ip or 'an unknown address'}, none of them long after another"
        )
        yield Found(sitting.first, "session", False, 0.7, because)


_RULES: tuple[Callable[[Scene, Deed], Iterator[Found]], ...] = (
    _termination, _cascade, _owner, _autoscaling, _pod_life, _delivery, _credential, _signing,
    _permission,
)  # fmt: skip
