"""What is broken, told apart from who looks for a way in; and the rule that mends it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from activities import CLUSTER, DAY, HOUR, OUTSIDE, START, Row, account, connected, row, week
from kubewitness.activity.table import MICROSECONDS, load
from kubewitness.incidents.detection import Detection, detect
from kubewitness.incidents.misconfiguration import find_misconfigurations
from kubewitness.incidents.misconfiguration.grant import manifest, powers
from kubewitness.incidents.misconfiguration.refusals import Series, Thing, find_series
from kubewitness.incidents.model import Misconfiguration

DAYS = 10
WHEN = START + 8 * DAY + 9 * HOUR
MINUTE = timedelta(minutes=1)
DEPLOYER = account("ci/deployer")
API = account("shop/api")
HABITS: dict[str, dict[str, Any]] = {
    DEPLOYER: {"source_ip": "10.244.3.9", "client": "argo"},
    API: {"source_ip": "10.244.1.7", "client": "api"},
    "ada": {"source_ip": "10.8.0.4"},
}


def refused(
    who: str, verb: str, resource: str, *, times: int = 40, lasts: timedelta = HOUR, **more: Any
) -> Row:
    """One line: the same request again and again, with the usual program at its usual place."""
    settled = {"names": (), "outcome": "denied", "n": times, "lasts": lasts, **HABITS.get(who, {})}
    return row(more.pop("at", WHEN), who, verb, resource, **{**settled, **more})


BACKGROUND = week(DAYS)
SINCE = START + 6 * DAY


def judged(*rows: Row) -> Detection:
    with connected([*BACKGROUND, *rows]) as connection:
        return detect(connection, CLUSTER, since=SINCE)


def found(*rows: Row) -> tuple[Misconfiguration, ...]:
    with connected([*BACKGROUND, *rows]) as connection:
        load(connection, CLUSTER)
        begin = int(SINCE.timestamp() * MICROSECONDS)
        return find_misconfigurations(connection, CLUSTER, begin).misconfigurations


def only(*rows: Row) -> Misconfiguration:
    (one,) = found(*rows)
    return one


def told(detection: Detection) -> set[str]:
    """The requests that incidents show as evidence."""
    return {audit_id for one in detection.incidents for audit_id in one.evidence}


def test_a_program_that_is_refused_the_same_all_the_time_is_broken() -> None:
    loop = refused(DEPLOYER, "create", "clusterroles.rbac.authorization.k8s.io")
    detection = judged(loop)
    (one,) = detection.misconfigurations
    assert one.title == (
        "Service account ci/deployer is not permitted to create clusterroles cluster-wide"
    )
    assert (one.n, one.failure, one.mended) == (40, "permission", None)
    assert one.every == pytest.approx(3600 / 39, abs=0.01)
    assert "change permissions" in one.caution
    assert not told(detection) & set(loop["audit_ids"])


def test_the_manifest_permits_exactly_what_was_refused() -> None:
    one = only(
        refused(API, "list", "pods", namespace="shop"),
        refused(API, "update", "leases.coordination.k8s.io", namespace="shop", names=("lock",)),
        refused(API, "list", "nodes"),
    )
    documents = list(yaml.safe_load_all(one.manifest))
    assert [(one["kind"], one["metadata"].get("namespace")) for one in documents] == [
        ("ClusterRole", None),
        ("ClusterRoleBinding", None),
        ("Role", "shop"),
        ("RoleBinding", "shop"),
    ]
    assert documents[0]["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    assert documents[2]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["lock"],
            "verbs": ["update"],
        },
    ]
    for binding in documents[1::2]:
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "api", "namespace": "shop"}
        ]
    assert one.caution == ""


def test_a_binding_that_went_is_named_with_who_took_it_away() -> None:
    allowed = {"names": (), "binding": "readers", **HABITS[API]}
    before = [row(WHEN - day * DAY, API, "list", "pods", **allowed) for day in (1, 2, 3)]
    removal = row(
        WHEN - MINUTE,
        "cleo",
        "delete",
        "clusterrolebindings.rbac.authorization.k8s.io",
        names=("readers",),
        source_ip="10.8.0.6",
    )
    # once each: nothing repeats, but all of it was permitted
    lost = [refused(API, "list", "pods", times=9), refused(API, "list", "pods", times=1)]
    one = only(*before, removal, *lost)
    assert one.refused[0].binding == "readers"
    assert any("permitted by ClusterRoleBinding readers until" in said for said in one.sentences)
    assert any(said.startswith("cleo deleted ClusterRoleBinding readers") for said in one.sentences)
    assert one.fix[0].startswith("Restore ClusterRoleBinding readers")
    mended = only(*before, removal, *lost, row(WHEN + 2 * HOUR, API, "list", "pods", **allowed))
    assert mended.mended == WHEN + 2 * HOUR
    assert (mended.manifest, mended.id) == ("", one.id)
    assert "was not permitted" in mended.title


def test_team_mates_who_may_do_it_name_the_binding_that_is_missing() -> None:
    mate = row(
        WHEN - DAY, account("shop/worker"), "list", "pods", namespace="shop", binding="view/shop"
    )
    one = only(mate, refused(API, "list", "pods", namespace="shop"))
    assert "add it to RoleBinding view in namespace shop" in " ".join(one.fix)


def test_somebody_in_the_wrong_namespace_is_told_where_it_is_served() -> None:
    one = only(refused("ada", "get", "pods", namespace="bank", times=12, names=("web",)))
    assert "In shop it is served the same." in one.sentences
    assert one.fix[0].startswith("See whether bank is the right namespace")


def test_what_a_person_is_refused_stays_evidence() -> None:
    """People know what they ask for; a person is no program that cannot do otherwise."""
    reads = refused("ada", "list", "secrets", namespace="bank")
    detection = judged(reads)
    assert len(detection.misconfigurations) == 1
    assert told(detection) & set(reads["audit_ids"])


DIFFERENT = [
    refused(API, "get", "secrets", namespace="bank", names=(f"key-{letter}",), times=1,
            lasts=timedelta(), at=WHEN + number * MINUTE)
    for number, letter in enumerate("abcdefghijklmnop")
]  # fmt: skip
SLOWLY = [
    refused(API, "list", resource, namespace=f"bank-{name}", times=1, lasts=timedelta(),
            at=WHEN - 3 * DAY + number * 2 * HOUR)
    for number, (resource, name) in enumerate(
        (resource, name) for resource in ("secrets", "pods", "jobs.batch") for name in "abcdefg")
]  # fmt: skip
EVERYWHERE = [
    refused(API, "list", "secrets", namespace=f"bank-{name}", times=4) for name in "abcdefghijklmn"
]
ELSEWHERE = [refused(API, "list", "nodes", source_ip=OUTSIDE)]
WITH_ANOTHER_TOOL = [refused(API, "list", "nodes", client="kubectl")]
AT_ONCE = [refused(API, "list", "nodes", lasts=timedelta(seconds=20))]
ASKING = [
    row(WHEN - MINUTE, API, "create", "selfsubjectrulesreviews.authorization.k8s.io",
        **HABITS[API]),
    refused(API, "list", "nodes"),
]  # fmt: skip
NOBODY: dict[str, Any] = {"outcome": "unauthenticated", "client": "python-requests"}
SPRAY = [
    refused("<unauthenticated>", "list", "pods", namespace="shop", source_ip=OUTSIDE, **NOBODY)
]
GRAVE_SPRAY = [
    refused("<unauthenticated>", "list", "secrets", namespace="shop", source_ip="10.244.1.7",
            **NOBODY)
]  # fmt: skip


@pytest.mark.parametrize(
    "rows",
    [DIFFERENT, SLOWLY, EVERYWHERE, ELSEWHERE, WITH_ANOTHER_TOOL, AT_ONCE, ASKING, SPRAY,
     GRAVE_SPRAY],
    ids=["names", "slowly", "many places", "outside", "another tool", "in one breath",
         "asking first", "from outside", "secrets"],
)  # fmt: skip
def test_who_looks_for_a_way_in_is_no_misconfiguration(rows: list[Row]) -> None:
    assert found(*rows) == ()


def test_an_expired_token_inside_is_told_by_address_and_who_had_it() -> None:
    one = only(
        refused("<unauthenticated>", "list", "pods", namespace="shop", outcome="unauthenticated",
                source_ip="10.244.1.7", client="api")
    )  # fmt: skip
    assert one.title == "api at 10.244.1.7 uses credentials that are not valid"
    assert "Before, service account shop/api came from there with this program." in one.sentences
    assert one.manifest == ""
    assert "of service account shop/api" in one.fix[1]


def test_an_attacker_does_not_hide_in_a_broken_program() -> None:
    """Only what repeats is put down to the mishap; single refusals and what is served are not."""
    loop = refused(API, "list", "nodes", times=200)
    tried = refused(API, "create", "pods", namespace="bank", subresource="exec", names=("db",),
                    times=1, lasts=timedelta(), at=WHEN + MINUTE)  # fmt: skip
    served = row(WHEN + 2 * MINUTE, API, "list", "secrets", namespace="bank", names=(),
                 **HABITS[API])  # fmt: skip
    detection = judged(loop, tried, served)
    assert len(detection.misconfigurations) == 1
    assert told(detection) >= {*tried["audit_ids"], *served["audit_ids"]}
    assert not told(detection) & set(loop["audit_ids"])


def test_admission_is_not_rbac() -> None:
    one = only(
        refused(account("kube-system/job-controller"), "create", "pods", namespace="bank",
                binding="system:controller:job-controller", source_ip="127.0.0.1",
                client="job-controller")
    )  # fmt: skip
    assert one.failure == "admission"
    assert one.manifest == ""
    assert "describe resourcequotas" in one.fix[0]


def test_only_an_object_that_begins_to_be_missing_is_told() -> None:
    options: dict[str, Any] = {"names": ("flags",), "outcome": "missing", "namespace": "shop"}
    poll = refused(API, "get", "configmaps", times=300, **options)
    one = only(poll)
    assert "configmaps/flags" in one.title
    always = [
        refused(API, "get", "configmaps", times=300, lasts=3 * HOUR, at=START + n * 3 * HOUR,
                **options)
        for n in range(8 * DAYS)
    ]  # fmt: skip
    assert found(*always) == ()
    assert found({**poll, "n": 20}) == ()


def test_two_stretches_are_one_finding_unless_it_was_served_between() -> None:
    first = refused(API, "list", "nodes")
    second = refused(API, "list", "nodes", at=WHEN + DAY)
    assert only(first, second).n == 80
    between = row(WHEN + 5 * HOUR, API, "list", "nodes", names=(), **HABITS[API])
    assert [one.n for one in found(first, between, second)] == [40, 40]


def test_what_ended_before_since_is_not_told() -> None:
    assert found(refused(API, "list", "nodes", at=START + 4 * DAY)) == ()


def test_no_order_of_arrival_changes_a_series() -> None:
    rows = [*week(4), refused(API, "list", "nodes", at=START + 2 * DAY)]
    series = []
    for arrival in (rows, rows[::-1]):
        with connected(arrival) as connection:
            load(connection, CLUSTER)
            series.append(find_series(connection))
    assert series[0] == series[1] != []


NAMES = st.text(min_size=1, max_size=30)


def _series(who: str, things: list[tuple[str, str, str, tuple[str, ...]]]) -> Series:
    return Series(
        failure="permission",
        principal=who,
        acting_as="",
        whose="human",
        team="",
        client="x",
        networks=(),
        source_ips=(),
        seconds=1.0,
        things=tuple(
            Thing(
                action=f"{verb} {resource}",
                resource=resource,
                subresource="",
                namespace=namespace,
                verbs=(verb,),
                names=names,
                n=9,
                objects=len(names),
                generated=False,
                first=WHEN,
                last=WHEN,
                grave=False,
                rows=(),
                audit_ids=(),
                before=None,
            )
            for verb, resource, namespace, names in things
        ),
    )


@settings(max_examples=60)
@given(
    NAMES,
    st.lists(
        st.tuples(
            st.sampled_from(["get", "list", "update", "create"]),
            NAMES,
            st.one_of(st.just(""), NAMES),
            st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_a_manifest_says_what_was_meant_whatever_the_names(
    who: str, things: list[tuple[str, str, str, tuple[str, ...]]]
) -> None:
    """Names in a log are hostile text: none may become YAML that grants something else."""
    series = _series(who, things)
    granted = set()
    for document in yaml.safe_load_all(manifest(series, "abc123")):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", document["metadata"]["name"])
        if document["kind"].endswith("Binding"):
            (subject,) = document["subjects"]
            assert subject["name"] == who
            continue
        for rule in document["rules"]:
            assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
            granted |= {
                (verb, resource, rule["apiGroups"][0], document["metadata"].get("namespace", ""))
                for verb in rule["verbs"]
                for resource in rule["resources"]
            }
    assert granted == {
        (verb, kind, group, namespace)
        for verb, resource, namespace, _ in things
        for kind, _, group in [resource.partition(".")]
    }


def test_dangerous_grants_are_named() -> None:
    assert powers(_series("ada", [("get", "secrets", "shop", ("a",))])) == ("read secrets",)
    assert powers(_series("ada", [("get", "pods", "shop", ("a",))])) == ()
