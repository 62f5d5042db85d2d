"""What a principal was permitted and did: by which binding, on what, how often, when last."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import duckdb

from kubewitness.events.normalisation import quoted
from kubewitness.forensics.rbac.least import FEW
from kubewitness.forensics.rbac.policy import ALL, Attributes, Binding
from kubewitness.forensics.rbac.reason import DECISION, granted
from kubewitness.forensics.rbac.reason import SQL as REASON

# Admission (a quota, Pod Security) answers 403, too, to what the authorizer has allowed.
_REFUSED = f"""(code = 401 OR (code = 403 AND {DECISION} <> 'allow'))"""
_PERMITTED = f"stage <> 'RequestReceived' AND {_REFUSED} IS NOT TRUE"
_SERVICE_ACCOUNT = "system:serviceaccount:"


class Deed(NamedTuple):
    """Requests alike to an authorizer. ``binding`` allowed them, ``None`` where it was no binding
    (the Node authorizer, ``system:masters``) or the log does not say; ``by_others`` were made by
    somebody who acted as the principal."""

    asked: Attributes
    binding: Binding | None
    requests: int
    by_others: int
    last: datetime


def deeds(
    connection: duckdb.DuckDBPyConnection, user: str, restricted: Collection[tuple[str, str]] = ()
) -> list[Deed]:
    """What ``user`` was permitted in the log, most often first.

    Objects have their names where these may matter: where there are few, and of resources that are
    ``restricted`` (group, resource) by name. Who acts as somebody else is permitted by the other's
    bindings; its own permission is to impersonate, which the API server asks for before, and says
    nothing of.
    """
    alike: dict[tuple[Attributes, Binding | None], Deed] = {}
    for others in (False, True):
        for deed in _requests(connection, user, restricted, others=others):
            before = alike.get(deed[:2], deed._replace(requests=0, by_others=0))
            alike[deed[:2]] = deed._replace(
                requests=before.requests + deed.requests,
                by_others=before.by_others + deed.by_others,
                last=max(before.last, deed.last),
            )
    return sorted(alike.values(), key=lambda deed: (-deed.requests, deed.asked))


def _requests(
    connection: duckdb.DuckDBPyConnection,
    user: str,
    restricted: Collection[tuple[str, str]],
    *,
    others: bool,
) -> list[Deed]:
    """Of ``others`` who acted as ``user``, or its own."""
    # a literal, not a parameter: only that is tried on what Parquet says of its pages
    who = f"impersonated_user = {quoted(user)}" if others else f'"user" = {quoted(user)}'
    if not others:
        who += " AND coalesce(impersonated_user, '') = ''"
    named = " OR ".join(
        f"(api_group = {quoted(group)} AND resource = {quoted(resource)})"
        for group, resource in sorted(restricted)
    )
    if any(ALL in pair for pair in restricted):
        named = "true"
    rows = connection.execute(
        f"""WITH own AS (
            SELECT verb, api_group, resource, coalesce(subresource, '') AS subresource,
                coalesce(namespace, '') AS namespace,
                -- a create names nothing when it is authorised: the name is in the body
                CASE WHEN verb = 'create' AND coalesce(subresource, '') = '' THEN ''
                    ELSE coalesce(name, '') END AS name,
                '' AS path, annotations, stage = 'ResponseStarted' AS started, stage_at
            FROM touches WHERE resource IS NOT NULL AND {who} AND {_PERMITTED}
            UNION ALL
            SELECT verb, '', '', '', '', '', split_part(request_uri, '?', 1),
                annotations, stage = 'ResponseStarted', stage_at
            FROM touches WHERE resource IS NULL AND {who} AND {_PERMITTED}
        ), alike AS (
            SELECT * EXCLUDE (started, stage_at),
                greatest(count(*) FILTER (started), count(*) FILTER (NOT started)) AS n,
                max(stage_at) AS last
            FROM own GROUP BY ALL
        ), counted AS (
            SELECT *, count(*) OVER (PARTITION BY verb, api_group, resource, subresource,
                namespace, path, annotations) AS names FROM alike
        )
        SELECT verb, api_group, resource, subresource, namespace,
            CASE WHEN names <= {FEW} OR {named or "false"} THEN name ELSE '' END AS name,
            path, {REASON}, sum(n)::BIGINT, max(last)
        FROM counted GROUP BY ALL"""
    ).fetchall()
    return [
        Deed(
            Attributes(*row[:7]),
            granted(row[7]),
            row[8],
            row[8] if others else 0,
            row[9].replace(tzinfo=UTC),
        )
        for row in rows
    ]


def impersonations(connection: duckdb.DuckDBPyConnection, user: str) -> list[Deed]:
    """As whom ``user`` acted, as the requests to impersonate that were granted for it."""
    rows = connection.execute(
        f"""SELECT impersonated_user, any_value(impersonated_groups), count(*), max(stage_at)
        FROM events WHERE "user" = {quoted(user)} AND impersonated_user <> ''
            AND stage <> 'RequestReceived'
            AND NOT (coalesce(code, 200) = 403 AND annotations IS NULL)
        GROUP BY 1 ORDER BY 3 DESC, 1"""
    ).fetchall()
    return [
        Deed(asked, None, n, 0, last.replace(tzinfo=UTC))
        for name, groups, n, last in rows
        for asked in _impersonating(name, groups or ())
    ]


def _impersonating(name: str, groups: Iterable[str]) -> list[Attributes]:
    """What the API server asks before it lets somebody act as ``name`` in ``groups``. Groups that
    follow from the name are not asked for."""
    if name.startswith(_SERVICE_ACCOUNT):
        namespace, _, account = name.removeprefix(_SERVICE_ACCOUNT).partition(":")
        who = Attributes("impersonate", "", "serviceaccounts", "", namespace, account)
    else:
        who = Attributes("impersonate", "", "users", "", "", name)
    implied = ("system:authenticated", "system:unauthenticated", "system:serviceaccounts")
    asked = [
        Attributes("impersonate", "", "groups", "", "", group)
        for group in groups
        if group and not (group in implied or group.startswith("system:serviceaccounts:"))
    ]
    return [who, *asked]
