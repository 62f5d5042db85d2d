"""An object's life, request by request: what is known of it after each.

The answer of the API server is the object; where it is not logged the request is applied to what
was known (``writing``). A name can have several lives: what was deleted and made again is another
object, with another uid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from kubewitness.forensics.effect import begins
from kubewitness.forensics.objects.knowledge import Open, OpenList, Unknown, child
from kubewitness.forensics.objects.record import Record
from kubewitness.forensics.objects.selection import selects
from kubewitness.forensics.objects.writing import BOOKKEEPING, written
from kubewitness.forensics.target import Target

Existence = Literal["exists", "terminating", "gone", "unknown"]

MAY_BE_GONE = "a collection was deleted, and the log does not say whether this object was in it"
# The garbage collector gets at what it owns before, or after, by a finalizer.
_WAITING = ("Foreground", "Orphan")
FINALIZERS = (
    "finalizers may have kept it a while longer: this log does not tell whether it had some"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A request that a state was taken from, and which part of it."""

    audit_id: str
    at: datetime
    gave: Literal["answer", "request", "metadata"]


@dataclass(frozen=True, slots=True)
class State:
    """What is known of an object at one time.

    ``life`` counts the objects of this name, from 1 (0: none was seen yet); ``begun`` is when this
    one was created, if that was logged; ``object`` is JSON as in ``knowledge``; ``sources`` are the
    requests it was taken from.
    """

    existence: Existence = "unknown"
    life: int = 0
    uid: str = ""
    begun: datetime | None = None
    object: Any = field(default_factory=Open)
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()


def replayed(
    records: Iterable[Record], target: Target, *, answers: bool = True
) -> Iterator[tuple[Record, State, State]]:
    """Each record with the state before and after it.

    Without ``answers`` nothing but the requests is believed, from the first answer on: what a log
    at level Request would tell to somebody who saw the object once.
    """
    state = State()
    for record in records:
        seen = answers or state.life == 0 or not state.sources
        after = step(state, record, target, answers=seen)
        yield record, state, after
        state = after


def state_after(records: Iterable[Record], target: Target) -> State:
    """The state after all of them."""
    state = State()
    for record in records:
        state = step(state, record, target)
    return state


def step(state: State, record: Record, target: Target, *, answers: bool = True) -> State:
    """The state after a record."""
    if record.outcome != "ok" or record.dry_run:
        return state
    state = _same_life(state, record)
    after = state
    if record.subresource == "eviction":
        after = replace(state, existence="terminating", object=_evicted(state.object))
    elif record.touches:
        pass
    elif record.verb == "delete":
        after = _deleted(state, record, target, answers)
    elif record.verb == "deletecollection":
        after = _swept(state, record, target)
    elif record.verb in ("create", "update", "patch"):
        after = _written(state, record, target, answers)
    elif record.answered is not None:  # a read whose answer was logged
        after = _observed(state, record)
    return after


def _same_life(state: State, record: Record) -> State:
    """``state``, or the beginning of another life where the record is about one."""
    begun = begins(record.verb, record.subresource, record.code)
    other = bool(record.uid and state.uid and record.uid != state.uid)
    after_all = state.existence == "gone" and record.verb in ("create", "update", "patch")
    if record.verb == "deletecollection" or record.touches:
        return state
    if begun or other or (after_all and not record.subresource) or state.life == 0:
        return State("exists", state.life + 1, record.uid, record.at if begun else None)
    return replace(state, uid=state.uid or record.uid)


def _observed(state: State, record: Record) -> State:
    answer = record.answered
    assert answer is not None
    return replace(
        state,
        existence=_existence(answer),
        uid=str(answer["metadata"].get("uid") or state.uid),
        object=answer,
        sources=(Source(record.audit_id, record.at, "answer"),),
        notes=(),
    )


def _written(state: State, record: Record, target: Target, answers: bool) -> State:
    if answers and record.answered is not None:
        return _observed(state, record)
    known = written(state.object, record, target.kind)
    if answers and record.metadata is not None:
        known = type(known)({**known, "metadata": record.metadata})
    gave: Literal["request", "metadata"] = "metadata" if record.request is None else "request"
    whole = record.verb == "create" and not record.subresource
    begun: Existence = "exists"
    if state.existence == "terminating":
        begun = "gone" if _lets_go(record, target) else "terminating"
    return replace(
        state,
        existence=_existence(known) if answers and record.metadata is not None else begun,
        object=_named(known, target, state.uid),
        sources=(*(() if whole else state.sources), Source(record.audit_id, record.at, gave)),
    )


def _deleted(state: State, record: Record, target: Target, answers: bool) -> State:
    source = (*state.sources, Source(record.audit_id, record.at, "metadata"))
    if record.answered is not None and answers:
        seen = _observed(state, record)
        return seen if _keeps(record.answered) else replace(seen, existence="gone")
    if isinstance(record.response, dict) and record.response.get("kind") == "Status":
        # Not even terminating: nothing was left to answer with.
        return replace(state, existence="gone", sources=source)
    options = record.request if isinstance(record.request, dict) else {}
    graceful = target.kind.resource == "pods" and options.get("gracePeriodSeconds") != 0
    if graceful and not (state.existence == "terminating" and _is_node(record.user)):
        return replace(
            state, existence="terminating", object=_deleting(state.object), sources=source
        )
    metadata, spec = child(state.object, "metadata"), child(state.object, "spec")
    keepers = [_finalizers(metadata), _finalizers(spec)]
    held = any(isinstance(one, list) and one for one in keepers)
    waits = held or options.get("propagationPolicy") in _WAITING
    # Of a pod that its node lets go, nobody says when it lost its finalizers.
    if waits and target.kind.resource != "pods":
        return replace(
            state, existence="terminating", object=_deleting(state.object), sources=source
        )
    unsure = waits or any(isinstance(one, Unknown | OpenList) for one in keepers)
    notes = (*state.notes, FINALIZERS) if unsure else state.notes
    return replace(state, existence="gone", sources=source, notes=notes)


def _swept(state: State, record: Record, target: Target) -> State:
    """After a deletecollection, which names no object but those in its answer."""
    if state.existence in ("gone", "unknown"):
        return state
    items = record.response.get("items") if isinstance(record.response, dict) else None
    if isinstance(items, list):
        named = (item for item in items if child(item, "metadata").get("name") == target.name)
        found = next(named, None)
        if found is None:
            return state
        lasts = target.kind.resource == "pods" or _keeps(found, deleting=True)
    else:
        included = _selected(state, record)
        if included is False:
            return state
        if included is None:
            return replace(state, existence="unknown", notes=(*state.notes, MAY_BE_GONE))
        lasts = target.kind.resource == "pods"
    sources = (*state.sources, Source(record.audit_id, record.at, "metadata"))
    gone: Existence = "terminating" if lasts else "gone"
    return replace(state, existence=gone, object=_deleting(state.object), sources=sources)


def _selected(state: State, record: Record) -> bool | None:
    if "fieldSelector" in record.query:
        return None
    selector = record.query.get("labelSelector", [""])[0]
    if not selector:
        return True
    metadata = child(state.object, "metadata")
    labels = metadata.get("labels")
    if labels is None and type(metadata) is dict:
        labels = {}
    # Of labels that are known in part, nobody can say which are missing.
    return selects(selector, labels) if type(labels) is dict else None


def _existence(answer: dict[str, Any]) -> Existence:
    if not answer["metadata"].get("deletionTimestamp"):
        return "exists"
    return "terminating" if _keeps(answer) else "gone"


def _keeps(answer: dict[str, Any], *, deleting: bool = False) -> bool:
    """Whether something keeps an object that is being deleted: finalizers, a grace period."""
    metadata = answer["metadata"]
    finalizers = metadata.get("finalizers") or child(answer, "spec").get("finalizers")
    return bool(finalizers) or bool(metadata.get("deletionGracePeriodSeconds") and not deleting)


def _finalizers(place: Any) -> Any:
    """The finalizers that metadata (or the spec of a namespace) has, as far as that is known."""
    missing: Any = Unknown("") if isinstance(place, Open) else []
    return place.get("finalizers", missing)


def _lets_go(record: Record, target: Target) -> bool:
    """Whether a request takes the last finalizers from what is being deleted."""
    space = target.kind.resource == "namespaces"
    if target.kind.resource == "pods" or record.subresource != ("finalize" if space else ""):
        return False  # a pod ends when its node says so
    place = child(record.request, "spec" if space else "metadata")
    # A patch that does not speak of them leaves them; an update without them has none.
    return record.request is not None and not place.get("finalizers", record.verb == "patch")


def _deleting(known: Any) -> Any:
    result, metadata = type(known)(known), child(known, "metadata")
    result["metadata"] = type(metadata)(metadata)
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"):
        result["metadata"][key] = Unknown(BOOKKEEPING)
    return result


def _evicted(known: Any) -> Any:
    """A pod on its way out: it is told in its conditions, too."""
    result, status = _deleting(known), child(known, "status")
    result["status"] = type(status)({**status, "conditions": Unknown(BOOKKEEPING)})
    return result


def _named(known: Any, target: Target, uid: str) -> Any:
    """With what the reference itself tells."""
    result, metadata = type(known)(known), child(known, "metadata")
    told = {"name": target.name, "namespace": target.namespace, "uid": uid}
    missing = {k: v for k, v in told.items() if v and not isinstance(metadata.get(k), str)}
    if target.kind.resource == "namespaces":
        missing.pop("namespace", None)
    result["metadata"] = type(metadata)({**metadata, **missing})
    return result


def _is_node(user: str) -> bool:
    return user.startswith("system:node:")
