"""What a request asks for and what comes back, where the cluster's level would show it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from kubewitness.evaluate.rehearsal.answering import INTERACTIVE
from kubewitness.evaluate.rehearsal.script import Request
from kubewitness.evaluate.rehearsal.survey import OK

_CONNECTED = INTERACTIVE | {"proxy"}
_READS = frozenset({"get", "list", "watch"})
_DELETES = frozenset({"delete", "deletecollection"})
# Of the example's object, not of this one.
_ITS_OWN = frozenset(
    ["name", "namespace", "uid", "generateName", "ownerReferences", "managedFields", "selfLink"]
)


class Made(NamedTuple):
    """When an object was made, and its uid."""

    at: datetime
    uid: str


def bodies(
    request: Request, example: dict[str, Any], exact: bool, code: int, made: Made
) -> dict[str, Any]:
    """``requestObject`` and ``responseObject`` of an event like ``example``, as far as they are
    known; ``exact``: that it is about the same kind of request."""
    step = request.step
    if step.verb in _READS or step.subresource in _CONNECTED:
        return {}
    asked = example.get("requestObject") if exact else None
    if step.verb in _DELETES:
        done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return _present(requestObject=asked, responseObject=done if exact else None)
    named = _present(name=request.name, namespace=request.namespace)
    if request.body is not None:
        asked = request.body
        if step.verb != "patch":
            asked = {**asked, "metadata": named | asked.get("metadata", {})}
    elif exact:
        asked = _renamed(asked, named)
    else:
        asked = {} if step.verb == "patch" else {"metadata": named}
    if code != OK:
        return _present(requestObject=asked)
    answered = _renamed(example.get("responseObject"), named) if exact else None
    whole = {**(answered if isinstance(answered, dict) else {}), **(request.body or {})}
    whole["metadata"] = {
        **named,
        "uid": made.uid,
        "creationTimestamp": made.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **(whole.get("metadata") or {}),
    }
    return _present(requestObject=asked, responseObject=whole)


def _present(**parts: Any) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if part}


def _renamed(body: Any, named: dict[str, str]) -> Any:
    """A body of the example about the object of the script."""
    if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
        return body
    kept = {name: part for name, part in body["metadata"].items() if name not in _ITS_OWN}
    return {**body, "metadata": {**named, **kept}}
