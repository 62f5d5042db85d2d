"""Activity rows as arrays: what the models compute with.

Texts become 64-bit ids (a keyed hash), so that half a million rows are a few dozen megabytes and
every count is a sort of integers; the texts themselves stay in DuckDB and are fetched for the
few rows that somebody will read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from kubewitness.activity.attribution import attribute
from kubewitness.activity.component import component
from kubewitness.activity.issuer import follow_issues, name_issuers
from kubewitness.activity.technique import GRAVE, SYSTEM_NAMESPACES, technique
from kubewitness.events.normalisation import quoted

Ids = NDArray[np.uint64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

ID_COLUMNS = [
    "class",
    "team",
    "acting_as",
    "action",
    "resource",
    "subresource",
    "namespace",
    "template",
    "source_ip",
    "network",
    "subnet",
    "scope",
    "client",
    "platform",
    "outcome",
    "traits",
    "origins",
    "actor",
    "credential",
    "scheme",
    "issuer",
    "pod_uid",
    "node",
    "bearer",
    "habit",
    "place",
    "kind",
    "home",
    "hours",
    "component",
    "region",
]

MICROSECONDS = 1_000_000
DAY = 86_400 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class ActivityTable:
    """``n`` rows in order of time. ``ids[column][i]`` is the id of a text of row ``i``.

    ``first``, ``last``: microseconds since 1970 (UTC). ``slice``: the index of the row's time
    slice, the unit in which history is counted: a day in a log of many days, shorter in a short
    one. Distinct slices are counted, so a million repetitions on one day are one. ``offset``: the
    number of the first row in the table ``activity`` of the engine, where texts are.
    """

    ids: dict[str, Ids]
    first: Ints
    last: Ints
    slice: Ints
    requests: Ints
    importance: Floats
    slice_width: int
    start: int
    salt: int
    offset: int = 0

    @property
    def grave(self) -> Mask:
        """Which rows are of actions that attacks are made of, see ``activity.technique``."""
        return self.importance >= GRAVE

    def __len__(self) -> int:
        return len(self.first)

    def key(self, *columns: str) -> Ids:
        """One id for the combination of several columns."""
        return combine(*(self.ids[column] for column in columns))

    def id_of(self, text: str) -> np.uint64:
        """The id that this text has in every column."""
        return np.uint64(_hash(text, self.salt))

    def are(self, column: str, texts: Iterable[str]) -> Mask:
        """Which rows have one of these texts in this column."""
        wanted = np.array([self.id_of(text) for text in texts], dtype=np.uint64)
        return np.isin(self.ids[column], wanted)

    def ids_of(self, texts: Sequence[str]) -> Ids:
        """The ids of many texts at once, see ``id_of``."""
        with _engine().cursor() as cursor:
            found = cursor.execute(
                "SELECT hash(?::UBIGINT, text) AS id FROM unnest(?::VARCHAR[]) WITH ORDINALITY"
                " AS given(text, place) ORDER BY place",
                [self.salt, list(texts)],
            ).fetchnumpy()
        return np.asarray(found["id"], dtype=np.uint64)

    @property
    def unit(self) -> str:
        """What a slice is called: day, hour or 5 minutes."""
        return {DAY: "day", DAY // 24: "hour"}.get(self.slice_width, "5 minutes")


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """A connection of our own: duckdb's default one belongs to whoever imports us."""
    return duckdb.connect()


@lru_cache(1024)
def _hash(text: str, salt: int) -> int:
    with _engine().cursor() as cursor:
        ((value,),) = cursor.execute("SELECT hash(?::UBIGINT, ?)", [salt, text]).fetchall()
    return int(value)


def combine(*parts: Ids) -> Ids:
    """Mix ids row by row into one (the finaliser of splitmix64; order matters)."""
    mixed = np.zeros_like(parts[0])
    for part in parts:
        mixed = (mixed ^ part) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
    return mixed


def slice_width(span: int) -> int:
    """The time slice for a log of ``span`` microseconds: a day, an hour or five minutes.

    >>> slice_width(21 * DAY) == DAY, slice_width(DAY) == DAY // 24
    (True, True)
    """
    if span >= 5 * DAY:
        return DAY
    return DAY // 24 if span >= DAY // 2 else DAY // 288


# Columns that are fetched at a time: a result is in memory several times while it is fetched.
_AT_ONCE = 6
# What happens in a namespace that is being set up, or to a kind of object that was installed
# yesterday, says little about who usually works where: for its first week it is "a young one",
# and acting on such is a habit of its own. How old those of the first two slices are, nobody
# knows: they count as old.
YOUTH = 7
YOUNG = "(young)"

# A window over all columns would sort every text of every row: rows are numbered in numpy, and
# births are joined from small tables (bench/README.md).
_TIES = (
    "principal, action, namespace, template, source_ip, client, outcome,"
    " array_to_string(audit_ids, ',')"
)
_SYSTEM = " OR ".join(f"starts_with(namespace, '{prefix}')" for prefix in SYSTEM_NAMESPACES)
# What makes two rows the same activity.
_SAME = (
    "slot, principal, acting_as, credential, pod_uid, scheme, issued, verb, resource, subresource,"
    " namespace, template, action, source_ip, client, release, platform, outcome, binding, traits,"
    " origins"
)
_BORN = """
CREATE TABLE IF NOT EXISTS $COLUMN_births ($COLUMN VARCHAR, born BIGINT);
INSERT INTO $COLUMN_births
SELECT $COLUMN, min((epoch_us(first) - {start}) // {width}) FROM {rows}
WHERE cluster = {cluster} AND $COLUMN NOT IN (SELECT $COLUMN FROM $COLUMN_births)
GROUP BY $COLUMN;
"""
_BIRTHS = _BORN.replace("$COLUMN", "namespace") + _BORN.replace("$COLUMN", "resource")
_DERIVED = f"""
WITH timed AS (
    SELECT * EXCLUDE (id, system) REPLACE (CASE WHEN class = 'node'
            AND starts_with(principal, 'system:node:') THEN substr(principal, 13) ELSE node END
            AS node),
        (epoch_us(first) - {{start}}) // {{width}} AS slice,
        CASE WHEN class = 'workload' THEN split_part(principal, ':', 3) ELSE '' END AS home_name
    FROM (SELECT *, rowid AS id, {_SYSTEM} AS system, hash({_SAME}) AS same FROM {{rows}})
        JOIN deed_weights USING (verb, resource, subresource, system, traits)
        JOIN numbering USING (id)
)
SELECT timed.* EXCLUDE (home_name), coalesce(issuer, '') AS issuer,
    -- nobody has authenticated an anonymous caller: the address tells them apart
    CASE WHEN class = 'anonymous' THEN principal || '@' || source_ip ELSE principal END AS actor,
    -- all kubelets run one program, and the scheduler decides what each has to do
    CASE class WHEN 'node' THEN '(any node)'
        WHEN 'anonymous' THEN principal || '@' || source_ip ELSE principal END AS habit,
    CASE WHEN there.born > 1 AND slice - there.born < {YOUTH} THEN '{YOUNG}'
        ELSE timed.namespace END AS place,
    CASE WHEN resources.born > 1 AND slice - resources.born < {YOUTH} THEN '{YOUNG}'
        ELSE timed.resource END AS kind,
    CASE WHEN home_name <> '' AND own.born > 1 AND slice - own.born < {YOUTH} THEN '{YOUNG}'
        ELSE home_name END AS home,
    -- three hours of a working day or of a weekend day
    (CASE WHEN isodow(first) >= 6 THEN 'weekend ' ELSE 'workday ' END)
        || lpad(CAST(hour(first) // 3 * 3 AS VARCHAR), 2, '0') || '–'
        || lpad(CAST(hour(first) // 3 * 3 + 3 AS VARCHAR), 2, '0') || ' UTC' AS hours,
    -- a name is a claim: grave deeds need the namespace that upstream fixes for it
    CASE WHEN acting_as <> '' OR (importance >= {GRAVE} AND NOT components.home) THEN ''
        ELSE components.component END AS component,
    CASE WHEN timed.namespace = '' THEN 'cluster' WHEN timed.namespace = home_name THEN 'own'
        WHEN timed.namespace = 'kube-system' THEN 'kube-system' ELSE 'elsewhere' END AS region
FROM timed
    JOIN components USING (principal)
    JOIN namespace_births AS there ON there.namespace = timed.namespace
    JOIN resource_births AS resources ON resources.resource = timed.resource
    LEFT JOIN namespace_births AS own ON own.namespace = home_name
    LEFT JOIN issuers USING (credential)"""


def load(connection: duckdb.DuckDBPyConnection, cluster: str, *, salt: int = 0) -> ActivityTable:
    """Make the table ``activity`` of one cluster from ``activities`` and load its ids.

    Whoever wrote a workload has first the settings of what controllers made of it
    (``activity.attribution``). Rows are numbered in order of time. New columns: ``row``, ``slice``,
    ``same`` (a hash of what makes it the same activity), ``actor`` (who), ``habit`` (whose habits
    count), ``place``, ``kind`` and ``home`` (the namespace, the resource and a service account's
    own namespace, or ``YOUNG``), ``hours``, ``issuer`` (of the token, see ``activity.issuer``),
    ``component`` (the stock component that is believed to have done this, or '') and ``region``
    (where that is, as it can be said of any cluster: cluster, own, kube-system or elsewhere).
    ``node`` is also that of a kubelet.
    """
    attribute(connection, cluster)
    bounds = connection.execute(
        "SELECT epoch_us(min(first)), epoch_us(max(last)) FROM activities WHERE cluster = ?",
        [cluster],
    ).fetchone()
    first, last = bounds if bounds and bounds[0] is not None else (0, 0)
    width = slice_width(last - first)
    start = first // width * width
    connection.execute("DROP TABLE IF EXISTS namespace_births")
    connection.execute("DROP TABLE IF EXISTS resource_births")
    name_issuers(connection, cluster)
    select = _derived(connection, cluster, "activities", 0, start, width)
    connection.execute(f"CREATE OR REPLACE TABLE activity AS {select}")
    return _table(connection, 0, start, width, salt)


def follow(
    connection: duckdb.DuckDBPyConnection, cluster: str, begun: ActivityTable, slices: int
) -> ActivityTable:
    """Add the rows of one cluster in the table ``arrivals`` (``ACTIVITY_COLUMNS``) to the table
    ``activity``, which ``load`` has ``begun``, and load their ids.

    What is there as the same activity is not added: the table ``heard`` has the ``row`` there of
    each ``id``, which is the rowid in ``arrivals``. Rows that lie in none of the first ``slices``
    slices are left out.
    """
    start, width = begun.start, begun.slice_width
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE heard AS
        SELECT arrived.id, activity.row
        FROM (SELECT rowid AS id, hash({_SAME}) AS same FROM arrivals WHERE cluster = ?
            AND epoch_us(first) >= ? AND epoch_us(first) < ?) AS arrived
        LEFT JOIN activity USING (same)""",
        [cluster, start, start + slices * width],
    )
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE fresh AS SELECT arrivals.* FROM arrivals
        WHERE rowid IN (SELECT id FROM heard WHERE row IS NULL)"""
    )
    ((offset,),) = connection.execute("SELECT count(*) FROM activity").fetchall()
    follow_issues(connection, "fresh")
    select = _derived(connection, cluster, "fresh", offset, start, width)
    connection.execute(f"INSERT INTO activity BY NAME {select}")
    return _table(connection, offset, start, width, begun.salt)


def _derived(
    connection: duckdb.DuckDBPyConnection,
    cluster: str,
    rows: str,
    offset: int,
    start: int,
    width: int,
) -> str:
    """The SELECT of the columns of ``activity`` for one cluster's rows of a table, numbered from
    ``offset`` on."""
    _weigh_deeds(connection, rows)
    _name_components(connection, rows)
    _number(connection, cluster, rows, offset)
    place = {"rows": rows, "start": start, "width": width, "cluster": quoted(cluster)}
    connection.execute(_BIRTHS.format(**place))
    return _DERIVED.format(**place)


def _table(
    connection: duckdb.DuckDBPyConnection, offset: int, start: int, width: int, salt: int
) -> ActivityTable:
    """The rows of ``activity`` from ``offset`` on."""
    arrays = _ordered(
        connection,
        "slice, epoch_us(first) AS first_us, epoch_us(last) AS last_us, n AS requests, importance",
        offset,
    )
    ids: dict[str, Ids] = {}
    for begin in range(0, len(ID_COLUMNS), _AT_ONCE):
        some = ID_COLUMNS[begin : begin + _AT_ONCE]
        hashed = ", ".join(f'hash({salt}::UBIGINT, "{column}") AS "{column}"' for column in some)
        ids.update(_ordered(connection, hashed, offset))
    return ActivityTable(
        ids=ids,
        first=np.asarray(arrays["first_us"], dtype=np.int64),
        last=np.asarray(arrays["last_us"], dtype=np.int64),
        slice=np.asarray(arrays["slice"], dtype=np.int64),
        requests=np.asarray(arrays["requests"], dtype=np.int64),
        importance=np.asarray(arrays["importance"], dtype=np.float64),
        slice_width=width,
        start=start,
        salt=salt,
        offset=offset,
    )


def _ordered(
    connection: duckdb.DuckDBPyConnection, expressions: str, offset: int
) -> dict[str, Any]:
    """Expressions over ``activity`` as arrays in the order of its rows, from ``offset`` on."""
    arrays = connection.execute(
        f"SELECT {expressions}, row FROM activity WHERE row >= {offset}"
    ).fetchnumpy()
    order = np.argsort(arrays.pop("row"))
    return {column: np.asarray(arrays.pop(column))[order] for column in list(arrays)}


def _number(connection: duckdb.DuckDBPyConnection, cluster: str, rows: str, offset: int) -> None:
    """The table ``numbering``: for each row of a table its place in the order of time; the
    same rows get the same places in whatever order they arrived."""
    found = connection.execute(
        f"SELECT rowid AS id, epoch_us(first) AS first, epoch_us(last) AS last,"
        f" hash({_TIES}) AS tie FROM {rows} WHERE cluster = ?",
        [cluster],
    ).fetchnumpy()
    order = np.lexsort([np.asarray(found[column]) for column in ("tie", "last", "first")])
    row = np.arange(offset, offset + len(order), dtype=np.int64)
    places = {"id": np.asarray(found["id"])[order], "row": row}
    connection.execute("CREATE OR REPLACE TEMP TABLE numbering AS SELECT * FROM places")
    places.clear()


def _weigh_deeds(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """The table ``deed_weights``: how much each kind of request matters."""
    columns = ("verb", "resource", "subresource", "system", "traits")
    deeds = connection.execute(
        f"SELECT DISTINCT verb, resource, subresource, {_SYSTEM} AS system, traits FROM {rows}"
    ).fetchall()
    weighed = {
        column: np.array([deed[at] for deed in deeds], dtype=object)
        for at, column in enumerate(columns)
    }
    weighed["importance"] = np.array(
        [
            technique(
                verb, resource, subresource, SYSTEM_NAMESPACES[0] if system else "", traits
            ).weight
            for verb, resource, subresource, system, traits in deeds
        ],
        dtype=np.float64,
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE deed_weights (verb VARCHAR, resource VARCHAR,"
        " subresource VARCHAR, system BOOLEAN, traits VARCHAR, importance DOUBLE)"
    )
    if deeds:
        connection.execute("INSERT INTO deed_weights SELECT * FROM weighed")
    weighed.clear()


def _name_components(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """The table ``components``: which stock component each principal is, if any."""
    users = [
        user for (user,) in connection.execute(f"SELECT DISTINCT principal FROM {rows}").fetchall()
    ]
    known = [component(user) for user in users]
    named = {
        "principal": np.array(users, dtype=object),
        "component": np.array([one.name for one in known], dtype=object),
        "home": np.array([one.home for one in known], dtype=bool),
    }
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE components"
        " (principal VARCHAR, component VARCHAR, home BOOLEAN)"
    )
    if users:
        connection.execute("INSERT INTO components SELECT * FROM named")
    named.clear()


def texts(
    connection: duckdb.DuckDBPyConnection, rows: Ints, columns: Sequence[str]
) -> dict[str, list[Any]]:
    """The texts of some rows, column by column, in the order of ``rows`` (ascending)."""
    chosen = np.asarray(rows, dtype=np.int64)
    if not len(chosen):
        return {column: [] for column in columns}
    named = ", ".join(f'"{column}"' for column in columns)
    found = connection.execute(
        f"SELECT {named} FROM activity SEMI JOIN chosen ON activity.row = chosen.column0"
        " ORDER BY row"
    ).fetchall()
    return {column: [line[at] for line in found] for at, column in enumerate(columns)}
