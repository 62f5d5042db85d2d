"""What a deed began with: sittings, first times, what had been forbidden, a right just given."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_log import Event, event, write
from forensic_log import at
from kubewitness.forensics.causes.body import body
from kubewitness.forensics.causes.chain import cause_of
from kubewitness.forensics.causes.debut import first_times
from kubewitness.forensics.causes.graph import Chain, Link, Reach
from kubewitness.forensics.causes.reach import reach_of
from kubewitness.forensics.causes.record import Record
from kubewitness.forensics.causes.sitting import PAUSE, sittings
from kubewitness.inquiry import opened

HOUR, DAY = 3600, 86400


@contextmanager
def record_of(events: Sequence[Event], folder: Path) -> Iterator[Record]:
    log = write(folder / "audit.log", events)
    with opened([log], bodies=True) as (_, connection, _):
        yield Record(connection)


def causes(chain: Chain | Reach, kind: str) -> list[tuple[str, str, float]]:
    """The causes of this kind: which request, and how sure it is."""
    return [
        (chain.steps[one.cause].audit_id, chain.steps[one.effect].audit_id, one.confidence)
        for one in chain.links
        if one.kind == kind
    ]


def links(chain: Chain, kind: str) -> list[Link]:
    return [one for one in chain.links if one.kind == kind]


WORK = [event(at(HOUR * n), "ada", "get", "deployments", group="apps") for n in range(48)]
LOOK = event(at(48 * HOUR), "ada", "list", "pods", namespace="bank", name="")
TAKE = event(at(51 * HOUR), "ada", "get", "pods", namespace="bank", name="db", subresource="exec",
             code=101)  # fmt: skip


def test_who_is_new_in_a_namespace_began_there(tmp_path: Path) -> None:
    """Three hours lie between, so it was not one sitting."""
    with record_of([*WORK, LOOK, TAKE], tmp_path) as record:
        chain = cause_of(record, TAKE["auditID"])
        reach = reach_of(Record(record.connection), LOOK["auditID"])
    ((cause, effect, sure),) = causes(chain, "debut")
    assert (cause, effect) == (LOOK["auditID"], TAKE["auditID"])
    assert sure == pytest.approx(0.9), "the log goes back sixteen times as far"
    assert "at pods, in bank 3 h before" in links(chain, "debut")[0].because
    assert [chain.steps[number].audit_id for number in chain.line] == [TAKE["auditID"]]
    assert not any(one.caused for one in reach.touched), "it was no cause"


def test_what_began_with_the_log_or_long_ago_is_no_debut(tmp_path: Path) -> None:
    days = [event(at(DAY * n), "ada", "list", "secrets", namespace="bank") for n in range(10, 20)]
    with record_of([*WORK, *days], tmp_path) as record:
        young = cause_of(record, WORK[-1]["auditID"])
        old = cause_of(record, days[-1]["auditID"])
        fresh = cause_of(record, days[2]["auditID"])
    assert causes(young, "debut") == [], "she does so as long as the log knows"
    assert causes(old, "debut") == [], "nine days are a habit"
    assert [cause for cause, _, _ in causes(fresh, "debut")] == [days[0]["auditID"]]


def test_of_callers_without_a_name_the_address_tells(tmp_path: Path) -> None:
    def knocks(seconds: float, address: str, user: dict[str, Any]) -> Event:
        return event(at(seconds), verb="list", resource="pods", name="", code=401, user=user,
                     source_ips=(address,))  # fmt: skip

    nobody: dict[str, Any] = {"groups": []}
    anonymous = {"username": "system:anonymous", "groups": []}
    others = [knocks(HOUR * n, "192.0.2.1", nobody) for n in range(48)]
    first, last = knocks(48 * HOUR, "192.0.2.9", nobody), knocks(51 * HOUR, "192.0.2.9", anonymous)
    with record_of([*others, first, last], tmp_path) as record:
        chain = cause_of(record, last["auditID"])
    assert [cause for cause, _, _ in causes(chain, "debut")] == [first["auditID"]]


def test_a_pod_has_a_new_address_each_time_and_a_thief_another_program(tmp_path: Path) -> None:
    def acts(seconds: float, address: str, client: str) -> Event:
        extra = {"authentication.kubernetes.io/pod-name": [f"api-{address[-1]}"]}
        user = {"username": "system:serviceaccount:shop:api", "groups": [], "extra": extra}
        return event(at(seconds), verb="list", resource="configmaps", name="", user=user,
                     source_ips=(address,), client=client)  # fmt: skip

    usual = [acts(HOUR * n, "10.1.1.1", "api/v1") for n in range(48)]
    moved = [acts(HOUR * n, "10.1.1.2", "api/v1") for n in range(48, 52)]
    stolen = [acts(HOUR * n, "10.1.1.2", "kubectl/v1.36") for n in range(52, 54)]
    with record_of([*usual, *moved, *stolen], tmp_path) as record:
        own = cause_of(record, moved[-1]["auditID"])
        thief = cause_of(record, stolen[-1]["auditID"])
    assert causes(own, "debut") == []
    assert [cause for cause, _, _ in causes(thief, "debut")] == [stolen[0]["auditID"]]


def test_what_was_done_in_one_go_has_a_beginning_of_its_own(tmp_path: Path) -> None:
    early = [event(at(600 * n), "ada", name=f"web-{n}") for n in range(6)]
    go = [event(at(3600 + 20 * n), "ada", "delete", name=f"db-{n}") for n in range(6)]
    with record_of([*early, *go], tmp_path) as record:
        chain = cause_of(record, go[-1]["auditID"])
    assert {cause for cause, _, _ in causes(chain, "session")} == {
        early[0]["auditID"],
        go[0]["auditID"],
    }


def sessions(record: Record, effect: Event) -> list[tuple[str, str]]:
    """The first request of each sitting in which another was made, and what is said of it."""
    chain = cause_of(record, effect["auditID"])
    return [(chain.steps[one.cause].audit_id, one.because) for one in links(chain, "session")]


def stages(one: Event) -> list[Event]:
    """A request that is logged when it comes, when it starts and when it ends."""
    came = {**one, "stage": "RequestReceived", "stageTimestamp": one["requestReceivedTimestamp"]}
    came = {key: value for key, value in came.items() if key != "responseStatus"}
    return [came, {**one, "stage": "ResponseStarted"},
            {**one, "stageTimestamp": event(at(9 * DAY))["stageTimestamp"]}]  # fmt: skip


def test_an_address_that_a_client_claims_is_not_where_it_came_from(tmp_path: Path) -> None:
    """eve's client writes ada's address into X-Forwarded-For; with her credential, too."""

    def from_afar(seconds: float, who: str, *addresses: str) -> Event:
        return event(at(seconds), who, "list", "pods", name="", source_ips=addresses)

    work = [event(at(HOUR * n), who, "list", "pods", name="") for who in ("ada", "eve", "ben")
            for n in range(48)]  # fmt: skip
    ports = [event(at(60 * n), f"u{n}", source_ips=("10.9.0.1",)) for n in range(30)]
    claimed = from_afar(47 * HOUR, "eve", "192.0.2.9", "203.0.113.5")
    begun, stolen = (
        from_afar(49 * HOUR, "eve", "192.0.2.9"),
        from_afar(50 * HOUR, "eve", "192.0.2.9"),
    )
    forged = [from_afar(50 * HOUR - 60 * n, "ada", "192.0.2.7", "203.0.113.5") for n in range(1, 9)]
    own = from_afar(50 * HOUR, "ada", "192.0.2.7")
    with record_of([*work, *ports, claimed, begun, *forged, stolen, own], tmp_path) as record:
        new = cause_of(record, stolen["auditID"])
        sat = sessions(Record(record.connection), own)
    assert [cause for cause, _, _ in causes(new, "debut")] == [begun["auditID"]]
    assert sat == []


def test_another_program_at_the_same_address_cuts_no_sitting_short(tmp_path: Path) -> None:
    own = [event(at(600 * n), "ada", name=f"w-{n}") for n in range(19)]
    other = [event(at(600 * 18 - 1300 + n), "ada", client="k9s/0.3") for n in range(1200)]
    later = [event(at(600 * 18 + 2400 + n), "ada", client="k9s/0.3", name="x") for n in range(3)]
    with record_of([*own, *other, *later], tmp_path) as record:
        (sat,) = sessions(record, own[-1])
        busy = sessions(Record(record.connection), other[-1])
        (again,) = sessions(Record(record.connection), later[-1])
    assert sat[0] == own[0]["auditID"]
    assert sat[1].startswith("19 requests")
    assert busy == [], "who makes a thousand is a program"
    assert again[1].startswith("3 requests"), "after a pause it is another sitting"


def test_a_request_at_three_stages_is_one_of_a_sitting(tmp_path: Path) -> None:
    gets_in = event(at(0), "ada", "create", "pods", subresource="exec", code=101)
    looks = event(at(60), "ada", "list", "pods", name="")
    with record_of([*stages(gets_in), looks], tmp_path) as record:
        ((first, because), *_) = sessions(record, looks)
    assert (first, because[:11]) == (gets_in["auditID"], "2 requests ")


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_requests_at_one_instant_the_one_that_is_alike_is_the_first(
    swapped: bool, tmp_path: Path
) -> None:
    both = [event(at(48 * HOUR), "ada", "get", "deployments", group="apps", auditID="a"),
            event(at(48 * HOUR), "ada", "list", "pods", namespace="bank", name="", auditID="b"),
            event(at(48 * HOUR), "ada", "get", "deployments", group="apps", auditID="c",
                  stageTimestamp=event(at(48 * HOUR + 1))["stageTimestamp"])]  # fmt: skip
    with record_of([*WORK, *(both[::-1] if swapped else both), TAKE], tmp_path) as record:
        chain = cause_of(record, TAKE["auditID"])
    assert [cause for cause, _, _ in causes(chain, "debut")] == ["b"]


def test_an_account_whose_token_names_no_pod_has_a_new_address_each_time(tmp_path: Path) -> None:
    def acts(seconds: float, address: str) -> Event:
        return event(at(seconds), "system:serviceaccount:shop:old", "list", "configmaps", name="",
                     source_ips=(address,), client="api/v1")  # fmt: skip

    usual = [acts(HOUR * n, "10.1.1.1") for n in range(48)]
    moved = [acts(HOUR * n, "10.1.1.2") for n in range(48, 52)]
    stolen = [acts(HOUR * n, "203.0.113.9") for n in range(52, 54)]
    with record_of([*usual, *moved, *stolen], tmp_path) as record:
        own = cause_of(record, moved[-1]["auditID"])
        thief = cause_of(record, stolen[-1]["auditID"])
    assert causes(own, "debut") == []
    assert [cause for cause, _, _ in causes(thief, "debut")] == [stolen[0]["auditID"]]


def made(seconds: float, who: str, namespace: str, code: int = 201, name: str = "tool-x7") -> Event:
    return event(at(seconds), who, "create", "pods", namespace=namespace, name=name, code=code)


@pytest.mark.parametrize(
    ("before", "tried"),
    [
        (made(40, "sam", "stage", 403), True),
        ({**made(40, "sam", "stage", 403), "verb": "patch"}, True),
        (made(40, "sam", "stage", 409), False),
        (made(40, "sam", "stage", 403, name="tool-x8"), False),
        (made(-3700, "sam", "stage", 403), False),
        (made(40, "owen", "shop", 403), False),
    ],
    ids=[
        "another may not",
        "who applies it neither",
        "it is there",
        "another name",
        "long ago",
        "who may try again",
    ],
)
def test_who_was_forbidden_the_same_before_is_told(
    before: Event, tried: bool, tmp_path: Path
) -> None:
    after = made(80, "owen", "shop")
    with record_of([before, after], tmp_path) as record:
        chain = cause_of(record, after["auditID"])
    assert bool(causes(chain, "attempt")) == tried
    assert chain.origin == "owen", "a refusal does nothing"


def test_a_right_that_is_young_goes_back_to_how_it_was_given(tmp_path: Path) -> None:
    reason = 'RBAC: allowed by ClusterRoleBinding "dns" of ClusterRole "dns" to User "x"'
    allowed = {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": reason}

    def role(seconds: float, verb: str) -> Event:
        return event(at(seconds), "ruth", verb, "clusterroles", namespace="", name="dns",
                     group="rbac.authorization.k8s.io")  # fmt: skip

    def uses(seconds: float) -> Event:
        return event(at(seconds), "dns", "list", "secrets", name="", annotations=allowed)

    look, give, soon, late = role(0, "get"), role(50, "patch"), uses(600), uses(3 * DAY)
    with record_of([look, give, soon, late], tmp_path) as record:
        young = cause_of(record, soon["auditID"])
        old = cause_of(record, late["auditID"])
    assert look["auditID"] in {one.audit_id for one in young.steps}
    assert give["auditID"] in {one.audit_id for one in old.steps}
    assert look["auditID"] not in {one.audit_id for one in old.steps}


def bears(seconds: float, who: str, fingerprint: str) -> Event:
    extra = {"authentication.kubernetes.io/credential-id": [f"X509SHA256={fingerprint}"]}
    user = {"username": who, "groups": [], "extra": extra}
    return event(at(seconds), verb="list", resource="secrets", name="", user=user,
                 source_ips=("192.0.2.9",))  # fmt: skip


def test_a_certificate_in_use_before_is_not_the_one_that_was_approved(tmp_path: Path) -> None:
    signing: dict[str, Any] = {"resource": "certificatesigningrequests", "namespace": "",
                               "group": "certificates.k8s.io", "name": "ops"}  # fmt: skip
    before = [bears(0, "ben", "old"), bears(1, "zoe", "old2")]
    approved = [event(at(10), "eve", "create", code=201, **signing),
                event(at(11), "eve", "update", subresource="approval", **signing)]  # fmt: skip
    old, renewed, new = bears(60, "ben", "old"), bears(61, "zoe", "new2"), bears(62, "ops", "new")
    with record_of([*before, *approved, old, renewed, new], tmp_path) as record:
        told = [causes(cause_of(Record(record.connection), one["auditID"]), "certificate")
                for one in (old, renewed, new)]  # fmt: skip
    sure = [[sure for _, effect, sure in found if effect == one["auditID"]]
            for found, one in zip(told, (old, renewed, new), strict=True)]  # fmt: skip
    assert sure == [[], [0.4], [0.7]], "known of old, a known name, nobody ever seen before"


_LOGS = st.lists(
    st.tuples(
        st.integers(0, 9 * HOUR),
        st.sampled_from(["ada", "ben"]),
        st.sampled_from(["10.8.0.4", "10.8.0.5"]),
        st.sampled_from(["kubectl/v1.36", "curl/8"]),
        st.sampled_from(["shop", "bank"]),
        st.sampled_from(["pods", "secrets"]),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda one: one[0],
)


@settings(max_examples=25)
@given(_LOGS)
def test_questions_for_many_answer_as_for_one(
    rows: list[tuple[int, str, str, str, str, str]],
) -> None:
    """Sittings and first times are what going through the log by hand tells."""
    events = [
        event(at(seconds), who, "list", kind, namespace=place, source_ips=(address,), client=client)
        for seconds, who, address, client, place, kind in rows
    ]
    with tempfile.TemporaryDirectory() as folder, record_of(events, Path(folder)) as record:
        deeds = record.find("true")
        alone = record.scene()
        sat = sittings(record.connection, deeds, ())
        firsts = first_times(record.connection, deeds)
        start = min(one.at for one in deeds)
        starts = {one.cluster: start for one in deeds}
        recent = first_times(record.connection, deeds, (), starts)
    for one in deeds:
        assert sat[one.key] == alone.sitting(one)
        found = sat[one.key]
        if found is not None:
            assert found.first.turn <= found.run.turn <= one.turn
            assert found.n == 1 or one.at - found.first.at <= PAUSE * (found.n - 1)
        mine = [other for other in deeds if other.principal == one.principal]
        told = {first.how: first.deed or one for first in firsts[one.key]}
        for word, field in _ALIKE.items():
            begun = next(other for other in mine if getattr(other, field) == getattr(one, field))
            assert told.get((f"{word} {getattr(one, field)}",), one) == begun
        # What may be new is told all the same where what is usual is left out.
        middle = start + (one.at - start) / 2
        assert [first for first in recent[one.key] if first.at >= middle] == [
            first for first in firsts[one.key] if first.at >= middle
        ]


_ALIKE = {"from": "source_ip", "with": "client", "in": "namespace", "at": "resource"}


RESTART = {"spec": {"template": {"metadata": {"annotations": {"restartedAt": "now"}}}}}


@pytest.mark.parametrize("acted", [True, False], ids=["and it restarts", "and nothing happens"])
def test_a_restart_that_the_answer_does_not_show_is_told_by_what_its_controller_did(
    acted: bool, tmp_path: Path
) -> None:
    """ada deploys, ben asks for a restart; a pod is made later, as pods are replaced one by one."""
    template = {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}

    def whole(name: str, uid: str, **fields: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "shop", "uid": uid, **fields}
        return {"metadata": metadata, "spec": {"template": template}}

    agent: dict[str, Any] = {"namespace": "shop", "name": "agent", "group": "apps"}
    answer: dict[str, Any] = {"level": "RequestResponse", "responseObject": whole("agent", "d-1")}
    deploys = event(at(0), "ada", "create", "daemonsets", code=201,
                    requestObject=whole("agent", "d-1"), **agent, **answer)  # fmt: skip
    restarts = event(at(HOUR), "ben", "patch", "daemonsets", requestObject=RESTART, **agent,
                     **answer)  # fmt: skip
    controller = "system:serviceaccount:kube-system:daemon-set-controller"
    goes = event(at(HOUR + 1), controller, "delete", "pods", name="agent-x2x4z")
    owner = {"kind": "DaemonSet", "name": "agent", "uid": "d-1", "controller": True}
    comes = whole("agent-b5b6c", "p-1", ownerReferences=[owner])
    made = event(at(HOUR + 600), controller, "create", "pods", name="agent-b5b6c", code=201,
                 level="RequestResponse", requestObject=comes, responseObject=comes)  # fmt: skip
    log = [deploys, restarts, *([goes] if acted else ()), made]
    with record_of(log, tmp_path) as record:
        chain = cause_of(record, made["auditID"])
    assert chain.origin == ("ben" if acted else "ada")


@given(
    st.binary(max_size=60) | st.sampled_from([b'{"spec":{"template":1}}', b'{"spec":"template"}'])
)
def test_a_patch_may_be_anything(raw: bytes) -> None:
    told = body(raw.decode("utf-8", "replace"), None)
    assert told is None or isinstance(told.patched, bool)


@pytest.mark.parametrize(
    ("request_body", "patched"),
    [
        ('{"spec": {"template": {"spec": {}}}}', True),
        ('[{"op": "replace", "path": "/spec/template/spec/hostPID", "value": true}]', True),
        ('{"spec": {"replicas": 3}, "metadata": {"labels": {"template": "x"}}}', False),
        ('{"kind": "Deployment", "metadata": {"uid": "u"}, "spec": {"template": {}}}', False),
    ],
)
def test_a_patch_of_the_template_is_told_from_what_is_applied(
    request_body: str, patched: bool
) -> None:
    told = body(request_body, None)
    assert (told is not None and told.patched) == patched
