"""Where the credential of a request comes from: minted, certified, or taken from a pod."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import takewhile

from kubewitness.activity.network import network
from kubewitness.activity.principal import account_namespace
from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.found import Found, span
from kubewitness.forensics.causes.habit import Habit, habit
from kubewitness.forensics.causes.scene import (
    AT_ALL,
    BEARING,
    SIGNING,
    Scene,
    Thing,
    born,
    thing,
)

# How long somebody may be at work in a pod after getting in.
ENTRY = timedelta(hours=12)
CERTIFIED = timedelta(days=1)


def credential(scene: Scene, effect: Deed) -> Iterator[Found]:
    """Where the credential of a request comes from."""
    minted = scene.issued.get(effect.credential) if effect.credential else None
    if minted is not None and minted.at <= effect.at and _handed(minted, effect):
        because = f"issued-credential-id is {effect.credential}"
        yield Found(minted, "token", True, 1.0, because)
    if effect.pod and effect.of == "workload":
        yield from _in_pod(scene, effect)
    if certified(effect):
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
    earlier = scene.lives(_pod_of(effect), effect.at)
    return list(takewhile(lambda deed: not born(deed) and effect.at - deed.at <= ENTRY, earlier))


def habits(scene: Scene, effects: Iterable[Deed]) -> set[Habit]:
    """What has to be asked before ``entry`` can be told: whether what was done from a pod that
    somebody had got into was usual before that."""
    return {habit(one, found[-1].at) for one in effects if (found := entries(scene, one))}


def _pod_of(effect: Deed) -> Thing:
    return ("pods", account_namespace(effect.principal), effect.pod)


def _in_pod(scene: Scene, effect: Deed) -> Iterator[Found]:
    entered = entries(scene, effect)
    if entered:
        wait, first = effect.at - entered[0].at, entered[-1].at
        before = scene.habit(effect, first)
        sure = _NOT_ASKED if before is None else _unusual(before, wait, scene.span(first))
        known = _BEFORE.get(before, f"seen {before} times before")
        because = f"{span(wait)} after {entered[0].principal} got in; {known}"
        yield Found(entered[0], "entry", False, sure, because)
    outside = network(effect.source_ip).scope == "public"
    away = "; it was used from an outside address, so not by the pod itself" if outside else ""
    for deed in scene.lives(_pod_of(effect), effect.at):
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


def certified(effect: Deed) -> bool:
    """Whether it was done with a certificate that somebody may have had approved."""
    machinery = effect.of in ("node", "control-plane")
    return effect.credential.startswith("X509SHA256=") and not machinery


def _approves(deed: Deed, effect: Deed) -> bool:
    """Whether somebody approved a certificate within the day before."""
    lately = effect.at - deed.at <= CERTIFIED
    return deed.subresource == "approval" and lately and deed.of != "control-plane"


def _certificate(scene: Scene, effect: Deed) -> Iterator[Found]:
    """The approval of the certificate itself; where none is known, the latest that may be it."""
    guessed: Found | None = None
    for deed in scene.steering((SIGNING,), effect.at):
        if deed.subresource != "approval":
            continue
        bodies = [body for other in scene.of(thing(deed)) if (body := scene.body(other))]
        prints = {body.fingerprint for body in bodies} - {""}
        if effect.credential in prints:
            because = f"fingerprint of the certificate in {deed.name}"
            yield Found(deed, "certificate", True, 1.0, because)
            return
        if guessed is None and not prints and _approves(deed, effect):
            guessed = _approved(scene, effect, deed, {body.bearer for body in bodies} - {""})
    if guessed is not None:
        yield guessed


def _approved(scene: Scene, effect: Deed, deed: Deed, bearers: set[str]) -> Found | None:
    """Whether a certificate that was not logged may be that of an effect."""
    used = scene.first(effect, (*BEARING, effect.credential))
    if used is not None and used < deed.at:
        return None
    wait = span(effect.at - deed.at)
    if effect.principal in bearers:
        because = f"{deed.name}, a certificate for {effect.principal}, was approved {wait} before"
        return Found(deed, "certificate", False, 0.9, because)
    # Nothing but that it came soon after: another certificate may have been in use for long.
    if bearers or effect.key not in scene.firsts:
        return None
    known = scene.first(effect, AT_ALL)
    new = known is None or known >= deed.at
    because = f"{deed.name} was approved {wait} before; the certificate itself is not in the log"
    because += f", nor {effect.principal} before that" if new else ""
    return Found(deed, "certificate", False, 0.7 if new else 0.4, because)


def signing(scene: Scene, effect: Deed) -> Iterator[Found]:
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
