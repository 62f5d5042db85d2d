"""Which parts of the log a causal question needs: what may have led to a deed is fetched, step by
step, only for what has turned out to be a cause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta

from kubewitness.activity.network import network
from kubewitness.activity.owner import OWNED, OWNERS, family
from kubewitness.activity.principal import account_namespace
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.attempt import ATTEMPT, attempted
from kubewitness.forensics.causes.deed import Deed, any_in
from kubewitness.forensics.causes.delivery import DELIVERY
from kubewitness.forensics.causes.found import Found
from kubewitness.forensics.causes.grants import RBAC, rbac, role_of
from kubewitness.forensics.causes.links import causes, leads_back
from kubewitness.forensics.causes.possession import habits
from kubewitness.forensics.causes.record import Near, Record
from kubewitness.forensics.causes.scene import (
    DELIVERED,
    REACTION,
    TOKEN_LIFE,
    Key,
    Scene,
    Thing,
    schedules,
    thing,
)

_ROUNDS = 12
_MOST = 60
_SOON = timedelta(hours=1)
_SURE = 0.9
_BY_PLAN = frozenset({"namespace-controller", "generic-garbage-collector"})
_SIBLINGS = timedelta(seconds=60)
_NEAR = timedelta(seconds=10)
# Bodies are large: that many of the latest of one object say what it changed from and to.
_READ, _PODS_READ = 8, 2
_TELLING = OWNED | OWNERS | RBAC | {"horizontalpodautoscalers", "certificatesigningrequests"}


def ancestors(record: Record, seeds: Sequence[Deed]) -> dict[Key, list[Found]]:
    """The causes of ``seeds``, of their causes, and so on: by the key of the effect."""
    told: dict[Key, list[Found]] = {}
    frontier = list(seeds)
    asked: set[Key] = set()
    for _ in range(_ROUNDS):
        frontier = [one for one in frontier if one.key not in asked]
        if not frontier or len(asked) > _MOST:
            break
        asked.update(one.key for one in frontier)
        _fetch(record, frontier)
        scene = record.scene()
        record.learn_habits(habits(scene, frontier))
        record.learn_firsts(frontier)
        record.learn_sittings(frontier)
        for one in frontier:
            told[one.key] = causes(scene, one)
        frontier = [found.cause for one in frontier for found in told[one.key]
                    if leads_back(found, one)]  # fmt: skip
    return told


def _fetch(record: Record, frontier: Sequence[Deed]) -> None:
    """First what is near in time, which most causes are; all of the log only for what that does
    not explain."""
    near: list[Deed] = []
    for one in frontier:
        near += record.named(_names(one), since=one.at - _SOON, until=one.at)
        near += _fetch_around(record, one)
    _read(record, [*frontier, *near])
    _own(record, frontier, since=_SOON)
    scene = record.scene()
    left = [one for one in frontier if _unexplained(scene, one)]
    if left:
        latest = max(one.at for one in left)
        names = {name for one in left for name in _names(one)}
        _read(record, record.named(names, until=latest))
        _own(record, left, since=None)
    allowing = {what for one in frontier for what in (rbac(one.binding), role_of(one)) if what}
    granted = record.named(
        {(home, name) for _, home, name in allowing if not name.startswith("system:")},
        until=max(one.at for one in frontier),
    )
    _read(record, granted)


def _own(record: Record, frontier: Sequence[Deed], since: timedelta | None) -> None:
    """Owners whose name tells nothing of what they own."""
    scene = record.scene()
    for one in frontier:
        known = _names(one)
        further = set()
        for deed in (one, *scene.of(thing(one))):
            told = scene.body(deed)
            if told is not None and told.owner is not None:
                further.add((deed.namespace, told.owner.name))
        if further - known:
            begin = one.at - since if since else None
            _read(record, record.named(further - known, since=begin, until=one.at))


def _unexplained(scene: Scene, one: Deed) -> bool:
    """Whether machinery did it, or a pod's token, and nothing near says why."""
    found = [cause for cause in causes(scene, one, sittings=False) if cause.kind != "permission"]
    if one.of in ("control-plane", "node") and (
        one.resource in OWNED or one.controller in _BY_PLAN
    ):
        return not any(cause.certain or cause.confidence >= _SURE for cause in found)
    return bool(one.pod) and one.of == "workload" and not found


def _names(one: Deed) -> set[tuple[str, str]]:
    """``(namespace, name)`` of what may have to do with the cause of a deed."""
    names: set[tuple[str, str]] = set()
    if one.of in ("control-plane", "node") and one.name:
        names |= {(one.namespace, name) for name in family(one.resource, one.name)}
    elif one.subresource == "token" or one.resource == "certificatesigningrequests":
        names.add((one.namespace, one.name))
    if one.of == "control-plane" and one.verb in ("delete", "deletecollection"):
        names.add(("", one.namespace))
    if one.pod and one.of == "workload":
        home = account_namespace(one.principal)
        names |= {(home, name) for name in family("pods", one.pod)}
    return names


def _fetch_around(record: Record, one: Deed) -> list[Deed]:
    """What can be told only by when it was; returns what may have bodies worth reading."""
    near: list[Deed] = []
    if one.resource == "pods" and one.of in ("control-plane", "node"):
        if one.verb == "create" and not one.subresource and one.name:
            base = one.name.rpartition("-")[0]
            siblings = Near(one.namespace, f"{base}-", one.at - _SIBLINGS, one.at)
            record.near([siblings], latest=True)
        elif schedules(one):
            before = Near(one.namespace, one.name, one.at - _NEAR, one.at)
            near += record.near([before], latest=True)
    if one.controller == "horizontal-pod-autoscaler":
        near += record.changed(
            f"resource = 'horizontalpodautoscalers' AND namespace = {quoted(one.namespace)}"
            " AND verb IN ('create', 'update', 'patch') AND subresource IS NULL",
            until=one.at,
            latest=True,
        )
    if one.of == "workload" and one.verb in ("create", "update", "patch", "delete"):
        near.append(one)
        kinds = ", ".join(quoted(kind) for kind in sorted(DELIVERED))
        written = f"resource IN ({kinds}) AND verb IN ('create', 'update', 'patch')"
        mine = f'"user" = {quoted(one.principal)}'
        # Who tells the status of such objects is their controller.
        record.changed(
            f"{written} AND (subresource IS NULL OR (subresource = 'status' AND {mine}))",
            since=one.at - DELIVERY,
            until=one.at + _SOON,
            latest=True,
        )
    if attempted(one):
        record.changed(
            f"verb IN ('create', 'patch') AND resource = {quoted(one.resource)}"
            f" AND name = {quoted(one.name)} AND code = 403 AND subresource IS NULL",
            since=one.at - ATTEMPT,
            until=one.at,
            latest=True,
        )
    home, name = account_namespace(one.principal), one.principal.rpartition(":")[2]
    stolen = one.of != "control-plane" or network(one.source_ip).scope == "public"
    if one.credential.startswith("JTI=") and home and stolen:
        record.changed(
            f"subresource = 'token' AND name = {quoted(name)} AND namespace = {quoted(home)}"
            f" AND {any_in('annotations', [one.credential])}",
            since=one.at - TOKEN_LIFE,
            until=one.at,
        )
    if one.of in ("node", "control-plane"):
        return near
    if one.credential.startswith("X509SHA256="):
        near += record.changed(
            "resource = 'certificatesigningrequests' AND verb IN ('create', 'update', 'patch')",
            since=one.at - TOKEN_LIFE,
            until=one.at,
        )
    return near


def _read(record: Record, deeds: Iterable[Deed]) -> None:
    """The bodies of what tells about owners and templates, the latest few of each object."""
    by_thing: dict[Thing, list[Deed]] = defaultdict(list)
    for one in sorted(deeds, key=lambda one: one.turn, reverse=True):
        if (
            one.resource in _TELLING
            and one.served
            and one.verb in ("create", "update", "patch", "delete")
            and one.subresource in ("", "scale", "approval", "status")
        ):
            by_thing[thing(one)].append(one)
    fresh = [one for what, own in by_thing.items()
             for one in own[: _PODS_READ if what[0] == "pods" else _READ]
             if one.key not in record.bodies]  # fmt: skip
    record.read_bodies(fresh)
    for one in fresh:
        told = record.bodies[one.key]
        if told is not None and told.patched:
            # Whether its controller did something then.
            record.near([Near(one.namespace, f"{one.name}-", one.at, one.at + REACTION)])
