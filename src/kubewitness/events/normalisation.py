"""From one line of audit JSON to one row of the lake: the SELECT that both batch and live use.

A row that lacks what makes an event (auditID, stage, verb, a time that a cluster can have lived in)
gets a NULL ``date``: nothing else tells DuckDB's all-NULL row for a broken line from a real one,
and the partition of NULL is where the lake looks for them.
"""

from __future__ import annotations

from kubewitness.events.columns import EARLIEST, JSON_COLUMNS, LATEST
from kubewitness.events.redaction import HIDDEN, SUSPECT_URI, suspect_body, suspect_text
from kubewitness.events.trait import TELLING, images_sql, sensitive_setting_sql

# One request body is at most 3 MiB in etcd's and the API server's defaults; lists are larger.
MAXIMUM_LINE_BYTES = 64 * 1024 * 1024
# DuckDB reads in buffers of twice this size, one a core: smaller ones are dealt out more evenly and
# take less memory, so this is what is tried first.
USUAL_LINE_BYTES = 16 * 1024 * 1024

# A name of a folder has 255 bytes on most file systems.
MAXIMUM_CLUSTER_BYTES = 200

# What clients, webhooks and authorizers are free to say.
_TEXTS = ("user", "impersonated_user", "user_agent", "name", "message", "images")
_SPOKEN = (
    """concat_ws(' ', request_uri, "user", impersonated_user, user_agent, name, message, images,"""
    " CAST(annotations AS VARCHAR), CAST(extra AS VARCHAR))"
)
# A mutating webhook's patch of a secret stands in an annotation.
_PATCHED = "(resource = 'secrets' AND contains(CAST(annotations AS VARCHAR), 'patch'))"


def quoted(text: str) -> str:
    """A SQL string literal.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def json_lines(path: str, compression: str, *, longest: int = USUAL_LINE_BYTES) -> str:
    """A DuckDB table function that reads one NDJSON file typed; broken lines become NULL rows.

    A line longer than ``longest`` bytes makes it fail.
    """
    columns = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in JSON_COLUMNS.items())
    return (
        f"read_json({quoted(path)}, format='newline_delimited', columns={{{columns}}},"
        f" ignore_errors=true, compression={quoted(compression)},"
        f" maximum_object_size={longest})"
    )


def _redacted(column: str) -> str:
    return f'CASE WHEN secretive THEN redact_text("{column}") ELSE "{column}" END AS "{column}"'


def _walked(column: str, suspect: str) -> str:
    redacted = f"CAST(redact_body(CAST({column} AS VARCHAR), resource) AS JSON)"
    return f"CASE WHEN {column} IS NOT NULL AND ({suspect}) THEN {redacted} ELSE {column} END"


def event_rows(
    table: str,
    *,
    cluster: str | None,
    source: str,
    suspect: str = "false",
    bodies: bool = True,
) -> str:
    """The SELECT that turns rows of ``JSON_COLUMNS`` into ``EVENT_COLUMNS`` plus ``date``.

    Needs the functions ``redact_uri``, ``redact_text`` and ``redact_body`` on the connection.
    ``cluster`` overrides what the input says of itself; rows that match ``suspect`` (SQL over
    ``JSON_COLUMNS``) get a NULL ``date``, too. Without ``bodies`` only what they tell is kept
    (``name``, ``traits``, ``images``): they are most of the bytes, and the slowest to search for
    secrets and to write.
    """
    kept = [
        f"{_walked(body, suspect_body(body)) if bodies else 'NULL::JSON'} AS {body}"
        for body in ("request_object", "response_object")
    ]
    named = quoted(cluster) if cluster else "coalesce(nullif(cluster, ''), 'default')"
    return f"""
    WITH flat AS (
        SELECT {named} AS cluster,
            auditID AS audit_id, stage, level, verb, coalesce(requestURI, '') AS request_uri,
            "user".username AS "user", "user".uid AS user_uid, "user"."groups" AS "groups",
            "user".extra AS extra,
            impersonatedUser.username AS impersonated_user,
            impersonatedUser."groups" AS impersonated_groups,
            sourceIPs AS source_ips, userAgent AS user_agent,
            coalesce(objectRef.apiGroup, '') AS api_group, objectRef.apiVersion AS api_version,
            objectRef.resource AS resource,
            nullif(objectRef.subresource, '') AS subresource,
            objectRef.namespace AS namespace,
            -- a generateName create has its name only in the answer
            coalesce(nullif(objectRef.name, ''), CASE WHEN verb = 'create' THEN coalesce(
                json_extract_string(responseObject, '$.metadata.name'),
                json_extract_string(requestObject, '$.metadata.name')) END) AS name,
            objectRef.uid AS object_uid, objectRef.resourceVersion AS resource_version,
            responseStatus.code AS code, responseStatus.reason AS reason,
            responseStatus.message AS message,
            requestObject AS request_object, responseObject AS response_object,
            coalesce(requestReceivedTimestamp, stageTimestamp) AS received_at,
            stageTimestamp AS stage_at, annotations, {quoted(source)} AS source,
            {suspect} AS suspect
        FROM {table}
    ), readable AS (
        SELECT *, CASE WHEN {TELLING} THEN CASE WHEN {HIDDEN} THEN
            redact_body(CAST(request_object AS VARCHAR), resource)
            ELSE CAST(request_object AS VARCHAR) END END AS written
        FROM flat
    ), told AS (
        SELECT * EXCLUDE (source, written), {sensitive_setting_sql()} AS traits,
            {images_sql()} AS images, source
        FROM readable
    ), signed AS (
        SELECT *, {suspect_text(_SPOKEN)} AS secretive FROM told
    )
    SELECT * EXCLUDE (suspect, secretive) REPLACE (
            CASE WHEN strlen(url_encode(cluster)) <= {MAXIMUM_CLUSTER_BYTES} THEN cluster
                ELSE 'cluster-' || left(sha256(cluster), 32) END AS cluster,
            CASE WHEN secretive OR {SUSPECT_URI} THEN redact_uri(request_uri) ELSE request_uri END
                AS request_uri,
            {", ".join(_redacted(column) for column in _TEXTS)},
            {_walked("extra", "secretive")} AS extra,
            {_walked("annotations", f"secretive OR {_PATCHED}")} AS annotations,
            {", ".join(kept)}
        ),
        CASE WHEN NOT suspect AND audit_id IS NOT NULL AND stage IS NOT NULL AND verb IS NOT NULL
                AND stage_at >= TIMESTAMP '{EARLIEST:%Y-%m-%d}'
                AND stage_at < TIMESTAMP '{LATEST:%Y-%m-%d}'
            THEN CAST(stage_at AS DATE) END AS date
    FROM signed"""
