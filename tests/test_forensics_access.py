"""What a principal may do, what of it it used, what is dangerous, and the least role that does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities import START
from audit_log import Event, event, write
from conftest import Command
from kubewitness import inquiry
from kubewitness.errors import KubewitnessError
from kubewitness.forensics.rbac.access import access
from kubewitness.forensics.rbac.answer import Access
from kubewitness.forensics.rbac.danger import powers
from kubewitness.forensics.rbac.policy import Rule
from kubewitness.forensics.rbac.principals import username
from rbac_log import API, DAY, KEEPER, READERS, binding, permitted, role, rule, week, wrote

Ask = Callable[..., Access]
ACCOUNTS = [
    "ada",
    "system:serviceaccount:ci:deployer",
    "system:serviceaccount:qa:deployer",
    "system:serviceaccount:shop:api",
]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def answer(events: Iterable[Event], who: str = "ada", **options: Any) -> Access:
        log = write(tmp_path / "audit.log", events)
        return inquiry.ask(
            [log], lambda connection: access(connection, who, **options), bodies=True
        )[0]

    return answer


def own(answer: Access) -> dict[str, Any]:
    """The grants that not everybody has."""
    return {
        one.binding: one for one in answer.grants if not one.subject.startswith("Group system:")
    }


def test_grants_with_what_was_done_under_them(ask: Ask) -> None:
    answer = ask(week())
    (grant,) = own(answer).values()
    assert grant.binding == "RoleBinding shop/readers → ClusterRole reader"
    assert (grant.subject, grant.origin, grant.namespace) == ("Group dev", "log", "shop")
    # six of its own days, the last, and one of eve's, who acted as ada
    assert (grant.requests, grant.by_others) == (8, 1)
    assert grant.actions == {"get secrets in shop": 8}
    assert grant.last == START + 6 * DAY + timedelta(hours=2, milliseconds=3)
    assert grant.rules == ("get, list, watch secrets", "get pods")
    assert grant.unused == ("get pods",)
    assert any("acted as it" in note for note in answer.notes)


def test_who_acts_as_another_needs_to_impersonate_and_nothing_else(ask: Ask) -> None:
    answer = ask(week(), "eve")
    assert answer.acted_as == {"ada": 1}
    assert answer.requests == 0
    (made, _) = answer.role
    assert made["rules"] == [
        {"apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"],
         "verbs": ["impersonate"]},
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["ada"],
         "verbs": ["impersonate"]},
    ]  # fmt: skip


def test_the_least_role_of_a_holder_of_everything(ask: Ask) -> None:
    answer = ask(week(), "kim")
    (made, bound) = answer.role
    assert made == {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "least-kim", "namespace": "shop"},
        "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["db"], "verbs": ["get"]}
        ],
    }
    assert bound["subjects"] == [
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "kim"}
    ]
    assert answer.dangers[0].power == "do anything with anything"


def test_what_everybody_may_is_in_no_role(ask: Ask) -> None:
    discovery = permitted(
        "system:discovery", "system:discovery", "Group system:authenticated", START, "zoe", "get",
        objectRef=None, requestURI="/apis/apps/v1?timeout=32s",
    )  # fmt: skip
    metrics = event(START, "zoe", "get", objectRef=None, requestURI="/metrics")
    assert ask([discovery], "zoe").role == ()
    assert ask([discovery, metrics], "zoe").role[0]["rules"] == [
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    ]


def test_refusals_are_no_use(ask: Ask) -> None:
    assert ask(week(), "mallory").role == ()
    assert ask(week(), "mallory").requests == 0


def test_what_admission_refused_the_authorizer_had_permitted(ask: Ask) -> None:
    quota = permitted("x", "edit", "User zoe", START, "zoe", "create", "pods", code=403)
    denied = event(START, "zoe", "create", "secrets", code=403)
    unsaid = event(START, "zoe", "create", "secrets", code=403, annotations=None)
    answer = ask([quota, denied, unsaid], "zoe")
    assert answer.requests == 1
    assert answer.role[0]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}
    ]


def test_a_wildcard_that_was_asked_for_is_no_wildcard_in_the_role(ask: Ask) -> None:
    asked = event(START, "kim", "delete", "*", name="", code=404)
    assert ask([*week(), asked], "kim").role == ask(week(), "kim").role


def test_a_binding_that_was_taken_away_is_told_as_such(ask: Ask) -> None:
    gone = wrote(KEEPER, START + 7 * DAY, "delete", requestObject=None, responseObject=None)
    (grant,) = own(ask([*week(), gone], "kim")).values()
    assert (grant.origin, grant.requests) == ("removed", 1)
    assert ask([*week(), gone], "kim").dangers == ()


def test_grants_known_by_their_use_only(ask: Ask) -> None:
    (grant,) = own(ask([one for one in week() if one["level"] == "Metadata"])).values()
    assert (grant.origin, grant.rules) == ("reason", None)


def test_unused_dangers_come_first_and_everything_before_them(ask: Ask) -> None:
    events = [
        *week(),
        wrote(role("mixed", rule("get list", "secrets"), rule("create", "pods/exec"),
                   rule("impersonate", "users"))),
        wrote(binding("mixed", "mixed", ("User", "ada"))),
        wrote(binding("own", "cluster-admin", ("User", "ada"), namespace="mine")),
        permitted("mixed", "mixed", "User ada", START, "ada", "create", "pods", name="web",
                  subresource="exec"),
    ]  # fmt: skip
    answer = ask(events)
    told = [(one.power.partition(" ")[0], one.namespace, one.requests) for one in answer.dangers]
    assert told == [
        ("do", "mine", 0),
        ("act", "", 0),
        ("read", "", 0),
        ("enter", "", 1),
        ("read", "shop", 8),
    ]


@pytest.mark.parametrize(
    ("given", "namespaced", "found"),
    [
        (Rule(("*",), ("*",), ("*",)), False, ["do anything with anything"]),
        (Rule(("get",), ("",), ("secrets",), ("db",)), True, ["read secrets"]),
        # what names nothing is not permitted by a rule with names
        (Rule(("create",), ("",), ("secrets",), ("db",)), True, []),
        # there are no nodes in a namespace
        (Rule(("get",), ("",), ("nodes/proxy",)), False, ["reach kubelets through nodes/proxy"]),
        (Rule(("get",), ("",), ("nodes/proxy",)), True, []),
        (Rule(("get",), ("",), ("configmaps",)), False, []),
    ],
)
def test_what_is_dangerous_in_a_rule(given: Rule, namespaced: bool, found: list[str]) -> None:
    assert [power.name for power, _ in powers([given], namespaced=namespaced)] == found


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("ada", "ada"),
        ("shop/api", API),
        ("sa/shop/api", API),
        ("sa:shop:api", API),
        ("api", API),
        (API, API),
    ],
)
def test_ways_to_name_a_principal(text: str, user: str) -> None:
    assert username(text, ACCOUNTS) == user


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("deployer", "2 service accounts", "ci/deployer, qa/deployer"),
        ("adda", "nobody", "did you mean ada?"),
        ("shop/apii", "nobody", "shop/api"),
        ("ci/api", "nobody", "shop/api"),
        ("xyz", "nobody", "NAMESPACE/NAME"),
    ],
)
def test_nobody_and_several_are_told_with_who_was_perhaps_meant(
    text: str, what: str, remedy: str
) -> None:
    with pytest.raises(KubewitnessError) as error:
        username(text, ACCOUNTS)
    assert what in error.value.what
    assert remedy in error.value.remedy


def test_who_is_only_bound_is_known_too(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "rbac.json"
    spare = binding("spare", "cluster-admin", ("ServiceAccount", "shop/spare"))
    file.write_text(json.dumps({"kind": "List", "items": [spare, READERS]}))
    answer = ask(week(), "shop/spare", snapshot=file)
    assert [one.binding for one in answer.grants] == [
        "ClusterRoleBinding spare → ClusterRole cluster-admin"
    ]
    assert "It did nothing in this log" in answer.notes[0]


def test_the_command_line(kubewitness: Command, tmp_path: Path) -> None:
    hostile = "\x1b[2Jeve\u202e: {a: b}"
    log = write(
        tmp_path / "audit.log",
        [
            *week(),
            permitted("x", hostile, f"User {hostile}", START, hostile, "get", "secrets", name="db"),
        ],
    )
    report = kubewitness("access", "kim", log)
    assert report.code == 0, report.talk
    assert "The least that covers what it used" in report.text
    assert kubewitness("access", "kim", log, "-o", "table").text.startswith("GRANT")
    made = list(yaml.safe_load_all(kubewitness("access", hostile, log, "-o", "role").text))
    assert [one["kind"] for one in made] == ["Role", "RoleBinding"]
    assert made[1]["subjects"][0]["name"] == hostile
    assert "\x1b" not in kubewitness("access", hostile, log, "-o", "role").text
    assert "\u202e" not in kubewitness("access", hostile, log).text
    for loads, form in ((json.loads, "json"), (yaml.safe_load, "yaml")):
        found = loads(kubewitness("access", "kim", log, "-o", form).text)
        assert (found["kind"], found["principal"]) == ("Access", "kim")
    early = kubewitness("access", "kim", log, "--at", "3d")
    assert "no request" in early.text or "0 permitted requests" in early.text
    assert "--cluster" in kubewitness("access", "--help").text
