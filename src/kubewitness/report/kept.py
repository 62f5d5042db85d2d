"""An analysis that is kept, for questions about its incidents later on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kubewitness.errors import KubewitnessError
from kubewitness.incidents.model import Incident
from kubewitness.report.model import Analysis

TELLING = 4
"""A beginning of an ID as long as that says which incident is meant among other names."""


def save(analysis: Analysis, path: Path) -> None:
    """Keep an analysis for ``kubewitness incident``; readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        draft.write_bytes(msgspec.json.encode(analysis))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def recall(path: Path) -> Analysis:
    """Load what ``save`` kept. Raises ``KubewitnessError`` when there is nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Analysis)
    except (OSError, msgspec.MsgspecError) as error:
        raise KubewitnessError(
            "no analysis is kept here",
            where=str(path),
            remedy="run 'kubewitness analyze PATH...' first, with the same --lake",
        ) from error


def named(known: Analysis, identity: str, where: Path) -> Incident:
    """The incident of an analysis whose ID begins so, see ``only``."""
    return only((*known.incidents, *known.queue), identity, str(where))


def only(known: Sequence[Incident], identity: str, where: str) -> Incident:
    """The incident whose ID begins so, ``incident/`` before it or not; ``where`` they are kept.

    Raises ``KubewitnessError`` where there is none, or several.
    """
    wanted = identity.removeprefix("incident/")  # as -o name writes it
    found = [one for one in known if one.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    what = "several incidents begin" if found else "no incident begins"
    names = ", ".join(one.id for one in (found or known)[:8])
    raise KubewitnessError(
        f"{what} with {wanted!r}",
        where=where,
        remedy=f"there are: {names}" if names else "there are no incidents",
    )
