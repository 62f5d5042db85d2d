"""Groups of like requests: the first half of the way from events to activity.

A group counts requests that are alike in everything that will ever be asked about, names and
addresses included, in one time slot. Groups merge, so that those of a live service, which come in
small pieces and not in order, become the same as those of a whole log.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import duckdb

from kubewitness.activity.principal import UNAUTHENTICATED

# Events that are grouped at a time: of more, the engine spends most of its time on making room.
STRETCH = 400_000
_AUTH = "authentication.kubernetes.io"
# A service account token from a Secret, which never expires: the API server says so.
_LEGACY = "authentication.k8s.io/legacy-token"

# RequestReceived knows no answer and is left out, unless it is all that a cluster's log has.
# A request belongs to the slot in which it was received, whenever its last stage came.
_UNANSWERED = """
CREATE OR REPLACE TEMP TABLE unanswered AS
SELECT cluster FROM events GROUP BY cluster HAVING NOT bool_or(stage <> 'RequestReceived')"""
_GROUPED = f"""
SELECT time_bucket(INTERVAL '$SECONDS seconds', received_at) AS slot, cluster,
    coalesce(nullif("user", ''), '{UNAUTHENTICATED}') AS principal,
    coalesce(impersonated_user, '') AS acting_as,
    coalesce(CAST(extra AS VARCHAR), '') AS extra,
    verb,
    coalesce(resource || CASE WHEN api_group = '' THEN '' ELSE '.' || api_group END, '')
        AS resource,
    coalesce(subresource, '') AS subresource,
    coalesce(namespace, '') AS namespace,
    coalesce(name, '') AS name,
    CASE WHEN resource IS NULL THEN split_part(request_uri, '?', 1) ELSE '' END AS path,
    coalesce(CAST(to_json(source_ips) AS VARCHAR), '[]') AS source_ips,
    coalesce(user_agent, '') AS user_agent,
    coalesce(CAST(code AS VARCHAR), '') || CASE WHEN stage = 'Panic' THEN chr(10) ELSE '' END
        AS answer,
    coalesce(json_extract_string(annotations, '$."authorization.k8s.io/reason"'), '') AS reason,
    CASE WHEN subresource = 'token' THEN coalesce(json_extract_string(
        annotations, '$."{_AUTH}/issued-credential-id"'), '') ELSE '' END AS issued,
    coalesce(contains(CAST(annotations AS VARCHAR), '"{_LEGACY}')
        AND json_extract_string(annotations, '$."{_LEGACY}"') IS NOT NULL, false) AS legacy,
    coalesce(traits, '') AS traits, coalesce(images, '') AS images,
    count(*) FILTER (stage = 'ResponseStarted') AS started,
    count(*) FILTER (stage <> 'ResponseStarted') AS finished,
    any_value("groups") AS "groups", min(received_at) AS first, max(received_at) AS last,
    arg_min(audit_id, received_at, 8) AS audit_ids
FROM events
WHERE $WHEN AND (stage <> 'RequestReceived' OR cluster IN (FROM unanswered))
GROUP BY ALL
"""

_MERGED = """
SELECT * EXCLUDE ("groups", started, finished, first, last, audit_ids),
    min("groups") AS "groups", CAST(sum(started) AS BIGINT) AS started,
    CAST(sum(finished) AS BIGINT) AS finished, min(first) AS first, max(last) AS last,
    list_slice(flatten(arg_min(audit_ids, first, 8)), 1, 8) AS audit_ids
FROM $TABLE GROUP BY ALL"""


def group(
    connection: duckdb.DuckDBPyConnection,
    *,
    width: timedelta,
    into: str,
    answered: Collection[str] = (),
) -> list[tuple[datetime, datetime]]:
    """Add the groups of the view ``events`` to the table ``into``, which is made if missing.
    Returns the stretches of time in which it did so.

    Requests without an answer are left out, but of a cluster whose log has nothing else;
    ``answered`` are clusters of which more is known.
    """
    connection.execute(_UNANSWERED)
    connection.execute("DELETE FROM unanswered WHERE cluster IN (SELECT unnest(?))", [[*answered]])
    select = _GROUPED.replace("$SECONDS", str(int(width.total_seconds())))
    connection.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {into} AS {select.replace('$WHEN', 'false')}"
    )
    found = stretches(connection, width)
    insert(connection, into, select, "received_at", found)
    return found


def insert(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    select: str,
    time: str,
    stretches: Sequence[tuple[datetime, datetime]],
) -> None:
    """Add what ``select`` gives, one stretch of the column ``time`` after the other: what the
    engine holds while it groups (above all ``arg_min`` and ``list``) cannot be put off to the
    disk."""
    for since, until in stretches:
        within = f"{time} >= TIMESTAMP '{since}' AND {time} < TIMESTAMP '{until}'"
        connection.execute(f"INSERT INTO {table} {select.replace('$WHEN', within)}")


def merged(table: str) -> str:
    """SELECT: the groups of ``table``, each once."""
    return _MERGED.replace("$TABLE", table)


def stretches(
    connection: duckdb.DuckDBPyConnection, width: timedelta
) -> list[tuple[datetime, datetime]]:
    """Consecutive times, from and until, of whole slots and about ``STRETCH`` events each."""
    seconds = int(width.total_seconds())
    slots = connection.execute(
        f"""SELECT time_bucket(INTERVAL '{seconds} seconds', received_at) AS slot, count(*)
        FROM events WHERE received_at IS NOT NULL GROUP BY slot ORDER BY slot"""
    ).fetchall()
    found: list[tuple[datetime, datetime]] = []
    held = STRETCH
    for slot, n in slots:
        if held + n > STRETCH:
            found.append((slot, slot))
            held = 0
        found[-1] = (found[-1][0], slot + width)
        held += n
    return found
