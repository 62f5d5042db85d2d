"""An object at a time, and between two: reconstructed as far as the audit level allows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import duckdb

from kubewitness.errors import KubewitnessError
from kubewitness.forensics.objects.fields import differences
from kubewitness.forensics.objects.history import subject
from kubewitness.forensics.objects.knowledge import DEFAULTED, gaps, known, written
from kubewitness.forensics.objects.model import Difference, Gap, Snapshot, Source
from kubewitness.forensics.objects.outline import outline
from kubewitness.forensics.objects.record import records
from kubewitness.forensics.objects.replay import State, state_after
from kubewitness.forensics.objects.writing import METADATA
from kubewitness.forensics.target import Target

OTHER_LIVES = "This name had {} objects until then; this is the last of them."
TWO_LIVES = "These are two objects: the first was deleted, and another of its name was made."


def states_at(
    connection: duckdb.DuckDBPyConnection, target: Target, times: Sequence[datetime]
) -> list[State]:
    """The state of ``target`` after all that the view ``changes`` has of it until each of
    ``times``.

    Raises ``KubewitnessError`` where nothing was said of it by then.
    """
    seen = outline(connection, target, until=max(times))
    states = []
    for at in times:
        # Each from the last answer before it: of what lies between two times nothing is read.
        state = state_after(records(connection, target, since=at, until=at, seen=seen), target)
        if state.life == 0:
            raise _too_early(connection, target, at)
        states.append(state)
    return states


def _too_early(
    connection: duckdb.DuckDBPyConnection, target: Target, at: datetime
) -> KubewitnessError:
    row = connection.execute(
        """SELECT min(stage_at) FROM changes WHERE cluster = ? AND resource = ? AND api_group = ?
            AND name = ? AND coalesce(nullif(namespace, ?), '') = ''
            AND code < 400 AND verb <> 'get'""",
        [
            *(target.cluster, target.kind.resource, target.kind.group, target.name),
            target.namespace or target.name,
        ],
    ).fetchone()
    first = f"{row[0]:%Y-%m-%dT%H:%M:%SZ}" if row and row[0] else ""
    return KubewitnessError(
        f"what {target} was at {at:%Y-%m-%dT%H:%M:%SZ} is not knowable from this log",
        remedy=f"the first write of it in this log is at {first}"
        if first
        else "no write of it is in this log",
    )


def snapshot(connection: duckdb.DuckDBPyConnection, target: Target, at: datetime) -> Snapshot:
    """``target`` at a time, told; raises as ``states_at`` does."""
    (state,) = states_at(connection, target, [at])
    return told(state, target, at)


def difference(
    connection: duckdb.DuckDBPyConnection, target: Target, start: datetime, end: datetime
) -> Difference:
    """What changed about ``target`` between two times."""
    before, after = states_at(connection, target, [start, end])
    notes = (TWO_LIVES,) if before.life != after.life else ()
    return Difference(
        subject(target),
        told(before, target, start),
        told(after, target, end),
        differences(before.object, after.object),
        notes,
    )


def told(state: State, target: Target, at: datetime) -> Snapshot:
    """A state as it is shown: what is known, and the list of what is not."""
    bare = not state.sources or all(source.gave == "metadata" for source in state.sources)
    more = METADATA if bare else DEFAULTED
    several = (OTHER_LIVES.format(state.life),) if state.life > 1 else ()
    return Snapshot(
        subject=subject(target),
        at=at,
        existence=state.existence,
        life=state.life,
        uid=state.uid,
        created_at=state.begun,
        object=known(state.object),
        gaps=tuple(Gap(written(path), why) for path, why in gaps(state.object, more)),
        sources=tuple(Source(one.audit_id, one.at, one.gave) for one in state.sources),
        notes=(*several, *state.notes),
    )
