"""Where the bodies of deeds are read: what they tell, and which deletions were dry runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC

import duckdb
from msgspec.structs import replace

from kubewitness.forensics.causes.deed import Deed, listed, literal
from kubewitness.forensics.causes.scene import DELETES, Key

_KEY = """audit_id, coalesce(nullif("user", ''), '<unauthenticated>'),
    coalesce(received_at, stage_at)"""


def bodies(
    connection: duckdb.DuckDBPyConnection, deeds: Iterable[Deed]
) -> Iterator[tuple[Key, str | None, str | None]]:
    """The keys of deeds whose bodies were kept, each with its request and its answer."""
    kept = [one for one in deeds if one.level != "Metadata"]
    for start in range(0, len(kept), 200):
        some = kept[start : start + 200]
        times = ", ".join(sorted({literal(one.answered) for one in some}))
        names = f" AND name IN ({listed(one.name for one in some)})"
        rows = connection.execute(
            f"""SELECT {_KEY}, request_object, response_object FROM changes
            WHERE stage_at IN ({times}) AND audit_id IN ({listed(one.audit_id for one in some)})
            AND cluster IN ({listed(one.cluster for one in some)})
            AND resource IN ({listed(one.resource for one in some)})
            {names if all(one.name for one in some) else ""}"""
        ).fetchall()
        for audit_id, who, at, request, response in rows:
            yield (audit_id, who, at.replace(tzinfo=UTC)), request, response


def rehearsed(connection: duckdb.DuckDBPyConnection, deeds: Sequence[Deed]) -> list[Deed]:
    """Deeds, those marked as dry runs of which only the body says so: deletions. (Components make
    no dry runs, and delete all day.)"""
    doubtful = {
        one.key: one
        for one in deeds
        if (one.verb in DELETES or one.subresource == "eviction")
        and one.served
        and one.of not in ("node", "control-plane")
    }
    if not doubtful:
        return list(deeds)
    times = sorted(one.answered for one in doubtful.values())
    # Dry runs are rare, and the engine knows where none is.
    rows = connection.execute(
        f"""SELECT {_KEY} FROM changes WHERE dry_run
        AND stage_at BETWEEN {literal(times[0])} AND {literal(times[-1])}"""
    ).fetchall()
    dry = {(*who, at.replace(tzinfo=UTC)) for *who, at in rows} & doubtful.keys()
    return [replace(one, dry=True) if one.key in dry else one for one in deeds]
