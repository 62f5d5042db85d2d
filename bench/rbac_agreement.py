"""Does our evaluation of RBAC decide as a real API server did?

    python bench/rbac_agreement.py LOG...

LOG: recordings of an API server from its first start on, with the bodies of what was written to
roles and bindings (a cluster's own defaults are written then). Every decision in the log is made
again with roles and bindings as they were at the time: known are those that were written until
then. What a binding allowed has to be allowed by that binding, and what was refused by none.
Rewrites the block between ``<!-- rbac:begin -->`` and ``<!-- rbac:end -->`` in docs/forensics.md.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb

from kubewitness.events.columns import LATEST
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.rbac.grants import Grants, grants
from kubewitness.forensics.rbac.policy import GROUP, MASTERS, Attributes, groups_of
from kubewitness.forensics.rbac.reason import SQL as REASON
from kubewitness.forensics.rbac.reason import granted
from kubewitness.inquiry import opened
from throughput import ROOT, machine, rewrite, table

PAGE = ROOT / "docs" / "forensics.md"
NODES = "system:nodes"

# An object that is written as it was changes nothing.
_CHANGES = f"""
SELECT DISTINCT stage_at FROM (
    SELECT stage_at, verb, told, lag(told) OVER (
        PARTITION BY resource, namespace, name ORDER BY stage_at) AS before
    FROM (SELECT *, concat(response_object->'rules', response_object->'subjects',
            response_object->'roleRef', response_object->'aggregationRule') AS told
        FROM every_event
        WHERE api_group = {quoted(GROUP)} AND code < 300 AND stage = 'ResponseComplete'
            AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')))
WHERE verb LIKE 'delete%' OR told IS DISTINCT FROM before ORDER BY 1"""

_DECISIONS = f"""
SELECT verb, api_group, coalesce(resource, ''), coalesce(subresource, ''),
    coalesce(namespace, ''),
    CASE WHEN verb = 'create' AND subresource IS NULL THEN '' ELSE coalesce(name, '') END,
    CASE WHEN resource IS NULL THEN split_part(request_uri, '?', 1) ELSE '' END,
    coalesce(impersonated_user, "user"), coalesce(impersonated_groups, "groups"), {REASON},
    json_extract_string(annotations, '$."authorization.k8s.io/decision"'), count(*)
FROM every_event
WHERE received_at > ? AND received_at <= ? AND stage <> 'RequestReceived' AND "user" <> ''
GROUP BY ALL"""


def main(logs: list[str]) -> None:
    """Count and rewrite the page."""
    if not logs:
        sys.exit(__doc__)
    counts: Counter[str] = Counter()
    with opened(logs, bodies=True) as (_, connection, intake):
        for view in ("event", "change"):
            connection.execute(f"ALTER VIEW {view}s RENAME TO every_{view}")
        for begin, end in _spans(connection):
            for view in ("event", "change"):
                connection.execute(
                    f"CREATE OR REPLACE VIEW {view}s AS SELECT * FROM every_{view}"
                    f" WHERE stage_at <= TIMESTAMP {quoted(str(begin))}"
                )
            known = grants(connection)
            for row in connection.execute(_DECISIONS, [begin, end]).fetchall():
                counts[_agreement(known, row)] += row[-1]
    rows: list[tuple[str, ...]] = [
        (what, f"{n:,}") for what, n in sorted(counts.items(), key=lambda item: -item[1])
    ]
    told = f"{intake.events:,} events of {', '.join(Path(log).name for log in logs)}."
    rewrite("rbac", [f"{machine()} {told}", table(("decision", "requests"), rows)], PAGE)


def _spans(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[datetime, datetime]]:
    """From each change of RBAC until the next."""
    changes = [at for (at,) in connection.execute(_CHANGES).fetchall()]
    yield from pairwise([*changes, LATEST.replace(tzinfo=None)])


def _agreement(known: Grants, row: tuple[Any, ...]) -> str:
    *wanted, user, groups, reason, decision, _ = row
    asked = Attributes(*wanted)
    members = groups_of(user, groups or ())
    named = granted(reason)
    if named is not None:
        binding = known.policy.bindings.get(named.key)
        told = known.source.get(named.key, "reason") != "reason"
        if binding is None or not told or known.policy.rules(binding.role) is None:
            return "allowed by a binding or role that the log does not tell of"
        if known.policy.permits(binding, asked) and binding.binds(user, members):
            return "allowed by a binding: ours allows it by the same"
        return "allowed by a binding: **ours does not**"
    if decision == "forbid":
        ours = any(known.policy.allowing(user, members, asked))
        return "refused: **ours allows it**" if ours else "refused: ours refuses it"
    masters = "allowed to a master, who is not asked for a binding"
    others = "allowed by the Node authorizer" if NODES in members else "allowed for another reason"
    return masters if MASTERS in members else others


if __name__ == "__main__":
    main(sys.argv[1:])
