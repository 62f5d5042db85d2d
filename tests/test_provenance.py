"""Where credentials are used, and who issued them: what is odd, and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities import CLUSTER, DAY, HOUR, NODES, OUTSIDE, START, Row, account, connected, row
from kubewitness.activity.issuer import ANY_NODE, UNSEEN
from kubewitness.activity.table import load, texts
from kubewitness.baseline.horizon import prequential
from kubewitness.incidents.detection import Detection, detect
from kubewitness.surprise.provenance import OVERLAP, _alternates
from kubewitness.surprise.registry import FACTORS

API = account("shop/api")
DAYS = 10
LAST = START + (DAYS - 1) * DAY + 10 * HOUR
PODS = {"node-1": "10.244.1.7", "node-2": "10.244.2.7", "node-3": "10.244.3.7"}
PODS["node-9"] = "10.244.9.7"  # where ordinarily nothing runs


def issuing(at: datetime, number: int, node: str = "node-1", **changes: Any) -> Row:
    options: dict[str, Any] = {"source_ip": NODES[node], "client": "kubelet", **changes}
    who = options.pop("who", f"system:node:{node}")
    return row(at, who, "create", "serviceaccounts", subresource="token", namespace="shop",
               names=("api",), issued=f"JTI={number}", **options)  # fmt: skip


def using(at: datetime, credential: str, node: str = "node-1", **changes: Any) -> Row:
    """A pod of the account shop/api on this node asks for its configuration."""
    held = {"pod": f"api-{node}", "pod_uid": f"uid-{node}", "node": node, "bearer": "api-*"}
    options = {"source_ip": PODS.get(node, ""), "client": "api", "scheme": "JTI", **held, **changes}
    verb = options.pop("verb", "get")
    return row(at, options.pop("who", API), verb, "configmaps", namespace="shop", names=("app",),
               credential=credential, **options)  # fmt: skip


def ordinary() -> list[Row]:
    """Ten days in which three pods of one account get a new token every six hours."""
    rows = []
    for number in range(DAYS * 4):
        at = START + number * 6 * HOUR
        for place, node in enumerate(NODES):
            token = number * 10 + place
            rows.append(issuing(at, token, node))
            rows += [using(at + n * HOUR / 2, f"JTI={token}", node) for n in range(1, 12)]
    return rows


def odd(factor: str, *rows: Row) -> list[bool]:
    """Of each of these rows, in an ordinary cluster, whether this factor has anything to say."""
    chosen = next(one for one in FACTORS if one.name == factor)
    with connected([*ordinary(), *rows]) as connection:
        table = load(connection, CLUSTER)
        nats = chosen.learn(table, prequential(table, DAYS - 2, 7)).answer(table).nats
        ids = texts(connection, np.arange(len(table)), ("audit_ids",))["audit_ids"]
    found = {one[0]: value > 1.5 for one, value in zip(ids, nats.tolist(), strict=True)}
    return [found[one["audit_ids"][0]] for one in rows]


def issuer(rows: Sequence[Row], credential: str) -> str:
    with connected(rows) as connection:
        load(connection, CLUSTER)
        ((name,),) = connection.execute(
            "SELECT DISTINCT issuer FROM activity WHERE credential = ?", [credential]
        ).fetchall()
    return str(name)


def test_the_issuer_of_a_token_is_who_asked_for_that_very_one() -> None:
    minted = issuing(LAST, 999, who="ada", source_ip="10.8.0.4")
    rows = [*ordinary(), minted, using(LAST + HOUR, "JTI=999")]
    assert issuer(rows, "JTI=999") == "ada"
    assert issuer(rows, "JTI=110") == ANY_NODE


def test_a_token_that_nobody_was_issued_is_told_only_where_the_log_should_show_it() -> None:
    assert issuer([*ordinary(), using(LAST, "JTI=forged")], "JTI=forged") == UNSEEN
    early = using(START + 20 * HOUR, "JTI=old")
    assert issuer([*ordinary(), early], "JTI=old") == "", "issued before the log began, perhaps"
    pause = [line for line in ordinary() if not 0 < (LAST - line["first"]) / HOUR < 20]
    assert issuer([*pause, using(LAST, "JTI=gap")], "JTI=gap") == "", "or while it paused"


def test_a_token_from_an_unusual_issuer_is_odd() -> None:
    minted = issuing(LAST, 999, who="ada", source_ip="10.8.0.4")
    used, own = using(LAST + HOUR, "JTI=999"), using(LAST + HOUR, "JTI=390")
    assert odd("issuer", minted, used, own) == [False, True, False]
    assert odd("issuer", using(LAST, "JTI=forged")) == [True]


def test_a_log_that_lacks_many_issues_proves_nothing_by_that() -> None:
    """One of three API servers, or everything that a policy leaves out."""
    for lost in (("node-1",), tuple(NODES)):
        kept = [
            line for line in ordinary()
            if not (line["issued"] and line["principal"].endswith(lost))
        ]  # fmt: skip
        assert issuer([*kept, using(LAST, "JTI=forged")], "JTI=forged") == ""


@pytest.mark.parametrize(
    ("factor", "changes"),
    [
        ("scheme", {"credential": "", "scheme": "legacy token"}),
        ("token", {"source_ip": PODS["node-2"]}),
        ("confinement", {"source_ip": PODS["node-2"]}),
        ("confinement", {"source_ip": PODS["node-2"], "pod_uid": "uid-silent", "pod": "silent"}),
    ],
    ids=["a legacy token", "another pod", "another node", "of a silent pod"],
)
def test_a_token_elsewhere_or_of_another_kind_is_odd(factor: str, changes: Row) -> None:
    own: Row = {"credential": "JTI=390"}
    assert odd(factor, using(LAST, **own), using(LAST, **own | changes)) == [False, True]


def test_where_a_token_may_be_is_not_odd() -> None:
    """A new node; its own host; a place that nobody was at, which may be the node's."""
    host = {"source_ip": "10.0.0.11", "pod_uid": "uid-host"}
    other = {"source_ip": "10.244.77.7", "pod_uid": "uid-other"}
    rows = [
        using(LAST, "JTI=1", "node-9"),
        using(LAST, "JTI=390", **host),
        using(LAST, "JTI=390", **other),
    ]
    assert odd("confinement", *rows) == [False, False, False]


def test_a_node_away_from_its_address_is_odd() -> None:
    away = issuing(LAST, 999, source_ip="10.0.0.77")
    assert odd("kubelet", issuing(LAST, 998), away) == [False, True]


def controllers() -> list[Row]:
    return [
        using(START + n * HOUR, f"JTI=c{n}", who=account("kube-system/job-controller"),
              pod="", pod_uid="", node="", bearer="", source_ip="10.0.0.5")
        for n in range(100)
    ]  # fmt: skip


def test_one_credential_in_two_places_at_a_time_is_odd_where_it_came_later() -> None:
    free = {"pod": "", "pod_uid": "", "node": "", "bearer": ""}
    first, second, again = (
        using(LAST + n * HOUR / 3, "JTI=ci", **free, source_ip=address)
        for n, address in enumerate(("10.9.0.1", OUTSIDE, "10.9.0.1"))
    )
    assert odd("replay", first, second, again, *controllers())[:3] == [False, True, False]
    assert odd("replay", first, second, *controllers())[:2] == [False, False], "it moved"
    other = {**again, "credential": "JTI=other"}
    assert odd("replay", first, second, other, *controllers())[:3] == [False, False, False]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 6)), max_size=40
    )
)  # fmt: skip
def test_who_alternates_by_brute_force(rows: list[tuple[int, int, int]]) -> None:
    """A row is odd between two uses of an address that its holder had before the row's own."""
    rows = sorted(rows, key=lambda one: one[2])
    step = OVERLAP // 3
    expected = []
    for at, (who, where, _) in enumerate(rows):
        own = [(n, *one) for n, one in enumerate(rows) if one[0] == who]
        first = {place: min(n for n, _, here, _ in own if here == place) for _, _, place, _ in own}
        expected.append(
            any(
                first[place] < first[where]
                and (before := [n for n, _, here, _ in own if here == place and n < at])
                and (after := [n for n, _, here, _ in own if here == place and n > at])
                and (rows[after[0]][2] - rows[before[-1]][2]) * step <= OVERLAP
                for place in first
            )
        )
    holder, address = (np.array([one[n] for one in rows], dtype=np.uint64) for n in (0, 1))
    at_time = np.array([one[2] * step for one in rows], dtype=np.int64)
    assert _alternates(holder, address, at_time).tolist() == expected


def found(*rows: Row) -> Detection:
    with connected([*ordinary(), *rows]) as connection:
        return detect(connection, CLUSTER, since=START + (DAYS - 2) * DAY)


def test_the_story_says_who_issued_the_token_that_was_used() -> None:
    minted = issuing(LAST, 999, who="ada", source_ip="10.8.0.4", client="kubectl")
    stolen = [
        row(LAST + n * timedelta(minutes=1), API, verb, "secrets", namespace="shop",
            names=(f"s{n}",), source_ip=OUTSIDE, client="curl", credential="JTI=999", scheme="JTI")
        for n, verb in enumerate(("list", "get", "delete"), 1)
    ]  # fmt: skip
    first = found(minted, *stolen).incidents[0]
    assert set(first.principals) == {API, "ada"}
    assert "Service account shop/api used a token (JTI=999) issued by ada." in first.summary


def test_a_reason_names_the_pod_whose_token_it_was() -> None:
    thief = {"source_ip": "10.244.1.99"}
    away = [using(LAST, "JTI=390", verb=verb, **thief) for verb in ("get", "delete")]
    reasons = found(*away).incidents[0].reasons
    told = next(one for one in reasons if one.factor == "token")
    assert "used the token of pod api-node-1 from 10.244.1.99, which is not" in told.sentence
    assert [usual.value for usual in told.expected] == [f"used from {PODS['node-1']}"]
