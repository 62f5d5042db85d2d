"""Objects that are written all the time: little is read of what was before, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities import START
from audit_log import Event, event, write
from kubewitness.errors import KubewitnessError
from kubewitness.forensics.kind import of
from kubewitness.forensics.objects.history import history
from kubewitness.forensics.objects.outline import Seen, turns
from kubewitness.forensics.objects.record import Record
from kubewitness.forensics.objects.replay import state_after
from kubewitness.forensics.objects.state import snapshot
from kubewitness.forensics.target import Target, find
from kubewitness.inquiry import opened

Lives = list[Event]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def written(seconds: float, verb: str, replicas: int, *, answered: bool, **fields: Any) -> Event:
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": str(int(seconds) + 1)},
        "spec": {"replicas": replicas},
    }
    bodies: dict[str, Any] = {"requestObject": body, "responseObject": body} if answered else {}
    level = "RequestResponse" if answered else "Metadata"
    return event(at(seconds), "ada", verb, "deployments", group="apps", name="web", level=level,
                 **bodies, **fields)  # fmt: skip


def lives(*, answered: bool) -> Lives:
    """Two objects of one name, each written eighty times; somebody tried a third."""
    found = []
    for begin in (0, 1000):
        found.append(written(begin, "create", 0, answered=answered, code=201))
        found += [written(begin + n, "update", n % 7, answered=answered) for n in range(1, 81)]
        found.append(written(begin + 90, "create", 9, answered=False, code=409))
        found.append(written(begin + 100, "delete", 0, answered=False))
    return found[:-1]


@contextmanager
def log(tmp_path: Path, events: Lives) -> Iterator[duckdb.DuckDBPyConnection]:
    with opened([write(tmp_path / "audit.jsonl", events)], bodies=True) as (_, connection, _intake):
        yield connection


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("limit", [1, 10, 70])
def test_the_latest_changes_are_the_end_of_all(tmp_path: Path, limit: int, answered: bool) -> None:
    with log(tmp_path, lives(answered=answered)) as connection:
        target = find(connection, "deploy/web")
        whole, some = history(connection, target), history(connection, target, limit=limit)
    assert (whole.more, some.more) == (False, True)
    assert some.lives == whole.lives == 2
    told = sum(change.n for change in some.changes)
    assert told == limit
    if answered:  # without bodies runs of writes are one change, which is cut
        assert some.changes == whole.changes[-len(some.changes) :]
    assert {change.life for change in some.changes} == {2}


def test_a_limit_that_is_not_reached_changes_nothing(tmp_path: Path) -> None:
    events = lives(answered=True)
    with log(tmp_path, events) as connection:
        target = find(connection, "deploy/web")
        assert history(connection, target, limit=len(events)) == history(connection, target)


def test_a_time_later_than_the_limit_wins(tmp_path: Path) -> None:
    with log(tmp_path, lives(answered=True)) as connection:
        target = find(connection, "deploy/web")
        found = history(connection, target, since=at(1078), limit=50)
    assert not found.more
    assert sum(change.n for change in found.changes) == 4


def test_a_state_after_many_writes_is_that_of_the_last(tmp_path: Path) -> None:
    with log(tmp_path, lives(answered=True)) as connection:
        found = snapshot(connection, find(connection, "deploy/web"), at(1075.5))
    assert found.object["spec"] == {"replicas": 75 % 7}
    assert (found.life, found.existence) == (2, "exists")
    assert found.created_at == at(1000) + timedelta(milliseconds=3)


def test_a_name_in_two_clusters_is_asked_for_with_a_namespace_too(tmp_path: Path) -> None:
    events = lives(answered=True)[:3]
    with log(tmp_path, [{**one, "cluster": name} for name in "ab" for one in events]) as connection:
        with pytest.raises(KubewitnessError, match="2 clusters have"):
            find(connection, "deploy/web", namespace="shop")
        assert find(connection, "deploy/web", namespace="shop", cluster="b").cluster == "b"


VERBS = st.sampled_from(["create", "update", "patch", "delete"])
STEPS = st.lists(
    st.tuples(
        VERBS,
        st.sampled_from(["", "", "", "status", "scale"]),
        st.sampled_from([200, 200, 200, 201, 409, None]),
        st.sampled_from(["", "", "u1", "u2"]),
    ),
    max_size=12,
)


@given(STEPS)
def test_what_is_left_out_tells_nothing_of_lives(
    steps: list[tuple[str, str, int | None, str]],
) -> None:
    """Of writes without bodies those at ``turns`` tell the same of what the object was."""
    seen, records = [], []
    for n, (verb, subresource, code, uid) in enumerate(steps):
        seen.append(Seen(at(n), verb, subresource, code, uid, whole=False, bare=True))
        records.append(
            Record(str(n), at(n), verb, subresource, "Metadata", "ada", "", (), "", "", code,
                   "ResponseComplete", "/apis/apps/v1/namespaces/shop/deployments/web", uid)
        )  # fmt: skip
    target = Target("prod", of("deployments", "apps"), "shop", "web")
    kept = set(turns(seen, at(len(steps))))
    whole = state_after(records, target)
    some = state_after([one for one in records if one.at in kept], target)
    for name in ("existence", "life", "begun", "uid"):
        assert getattr(some, name) == getattr(whole, name), name
