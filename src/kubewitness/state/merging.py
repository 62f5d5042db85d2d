"""Incidents that turned out to be part of others.

What is known later may link two stories: then a judgement of everything lists one incident with the
evidence of both. The other is not there any more, but nothing of it was refuted: it is marked with
the one that it became part of, and whoever heard of it hears that.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, case, select

from kubewitness.incidents.model import Incident
from kubewitness.state.schema import deliveries, incidents

SHARE = 0.5
"""Of the evidence: what is listed of a large incident is not all of it."""


class Merger(NamedTuple):
    """``part`` is a part of ``whole`` now; both are ids."""

    part: str
    whole: str


def merge(
    connection: Connection, cluster: str, judged: Sequence[Incident], now: datetime
) -> list[Merger]:
    """Mark what is not in ``judged``, all that a judgement of everything lists, but is told of
    there as part of another."""
    if not judged:
        return []
    found = []
    owners = _owners(judged)
    known = {one.id: one for one in judged}
    columns = incidents.c
    rows = connection.execute(
        select(columns.id, columns.body, columns.revision).where(
            columns.cluster == cluster,
            columns.closed_at.is_(None),
            columns.updated_at >= min(one.opened_at for one in judged),
            columns.id.not_in(known),
        )
    ).all()
    for row in rows:
        try:
            part = msgspec.json.decode(row.body, type=Incident)
        except msgspec.MsgspecError:
            continue
        whole = _whole(part, owners, known)
        if whole is not None:
            merged = msgspec.structs.replace(part, merged_into=whole)
            _mark(connection, cluster, merged, row.revision + 1, now)
            found.append(Merger(part.id, whole))
    return found


def _owners(judged: Sequence[Incident]) -> dict[str, str]:
    """By auditID, the incident that it is evidence of, or else in which it is told."""
    owners: dict[str, str] = {}
    for ids in ("evidence", "events"):
        for one in judged:
            for audit_id in getattr(one, ids):
                owners.setdefault(audit_id, one.id)
    return owners


def _whole(part: Incident, owners: Mapping[str, str], known: Mapping[str, Incident]) -> str | None:
    shared = Counter(owners[one] for one in part.evidence if one in owners)
    for identity, n in shared.most_common(1):
        whole = known[identity]
        # Requests of somebody else may be told beside a story without being part of it.
        if n >= SHARE * len(part.evidence) and set(part.principals) & set(whole.principals):
            return identity
    return None


def _mark(
    connection: Connection, cluster: str, merged: Incident, revision: int, now: datetime
) -> None:
    """Who knows it hears of it; who would still have heard that it opened hears of the whole."""
    body = msgspec.json.encode(merged)
    connection.execute(
        incidents.update()
        .where(incidents.c.cluster == cluster, incidents.c.id == merged.id)
        .values(
            revision=revision,
            body=body.decode(),
            digest=hashlib.blake2b(body, digest_size=16).hexdigest(),
            closed_at=now,
            merged_into=merged.merged_into,
        )
    )
    knows = deliveries.c.told > 0
    waits = (deliveries.c.revision > deliveries.c.settled) & (deliveries.c.attempts > 0)
    connection.execute(
        deliveries.update()
        .where(deliveries.c.cluster == cluster, deliveries.c.incident == merged.id)
        .values(
            revision=revision,
            settled=case((knows, deliveries.c.settled), else_=revision),
            due_at=case((waits, deliveries.c.due_at), else_=now),
        )
    )
