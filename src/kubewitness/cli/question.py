"""What the commands of forensics share: the log as a record, and the last analysis."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubewitness.forensics.record import Record
    from kubewitness.incidents.model import Incident


@contextmanager
def asked(
    paths: tuple[str, ...], cluster: str | None, lake: Path | None, strict: bool
) -> Iterator[Record]:
    """The log behind ``paths`` or ``lake``, bodies and all."""
    from kubewitness import analysis as library
    from kubewitness.cli.progress import reading_progress
    from kubewitness.forensics.record import Record

    with (
        reading_progress(paths) as progress,
        library.opened(
            paths,
            lake=lake,
            cluster=cluster,
            strict=strict,
            stdin=sys.stdin.buffer,
            progress=progress,
            bodies=True,
        ) as (_, connection, _),
    ):
        yield Record(connection, cluster=cluster)


def known_incident(identity: str, paths: tuple[str, ...], lake: Path | None) -> Incident | None:
    """The incident of the last analysis whose ID begins so, if it is one and no log was named."""
    if paths:
        return None
    from kubewitness.analysis import recall
    from kubewitness.cli.analyze import last_analysis
    from kubewitness.errors import KubewitnessError

    path = lake / "analysis.json" if lake else last_analysis()
    if path is None:
        return None
    try:
        known = recall(path)
    except KubewitnessError:
        return None
    wanted = identity.removeprefix("incident/")
    found = [one for one in (*known.incidents, *known.queue) if one.id.startswith(wanted)]
    return found[0] if len(found) == 1 and len(wanted) >= 4 else None
