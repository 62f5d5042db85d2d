"""From one line of audit JSON to one row of the lake: the SELECT that both batch and live use.

A row that lacks what makes an event (auditID, stage, verb or requestURI, a time that a cluster
can have lived in) gets a NULL ``date``: nothing else tells DuckDB's all-NULL row for a broken
line from a real one, and the partition of NULL is where the lake looks for them.
"""

from __future__ import annotations

from kubewitness.events.columns import JSON_COLUMNS
from kubewitness.events.redaction import SUSPECT_BODY, SUSPECT_URI

# Kubernetes is younger than the first bound; the second only has to be absurd.
FIRST_TIME, LAST_TIME = "2014-01-01", "2200-01-01"
# One request body is at most 3 MiB in etcd's and the API server's defaults; lists are larger.
MAXIMUM_LINE_BYTES = 64 * 1024 * 1024


def quoted(text: str) -> str:
    """A SQL string literal.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def json_lines(path: str, compression: str) -> str:
    """A DuckDB table function that reads one NDJSON file typed; broken lines become NULL rows."""
    columns = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in JSON_COLUMNS.items())
    return (
        f"read_json({quoted(path)}, format='newline_delimited', columns={{{columns}}},"
        f" ignore_errors=true, compression={quoted(compression)},"
        f" maximum_object_size={MAXIMUM_LINE_BYTES})"
    )


def event_rows(table: str, *, cluster: str | None, source: str, suspect: str = "false") -> str:
    """The SELECT that turns rows of ``JSON_COLUMNS`` into ``EVENT_COLUMNS`` plus ``date``.

    Needs the functions ``redact_uri`` and ``redact_body`` on the connection.
    ``cluster`` overrides what the input says of itself; rows that match ``suspect`` (SQL over
    ``JSON_COLUMNS``) get a NULL ``date``, too.
    """
    named = quoted(cluster) if cluster else "coalesce(nullif(cluster, ''), 'default')"
    request, response = (
        SUSPECT_BODY.format(body=f"{side}_object") for side in ("request", "response")
    )
    return f"""
    WITH flat AS (
        SELECT {named} AS cluster,
            auditID AS audit_id, stage, level, verb, requestURI AS request_uri,
            "user".username AS "user", "user".uid AS user_uid, "user"."groups" AS "groups",
            "user".extra AS extra,
            impersonatedUser.username AS impersonated_user,
            impersonatedUser."groups" AS impersonated_groups,
            sourceIPs AS source_ips, userAgent AS user_agent,
            coalesce(objectRef.apiGroup, '') AS api_group, objectRef.apiVersion AS api_version,
            objectRef.resource AS resource, objectRef.subresource AS subresource,
            objectRef.namespace AS namespace,
            -- a generateName create has its name only in the answer
            coalesce(objectRef.name, CASE WHEN verb = 'create' AND responseObject IS NOT NULL
                THEN json_extract_string(responseObject, '$.metadata.name') END) AS name,
            objectRef.uid AS object_uid, objectRef.resourceVersion AS resource_version,
            responseStatus.code AS code, responseStatus.reason AS reason,
            responseStatus.message AS message,
            CAST(requestObject AS VARCHAR) AS request_object,
            CAST(responseObject AS VARCHAR) AS response_object,
            coalesce(requestReceivedTimestamp, stageTimestamp) AS received_at,
            stageTimestamp AS stage_at, annotations, {quoted(source)} AS source,
            {suspect} AS suspect
        FROM {table}
    )
    SELECT * EXCLUDE (suspect) REPLACE (
            CASE WHEN {SUSPECT_URI} THEN redact_uri(request_uri) ELSE request_uri END
                AS request_uri,
            CAST(CASE WHEN {request} THEN redact_body(request_object, resource)
                ELSE request_object END AS JSON) AS request_object,
            CAST(CASE WHEN {response} THEN redact_body(response_object, resource)
                ELSE response_object END AS JSON) AS response_object
        ),
        CASE WHEN NOT suspect AND audit_id IS NOT NULL AND stage IS NOT NULL AND verb IS NOT NULL
                AND request_uri IS NOT NULL
                AND stage_at >= TIMESTAMP '{FIRST_TIME}' AND stage_at < TIMESTAMP '{LAST_TIME}'
            THEN CAST(stage_at AS DATE) END AS date
    FROM flat"""
