"""Which parts of the log a causal question needs: what may have led to a deed is fetched, step by
step, only for what has turned out to be a cause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from kubewitness.activity.principal import account_namespace
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.deed import INTERACTIVE, Deed
from kubewitness.forensics.links import DELIVERED, Found, causes, rbac, role_of
from kubewitness.forensics.owner import OWNED, OWNERS, family
from kubewitness.forensics.record import Record
from kubewitness.forensics.scene import Key, Scene, thing

_ROUNDS = 12
_MOST = 80
_SIBLINGS = timedelta(seconds=60)
_NEAR = timedelta(seconds=10)
# Kubernetes mints tokens for at most this long unless the API server is told otherwise.
_TOKEN_LIFE = timedelta(days=2)
_DELIVERED = timedelta(minutes=15)
_TELLING = OWNED | OWNERS | {"horizontalpodautoscalers", "certificatesigningrequests"}


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
        _learn_habits(record, scene, frontier)
        for one in frontier:
            told[one.key] = causes(scene, one)
        frontier = [found.cause for one in frontier for found in told[one.key]
                    if found.kind != "session"]  # fmt: skip
    return told


def _fetch(record: Record, frontier: Sequence[Deed]) -> None:
    names: set[tuple[str, str]] = set()
    for one in frontier:
        names |= _names(one)
    latest = max(one.at for one in frontier)
    record.named(names, until=latest)
    for one in frontier:
        _fetch_around(record, one)
    _read(record)
    # An owner whose name tells nothing of what it owns.
    scene = record.scene()
    further = set()
    for one in frontier:
        for deed in (one, *scene.of(thing(one))):
            told = scene.body(deed)
            if told is not None and told.owner is not None:
                further.add((deed.namespace, told.owner.name))
    if further - names:
        record.named(further - names, until=latest)
        _read(record)


def _names(one: Deed) -> set[tuple[str, str]]:
    """``(namespace, name)`` of what may have to do with the cause of a deed."""
    names: set[tuple[str, str]] = set()
    if one.of in ("control-plane", "node") and one.name:
        names |= {(one.namespace, name) for name in family(one.resource, one.name)}
    elif one.subresource == "token" or one.resource == "certificatesigningrequests":
        names.add((one.namespace, one.name))
    if one.of == "control-plane" and one.verb in ("delete", "deletecollection"):
        names.add(("", one.namespace))
    for what in (rbac(one.binding), role_of(one)):
        if what is not None and not what[2].startswith("system:"):
            names.add((what[1], what[2]))
    if one.pod and one.of == "workload":
        home = account_namespace(one.principal)
        names |= {(home, name) for name in family("pods", one.pod)}
    return names


def _fetch_around(record: Record, one: Deed) -> None:
    """What can be told only by when it was."""
    if one.resource == "pods" and one.of in ("control-plane", "node"):
        if one.verb == "create" and not one.subresource and one.name:
            base = one.name.rpartition("-")[0]
            record.around(f"{base}-", one.namespace, one.at - _SIBLINGS, one.at)
        elif one.subresource == "binding":
            record.around(one.name, one.namespace, one.at - _NEAR, one.at)
    if one.controller == "horizontal-pod-autoscaler":
        record.find(
            f"resource = 'horizontalpodautoscalers' AND namespace = {quoted(one.namespace)}"
            " AND verb IN ('create', 'update', 'patch') AND subresource IS NULL",
            until=one.at,
            latest=True,
        )
    if one.of == "workload" and one.verb in ("create", "update", "patch", "delete"):
        kinds = ", ".join(quoted(kind) for kind in sorted(DELIVERED))
        record.find(
            f"resource IN ({kinds}) AND verb IN ('create', 'update', 'patch') AND subresource IS"
            f' NULL AND "user" <> {quoted(one.principal)}',
            since=one.at - _DELIVERED,
            until=one.at,
            latest=True,
        )
    if one.credential.startswith("JTI="):
        home, name = account_namespace(one.principal), one.principal.rpartition(":")[2]
        if home:
            record.find(
                f"subresource = 'token' AND name = {quoted(name)} AND namespace = {quoted(home)}"
                f" AND contains(CAST(annotations AS VARCHAR), {quoted(one.credential)})",
                since=one.at - _TOKEN_LIFE,
                until=one.at,
            )
    if one.credential.startswith("X509SHA256=") and one.of not in ("node", "control-plane"):
        record.find(
            "resource = 'certificatesigningrequests' AND verb IN ('create', 'update', 'patch')",
            since=one.at - _TOKEN_LIFE,
            until=one.at,
        )
    if one.of not in ("node", "control-plane"):
        record.sitting(one)


def _read(record: Record) -> None:
    record.read_bodies(
        [one for one in record.deeds.values() if one.resource in _TELLING and one.served
         and one.verb in ("create", "update", "patch", "delete")
         and one.subresource in ("", "scale", "approval", "status")]
    )  # fmt: skip


def _learn_habits(record: Record, scene: Scene, frontier: Iterable[Deed]) -> None:
    """Only of what was done from a pod that somebody had got into."""
    entered: dict[tuple[str, str], datetime] = defaultdict()
    for one in scene.deeds:
        if one.subresource in INTERACTIVE or one.subresource == "ephemeralcontainers":
            entered.setdefault((one.namespace, one.name), one.at)
    for one in frontier:
        at = entered.get((account_namespace(one.principal), one.pod))
        if one.pod and at is not None and at < one.at:
            record.learn_habit(one)
