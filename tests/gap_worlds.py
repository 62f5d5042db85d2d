"""Clusters by hand for the tests of gaps: what a survey says of each ten seconds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from kubewitness.service.gaps.model import Gap
from kubewitness.service.gaps.survey import Mark, Sighting, Survey
from kubewitness.service.gaps.vigil import Vigil

START = 1_790_000_040.0  # on a full minute
STEP = 10.0
CLUSTER = "prod"

Chunk = tuple[float, Survey]
"""When it arrived, and what it says."""

_ACCOUNTS = [f"system:serviceaccount:{team}:app" for team in ("shop", "ci", "logs", "mail")]
_USERS = ["system:node:", "system:kube-controller-manager", *_ACCOUNTS, "ada"]
_KINDS = ["get pods", "list secrets", "update deployments.apps", "watch configmaps"]


def sighting(at: float, user: str, kind: str, *, rank: int = 1, stage: str = "") -> Sighting:
    return Sighting(
        CLUSTER, at - at % 60, user, kind, "shop", rank, stage or "ResponseComplete", 2, at, at + 5
    )


def mark(at: float, what: str, name: str) -> Mark:
    return Mark(CLUSTER, what, name, 1, at + 1, at + 1)


def quiet(minutes: int, *, nodes: int = 6, servers: int = 3) -> list[Chunk]:
    """A cluster in which everybody does the same every ten seconds, and it arrives at once."""
    chunks = []
    for number in range(round(minutes * 60 / STEP)):
        at = START + number * STEP
        seen = [sighting(at, user, kind) for user in _USERS for kind in _KINDS]
        seen += [sighting(at, user, "watch pods", stage="ResponseStarted") for user in _USERS]
        marks = [mark(at, "node", f"node-{n}") for n in range(nodes)]
        marks += [mark(at, "alive", f"node-{n}") for n in range(nodes)]
        marks += [mark(at, "server", f"apiserver-{n}") for n in range(servers)]
        marks += [mark(at, "process", f"uid-{n}") for n in range(servers)]
        marks += [mark(at, "leader", name) for name in ("kube-scheduler", "controllers")]
        chunks.append((at + STEP, Survey(seen, marks)))
    return chunks


def after(
    minutes: float,
    chunks: Iterable[Chunk],
    *,
    until: float = 1e9,
    seen: Callable[[Sighting], Sighting | None] = lambda seen: seen,
    marks: Callable[[Mark], Mark | None] = lambda mark: mark,
) -> Iterator[Chunk]:
    """The same chunks, changed between some minutes: ``None`` leaves something out."""
    for arrived, survey in chunks:
        if START + 60 * minutes < arrived <= START + 60 * until:
            kept = [one for one in map(seen, survey.sightings) if one is not None]
            kept_marks = [one for one in map(marks, survey.marks) if one is not None]
            yield arrived, Survey(kept, kept_marks)
        else:
            yield arrived, survey


def told(chunks: Iterable[Chunk], vigil: Vigil | None = None) -> list[Gap]:
    """All that is told while the chunks arrive, looked at after each."""
    vigil = vigil or Vigil()
    gaps: list[Gap] = []
    for arrived, survey in chunks:
        if survey.sightings:
            vigil.observe(survey, arrived)
        gaps += vigil.changes(arrived)
    return gaps


def opened(gaps: Sequence[Gap]) -> list[str]:
    return [gap.kind for gap in gaps if gap.until is None]


def minute(gap: Gap) -> float:
    """When a gap began, in minutes from the start."""
    return (gap.since.timestamp() - START) / 60
