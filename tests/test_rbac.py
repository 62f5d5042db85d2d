"""Roles and bindings are evaluated as the API server does, and read from whatever a log holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.forensics.rbac.grants import defaults
from kubewitness.forensics.rbac.manifest import read
from kubewitness.forensics.rbac.policy import (
    Attributes,
    Binding,
    Key,
    Policy,
    Role,
    Rule,
    Selector,
    Subject,
    groups_of,
)
from kubewitness.forensics.rbac.reason import granted

GET = Attributes("get", "", "secrets", "", "shop", "db")


def cluster_role(name: str, *rules: Rule, **fields: Any) -> Role:
    return Role(Key("ClusterRole", "", name), rules, **fields)


def binding(namespace: str, role: Key, *subjects: Subject) -> Binding:
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    return Binding(Key(kind, namespace, "b"), role, subjects)


@pytest.mark.parametrize(
    ("rule", "asked", "allowed"),
    [
        (Rule(("get",), ("",), ("secrets",)), GET, True),
        (Rule(("list",), ("",), ("secrets",)), GET, False),
        (Rule(("get",), ("apps",), ("secrets",)), GET, False),
        (Rule(("*",), ("*",), ("*",)), GET, True),
        # names restrict what names its object, and permit nothing that does not
        (Rule(("get",), ("",), ("secrets",), ("db",)), GET, True),
        (Rule(("get",), ("",), ("secrets",), ("web",)), GET, False),
        (Rule(("list",), ("",), ("secrets",), ("db",)), GET._replace(verb="list", name=""), False),
        # a subresource is another resource, but for the wildcards
        (Rule(("get",), ("",), ("pods",)), Attributes("get", "", "pods", "exec"), False),
        (Rule(("get",), ("",), ("pods/exec",)), Attributes("get", "", "pods", "exec"), True),
        (Rule(("get",), ("",), ("*/scale",)), Attributes("get", "", "pods", "scale"), True),
        (Rule(("get",), ("",), ("*/scale",)), Attributes("get", "", "pods", ""), False),
        (Rule(("get",), ("",), ("pods/*",)), Attributes("get", "", "pods", "exec"), False),
        (Rule(("get",), ("",), ("*",)), Attributes("get", "", "pods", "exec"), True),
        # paths are no resources, and only a star at the end is one
        (Rule(("get",), paths=("/healthz",)), Attributes("get", path="/healthz"), True),
        (Rule(("get",), paths=("/apis/*",)), Attributes("get", path="/apis/apps/v1"), True),
        (Rule(("get",), paths=("/*/v1",)), Attributes("get", path="/apis/v1"), False),
        (Rule(("*",), ("*",), ("*",)), Attributes("get", path="/healthz"), False),
        (Rule(("*",), paths=("*",)), GET, False),
    ],
)
def test_a_rule_allows_what_the_api_server_would(
    rule: Rule, asked: Attributes, allowed: bool
) -> None:
    assert rule.allows(asked) is allowed


def test_a_role_binding_reaches_its_namespace_only() -> None:
    role = cluster_role("reader", Rule(("get", "list"), ("",), ("secrets", "nodes")))
    ada = Subject("User", "ada")
    local, everywhere = binding("shop", role.key, ada), binding("", role.key, ada)
    policy = Policy([role], [local, everywhere])
    assert policy.permits(local, GET)
    assert not policy.permits(local, GET._replace(namespace="bank"))
    assert not policy.permits(local, Attributes("list", "", "secrets"))
    assert policy.permits(everywhere, Attributes("list", "", "secrets"))


@pytest.mark.parametrize(
    ("subject", "user", "groups", "bound"),
    [
        (Subject("User", "ada"), "ada", (), True),
        (Subject("User", "dev"), "ada", ("dev",), False),
        (Subject("Group", "dev"), "ada", ("dev",), True),
        (Subject("ServiceAccount", "api", "shop"), "system:serviceaccount:shop:api", (), True),
        (Subject("ServiceAccount", "api", "bank"), "system:serviceaccount:shop:api", (), False),
        (Subject("User", "system:serviceaccount:shop:api"), "system:serviceaccount:shop:api", (),
         True),
    ],
)  # fmt: skip
def test_a_subject_is_who_the_api_server_takes_it_for(
    subject: Subject, user: str, groups: tuple[str, ...], bound: bool
) -> None:
    assert subject.is_one(user, groups) is bound


def test_groups_that_follow_from_a_name() -> None:
    assert groups_of("ada", ["dev"]) == {"dev", "system:authenticated"}
    assert groups_of("system:anonymous", ["system:unauthenticated"]) == {"system:unauthenticated"}
    account = groups_of("system:serviceaccount:shop:api")
    assert {"system:serviceaccounts", "system:serviceaccounts:shop"} < account


def test_members_of_system_masters_are_asked_for_nothing() -> None:
    assert list(Policy().allowing("root", ("system:masters",), GET)) == [None]
    assert list(Policy().allowing("root", ("masters",), GET)) == []


def test_aggregated_roles_are_the_sum_of_those_they_select_at_any_depth() -> None:
    def label(name: str) -> dict[str, str]:
        return {f"to-{name}": "true"}

    top = cluster_role("top", aggregates=(Selector(tuple(label("top").items())),))
    middle = cluster_role(
        "middle", labels=label("top"), aggregates=(Selector((), (("to-middle", "Exists", ()),)),)
    )
    bottom = cluster_role("bottom", Rule(("get",), ("",), ("secrets",)), labels=label("middle"))
    unlabelled = cluster_role("other", Rule(("delete",), ("",), ("secrets",)))
    policy = Policy([top, middle, bottom, unlabelled])
    assert policy.rules(top.key) == bottom.rules
    assert policy.rules(Key("ClusterRole", "", "unheard of")) is None


def test_roles_that_aggregate_each_other_end() -> None:
    mutual = Selector((("x", "y"),))
    rule = Rule(("get",), ("",), ("pods",))
    one, other = (
        cluster_role(name, rule, labels={"x": "y"}, aggregates=(mutual,)) for name in ("a", "b")
    )
    assert Policy([one, other]).rules(one.key) == (rule,)


def test_the_defaults_are_what_their_documentation_says() -> None:
    """https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles"""
    stock = defaults()
    policy = Policy(
        (one for one in stock if isinstance(one, Role)),
        (one for one in stock if isinstance(one, Binding)),
    )

    def may(role: str, asked: Attributes) -> bool:
        rules = policy.rules(Key("ClusterRole", "", role))
        assert rules is not None
        return any(rule.allows(asked) for rule in rules)

    deploy = Attributes("create", "apps", "deployments", "", "shop")
    bind = Attributes("create", "rbac.authorization.k8s.io", "rolebindings", "", "shop")
    assert [may(role, GET) for role in ("view", "edit", "admin")] == [False, True, True]
    assert [may(role, deploy) for role in ("view", "edit", "admin")] == [False, True, True]
    assert [may(role, bind) for role in ("view", "edit", "admin")] == [False, False, True]
    assert may("view", deploy._replace(verb="list"))
    assert may("cluster-admin", Attributes("get", path="/metrics"))
    anybody = ("system:authenticated",)
    assert list(policy.allowing("ada", anybody, Attributes("get", path="/version")))
    assert not list(policy.allowing("ada", anybody, GET))


@pytest.mark.parametrize(
    ("manifest", "wrong"),
    [
        ({"kind": "Role"}, "without a name"),
        ({"kind": "Role", "metadata": {"name": "a"}, "rules": {}}, "list"),
        ({"kind": "Role", "metadata": {"name": "a"}, "rules": ["get"]}, "fields"),
        ({"kind": "Role", "metadata": {"name": "a"}, "rules": [{"verbs": [1]}]}, "text"),
        ({"kind": "RoleBinding", "metadata": {"name": "a"}, "subjects": [[]]}, "fields"),
    ],
)
def test_what_only_says_that_it_is_a_role_is_refused(manifest: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        read(manifest)


def test_nulls_and_other_kinds_are_fine() -> None:
    assert read({"kind": "Status"}) is None
    assert read(["Role"]) is None
    assert read({"kind": "Role", "apiVersion": "example.org/v1", "metadata": {"name": "a"}}) is None
    role = read({"kind": "ClusterRole", "metadata": {"name": "a", "labels": None}, "rules": None})
    assert role == cluster_role("a")


def test_a_service_account_without_namespace_is_of_the_bindings() -> None:
    found = read(
        {
            "kind": "RoleBinding",
            "metadata": {"name": "b", "namespace": "shop"},
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "api"}],
        }
    )
    assert isinstance(found, Binding)
    assert found.role == Key("Role", "shop", "r")
    assert found.subjects == (Subject("ServiceAccount", "api", "shop"),)


def test_reasons_name_binding_role_and_subject() -> None:
    found = granted(
        'RBAC: allowed by RoleBinding "odd \\"one\\"/shop" of ClusterRole "edit"'
        ' to ServiceAccount "api/bank"'
    )
    assert found is not None
    assert found.key == Key("RoleBinding", "shop", 'odd "one"')
    assert found.role == Key("ClusterRole", "", "edit")
    assert found.subjects == (Subject("ServiceAccount", "api", "bank"),)


@pytest.mark.parametrize("reason", ["", "RBAC: ", 'RBAC: allowed by Roof "a" of Role "b" to User'])
def test_other_reasons_are_none(reason: str) -> None:
    assert granted(reason) is None


words = st.sampled_from(["get", "list", "*", "create"])
kinds = st.sampled_from(["pods", "secrets", "pods/exec", "*/exec", "*"])
some_rules = st.builds(
    Rule,
    st.lists(words, max_size=2).map(tuple),
    st.lists(st.sampled_from(["", "apps", "*"]), max_size=2).map(tuple),
    st.lists(kinds, max_size=2).map(tuple),
    st.lists(st.sampled_from(["db", "web"]), max_size=1).map(tuple),
)
questions = st.builds(
    Attributes,
    st.sampled_from(["get", "list", "create"]),
    st.sampled_from(["", "apps"]),
    st.sampled_from(["pods", "secrets"]),
    st.sampled_from(["", "exec"]),
    st.sampled_from(["", "shop", "bank"]),
    st.sampled_from(["", "db", "web"]),
)


@given(st.lists(some_rules, max_size=4), some_rules, questions, st.sampled_from(["", "shop"]))
def test_adding_a_rule_never_takes_a_permission_away(
    rules: list[Rule], added: Rule, asked: Attributes, namespace: str
) -> None:
    def may(*given_rules: Rule) -> bool:
        role = cluster_role("r", *given_rules)
        bound = binding(namespace, role.key, Subject("User", "ada"))
        return bool(list(Policy([role], [bound]).allowing("ada", (), asked)))

    assert may(*rules, added) >= may(*rules)
    assert may(*rules, added) == (may(*rules) or may(added))


@given(st.lists(some_rules, max_size=4), questions)
def test_what_a_namespace_permits_the_cluster_permits(rules: list[Rule], asked: Attributes) -> None:
    role = cluster_role("r", *rules)
    local = binding("shop", role.key, Subject("User", "ada"))
    whole = binding("", role.key, Subject("User", "ada"))
    policy = Policy([role])
    assert policy.permits(whole, asked) >= policy.permits(local, asked)


FIELDS = st.sampled_from(["kind", "metadata", "name", "rules", "subjects", "roleRef", "verbs"])
ATOMS = st.none() | st.booleans() | st.text(max_size=5) | st.sampled_from(["Role", "RoleBinding"])


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5)


@given(st.recursive(ATOMS, nested, max_leaves=12))
def test_nothing_in_a_log_makes_reading_fail_in_another_way(manifest: Any) -> None:
    try:
        found = read(manifest)
    except ValueError:
        return
    assert found is None or found.key.name
