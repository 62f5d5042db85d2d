"""Events become activity: identical behaviour in one time slot is one row with counts.

Everything is scored as activity, 10 to 100 times fewer rows than events. What needs parsing
(user agents, addresses, names, URIs) is parsed once per distinct value and joined back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb
import msgspec
import numpy as np

from kubewitness.activity.action import action, outcome
from kubewitness.activity.client import client
from kubewitness.activity.grouping import group, insert
from kubewitness.activity.name import name_template
from kubewitness.activity.network import learn_proxies, network, peer_address, subnet
from kubewitness.activity.principal import principal_class, team
from kubewitness.events.trait import origins

ACTIVITY_COLUMNS: dict[str, str] = {
    "slot": "start of the time slot (UTC)",
    "cluster": "",
    "principal": "the authenticated user; '<unauthenticated>' when there is none",
    "class": "human, workload, node, control-plane, anonymous",
    "team": "the peer group that identity alone tells",
    "acting_as": "the impersonated user, or ''",
    "credential": "JTI=… or X509SHA256=… or an access key, or ''",
    "pod": "the pod a bound token was issued to, or ''",
    "pod_uid": "its uid, or ''",
    "node": "the node a bound token was issued to, or ''",
    "bearer": "the pod's name without generated suffixes: the program that holds the token, or ''",
    "scheme": "how it authenticated: JTI, X509SHA256, access key, legacy token, or '' (not told)",
    "issued": "the credential id of the token that this request was answered with, or ''",
    "action": "see activity.action",
    "verb": "",
    "resource": "resource[.group], '' for non-resource requests",
    "subresource": "",
    "namespace": "'' for cluster-scoped",
    "template": "name without generated suffixes",
    "source_ip": "the peer's address, see activity.network",
    "network": "its prefix",
    "subnet": "a smaller prefix, see activity.network",
    "scope": "loopback, private, public, unknown",
    "client": "user agent product",
    "release": "user agent major.minor",
    "platform": "user agent os/arch",
    "outcome": "see activity.action",
    "binding": "the RBAC binding that allowed it, or ''",
    "traits": "dangerous settings in what was written, see events.trait",
    "origins": "where the images of a written workload come from, see events.trait",
    "n": "requests",
    "names": "distinct object names",
    "first": "first stage time",
    "last": "last stage time",
    "audit_ids": "up to 8 auditIDs, the earliest",
    "name_samples": "up to 8 names, the earliest",
}

# Several texts as one key: JSON, because any of them may hold any character.
_DEED = "CAST(to_json([verb, resource, subresource, path]) AS VARCHAR)"
# A log of at most this span: this wide a slot.
_WIDTHS = (
    (timedelta(days=2), timedelta(minutes=5)),
    (timedelta(days=28), timedelta(hours=1)),
    (timedelta(days=84), timedelta(hours=3)),
    (timedelta.max, timedelta(days=1)),
)
_BINDING = r'(ClusterRoleBinding|RoleBinding) "([^"]+)"'
_AUTH = "authentication.kubernetes.io"
LEGACY = "legacy token"


def slot_width(first: datetime, last: datetime) -> timedelta:
    """An hour for a log of days, five minutes for a log of hours; wider for a log of months, so
    that activity, and with it memory, is bounded by distinct behaviour and not by time.

    >>> slot_width(datetime(2026, 3, 1), datetime(2026, 3, 1, 6))
    datetime.timedelta(seconds=300)
    >>> slot_width(datetime(2026, 1, 1), datetime(2026, 7, 1))
    datetime.timedelta(days=1)
    """
    return next(width for most, width in _WIDTHS if last - first <= most)


def rollup(
    connection: duckdb.DuckDBPyConnection,
    *,
    width: timedelta,
    trusted_proxies: Collection[str] = (),
) -> frozenset[str]:
    """Make the table ``activities`` (``ACTIVITY_COLUMNS``) from the view ``events``.

    Returns the addresses taken for proxies: the configured ones, or those that were learnt.
    """
    connection.execute("DROP TABLE IF EXISTS grouped")
    stretches = group(connection, width=width, into="grouped")
    proxies = frozenset(trusted_proxies) or found_proxies(connection, "grouped")
    connection.execute("DROP TABLE IF EXISTS activities")
    finish(connection, "grouped", "activities", proxies=proxies, stretches=stretches)
    connection.execute("DROP TABLE grouped")
    return proxies


def found_proxies(connection: duckdb.DuckDBPyConnection, met: str) -> frozenset[str]:
    """The proxies that the columns ``source_ips`` and ``principal`` of a table tell of."""
    found = connection.execute(f"SELECT DISTINCT source_ips, principal FROM {met}").fetchall()
    return learn_proxies(
        [(msgspec.json.decode(addresses, type=list[str]), who) for addresses, who in found]
    )


def finish(
    connection: duckdb.DuckDBPyConnection,
    groups: str,
    into: str,
    *,
    proxies: Collection[str],
    stretches: Sequence[tuple[datetime, datetime]],
    met: str = "",
) -> None:
    """Add the activity in the table ``groups`` (``activity.grouping``) to the table ``into``, which
    is made if missing.

    Of ``met``, a table with ``principal``, ``groups`` and ``first``, the groups of each principal
    are taken; it is ``groups`` itself unless told otherwise.
    """
    _parsed(
        connection,
        "addresses",
        f"SELECT DISTINCT source_ips FROM {groups}",
        ("source_ip", "network", "scope", "subnet"),
        lambda addresses: _address(msgspec.json.decode(addresses, type=list[str]), proxies),
    )
    _parsed(
        connection,
        "credentials",
        f"SELECT DISTINCT extra FROM {groups}",
        ("credential", "pod", "pod_uid", "node", "bearer", "told_scheme"),
        _credential,
    )
    _parsed(
        connection,
        "agents",
        f"SELECT DISTINCT user_agent FROM {groups}",
        ("client", "release", "platform"),
        client,
    )
    _parsed(
        connection,
        "templates",
        f"SELECT DISTINCT name FROM {groups}",
        ("template",),
        lambda name: (name_template(name),),
    )
    _parsed(
        connection,
        "people",
        # somebody who changes teams stays with the first for this log
        f"""SELECT CAST(to_json(list_concat([principal], arg_min(groups, (first, groups))))
            AS VARCHAR) FROM (SELECT principal, first, list_sort("groups") AS groups
            FROM {met or groups}
            WHERE principal IN (SELECT principal FROM {groups})) GROUP BY principal""",
        ("principal", "class", "team"),
        _person,
    )
    _parsed(
        connection,
        "deeds",
        f"SELECT DISTINCT {_DEED} FROM {groups}",
        ("action",),
        lambda deed: (action(*msgspec.json.decode(deed)),),
    )
    _parsed(
        connection,
        "answers",
        f"SELECT DISTINCT answer FROM {groups}",
        ("outcome",),
        lambda answer: (_outcome(answer),),
    )
    _parsed(
        connection,
        "sources",
        f"SELECT DISTINCT images FROM {groups}",
        ("origins",),
        lambda images: (origins(images),),
    )
    select = _ACTIVITY.replace("$GROUPS", groups)
    connection.execute(f"CREATE TABLE IF NOT EXISTS {into} AS {select.replace('$WHEN', 'false')}")
    insert(connection, into, select, "slot", stretches)


def _address(source_ips: Sequence[str], proxies: Collection[str]) -> tuple[str, str, str, str]:
    address = peer_address(source_ips, proxies)
    return (address, *network(address), subnet(address))


def _person(text: str) -> tuple[str, str, str]:
    principal, *groups = (name or "" for name in msgspec.json.decode(text))
    return principal, principal_class(principal), team(principal, tuple(groups))


def _outcome(answer: str) -> str:
    code = answer.rstrip("\n")
    return outcome(int(code) if code else None, "Panic" if answer.endswith("\n") else "Response")


def _credential(extra: str) -> tuple[str, str, str, str, str, str]:
    """Credential id, pod, pod uid, node, the pod's name template and the kind of credential, from
    ``user.extra`` (KEP-4193 and cloud IAM)."""
    try:
        claims = msgspec.json.decode(extra, type=dict[str, Any]) if extra else {}
    except msgspec.MsgspecError:
        claims = {}

    def claim(name: str) -> str:
        values = claims.get(name)
        return str(values[0]) if isinstance(values, list) and values else ""

    pod = claim(f"{_AUTH}/pod-name")
    credential, key = claim(f"{_AUTH}/credential-id"), claim("accessKeyId")
    return (
        credential or key,
        pod,
        claim(f"{_AUTH}/pod-uid"),
        claim(f"{_AUTH}/node-name"),
        name_template(pod),
        credential.partition("=")[0] or ("access key" if key else ""),
    )


def _parsed(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    query: str,
    columns: Sequence[str],
    parse: Callable[[str], Iterable[str]],
) -> None:
    """A table ``table(key, *columns)`` with what ``parse`` makes of each distinct text."""
    keys = [row[0] for row in connection.execute(query).fetchall() if row[0] is not None]
    parsed = [tuple(parse(key)) for key in keys]
    values: dict[str, Any] = {"key": np.array(keys, dtype=object)}
    for position, column in enumerate(columns):
        values[column] = np.array([row[position] for row in parsed], dtype=object)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} (key VARCHAR, "
        + ", ".join(f'"{column}" VARCHAR' for column in columns)
        + ")"
    )
    if keys:
        connection.execute(f"INSERT INTO {table} SELECT * FROM values")


# Both ResponseStarted and ResponseComplete of one watch or exec are logged: n is the larger of
# the two counts, so that neither a policy that omits a stage nor one that keeps all miscounts.
_ACTIVITY = f"""
SELECT slot, cluster, principal, class, team, acting_as, credential, pod, pod_uid, node, bearer,
    CASE WHEN legacy THEN '{LEGACY}' ELSE told_scheme END AS scheme, issued, action, verb,
    resource, subresource, namespace, template, source_ip, network, subnet, scope, client,
    release, platform, outcome,
    CASE WHEN reason = '' THEN '' ELSE regexp_extract(reason, '{_BINDING}', 2) END AS binding,
    traits, origins, CAST(sum(greatest(started, finished)) AS BIGINT) AS n,
    list_unique(list(name)) AS names,
    min(first) AS first, max(last) AS last,
    list_slice(flatten(arg_min(audit_ids, first, 8)), 1, 8) AS audit_ids,
    arg_min(name, first, 8) AS name_samples
FROM $GROUPS
JOIN addresses ON addresses.key = source_ips
JOIN credentials ON credentials.key = extra
JOIN agents ON agents.key = user_agent
JOIN templates ON templates.key = name
JOIN people USING (principal)
JOIN deeds ON deeds.key = {_DEED}
JOIN answers ON answers.key = answer
JOIN sources ON sources.key = images
WHERE $WHEN
GROUP BY ALL
"""
