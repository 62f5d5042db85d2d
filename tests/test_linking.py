"""Which evidence belongs together, and what must not be glued."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities import DAY, HOUR, OFFICE, OUTSIDE, START, Row, account, ledger_of, row
from kubewitness.incidents.linking import link

# Long after the cluster got to know its networks.
NOW = START + 7 * DAY + 10 * HOUR
SECRETS: dict[str, float] = {"action": 5.0}
KNOWN: list[tuple[Row, dict[str, float]]] = [
    (row(START + n * HOUR, "ben", "get", "pods", source_ip=address, client=f"c{n}"), {})
    for n, address in enumerate(("10.8.0.4", "10.244.1.7", "198.51.100.7"))
]


def seen(at: timedelta, who: str, **changes: Any) -> Row:
    """Somebody reads a secret some time after ``NOW``."""
    changes = {"namespace": "shop", "source_ip": "10.8.0.4", **changes}
    return row(NOW + at, who, changes.pop("verb", "get"), "secrets", **changes)


def groups(*rows: Row, evidence: dict[str, float] | None = None) -> list[list[int]]:
    """The groups of rows, each row by its position in time."""
    ledger = ledger_of([*KNOWN, *((line, evidence or SECRETS) for line in rows)])
    assert len(ledger) == len(rows), "every row is evidence"
    return [group.tolist() for group in link(ledger)]


def test_one_identity_at_one_address_is_one_session_while_it_goes_on() -> None:
    steps = [2.9 * HOUR * n for n in range(4)]
    deeds = [{"verb": verb} for verb in ("get", "list", "create", "delete")]
    rows = [seen(at, "ada", **deed) for at, deed in zip(steps, deeds, strict=True)]
    assert groups(*rows) == [[0, 1, 2, 3]]


def test_a_session_ends_after_three_quiet_hours() -> None:
    first, second = seen(0 * HOUR, "ada"), seen(3.1 * HOUR, "ada", verb="delete")
    assert groups(first, second) == [[0], [1]]
    lasting = seen(0 * HOUR, "ada", lasts=timedelta(minutes=10))
    assert groups(lasting, second) == [[0, 1]], "a request that lasts is no quiet time"


def test_a_thief_sits_elsewhere() -> None:
    own = [seen(n * HOUR / 4, "ada") for n in range(2)]
    other = [seen(n * HOUR / 4 + HOUR / 9, "ada", source_ip="10.9.0.1") for n in range(2)]
    assert groups(*own, *other) == [[0, 2], [1, 3]]


@pytest.mark.parametrize("column", ["client", "platform"])
@pytest.mark.parametrize("who", ["ada", account("shop/api")])
def test_a_thief_at_the_same_desk_brings_a_program_along(who: str, column: str) -> None:
    deeds = ("get", "delete", "list", "create")
    rows = [
        seen(n * HOUR / 4, who, verb=verb, **{column: ("usual", "other")[n % 2]})
        for n, verb in enumerate(deeds)
    ]
    assert groups(*rows, evidence={"namespace": 5.0, "action": 1.0}) == [[0, 2], [1, 3]]


def test_callers_without_a_name_are_one_by_their_address() -> None:
    rows = [
        seen(0 * HOUR, "system:anonymous", source_ip="198.51.100.7"),
        seen(HOUR / 9, "<unauthenticated>", source_ip="198.51.100.7"),
        seen(HOUR / 8, "system:anonymous", source_ip="198.51.100.8"),
    ]
    assert groups(*rows) == [[0, 1], [2]]


@pytest.mark.parametrize("factor", ["action", "deed", "setting", "impersonation"])
def test_the_same_deed_on_another_day_continues_the_story(factor: str) -> None:
    rows = [seen(n * DAY, "ada", acting_as="root", traits="privileged") for n in range(3)]
    assert groups(*rows, evidence={factor: 5.0}) == [[0, 1, 2]]


@pytest.mark.parametrize("factor", ["network", "client", "hour"])
def test_a_place_or_a_time_continues_nothing(factor: str) -> None:
    verbs = enumerate(("get", "list", "delete"))
    rows = [seen(n * DAY, "ada", client=f"c{n}", verb=verb) for n, verb in verbs]
    told = {factor: 5.0, "deed": 1.0}
    assert groups(*rows, evidence=told) == [[0], [1], [2]]


@pytest.mark.parametrize("who", ["ada", account("shop/api")])
def test_more_of_a_kind_on_another_day_continues_the_story(who: str) -> None:
    new = {"action": 5.0}
    taken = [seen(n * DAY, who, subresource=f"part-{n}") for n in range(3)]
    assert groups(*taken, evidence=new) == [[0, 1, 2]]
    for changes in ({"verb": "delete"}, {"client": "curl"}):
        other = seen(3 * DAY, who, subresource="part-3", **changes)
        assert groups(*taken, other, evidence=new) == [[0, 1, 2], [3]]


def test_what_only_repeats_is_told_once_and_keeps_no_session_open() -> None:
    again = [seen(n * 2 * HOUR, "ada") for n in range(5)]
    assert groups(*again, evidence={"network": 5.0}) == [[0, 1, 2, 3, 4]]
    new = seen(8 * HOUR, "ada", verb="delete")
    assert groups(*again[:4], new, evidence={"network": 5.0, "action": 1.0}) == [[0, 1, 2, 3], [4]]


def test_what_repeats_a_little_of_a_story_is_another_story() -> None:
    """Pods that are refused the same every day, and one that does something else besides."""
    robot = account("shop/api")
    daily = [seen(n * DAY, robot, source_ip=f"10.244.1.{n}") for n in range(3)]
    again = seen(3 * DAY, robot, source_ip="10.244.1.3")
    others = [
        seen(3.01 * DAY + n * HOUR, robot, source_ip="10.244.1.3", verb=verb)
        for n, verb in enumerate(("delete", "create", "patch"))
    ]
    assert groups(*daily, again, others[0]) == [[0, 1, 2, 3, 4]]
    assert groups(*daily, again, *others) == [[0, 1, 2], [3, 4, 5, 6]]


def test_another_deed_or_another_place_is_another_story() -> None:
    assert groups(seen(0 * DAY, "ada"), seen(DAY, "ada", verb="delete")) == [[0], [1]]
    assert groups(seen(0 * DAY, "ada"), seen(DAY, "ada", source_ip="10.8.0.5")) == [[0], [1]]
    assert groups(seen(0 * DAY, "ada"), seen(DAY, "ben")) == [[0], [1]]


def test_the_pods_of_a_workload_move_within_their_network() -> None:
    robot = account("shop/api")
    rows = [seen(n * DAY, robot, source_ip=f"10.244.1.{n}") for n in range(2)]
    assert groups(*rows) == [[0, 1]]
    away = [seen(n * DAY, robot, source_ip=f"10.{n}.1.1") for n in range(2)]
    assert groups(*away) == [[0], [1]]


def test_a_foreign_address_behind_two_identities_links_them() -> None:
    rows = [seen(0 * HOUR, "ada", source_ip=OUTSIDE), seen(HOUR, "cleo", source_ip=OUTSIDE)]
    assert groups(*rows) == [[0, 1]]
    late = [seen(0 * HOUR, "ada", source_ip=OUTSIDE), seen(25 * HOUR, "cleo", source_ip=OUTSIDE)]
    assert groups(*late) == [[0], [1]], "a day later it is another story"


def test_a_foreign_address_links_all_programs_of_one_thief() -> None:
    deeds = enumerate((("kubectl", "get"), ("curl", "delete")))
    rows = [
        seen(n * HOUR, "ada", source_ip=OUTSIDE, client=client, verb=verb)
        for n, (client, verb) in deeds
    ]
    assert groups(*rows) == [[0, 1]]


@pytest.mark.parametrize("address", ["10.8.0.4", "198.51.100.7"])
def test_an_address_of_a_known_network_links_nobody(address: str) -> None:
    rows = [seen(0 * HOUR, "ada", source_ip=address), seen(HOUR, "cleo", source_ip=address)]
    assert groups(*rows) == [[0], [1]]


def test_a_hub_glues_nothing() -> None:
    everybody = [*OFFICE, *(f"person-{n}" for n in range(7))]
    for address in (OUTSIDE, "10.8.0.4"):
        rows = [seen(n * HOUR / 9, who, source_ip=address) for n, who in enumerate(everybody)]
        assert groups(*rows) == [[n] for n in range(len(everybody))]


def minting(**changes: Any) -> Row:
    options = {"namespace": "shop", "names": ("api",), "source_ip": "10.8.0.4", **changes}
    return row(NOW, "ada", "create", "serviceaccounts", subresource="token", **options)


def test_who_mints_a_token_leads_to_who_uses_it() -> None:
    robot = account("shop/api")
    used = seen(20 * HOUR, robot, source_ip="10.9.0.9")
    assert groups(minting(), used) == [[0, 1]]


@pytest.mark.parametrize(
    "changes",
    [{"outcome": "denied"}, {"namespace": "prod"}, {"names": ("worker",)}],
    ids=["refused", "of another namespace", "of another name"],
)
def test_a_token_leads_only_to_its_own_account(changes: dict[str, Any]) -> None:
    used = seen(HOUR, account("shop/api"), source_ip="10.9.0.9")
    assert groups(minting(**changes), used) == [[0], [1]]


def test_a_token_leads_to_nothing_before_it_was_minted_or_long_after() -> None:
    robot = account("shop/api")
    assert groups(seen(-HOUR, robot, source_ip="10.9.0.9"), minting()) == [[0], [1]]
    assert groups(minting(), seen(25 * HOUR, robot, source_ip="10.9.0.9")) == [[0], [1]]


def test_where_ids_are_told_a_token_leads_to_that_very_token() -> None:
    robot = account("shop/api")
    maker = minting(issued="JTI=1")
    one = seen(40 * HOUR, robot, source_ip="10.9.0.9", credential="JTI=1")
    other = seen(41 * HOUR, robot, source_ip="10.7.0.8", credential="JTI=2")
    assert groups(maker, one, other) == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("issued", "credential", "linked"),
    [("", "JTI=2", True), ("JTI=1", "", True), ("JTI=1", "JTI=2", False)],
    ids=["none where it was issued", "none where it is used", "two tokens"],
)
def test_where_an_id_is_missing_the_name_leads_on(
    issued: str, credential: str, linked: bool
) -> None:
    used = seen(HOUR, account("shop/api"), source_ip="10.9.0.9", credential=credential)
    assert groups(minting(issued=issued), used) == ([[0, 1]] if linked else [[0], [1]])


def test_a_token_leads_into_no_pods_that_are_named_like_its_account() -> None:
    pod = {"pod": "api-7d9f-x2x2x", "bearer": "api-*", "source_ip": "10.9.0.9"}
    used = seen(HOUR, account("shop/api"), credential="JTI=2", **pod)
    assert groups(minting(issued="JTI=1"), used) == [[0], [1]]


def signing(**changes: Any) -> Row:
    csr = "certificatesigningrequests.certificates.k8s.io"
    return row(NOW, "ada", "update", csr, subresource="approval", source_ip="10.8.0.4", **changes)


CERTIFIED: dict[str, Any] = {"credential": "X509SHA256=f", "scheme": "X509SHA256"}


def test_who_has_a_certificate_signed_leads_to_who_comes_with_a_new_one_from_there() -> None:
    assert groups(signing(), seen(HOUR, "root", **CERTIFIED)) == [[0, 1]]


@pytest.mark.parametrize(
    "used",
    [
        seen(25 * HOUR, "root", **CERTIFIED),
        seen(HOUR, "root", **CERTIFIED, source_ip="10.8.0.5"),
        seen(HOUR, "root", credential="JTI=1", scheme="JTI"),
        seen(HOUR, "root"),
    ],
    ids=["long after", "elsewhere", "a token", "nothing told"],
)
def test_a_signed_certificate_leads_to_nothing_else(used: Row) -> None:
    assert groups(signing(), used) == [[0], [1]]


def test_a_certificate_in_use_before_was_not_signed_now() -> None:
    earlier = seen(-2 * HOUR, "root", **CERTIFIED)
    later = seen(2 * HOUR, "root", verb="delete", **CERTIFIED)
    refused = signing(outcome="denied")
    assert groups(earlier, signing(), later) == [[0], [1], [2]]
    assert groups(refused, seen(HOUR, "root", **CERTIFIED)) == [[0], [1]]


def entering(verb: str, resource: str, template: str, **changes: Any) -> Row:
    options = {"namespace": "shop", "names": (template,), "source_ip": "10.8.0.4", **changes}
    return row(NOW, "ada", verb, resource, **options)


DEPLOYED = entering("create", "cronjobs.batch", "cleanup")
ENTERED = entering("get", "pods", "cleanup-2961-x7m2d", subresource="exec")
POD = {"pod": "cleanup-2961-x7m2d", "bearer": "cleanup-*", "source_ip": "10.9.0.9"}


@pytest.mark.parametrize("first", [DEPLOYED, ENTERED], ids=["deployed", "entered"])
def test_who_gets_into_a_pod_leads_to_what_its_account_does(first: Row) -> None:
    assert groups(first, seen(20 * HOUR, account("shop/default"), **POD)) == [[0, 1]]
    for changes in ({"pod": "web-1", "bearer": "web-*"}, {"pod": "", "bearer": ""}):
        other = seen(HOUR, account("shop/default"), **POD | changes)
        assert groups(first, other) == [[0], [1]], "another pod"
    assert groups(first, seen(HOUR, account("prod/default"), **POD)) == [[0], [1]]
    assert groups(first, seen(25 * HOUR, account("shop/default"), **POD)) == [[0], [1]]


def test_who_gets_into_one_pod_is_not_in_its_sibling() -> None:
    sibling = seen(HOUR, account("shop/default"), **POD | {"pod": "cleanup-2961-zz9qq"})
    assert groups(ENTERED, sibling) == [[0], [1]]
    assert groups(DEPLOYED, sibling) == [[0, 1]], "who made the workload made all its pods"


def test_who_was_kept_out_leads_to_nothing() -> None:
    refused = {**ENTERED, "outcome": "denied"}
    assert groups(refused, seen(HOUR, account("shop/default"), **POD)) == [[0], [1]]


def test_no_story_reaches_over_the_end_of_the_history() -> None:
    rows = [seen(n * HOUR, "ada") for n in range(4)]
    ledger = ledger_of([*KNOWN, *((line, SECRETS) for line in rows)])
    assert [group.tolist() for group in link(ledger)] == [[0, 1, 2, 3]]
    border = int(ledger.first[2])
    assert [group.tolist() for group in link(ledger, border)] == [[0, 1], [2, 3]]


ROWS = st.lists(
    st.builds(
        lambda minutes, who, address, sub: row(
            NOW + timedelta(minutes=minutes), who, "create", "serviceaccounts", subresource=sub,
            namespace="shop", names=("api",), source_ip=address,
        ),
        st.integers(0, 5000),
        st.sampled_from(["ada", "ben", account("shop/api"), "system:anonymous"]),
        st.sampled_from(["10.8.0.4", OUTSIDE, "10.244.1.7"]),
        st.sampled_from(["", "token"]),
    ),
    max_size=25,
    unique_by=lambda line: line["audit_ids"][0],
)  # fmt: skip


@given(ROWS)
@settings(max_examples=40)
def test_every_line_is_in_exactly_one_group(rows: list[Row]) -> None:
    ledger = ledger_of([*KNOWN, *((line, SECRETS) for line in rows)])
    found = [group.tolist() for group in link(ledger)]
    assert sorted(line for group in found for line in group) == list(range(len(ledger)))
    assert all(group == sorted(group) for group in found)
    assert [group[0] for group in found] == sorted(group[0] for group in found)


def test_nothing_has_no_groups() -> None:
    assert link(ledger_of(KNOWN)) == []
