"""Who issued a service account's token: the request that was answered with it (KEP-4193).

The audit log names the id of an issued token where it was asked for, and again wherever it is
used. A token whose issue the log ought to show and does not was made with the cluster's own key,
or somewhere that this log does not see.
"""

from __future__ import annotations

import duckdb

ANY_NODE = "(any node)"
UNSEEN = "(somebody this log does not show)"

# Every cluster is busy all the time: an hour without any request is a pause of the log. Kubelets
# renew a token before it is a day old, so that one first used a day after the log began, or went
# on after a pause, was issued within it. A log that lacks more than one issue in ten of a day's
# tokens (of one of three API servers, or all that a policy leaves out) proves nothing by that.
_ISSUERS = f"""
CREATE OR REPLACE TEMP TABLE issuers AS
WITH mine AS (
    SELECT class, principal, credential, issued, first, last FROM activities
    WHERE cluster = $cluster
), times AS (
    SELECT DISTINCT time_bucket(INTERVAL '1 minute', time) AS time
    FROM (SELECT unnest([first, last]) AS time FROM mine)
), begun AS (
    SELECT time FROM times
    QUALIFY coalesce(time - lag(time) OVER (ORDER BY time) > INTERVAL '1 hour', true)
), used AS (
    SELECT credential, min(first) AS first FROM mine
    WHERE starts_with(credential, 'JTI=') GROUP BY credential
), issues AS (
    SELECT issued AS credential, arg_min(issuer, (first, issuer)) AS issuer
    FROM (SELECT issued, first,
            CASE class WHEN 'node' THEN '{ANY_NODE}' ELSE principal END AS issuer FROM mine)
    WHERE issued <> '' GROUP BY issued
)
SELECT credential, coalesce(issuer, CASE
    WHEN used.first - begun.time >= INTERVAL '1 day' AND avg((issuer IS NULL)::INTEGER) OVER (
        ORDER BY used.first RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW) < 0.1
    THEN '{UNSEEN}' ELSE '' END) AS issuer
FROM used ASOF JOIN begun ON used.first >= begun.time LEFT JOIN issues USING (credential)"""


def name_issuers(connection: duckdb.DuckDBPyConnection, cluster: str) -> None:
    """The table ``issuers(credential, issuer)`` of all tokens with an id: who asked for it (all
    kubelets are one), ``UNSEEN``, or '' where that cannot be told."""
    connection.execute(_ISSUERS, {"cluster": cluster})


def follow_issues(connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Add to the table ``issuers`` who asked for the tokens that the activity in ``rows`` was
    answered with. Whether an issue is missing is not asked of what has just arrived: one of several
    API servers may tell of it later."""
    connection.execute(
        f"""INSERT INTO issuers SELECT issued, arg_min(issuer, (first, issuer))
        FROM (SELECT issued, first,
            CASE class WHEN 'node' THEN '{ANY_NODE}' ELSE principal END AS issuer FROM {rows})
        WHERE issued <> '' AND issued NOT IN (SELECT credential FROM issuers) GROUP BY issued"""
    )
