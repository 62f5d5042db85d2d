"""Audit policies: read as the API server reads them, evaluated as it does, and what they hide."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from audit_log import event, lines
from conftest import Command
from kubewitness.activity import technique
from kubewitness.errors import ConfigError
from kubewitness.policy import blindness
from kubewitness.policy.blindness import QUESTIONS, findings
from kubewitness.policy.policy import Decision, Policy, Request, Resources, Rule, Stage
from kubewitness.policy.reading import detection_policy, read_policy
from kubewitness.policy.telling import sentence
from kubewitness.policy.volume import Filter, measure, request, written

CAPTURE = Path(__file__).parents[2] / "shared" / "data" / "capture"
HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], Policy]:
    """The policy that has these rules."""

    def read(text: str) -> Policy:
        path = tmp_path / "policy.yaml"
        path.write_text(text if text.startswith("apiVersion") else HEAD + text, encoding="utf-8")
        return read_policy(path)

    return read


def own() -> Policy:
    return read_policy(Path(str(resources.files("kubewitness.policy").joinpath("detection.yaml"))))


# Evaluation. Each case is one of k8s.io/apiserver's own, pkg/audit/policy/checker_test.go, in the
# words of this project: which requests a rule matches.

TIM = ("tim", ("humans", "developers"))
REQUESTS = {
    "pods": Request(*TIM, "get", "", "pods", "", "default", "busybox"),
    "log": Request(*TIM, "get", "", "pods", "log", "default", "busybox"),
    "role": Request(*TIM, "update", "rbac.authorization.k8s.io", "clusterroles", "", "", "edit"),
    "path": Request(*TIM, "get", path="/logs/x"),
    "nobody": Request("", (), "get", "", "pods", "", "default", "busybox"),
}


@pytest.mark.parametrize(
    ("rule", "matched"),
    [
        (Rule("None"), "pods log role path nobody"),
        (Rule("None", users=("tim", "amy")), "pods log role path"),
        (Rule("None", users=("t*",)), ""),
        (Rule("None", user_groups=("humans",)), "pods log role path"),
        (Rule("None", user_groups=("humans",), users=("amy",)), ""),
        (Rule("None", verbs=("get",)), "pods log path nobody"),
        (Rule("None", verbs=("*",)), ""),
        (Rule("None", namespaces=("default",)), "pods log nobody"),
        (Rule("None", namespaces=("",)), "role"),
        (Rule("None", resources=(Resources(),)), "pods log nobody"),
        (Rule("None", resources=(Resources("", ("pods",)),)), "pods nobody"),
        (Rule("None", resources=(Resources("", ("*",)),)), "pods log nobody"),
        (Rule("None", resources=(Resources("", ("pods/*",)),)), "pods log nobody"),
        (Rule("None", resources=(Resources("", ("pods/log",)),)), "log"),
        (Rule("None", resources=(Resources("", ("*/log",)),)), "log"),
        (Rule("None", resources=(Resources("", ("log",)),)), ""),
        (Rule("None", resources=(Resources("*", ("*",)),)), ""),
        (Rule("None", resources=(Resources("apps"), Resources("rbac.authorization.k8s.io"))),
         "role"),
        (Rule("None", resources=(Resources("", ("pods",), ("busybox",)),)), "pods nobody"),
        (Rule("None", resources=(Resources("", ("*",), ("edit",)),)), ""),
        (Rule("None", resources=(Resources("", ("pods",)),), namespaces=("other",)), ""),
        (Rule("None", non_resource_urls=("/logs*",)), "path"),
        (Rule("None", non_resource_urls=("/logs/x",)), "path"),
        (Rule("None", non_resource_urls=("/logs",)), ""),
        (Rule("None", non_resource_urls=("*",)), "path"),
    ],
)  # fmt: skip
def test_a_rule_matches_what_it_matches_upstream(rule: Rule, matched: str) -> None:
    assert [name for name, asked in REQUESTS.items() if rule.matches(asked)] == matched.split()


def test_the_first_rule_that_matches_decides(policy: Callable[[str], Policy]) -> None:
    found = policy(
        """\
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  verbs: [watch]
- level: Request
  omitStages: [ResponseStarted]
  omitManagedFields: false
  resources: [{group: ""}]
"""
    )
    asked = REQUESTS["pods"]
    assert found.decide(asked) == Decision(
        1, "Request", frozenset({"RequestReceived", "ResponseStarted"}), False
    )
    assert found.decide(asked._replace(verb="watch")).level == "None"
    nothing = found.decide(REQUESTS["path"])
    assert (nothing.rule, nothing.level, found.line(nothing)) == (None, "None", 0)
    assert found.line(found.decide(asked)) == 8


def test_a_decision_knows_whether_anything_is_written() -> None:
    started: frozenset[Stage] = frozenset({"ResponseStarted"})
    assert Decision(0, "Metadata", started, False).logs()
    assert not Decision(0, "None", started, False).logs()
    assert not Decision(0, "Request", started | {"ResponseComplete"}, False).has("Metadata")
    assert Decision(0, "Request", started, False).has("Request")
    assert not Decision(0, "Request", started, False).has("RequestResponse")


# Reading

MISTAKES = """\
apiVersion: audit.k8s.io/v1beta1
kind: Policy
omitStages: [RequestRecieved]
rules:
- level: Metadata
"""
RULES = """\
rules:
- levle: None
- level: Metdata
- level: Metadata
  verb: [get]
  resources: [{group: apps/v1, resource: [pods]}]
- level: Metadata
  resources:
  - {group: apps/v1}
  - {group: "*", resources: ["*"]}
  - {group: "", resourceNames: [a]}
- level: None
  nonResourceURLs: [healthz, "/a*b", "/c*"]
  namespaces: [x]
- level: None
  level: Metadata
"""


def test_all_mistakes_of_a_policy_are_told(
    policy: Callable[[str], Policy], snapshot: SnapshotAssertion
) -> None:
    for name, text in (
        ("frame", MISTAKES),
        ("rules", RULES),
        ("no rules", "rules: []\n"),
        ("a list", "- a\n"),
        ("nothing", HEAD.partition("\n")[0] + "\nkind: Pod\nrules: [{level: None}]\n"),
    ):
        with pytest.raises(ConfigError) as caught:
            policy(text)
        told = str(caught.value)
        folder = told.partition("policy.yaml")[0]
        assert told.replace(folder, "") == snapshot(name=name)


def test_a_policy_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_policy(tmp_path / "none.yaml")


@given(st.text(alphabet="rules:level-{}[] \n'\"None*&!", max_size=60))
def test_any_text_is_a_policy_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-policy.yaml"
    path.write_text(HEAD + text)
    with suppress(ConfigError):
        assert read_policy(path).rules


# What is kept of a log


def pod(**more: Any) -> dict[str, Any]:
    managed = {"metadata": {"name": "a", "managedFields": [{"manager": "kubectl"}]}}
    return {
        "level": "RequestResponse",
        "stage": "ResponseComplete",
        "verb": "create",
        "user": {"username": "jane", "groups": ["devs"]},
        "requestURI": "/api/v1/namespaces/shop/pods",
        "objectRef": {"resource": "pods", "namespace": "shop"},
        "requestObject": managed,
        "responseObject": {"items": [managed]},
        **more,
    }


def test_what_a_level_does_not_have_is_taken_out() -> None:
    def kept(decision: Decision) -> set[str]:
        found = written(pod(), decision) or {}
        return {key for key in found if key.endswith("Object")}

    none: frozenset[Any] = frozenset()
    assert kept(Decision(0, "RequestResponse", none, False)) == {"requestObject", "responseObject"}
    assert kept(Decision(0, "Request", none, False)) == {"requestObject"}
    assert kept(Decision(0, "Metadata", none, False)) == set()
    assert written(pod(), Decision(0, "None", none, False)) is None
    assert written(pod(), Decision(0, "Request", frozenset({"ResponseComplete"}), False)) is None


def test_nothing_is_made_up_that_the_log_does_not_have() -> None:
    found = written(pod(level="Metadata"), Decision(0, "RequestResponse", frozenset(), False))
    assert found is not None
    assert found["level"] == "Metadata"


def test_managed_fields_are_taken_out_of_bodies_and_their_items() -> None:
    event = pod()
    found = written(event, Decision(0, "RequestResponse", frozenset(), True))
    assert found is not None
    assert found["requestObject"] == {"metadata": {"name": "a"}}
    assert found["responseObject"] == {"items": [{"metadata": {"name": "a"}}]}
    assert event == pod()
    patch = pod(requestObject=[{"op": "add"}])
    found = written(patch, Decision(0, "Request", frozenset(), True))
    assert found is not None
    assert found["requestObject"] == [{"op": "add"}]


def test_the_request_of_an_event_is_what_rules_see() -> None:
    assert request(pod()) == Request("jane", ("devs",), "create", "", "pods", "", "shop", "")
    unauthenticated = {"verb": "get", "user": {}, "requestURI": "/logs%2fx/?a=b"}
    assert request(unauthenticated) == Request("", (), "get", path="/logs/x/")


def test_names_decide_where_a_policy_looks_at_them() -> None:
    named = Policy(
        (Rule("None", resources=(Resources("", ("pods",), ("a",)),)), Rule("Metadata")),
        lines=(1, 2),
    )
    events = [pod(objectRef={"resource": "pods", "name": name}) for name in "ab"]
    assert [one["objectRef"]["name"] for one in Filter(named).events(events)] == ["b"]


def test_volume_is_counted_by_rule() -> None:
    some = Policy(
        (Rule("None", verbs=("get",)), Rule("RequestResponse", verbs=("create",))),
        lines=(3, 5),
    )
    bare = {key: value for key, value in pod(level="Metadata").items() if "Object" not in key}
    events = [
        pod(),
        bare,
        pod(verb="get", objectRef={"resource": "secrets", "namespace": "shop"}),
        pod(verb="list"),
    ]
    encoded = [msgspec.json.encode(one) for one in events]
    found = measure(some, encoded)
    assert found.logged.events == 4
    assert found.logged.bytes == sum(map(len, encoded))
    assert found.kept.events == 2
    assert found.kept.bytes == len(encoded[0]) + len(encoded[1])
    assert found.poorer == 1
    assert {(one.line, one.level, one.kept.events) for one in found.rules} == {
        (3, "None", 0),
        (5, "RequestResponse", 2),
        (0, "None", 0),
    }
    assert found.grave == {"read secrets": 1}


# What is hidden


def test_the_policy_for_detection_hides_nothing_and_gives_nothing_away() -> None:
    assert findings(own()) == ()


def test_each_rule_of_the_policy_for_detection_is_needed() -> None:
    """Without it something else would be logged, at the latest once the last rule is widened."""
    policy = own()
    asked = [
        blindness._request(whose, verb, resource, "shop")
        for question in QUESTIONS
        for whose in blindness._PRINCIPALS
        for verb in question.verbs
        for resource in question.resources
    ]
    asked += [
        Request("system:apiserver", (), "update", "coordination.k8s.io", "leases"),
        Request("jane", (), "update", "coordination.k8s.io", "leases"),
        Request("system:anonymous", (), "get", path="/readyz"),
        Request("jane", (), "create", "", "events"),
        Request("jane", (), "update", "batch", "jobs", "status"),
        Request("n", ("system:nodes",), "patch", "", "pods", "status"),
        Request("n", ("system:nodes",), "get", "", "pods"),
        Request(
            "system:serviceaccount:kube-system:endpoint-controller", (), "update", "", "endpoints"
        ),
    ]
    *rules, last = policy.rules
    for n, rule in enumerate(rules):
        rest = [*rules[:n], *rules[n + 1 :]]
        assert any(
            _levels([*rules, end], asked) != _levels([*rest, end], asked)
            for end in (last, Rule("RequestResponse"))
        ), rule


def _levels(rules: list[Rule], asked: list[Request]) -> list[str]:
    policy = Policy(tuple(rules))
    return [policy.decide(one).level for one in asked]


def test_every_rule_of_the_policy_says_why() -> None:
    text = detection_policy()
    blocks = text[text.index("rules:") :].split("\n\n")
    for block in blocks:
        assert any(line.startswith("  # ") for line in block.splitlines()), block


def test_everything_grave_is_asked_for() -> None:
    """Whatever attacks are made of (activity.technique) has a question of its own."""
    asked = {
        technique.technique(verb, _qualified(resource), _sub(resource), namespace).did
        for question in QUESTIONS
        for resource in question.resources
        for verb in question.verbs
        for namespace in ("shop", "kube-system")
    }
    by_body = {case.technique.did for case in technique._CASES if case.traits}
    grave = {c.technique.did for c in technique._CASES if c.technique.weight >= technique.GRAVE}
    assert grave - by_body <= asked


def _qualified(resource: str) -> str:
    group, kind = resource.split("/")[:2]
    return f"{kind}.{group}" if group else kind


def _sub(resource: str) -> str:
    return (*resource.split("/"), "")[2]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            "rules: [{level: None, userGroups: [system:nodes]}, {level: Metadata}]",
            "who read secrets (get, list, watch of secrets): left out for nodes by line 3",
        ),
        (
            "rules: [{level: Metadata}]",
            "which permissions were given, and to whom (create, update, patch of roles,"
            " clusterroles, rolebindings, clusterrolebindings): at level Metadata, without bodies",
        ),
        (
            "rules: [{level: Request}]",
            "secrets that are written (create, update, patch of secrets): at level Request, where"
            " Metadata would do",
        ),
        (
            "rules: [{level: RequestResponse}]",
            "tokens that are issued (create of serviceaccounts/token): at level RequestResponse",
        ),
        (
            "rules: [{level: None, verbs: ['*']}, {level: Metadata}]",
            "line 3, verbs: *: compared letter by letter",
        ),
        (
            "rules: [{level: Metadata}, {level: None}]",
            "line 3, all rules behind it: it matches every request",
        ),
        (
            "omitStages: [ResponseStarted]\nrules: [{level: Metadata}]",
            "who is in a container or a tunnel right now: left out until they end",
        ),
        (
            "omitStages: [ResponseComplete]\nrules: [{level: Metadata}]",
            "how requests ended: left out, as ResponseComplete is omitted by line 4",
        ),
        (
            "rules: [{level: RequestResponse, resources: [{group: apps}]}]",
            "who read secrets (get, list, watch of secrets): left out for people, administrators,"
            " workloads, workloads of kube-system and 3 more, as no rule is about it",
        ),
    ],
)
def test_what_is_hidden_is_said(rules: str, said: str, policy: Callable[[str], Policy]) -> None:
    told = [sentence(one) for one in findings(policy(rules + "\n"))]
    assert any(one.startswith(said) for one in told), told


def test_nothing_is_asked_of_the_answer_that_a_policy_never_gives(
    policy: Callable[[str], Policy],
) -> None:
    everything = findings(policy("rules: [{level: RequestResponse}]\n"))
    assert {one.kind for one in everything} == {"leak"}


# The commands


def test_the_command_tells_what_a_policy_costs_on_a_log(
    kubewitness: Command, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(HEAD + "rules: [{level: None, verbs: [get]}, {level: Metadata}]\n")
    log = tmp_path / "audit.log"
    log.write_bytes(
        lines([event(verb="get", resource="secrets"), event(verb="list", resource="pods")])
        + b"no event\n"
    )
    done = kubewitness("policy", "lint", path, log)
    assert done.code == 3
    assert "1 not counted" in done.talk
    assert done.text[done.text.index("Volume") :] == snapshot
    found = json.loads(kubewitness("policy", "lint", path, log, "-o", "json").out)
    assert found["volume"]["kept"]["events"] == 1
    assert found["findings"][0]["line"] == 3


def test_the_policy_that_is_printed_is_the_one_that_is_checked(
    kubewitness: Command, tmp_path: Path
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(kubewitness("init", "policy").out)
    done = kubewitness("policy", "lint", path)
    assert done.code == 0
    assert "shows all that detection looks at" in done.text
    assert kubewitness("policy", "lint", tmp_path / "none.yaml").code == 2
    path.write_text("rules: 3\n")
    assert kubewitness("policy", "lint", path).code == 1


@pytest.mark.skipif(not CAPTURE.exists(), reason="the shared data is not here")
def test_a_recorded_log_was_logged_by_the_policy_that_it_was_logged_by() -> None:
    """Asked again, the policy of the capture says the level of every event in it."""
    from kubewitness.policy.log import logged_lines

    policy = read_policy(CAPTURE / "audit-policy-a.yaml")
    asked = Filter(policy)
    with logged_lines([CAPTURE / "test.jsonl.zst"]) as (read, _):
        for _, line in zip(range(20_000), read, strict=False):
            one = msgspec.json.decode(line)
            decision = asked.decide(one)
            assert decision.level == one["level"], one["requestURI"]
            assert one["stage"] not in decision.omitted
