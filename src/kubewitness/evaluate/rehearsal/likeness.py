"""Which request of the log to imitate: the same kind if there was one, else the most alike."""

from __future__ import annotations

import random
from typing import NamedTuple

from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.rehearsal.answering import INTERACTIVE
from kubewitness.evaluate.rehearsal.rights import Right
from kubewitness.evaluate.rehearsal.script import Request
from kubewitness.evaluate.rehearsal.survey import OK, Example, Survey

# Their bodies are credentials: no policy that logs them is to be imitated.
_SECRETIVE = frozenset({"secrets", "tokenreviews.authentication.k8s.io"})


class Likeness(NamedTuple):
    """``exact``: the very same kind of request with the same answer."""

    example: Example
    exact: bool


def likeness(survey: Survey, request: Request, code: int, rng: random.Random) -> Likeness:
    """The request to imitate. Raises ``KubewitnessError`` where there is none at all."""
    verb, resource, subresource = right = request.step.right
    kind = request.player.kind
    found = survey.example(right, code, kind, rng)
    if found is None and subresource in INTERACTIVE:
        # kubectl exec was a create, and is a get since 1.31.
        other = "create" if verb == "get" else "get"
        found = survey.example((other, resource, subresource), code, kind, rng)
    if found is not None:
        return Likeness(found, True)
    for answer in (code, OK) if code == 401 else (OK,):
        if known := survey.known(answer):
            nearest = min(known, key=lambda other: (_distance(right, other), other))
            example = survey.example(nearest, answer, kind, rng)
            assert example is not None
            return Likeness(example, nearest == right and answer == code)
    raise KubewitnessError("nothing in this log was allowed: nothing can be imitated")


def _distance(wanted: Right, other: Right) -> tuple[bool, ...]:
    """What differs, the most important first: reads and writes are logged at different levels."""
    return (
        other != wanted,
        other[0] != wanted[0],
        other[1:] != wanted[1:],
        (other[2] in INTERACTIVE) != (wanted[2] in INTERACTIVE),
        bool(other[2]) != bool(wanted[2]),
        other[1].startswith("/") != wanted[1].startswith("/"),
        other[1].partition(".")[2] != wanted[1].partition(".")[2],
    )


def level(survey: Survey, request: Request, chosen: Likeness, logged: str) -> str:
    """The level at which this request would have been logged; ``logged``: the example's."""
    step = request.step
    if step.resource in _SECRETIVE or step.subresource == "token":
        return "Metadata"
    seen = None if chosen.exact else survey.level(step.verb, step.resource)
    return seen or logged
