"""What is broken in a cluster, as each judgement of everything finds it: since when, and whether it
still is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, Row, desc, func, select

from kubewitness.incidents.model import Broken, Misconfiguration
from kubewitness.state.schema import misconfigurations


def keep(
    connection: Connection, cluster: str, found: Sequence[Misconfiguration], now: datetime
) -> None:
    """Store what a judgement ``found``; what is not among it is gone."""
    table = misconfigurations.c
    here = table.cluster == cluster
    rows = connection.execute(select(misconfigurations).where(here)).all()
    ids = {row.id for row in rows}
    standing = {one.id: one for row in rows if row.gone_at is None for one in _decoded(row)}
    kept = set()
    for one in _recognised(found, standing):
        kept.add(one.id)
        values = {
            "last_seen": now,
            "gone_at": None,
            "body": msgspec.json.encode(one).decode(),
        }
        if one.id in ids:
            connection.execute(
                misconfigurations.update().where(here, table.id == one.id).values(**values)
            )
        else:
            ids.add(one.id)
            key = {"cluster": cluster, "id": one.id, "first_seen": now}
            connection.execute(misconfigurations.insert().values(**key, **values))
    gone = standing.keys() - kept
    connection.execute(
        misconfigurations.update().where(here, table.id.in_(gone)).values(gone_at=now)
    )


def listed(connection: Connection, cluster: str | None, gone: bool) -> list[Broken]:
    """What is there first, of that what is not mended, and of that what is refused most often."""
    table = misconfigurations.c
    asked = select(misconfigurations).order_by(desc(table.last_seen), table.cluster, table.id)
    if cluster is not None:
        asked = asked.where(table.cluster == cluster)
    if not gone:
        asked = asked.where(table.gone_at.is_(None))
    found = [
        Broken(
            misconfiguration=one,
            first_seen=row.first_seen,
            last_seen=row.last_seen,
            gone_at=row.gone_at,
        )
        for row in connection.execute(asked)
        for one in _decoded(row)
    ]
    return sorted(found, key=_pressing)


def _pressing(one: Broken) -> tuple[bool, bool, int]:
    told = one.misconfiguration
    return one.gone_at is not None, told.mended is not None, -told.n


def _recognised(
    found: Sequence[Misconfiguration], standing: dict[str, Misconfiguration]
) -> Iterator[Misconfiguration]:
    """Under the id and with the beginning that are known: what is older than the history that is
    judged seems to have begun only when that does."""
    ids = {one.id for one in found}
    left = {identity: one for identity, one in standing.items() if identity not in ids}
    for one in found:
        before = standing.get(one.id) or next(
            (two for two in left.values() if _same(two, one)), None
        )
        if before is None:
            yield one
            continue
        left.pop(before.id, None)
        yield msgspec.structs.replace(one, id=before.id, first=min(before.first, one.first))


def _same(before: Misconfiguration, now: Misconfiguration) -> bool:
    def loop(one: Misconfiguration) -> tuple[str, ...]:
        return (one.failure, one.principal, one.acting_as, one.client)

    return loop(before) == loop(now) and before.first <= now.first <= before.last


def _decoded(
    row: Row[str, str, datetime, datetime, datetime | None, str],
) -> Iterator[Misconfiguration]:
    """Nothing of what another version wrote, with fields that this one cannot read."""
    try:
        yield msgspec.json.decode(row.body, type=Misconfiguration)
    except msgspec.MsgspecError:
        return


def forget(connection: Connection, age: timedelta, now: datetime) -> int:
    """Delete what was last found longer ago than ``age``, counted from what was found last of all;
    how many."""
    seen = misconfigurations.c.last_seen
    newest = connection.scalar(select(func.max(seen, type_=seen.type)))
    if newest is None:
        return 0
    old = misconfigurations.delete().where(seen < min(newest, now) - age)
    return connection.execute(old).rowcount
