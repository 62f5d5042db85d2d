"""On a real API server's log: what it allowed by a binding, ours allows by the same, what it denied
ours denies, and its defaults are the ones we ship."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from kubewitness.forensics.rbac.grants import defaults, grants
from kubewitness.forensics.rbac.policy import GROUP, Attributes, groups_of
from kubewitness.forensics.rbac.reason import SQL as REASON
from kubewitness.forensics.rbac.reason import granted
from kubewitness.inquiry import opened

LOG = Path(__file__).parents[2] / "shared" / "data" / "capture" / "bootstrap.jsonl.zst"

pytestmark = pytest.mark.skipif(not LOG.exists(), reason="the shared data is not here")


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with opened([LOG], bodies=True) as (_, found, _):
        yield found


def quiet(connection: duckdb.DuckDBPyConnection) -> datetime:
    """From here on no role was written in this log, but for repeated ones."""
    row = connection.execute(
        "SELECT max(stage_at) FROM events WHERE api_group = ? AND verb IN ('create', 'delete')",
        [GROUP],
    ).fetchone()
    assert row is not None
    found: datetime = row[0]
    return found


def test_ours_decides_as_the_api_server_did(connection: duckdb.DuckDBPyConnection) -> None:
    known = grants(connection)
    rows = connection.execute(
        f"""SELECT verb, api_group, coalesce(resource, ''), coalesce(subresource, ''),
            coalesce(namespace, ''),
            CASE WHEN verb = 'create' AND subresource IS NULL THEN '' ELSE coalesce(name, '') END,
            CASE WHEN resource IS NULL THEN split_part(request_uri, '?', 1) ELSE '' END,
            coalesce(impersonated_user, "user"), coalesce(impersonated_groups, "groups"), {REASON},
            json_extract_string(annotations, '$."authorization.k8s.io/decision"'), count(*)
        FROM events WHERE received_at > ? AND stage <> 'RequestReceived' AND "user" <> ''
        GROUP BY ALL""",
        [quiet(connection)],
    ).fetchall()
    agreed: Counter[tuple[str, bool]] = Counter()
    for *asked_for, user, groups, reason, decision, n in rows:
        wanted = Attributes(*asked_for)
        members = groups_of(user, groups or ())
        named = granted(reason)
        if named is not None:
            binding = known.policy.bindings[named.key]
            allowed = known.policy.permits(binding, wanted) and binding.binds(user, members)
            agreed["allowed", allowed] += n
        elif decision == "forbid":
            agreed["denied", not list(known.policy.allowing(user, members, wanted))] += n
    assert agreed["allowed", True] > 5_000
    assert agreed["allowed", False] == 0
    assert agreed["denied", False] == 0


def test_the_shipped_defaults_are_those_of_a_real_api_server(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    known = grants(connection)
    for one in defaults():
        assert known.source[one.key] == "log"
        if one.key in known.policy.bindings:
            assert known.policy.bindings[one.key] == one
