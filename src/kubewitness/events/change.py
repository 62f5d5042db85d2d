"""Changes: events that wrote an object or got into one, and what their bodies tell in short.

Who investigates asks for objects, and a log is in the order of time: the lake keeps events once
more, in the order of objects (``lake.arranging``). What is only to be found in bodies, which are
most of a lake, and is asked of many objects at once has columns of its own there. Of other events,
which only read, what says who touched what is enough.
"""

from __future__ import annotations

from kubewitness.events.columns import EVENT_COLUMNS

READING = """(verb IN ('get', 'list', 'watch')
    AND coalesce(subresource, '') NOT IN ('exec', 'attach', 'portforward', 'proxy'))"""
"""SQL over event columns: whether it only reads; who opens a stream gets in."""

# A read tells of an object where its answer was logged; lists are large, and asked only for roles.
CHANGING = f"""(NOT {READING}
    OR (level = 'RequestResponse'
        AND (verb = 'get' OR api_group = 'rbac.authorization.k8s.io')))"""
"""SQL over event columns: whether an event is a change, or shows what changes made."""

# A key may be written with percent signs, too; the API server decodes it.
_KEYS = """list_transform(string_split(split_part(request_uri, '?', 2), '&'),
    lambda part: url_decode(split_part(part, '=', 1)))"""
DRY_RUN = f"""(contains(request_uri, '?dryRun=') OR contains(request_uri, '&dryRun=')
    OR (contains(request_uri, '%') AND list_contains({_KEYS}, 'dryRun')) OR (
    (verb IN ('delete', 'deletecollection') OR subresource = 'eviction')
    AND contains(CAST(request_object AS VARCHAR), '"dryRun":["')) IS TRUE)"""
"""SQL over event columns: whether it was a dry run, which only the body of a deletion tells."""

WORKLOADS = {
    "pods": "$.spec",
    **dict.fromkeys(
        (
            *("deployments", "replicasets", "statefulsets", "daemonsets", "jobs"),
            "replicationcontrollers",
        ),
        "$.spec.template.spec",
    ),
    "cronjobs": "$.spec.jobTemplate.spec.template.spec",
}
"""Where pods and workload controllers of Kubernetes' own have their pod spec (core/v1, apps/v1,
batch/v1)."""

WORKLOAD = f"""(resource IN ({", ".join(f"'{resource}'" for resource in WORKLOADS)})
    AND api_group IN ('', 'apps', 'batch'))"""
"""SQL over event columns: whether it is about one of ``WORKLOADS``."""

METADATA = (
    *("name", "uid", "resourceVersion", "ownerReferences", "labels", "finalizers"),
    *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
)
"""What of an object's metadata says what it is, and whether it still is."""

CHANGE_COLUMNS: dict[str, str] = {
    **EVENT_COLUMNS,
    "date": "DATE",
    "dry_run": "BOOLEAN",
    "metadata": "JSON",
    "pod_spec": "JSON",
    "items": "JSON",
    "superseded_at": "TIMESTAMP",
}
"""The columns of a change. ``metadata`` (as far as ``METADATA``, missing ones ``null``) and
``pod_spec`` are those in the answer to a write of one of ``WORKLOADS``, NULL where it was not
logged or has none; ``items`` the names and finalizers of what was deleted as a collection, as its
answer has them. ``superseded_at`` is the ``stage_at`` of the object's next write in the same
file, or its own if it wrote nothing; NULL says that there may be no next one."""

TOUCH_COLUMNS: dict[str, str] = {
    name: EVENT_COLUMNS[name]
    for name in (
        *("cluster", "stage", "verb", "request_uri", "user", "extra", "impersonated_user"),
        *("source_ips", "user_agent", "api_group", "resource", "subresource", "namespace", "name"),
        *("code", "received_at", "stage_at", "annotations"),
    )
}
"""The columns of a touch, which every event is: who did what to which object, and was it allowed;
``request_uri`` only of requests about no resource."""

WRITTEN = """(verb IN ('create', 'update', 'patch', 'delete') AND code < 300 AND NOT dry_run
    AND stage IN ('ResponseComplete', 'Panic', 'ResponseStarted') AND coalesce(subresource, '')
    NOT IN ('exec', 'attach', 'portforward', 'proxy', 'token')) IS TRUE"""
"""SQL over change columns: whether it wrote the object that it names."""

_OBJECT = "resource, api_group, namespace, name"
_SPEC = f"told[{len(METADATA) + 1}]"
_METADATA = " || ',' || ".join(
    f"'\"{name}\":' || coalesce(CAST(told[{n}] AS VARCHAR), 'null')"
    for n, name in enumerate(METADATA, 1)
)
_ITEMS = '[{"metadata":{"name":"VARCHAR","finalizers":["VARCHAR"]}}]'
_COLUMNS = f"""{", ".join(f'"{name}"' for name in EVENT_COLUMNS)}, date, dry_run,
    CASE WHEN {_SPEC} IS NOT NULL THEN CAST('{{' || {_METADATA} || '}}' AS JSON) END AS metadata,
    {_SPEC} AS pod_spec,
    CASE WHEN verb = 'deletecollection' THEN to_json(
        json_transform(json_extract(response_object, '$.items'), '{_ITEMS}')) END AS items"""


def change_rows(events: str) -> str:
    """The SELECT that makes rows of ``CHANGE_COLUMNS`` of SQL for ``EVENT_COLUMNS`` + ``date``."""
    return f"""SELECT {_COLUMNS}, CASE WHEN NOT {WRITTEN} THEN stage_at END AS superseded_at
        FROM ({_read(events)})"""


def touch_rows(events: str) -> str:
    """The SELECT that makes rows of ``TOUCH_COLUMNS`` of SQL that has ``EVENT_COLUMNS``."""
    columns = ", ".join(f'"{name}"' for name in TOUCH_COLUMNS if name != "request_uri")
    path = "CASE WHEN resource IS NULL THEN request_uri END AS request_uri"
    return f"SELECT {columns}, {path} FROM ({events})"


def changes_in_order(events: str) -> str:
    """As ``change_rows``, of one file's events, which have an ``id``: by object, each in time."""
    return f"""
    WITH changed AS ({_read(events)}), followed AS (
        -- of writes at the same instant none takes the place of another
        SELECT id, min(stage_at) OVER (PARTITION BY {_OBJECT} ORDER BY stage_at RANGE BETWEEN
            INTERVAL 1 MICROSECOND FOLLOWING AND UNBOUNDED FOLLOWING) AS next
        FROM changed WHERE {WRITTEN})
    SELECT {_COLUMNS}, CASE WHEN {WRITTEN} THEN next ELSE stage_at END AS superseded_at
    FROM changed LEFT JOIN followed USING (id) ORDER BY {_OBJECT}, stage_at"""


def reads_in_order(events: str) -> str:
    """As ``touch_rows``, of what is no change, by object."""
    reads = f"FROM ({events}) WHERE {CHANGING} IS NOT TRUE"
    return f"{touch_rows(reads)} ORDER BY {_OBJECT}, stage_at"


def _read(events: str) -> str:
    """SQL: changes, with what their bodies tell: an answer is parsed once for all."""
    cases = " ".join(
        f"WHEN '{resource}' THEN json_extract(response_object,"
        f" {[*(f'$.metadata.{name}' for name in METADATA), spec]})"
        for resource, spec in WORKLOADS.items()
    )
    return f"""SELECT *, {DRY_RUN} AS dry_run,
            CASE WHEN level = 'RequestResponse' AND code < 300
                AND verb IN ('create', 'update', 'patch', 'delete') AND {WORKLOAD}
            THEN CASE resource {cases} END END AS told
        FROM ({events}) WHERE {CHANGING}"""
