"""What a write makes of an object where the answer is not logged: the request, applied.

Nothing here is a guess. What the API server adds by itself becomes ``Unknown`` or open, and a patch
that could be of several kinds leaves only what all of them agree upon.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from kubewitness.forensics.kind import Kind
from kubewitness.forensics.objects.knowledge import (
    AMBIGUOUS,
    NEVER_SEEN,
    Open,
    Unknown,
    agreed,
    as_requested,
    child,
    fits,
    requested,
)
from kubewitness.forensics.objects.patch import PatchError, json_patched, merge_patched
from kubewitness.forensics.objects.record import Record
from kubewitness.forensics.objects.server_side import applied, manager_of
from kubewitness.forensics.objects.strategic import is_strategic, strategic_patched

JSON, MERGE, STRATEGIC, APPLY = (
    "JSON patch",
    "merge patch",
    "strategic merge patch",
    "server-side apply",
)
METADATA = "the level of the write is Metadata: no bodies were logged"
BOOKKEEPING = "set anew by the API server with every write"
CONVERTED = "written in another API version than what was known before"

# What the API server keeps or sets whatever a request says.
_KEPT = (
    *("name", "namespace", "generateName", "uid", "creationTimestamp", "deletionTimestamp"),
    *("deletionGracePeriodSeconds", "selfLink"),
)
# The API server counts the templates of a DaemonSet in an annotation.
_COUNTED = "deprecated.daemonset.template.generation"
_STATUS = frozenset({"status", "approval"})


def written(before: Any, record: Record, kind: Kind) -> Any:
    """What is known of an object after a successful create, update or patch, without its answer.

    ``before`` is what was known of it until then.
    """
    if record.request is None:
        return _blurred(before, record.subresource)
    base = before
    if not _same_version(before, record):
        kept = {"metadata": before["metadata"]} if "metadata" in before else {}
        base = Open({**kept, "spec": Unknown(CONVERTED)})
    match record.subresource:
        case "binding":
            return _bound(base, record.request)
        case "scale":
            return _scaled(base, record)
        case "finalize":
            finalizers = child(record.request, "spec").get("finalizers", [])
            return _booked(_with(base, ("spec", "finalizers"), finalizers))
    if record.verb == "patch":
        after = _patched(base, record, kind)
    else:
        body = record.request if isinstance(record.request, dict) else {}
        # Whoever creates or updates sends the whole object, whatever was known.
        after = as_requested(base, body) if record.verb == "update" else requested(body)
    for patch in record.mutations:
        after = _mutated(after, patch)
    if record.verb == "create":
        return _begun(after, kind)
    return _restricted(base, after, record, kind)


def readings(record: Record, kind: Kind) -> tuple[str, ...]:
    """Which kinds of patch a request may be; the log does not hold its content type.

    kubectl sends strategic merge patches to the well-known kinds, except for ``kubectl label`` and
    ``annotate``, and ``kubectl patch``, where its user chooses; ``force`` belongs to apply alone.
    """
    body = record.request
    if isinstance(body, list):
        return (JSON,)
    if not isinstance(body, dict):
        return ()
    manager = record.query.get("fieldManager", [""])[0]
    if manager and "force" in record.query:
        return (APPLY,)
    if is_strategic(body):
        return (STRATEGIC,)
    typed = bool(manager) and "apiVersion" in body and "kind" in body
    if typed and record.answered is not None:
        if manager_of(record.answered["metadata"].get("managedFields"), manager):
            return (APPLY,)
        typed = False
    merging: tuple[str, ...] = (MERGE,) if kind.custom else (STRATEGIC, MERGE)
    if manager in ("kubectl-label", "kubectl-annotate"):
        merging = (MERGE,)
    elif manager.startswith("kubectl-") and manager != "kubectl-patch" and not kind.custom:
        merging = (STRATEGIC,)
    return (*merging, APPLY) if typed else merging


def settled(before: Any, record: Record, kind: Kind) -> tuple[str, ...]:
    """``readings``, without those that the answer contradicts."""
    possible = readings(record, kind)
    if len(possible) < 2 or record.answered is None:
        return possible
    results = {
        one: _restricted(before, _read(before, record, kind, one), record, kind) for one in possible
    }
    return tuple(one for one in possible if fits(results[one], record.answered)) or possible


def _patched(base: Any, record: Record, kind: Kind) -> Any:
    results = [
        as_requested(_looked_at(base, record), _looked_at(_read(base, record, kind, one), record))
        for one in readings(record, kind)
    ]
    return reduce(agreed, results) if results else _blurred(base, record.subresource)


def _looked_at(value: Any, record: Record) -> Any:
    """``value`` without what is the same whatever a patch does: of a write of the status all else,
    and always who manages which field, which is half of an object."""
    if record.mutations or not isinstance(value, dict):
        return value
    result = type(value)(value)
    if record.subresource in _STATUS:
        result = type(value)({k: v for k, v in value.items() if k in ("metadata", "status")})
    metadata = value.get("metadata")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        result["metadata"] = type(metadata)({**metadata, "managedFields": Unknown(BOOKKEEPING)})
    return result


def _read(base: Any, record: Record, kind: Kind, reading: str) -> Any:
    body = record.request
    try:
        match reading:
            case "JSON patch":
                return json_patched(base, body)
            case "merge patch":
                return merge_patched(base, body)
            case "strategic merge patch":
                return strategic_patched(base, body)
            case _:
                manager = record.query.get("fieldManager", [""])[0]
                return applied(base, body, manager, custom=kind.custom)
    except (PatchError, AttributeError, TypeError):
        # Accepted by the API server, so what was known is not what was there.
        return _blurred(base, record.subresource)


def _mutated(value: Any, patch: Any) -> Any:
    try:
        return as_requested(value, json_patched(value, patch))
    except PatchError:
        return _blurred(value, "")


def _begun(after: Any, kind: Kind) -> Any:
    """A new object: the API server drops a status that a create brings."""
    result = Open({key: item for key, item in after.items() if key != "status"})
    metadata = Open(child(result, "metadata"))
    for key in ("uid", "creationTimestamp", "resourceVersion", "managedFields", "generation"):
        metadata.pop(key, None)
    if not metadata.get("name"):
        metadata["name"] = Unknown(BOOKKEEPING)
    result["metadata"] = metadata
    if kind.resource == "daemonsets":
        result = _with(result, ("metadata", "annotations", _COUNTED), Unknown(BOOKKEEPING))
    return result


def _restricted(base: Any, after: Any, record: Record, kind: Kind) -> Any:
    """``after`` without what a request to this (sub)resource cannot change."""
    result = type(after)(after)
    if record.subresource in _STATUS:
        result = type(base)(base)
        result["status"] = after.get("status", Unknown(NEVER_SEEN))
        metadata = dict.copy(child(base, "metadata"))
        metadata = type(child(base, "metadata"))(metadata)
        # Which of them may be written along with a status differs from kind to kind.
        for key in ("labels", "annotations", "finalizers", "ownerReferences"):
            one, other = metadata.get(key), child(after, "metadata").get(key)
            if one != other:
                metadata[key] = Unknown(AMBIGUOUS)
        result["metadata"] = metadata
        return _booked(result, generation=False)
    if record.subresource in ("ephemeralcontainers", "resize"):
        result = type(base)(base)
        result["spec"] = after.get("spec", Unknown(NEVER_SEEN))
        return _booked(result)
    if "status" in base or "status" in after:
        one, other = base.get("status"), after.get("status")
        if not kind.custom:
            other = one if "status" in base else Unknown(NEVER_SEEN)
        result["status"] = other if one == other else Unknown(AMBIGUOUS)
    metadata = type(child(after, "metadata"))(child(after, "metadata"))
    for key in _KEPT:
        if key in child(base, "metadata"):
            metadata[key] = base["metadata"][key]
        elif isinstance(metadata.get(key), Unknown):
            del metadata[key]
    result["metadata"] = metadata
    if kind.resource == "daemonsets":
        result = _with(result, ("metadata", "annotations", _COUNTED), Unknown(BOOKKEEPING))
    return _booked(result)


def _booked(value: Any, *, generation: bool = True) -> Any:
    """With what every write changes in the metadata marked as such."""
    result = type(value)(value)
    metadata = child(value, "metadata")
    result["metadata"] = type(metadata)(metadata)
    for key in ("resourceVersion", "managedFields", *(("generation",) if generation else ())):
        result["metadata"][key] = Unknown(BOOKKEEPING)
    return result


def _blurred(before: Any, subresource: str) -> Any:
    """What is left of what was known after a write of which no body was logged."""
    if subresource in _STATUS:
        return _booked(_with(before, ("status",), Unknown(METADATA)), generation=False)
    if subresource == "scale":
        return _booked(_with(before, ("spec", "replicas"), Unknown(METADATA)))
    if subresource == "binding":
        return _bound(before, {})
    kept = child(before, "metadata")
    result = Open({key: before[key] for key in ("apiVersion", "kind") if key in before})
    result["metadata"] = Open({key: kept[key] for key in _KEPT if key in kept})
    for key in before:
        result.setdefault(key, Unknown(METADATA))
    return result


def _bound(base: Any, body: Any) -> Any:
    """A pod after the scheduler bound it; labels and annotations may be given along."""
    node = child(body, "target").get("name")
    result = _with(base, ("spec", "nodeName"), node if node else Unknown(METADATA))
    result = _with(result, ("status", "conditions"), Unknown(BOOKKEEPING))
    metadata = type(result["metadata"])(result["metadata"]) if "metadata" in result else Open()
    for key in ("labels", "annotations"):
        metadata[key] = Open(child(metadata, key))
    result["metadata"] = metadata
    return _booked(result)


def _scaled(base: Any, record: Record) -> Any:
    told = [child(body, "spec").get("replicas") for body in (record.response, record.request)]
    replicas = next((one for one in told if isinstance(one, int)), None)
    # A scale to nothing is written without the zero.
    found = 0 if replicas is None and record.verb == "update" else replicas
    return _booked(_with(base, ("spec", "replicas"), Unknown(METADATA) if found is None else found))


def _with(value: Any, path: tuple[str, ...], item: Any) -> Any:
    key, *rest = path
    result = type(value)(value)
    result[key] = _with(child(value, key), tuple(rest), item) if rest else item
    return result


def _same_version(before: Any, record: Record) -> bool:
    known = before.get("apiVersion")
    parts = record.uri.partition("?")[0].split("/")
    asked = "/".join(parts[2:4]) if parts[1:2] == ["apis"] else "".join(parts[2:3])
    return not isinstance(known, str) or known == asked
