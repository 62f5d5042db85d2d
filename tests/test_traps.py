"""What an audit log says, and where it misleads: each trap of the format, from a file to activity.

Some are set by clients (addresses, user agents, auditIDs), some by the API server's own habits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities import NODES, START, row, theft
from audit_log import Event, event, events_of, lines, quiet_days, stolen_credential, write
from kubewitness.activity.network import learn_proxies
from kubewitness.activity.rollup import ACTIVITY_COLUMNS, rollup
from kubewitness.activity.technique import technique
from kubewitness.analysis import analyze
from kubewitness.incidents.model import Incident
from kubewitness.inquiry import opened
from kubewitness.report.model import Analysis

SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
Activity = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def activities(path: Path, events: Iterable[Event], **options: Any) -> list[Activity]:
    """The rows of activity that these events are rolled up into, in the order of time."""
    write(path, events)
    with opened([path]) as (_, connection, _):
        rollup(connection, width=HOUR, **options)
        found = connection.execute("SELECT * FROM activities ORDER BY first, principal, action")
        names = [column[0] for column in found.description]
        assert names == list(ACTIVITY_COLUMNS)
        return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def analysis_of(path: Path, *events: Event, history: bytes | None = None) -> Analysis:
    path.write_bytes((quiet_days() if history is None else history) + lines(events))
    return analyze([path])


def alerts(analysis: Analysis) -> list[Incident]:
    return [incident for incident in analysis.incidents if incident.alert]


# Addresses


@pytest.mark.parametrize(
    ("source_ips", "address", "scope"),
    [
        (("203.0.113.9",), "203.0.113.9", "public"),
        # A client writes X-Forwarded-For: only the last entry is the TCP peer.
        (("10.0.0.1", "203.0.113.9"), "203.0.113.9", "public"),
        (("10.8.0.4", "127.0.0.1", "203.0.113.9"), "203.0.113.9", "public"),
        (("1.1.1.1", "2.2.2.2", "3.3.3.3", "203.0.113.9"), "203.0.113.9", "public"),
        (("203.0.113.9", "10.0.0.7"), "10.0.0.7", "private"),
        (("2001:db8::1", "2001:db8:0:1::9"), "2001:db8:0:1::9", "private"),
        (("::ffff:203.0.113.9",), "::ffff:203.0.113.9", "public"),
        (("not an address",), "not an address", "unknown"),
        ((), "", "unknown"),
    ],
)
def test_a_forged_address_hides_nothing(
    source_ips: tuple[str, ...], address: str, scope: str, path: Path
) -> None:
    (found,) = activities(path, [event(source_ips=source_ips)])
    assert (found["source_ip"], found["scope"]) == (address, scope)


@pytest.mark.parametrize(
    ("source_ips", "address"),
    [
        (("203.0.113.9", "10.0.0.100"), "203.0.113.9"),
        # Behind a proxy, what the client claims stands before what the proxy saw.
        (("10.0.0.1", "203.0.113.9", "10.0.0.100"), "203.0.113.9"),
        (("10.0.0.1", "203.0.113.9", "10.0.0.101", "10.0.0.100"), "203.0.113.9"),
        (("10.0.0.100", "203.0.113.9"), "203.0.113.9"),
        (("10.0.0.100",), "10.0.0.100"),
    ],
)
def test_trusted_proxies_are_walked_over_from_the_right(
    source_ips: tuple[str, ...], address: str, path: Path
) -> None:
    proxies = {"10.0.0.100", "10.0.0.101"}
    (found,) = activities(path, [event(source_ips=source_ips)], trusted_proxies=proxies)
    assert found["source_ip"] == address


def test_a_proxy_is_learnt_where_nearly_everyone_comes_through_it(path: Path) -> None:
    people = [event(who=f"user-{n}", source_ips=(f"10.8.0.{n}", "10.0.0.100")) for n in range(10)]
    attack = event(who="user-1", source_ips=("10.8.0.1", "203.0.113.9", "10.0.0.100"))
    found = activities(path, [*people, attack])
    assert {one["source_ip"] for one in found} == {
        *(f"10.8.0.{n}" for n in range(10)),
        "203.0.113.9",
    }


def test_one_client_cannot_make_its_own_address_a_proxy() -> None:
    honest = [([f"10.8.0.{n}"], f"user-{n}") for n in range(20)]
    forged = [([f"10.9.0.{n}", "203.0.113.9"], "eve") for n in range(500)]
    assert learn_proxies([*honest, *forged]) == frozenset()


def test_an_attacker_who_forges_an_office_address_alerts(path: Path) -> None:
    found = analysis_of(
        path,
        *(
            {**one, "sourceIPs": ["10.8.0.4", *one["sourceIPs"]]}
            for one in events_of(theft(START + 3 * DAY + 2 * HOUR))
        ),
    )
    (incident,) = alerts(found)
    assert incident.source_ips == ("203.0.113.9",)


# auditIDs


def test_a_forged_audit_id_does_not_hide_the_attack(path: Path) -> None:
    """Every request of the attack carries the auditID of somebody's harmless one."""
    harmless = [json.loads(line) for line in quiet_days().splitlines()[:4]]
    attack = [json.loads(line) for line in stolen_credential().splitlines()]
    forged = [
        {**one, "auditID": other["auditID"]} for one, other in zip(attack, harmless, strict=True)
    ]
    (incident,) = alerts(analysis_of(path, *forged))
    assert incident.principals == ("ada",)


def test_an_audit_id_at_the_same_instant_is_kept_and_raised(path: Path) -> None:
    harmless = json.loads(quiet_days().splitlines()[0])
    forged = event(
        START,
        "eve",
        "delete",
        "secrets",
        auditID=harmless["auditID"],
        stageTimestamp=harmless["stageTimestamp"],
    )
    found = analysis_of(path, forged)
    assert found.intake.duplicates == 0
    assert any("auditIDs stand on records of different content" in w for w in found.intake.warnings)


# Verbs and stages


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
def test_get_and_create_of_a_session_are_one_action(subresource: str, path: Path) -> None:
    found = activities(
        path,
        [
            event(START, verb=verb, subresource=subresource, client=f"kubectl/v{release}")
            for verb, release in (("get", "1.31"), ("create", "1.24"))
        ],
    )
    assert {one["action"] for one in found} == {f"{subresource} pods"}


def test_a_request_counts_once_whatever_stages_are_logged(path: Path) -> None:
    received = event(auditID="1", stage="RequestReceived", responseStatus=None, annotations=None)
    started = event(auditID="1", stage="ResponseStarted")
    complete = event(auditID="1")
    for stages in ([received, started, complete], [started, complete], [complete], [started]):
        (found,) = activities(path, stages)
        assert (found["n"], found["outcome"]) == (1, "ok")


def test_a_session_that_has_not_ended_is_seen(path: Path) -> None:
    opened_only = event(
        verb="get", subresource="exec", stage="ResponseStarted", responseStatus={"code": 101}
    )
    (found,) = activities(path, [opened_only])
    assert (found["action"], found["outcome"], found["n"]) == ("exec pods", "ok", 1)


def test_a_log_of_requests_received_is_better_than_none(path: Path) -> None:
    received = event(stage="RequestReceived", responseStatus=None, annotations=None)
    (found,) = activities(path, [received])
    assert (found["n"], found["outcome"]) == (1, "unknown")


def test_a_cluster_that_logs_no_answers_is_not_lost_beside_one_that_does(path: Path) -> None:
    received = event(
        stage="RequestReceived", responseStatus=None, annotations=None, cluster="first"
    )
    found = activities(path, [received, event(cluster="second")])
    assert {one["cluster"] for one in found} == {"first", "second"}


def test_a_panic_is_told_from_an_answer(path: Path) -> None:
    (found,) = activities(path, [event(stage="Panic", responseStatus={"code": 500})])
    assert found["outcome"] == "panic"


@pytest.mark.parametrize(
    ("one", "all_of_them"), [("get", "list"), ("get", "watch"), ("delete", "deletecollection")]
)
def test_all_secrets_count_like_one(one: str, all_of_them: str) -> None:
    assert technique(all_of_them, "secrets", "") == technique(one, "secrets", "")
    assert technique(all_of_them, "secrets", "").tactic == "Credential Access"


def test_watching_is_listing(path: Path) -> None:
    found = activities(
        path, [event(verb=verb, resource="secrets", name="") for verb in ("list", "watch")]
    )
    assert {one["action"] for one in found} == {"list secrets"}


@pytest.mark.parametrize("where", ["responseObject", "requestObject"])
def test_a_generated_name_is_taken_from_the_body(where: str, path: Path) -> None:
    named = {"metadata": {"name": "job-x7m2d", "generateName": "job-"}}
    one = {**event(verb="create", name="", level="RequestResponse"), where: named}
    (found,) = activities(path, [one])
    assert (found["name_samples"], found["template"]) == (["job-x7m2d"], "job-*")


def test_a_generated_name_without_a_body_is_no_name(path: Path) -> None:
    (found,) = activities(path, [event(verb="create", name="")])
    assert (found["name_samples"], found["template"]) == ([""], "")


# Who


def test_with_impersonation_the_caller_stays_the_caller(path: Path) -> None:
    (found,) = activities(
        path,
        [event(who="ada", impersonatedUser={"username": "system:admin", "groups": ["x"]})],
    )
    assert (found["principal"], found["acting_as"]) == ("ada", "system:admin")


@pytest.mark.parametrize(
    ("extra", "credential"),
    [
        ({"authentication.kubernetes.io/credential-id": ["JTI=a-b"]}, "JTI=a-b"),
        ({"authentication.kubernetes.io/credential-id": ["X509SHA256=ff"]}, "X509SHA256=ff"),
        ({"accessKeyId": ["AKIA1"], "arn": ["arn:aws:iam::1:user/ada"]}, "AKIA1"),
        ({"other": ["x"]}, ""),
        ({"authentication.kubernetes.io/credential-id": []}, ""),
        ({}, ""),
    ],
)
def test_the_credential_is_read_from_extra(
    extra: dict[str, list[str]], credential: str, path: Path
) -> None:
    (found,) = activities(path, [event(user={"username": "ada", "extra": extra})])
    assert found["credential"] == credential


def test_a_bound_token_tells_its_pod_and_node(path: Path) -> None:
    extra = {
        f"authentication.kubernetes.io/{name}": [f"the {name}"]
        for name in ("pod-name", "pod-uid", "node-name", "node-uid")
    }
    (found,) = activities(
        path, [event(user={"username": "system:serviceaccount:a:b", "extra": extra})]
    )
    assert (found["pod"], found["pod_uid"], found["node"]) == (
        ("the pod-name", "the pod-uid", "the node-name")
    )


@pytest.mark.parametrize(
    ("extra", "annotations", "scheme"),
    [
        ({"authentication.kubernetes.io/credential-id": ["JTI=1"]}, {}, "JTI"),
        ({"authentication.kubernetes.io/credential-id": ["X509SHA256=f"]}, {}, "X509SHA256"),
        ({"accessKeyId": ["AKIA1"]}, {}, "access key"),
        ({}, {}, ""),
        ({}, {"authentication.k8s.io/legacy-token": "system:serviceaccount:a:b"}, "legacy token"),
        ({}, {"x": '"authentication.k8s.io/legacy-token":"a"'}, ""),
    ],
    ids=["token", "certificate", "access key", "not told", "legacy", "a text that looks so"],
)
def test_how_somebody_authenticated_is_told(
    extra: dict[str, list[str]], annotations: dict[str, str], scheme: str, path: Path
) -> None:
    user = {"username": "system:serviceaccount:a:b", "extra": extra}
    (found,) = activities(path, [event(user=user, annotations=annotations)])
    assert found["scheme"] == scheme


def test_the_token_that_a_request_was_answered_with_is_told(path: Path) -> None:
    issued = {"authentication.kubernetes.io/issued-credential-id": "JTI=1"}
    asked: dict[str, Any] = {"resource": "serviceaccounts", "subresource": "token"}
    (found,) = activities(path, [event(verb="create", **asked, annotations=issued)])
    assert found["issued"] == "JTI=1"
    (found,) = activities(path, [event(START + HOUR, annotations=issued)])
    assert found["issued"] == "", "only where tokens are asked for"


@pytest.mark.parametrize(
    ("reason", "binding"),
    [
        (
            'RBAC: allowed by ClusterRoleBinding "ops" of ClusterRole "admin" to Group "ops"',
            "ops",
        ),
        ('RBAC: allowed by RoleBinding "dev/shop" of Role "dev" to User "ada"', "dev/shop"),
        ("", ""),
        ("allowed by the webhook", ""),
    ],
)
def test_the_binding_that_permitted_is_named(reason: str, binding: str, path: Path) -> None:
    (found,) = activities(path, [event(annotations={"authorization.k8s.io/reason": reason})])
    assert found["binding"] == binding


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"username": ""},
        {"username": "system:anonymous", "groups": ["system:unauthenticated"]},
        {"username": "system:unauthenticated"},
    ],
)
def test_nobody_is_no_trusted_part_of_the_system(user: dict[str, Any], path: Path) -> None:
    (found,) = activities(path, [event(user=user, code=401)])
    assert found["class"] == "anonymous"
    assert found["principal"] in (
        "<unauthenticated>",
        "system:anonymous",
        "system:unauthenticated",
    )
    assert found["outcome"] == "unauthenticated"


@pytest.mark.parametrize(
    "user",
    [
        "system-kube-scheduler",
        "kube-scheduler",
        "xsystem:node:a",
        "System:kube-scheduler",
        "oidc:system:masters",
        "admin",
    ],
)
def test_a_name_that_looks_like_the_control_plane_is_a_person(user: str, path: Path) -> None:
    (found,) = activities(path, [event(who=user)])
    assert found["class"] == "human"


# Whole sets that mislead: what looks bad and is normal


KUBELET = "kubelet/v1.36.0 (linux/amd64) kubernetes/1"


def refused(at: datetime, node: str, name: str) -> Event:
    """A kubelet asks for what is gone, or no longer its own."""
    return event(
        at,
        f"system:node:{node}",
        "get",
        "configmaps",
        name=name,
        code=403,
        source_ips=(NODES.get(node, "10.0.0.14"),),
        client=KUBELET,
    )


def probe(at: datetime, address: str) -> Event:
    """A load balancer asks whether the API server is ready."""
    return event(
        at,
        "system:anonymous",
        "get",
        "",
        requestURI="/readyz",
        objectRef=None,
        source_ips=(address,),
        client="kube-probe/1.36",
        groups=("system:unauthenticated",),
    )


def elected(at: datetime, controller: str) -> Event:
    """A leader says that it still is one."""
    return event(
        at,
        f"system:{controller}",
        "update",
        "leases",
        group="coordination.k8s.io",
        namespace="kube-system",
        name=controller,
        source_ips=("127.0.0.1",),
        client=f"{controller}/v1.36.0 (linux/amd64) leader-election",
    )


def conflict(at: datetime) -> Event:
    """A controller has read an old version, and will try again."""
    return event(
        at,
        "system:serviceaccount:kube-system:deployment-controller",
        "update",
        "replicasets",
        group="apps",
        subresource="status",
        code=409,
        source_ips=("127.0.0.1",),
        client="deployment-controller/v1.36.0 (linux/amd64)",
    )


def noise() -> list[Event]:
    """What every cluster does all day that looks like trouble."""
    return [
        one
        for hour in range(95)
        for at in (START + hour * HOUR,)
        for one in (
            *(refused(at + SECOND, f"node-{n}", f"gone-{hour % 7}") for n in (1, 2, 3)),
            probe(at + 2 * SECOND, "10.0.0.9"),
            elected(at + 3 * SECOND, "kube-scheduler"),
            elected(at + 3 * SECOND, "kube-controller-manager"),
            conflict(at + 4 * SECOND),
        )
    ]


def test_what_every_cluster_does_is_no_alert(path: Path) -> None:
    found = analysis_of(path, *noise())
    assert alerts(found) == []
    assert found.summary.requests == len(quiet_days().splitlines()) + len(noise())


def test_an_attack_in_that_noise_still_alerts(path: Path) -> None:
    found = analysis_of(path, *noise(), history=quiet_days() + stolen_credential())
    assert [incident.principals for incident in alerts(found)] == [("ada",)]


def test_a_new_kind_of_noise_is_no_alert(path: Path) -> None:
    """A node joins, and a probe comes from a second address."""
    late = [START + 3 * DAY + 5 * HOUR + n * MINUTE for n in range(20)]
    found = analysis_of(
        path,
        *noise(),
        *(refused(at, "node-4", "app") for at in late),
        *(probe(at, "10.0.0.10") for at in late),
    )
    assert alerts(found) == []


# Coverage says what stays blind


def test_a_log_of_metadata_says_that_bodies_are_hidden(path: Path) -> None:
    blind = analysis_of(path).summary.coverage.blind
    assert any("every event is of level Metadata" in spot.why for spot in blind)


def test_a_webhook_that_failed_open_is_told(path: Path) -> None:
    passed = [
        event(
            START + n * HOUR,
            verb="create",
            annotations={
                "failed-open.validating.webhook.admission.k8s.io/round_0_index_0": "guard.example"
            },
        )
        for n in range(3)
    ]
    blind = analysis_of(path, *passed).summary.coverage.blind
    (spot,) = [spot for spot in blind if "admission webhook" in spot.what]
    assert spot.why == "3 writes passed a webhook that did not answer and fails open"


def test_a_pod_security_violation_shows_without_bodies(path: Path) -> None:
    (found,) = activities(
        path,
        [
            event(
                verb="create",
                annotations={
                    "pod-security.kubernetes.io/audit-violations": "would violate restricted"
                },
            )
        ],
    )
    assert found["traits"] == "pod security violation"


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
@pytest.mark.parametrize("resource", ["pods", "deployments", "cronjobs"])
def test_privileges_are_seen_in_every_kind_of_container(
    kind: str, resource: str, path: Path
) -> None:
    pod = {"spec": {kind: [{"name": "x", "securityContext": {"privileged": True}}]}}
    nested = {
        "pods": pod,
        "deployments": {"spec": {"template": pod}},
        "cronjobs": {"spec": {"jobTemplate": {"spec": {"template": pod}}}},
    }[resource]
    (found,) = activities(
        path, [event(verb="create", resource=resource, level="Request", requestObject=nested)]
    )
    assert found["traits"] == "privileged"


# The webhook backend


def test_a_body_of_the_webhook_backend_is_read(path: Path) -> None:
    items = [
        {key: value for key, value in one.items() if key not in ("kind", "apiVersion")}
        for one in (event(), event(verb="list"))
    ]
    body = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}
    path.write_text(json.dumps(body))
    found = analyze([path])
    assert (found.intake.lines, found.intake.events, found.intake.added) == (2, 2, 2)


def test_a_batch_that_was_sent_again_is_counted_once(path: Path) -> None:
    body = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [event()]}
    path.write_text("\n".join([json.dumps(body)] * 5))
    found = analyze([path])
    assert (found.intake.events, found.intake.added, found.summary.requests) == (5, 1, 1)


# Rolling up


def test_requests_roll_up_into_the_line_that_they_spell_out(path: Path) -> None:
    written = [
        row(START, "ada", "list", "secrets", namespace="shop", names=(), n=3, lasts=MINUTE),
        row(START + HOUR, "ben", "update", "deployments.apps", namespace="shop", n=2),
        row(START + 2 * HOUR, "system:node:a", "get", "pods", outcome="denied", groups=()),
    ]
    found = activities(path, events_of(written))
    told = ACTIVITY_COLUMNS.keys() - {"audit_ids", "last", "names", "name_samples"}
    for line, again in zip(written, found, strict=True):
        expected = {column: line[column] for column in told & line.keys()}
        expected |= {time: expected[time].replace(tzinfo=None) for time in ("slot", "first")}
        assert {column: again[column] for column in expected} == {
            **expected,
            "cluster": "default",
        }


def test_a_request_belongs_to_the_slot_in_which_it_was_received(path: Path) -> None:
    at = START + HOUR - SECOND
    long = event(at, verb="watch", stageTimestamp=event(at + 3 * HOUR)["stageTimestamp"])
    (found,) = activities(path, [long])
    assert found["slot"] == START.replace(tzinfo=None)
