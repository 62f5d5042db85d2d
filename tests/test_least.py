"""The least role covers what was used, and no verb on no resource that was not."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubewitness.forensics.rbac.least import FEW, least, role_name
from kubewitness.forensics.rbac.manifest import read
from kubewitness.forensics.rbac.policy import Attributes, Binding, Policy, Role, groups_of

VERBS = ["get", "list", "create", "update", "delete"]
deeds = st.builds(
    Attributes,
    st.sampled_from(VERBS),
    st.sampled_from(["", "apps"]),
    st.sampled_from(["pods", "secrets", "deployments"]),
    st.sampled_from(["", "exec", "scale"]),
    st.sampled_from(["", "shop", "bank", "mine"]),
    st.sampled_from(["", "db", "web", "cache", "web-7d9c5b6f4d-x2x4z", "a", "b", "c", "d"]),
    st.just(""),
) | st.builds(
    Attributes,
    st.sampled_from(["get", "post"]),
    *[st.just("")] * 5,
    st.sampled_from(["/metrics", "/logs/"]),
)
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def policy(manifests: list[dict[str, Any]]) -> Policy:
    found = [read(one) for one in manifests]
    assert None not in found
    return Policy(
        (one for one in found if isinstance(one, Role)),
        (one for one in found if isinstance(one, Binding)),
    )


def allowed(user: str, used: list[Attributes], asked: Attributes) -> bool:
    return bool(list(policy(least(user, used)).allowing(user, groups_of(user), asked)))


@given(st.lists(deeds, max_size=12), st.sampled_from(["ada", "system:serviceaccount:ci:bot"]))
def test_all_that_was_used_is_allowed(used: list[Attributes], user: str) -> None:
    granted = policy(least(user, used))
    for asked in used:
        assert list(granted.allowing(user, groups_of(user), asked)), asked


@given(st.lists(deeds, max_size=8), deeds)
def test_nothing_is_allowed_that_was_never_used(used: list[Attributes], asked: Attributes) -> None:
    """At the granularity of verb, resource and namespace; exec is one deed, get or create."""

    def deed(one: Attributes) -> tuple[str, ...]:
        verb = "exec" if one.subresource == "exec" and one.verb in ("get", "create") else one.verb
        return (verb, one.group, one.resource, one.subresource, one.path)

    near = [one for one in used if one.namespace in ("", asked.namespace)]
    if deed(asked) not in map(deed, near):
        assert not allowed("ada", used, asked)


@given(st.lists(deeds, max_size=8), deeds)
def test_nobody_else_gets_anything(used: list[Attributes], asked: Attributes) -> None:
    assert not list(policy(least("ada", used)).allowing("eve", groups_of("eve"), asked))


@given(st.lists(deeds, max_size=12), st.text(max_size=80))
def test_kubectl_would_take_it(used: list[Attributes], user: str) -> None:
    """The structure that ``kubectl apply`` validates, for whatever names."""
    manifests = least(user, used)
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
             for one in manifests]  # fmt: skip
    assert len(names) == len(set(names))
    for one in manifests:
        assert one["apiVersion"] == "rbac.authorization.k8s.io/v1"
        assert LABEL.fullmatch(one["metadata"]["name"])
        assert ("namespace" in one["metadata"]) == (one["kind"] in ("Role", "RoleBinding"))
        if one["kind"].endswith("Binding"):
            reference = one["roleRef"]
            place = one["metadata"].get("namespace") if reference["kind"] == "Role" else None
            assert (reference["kind"], place, reference["name"]) in names
            (subject,) = one["subjects"]
            assert subject["kind"] in ("User", "ServiceAccount")
            continue
        assert one["rules"]
        for rule in one["rules"]:
            paths = "nonResourceURLs" in rule
            assert rule["verbs"]
            assert not paths or one["kind"] == "ClusterRole"
            assert paths or (rule["apiGroups"] and rule["resources"])


def test_few_lasting_names_are_listed_and_others_are_not() -> None:
    def get(*names: str) -> Any:
        used = [Attributes("get", "", "secrets", "", "shop", name) for name in names]
        return least("ada", used)[0]["rules"][0].get("resourceNames")

    assert get("db", "web") == ["db", "web"]
    assert get(*(f"{letter}-key" for letter in "abcdefgh"[: FEW + 1])) is None
    assert get("db", "web-7d9c5b6f4d-x2x4z") is None
    assert get("release.v12") is None


def test_namespaces_with_the_same_needs_share_a_role() -> None:
    used = [Attributes("list", "", "pods", "", place) for place in ("shop", "bank")]
    kinds = [one["kind"] for one in least("ada", used)]
    assert kinds == ["ClusterRole", "RoleBinding", "RoleBinding"]


def test_what_was_asked_of_the_whole_cluster_is_not_said_again() -> None:
    used = [Attributes("list", "", "pods", "", place) for place in ("", "shop")]
    assert [one["kind"] for one in least("ada", used)] == ["ClusterRole", "ClusterRoleBinding"]


def test_no_role_is_made_for_a_namespace_that_cannot_be() -> None:
    assert least("ada", [Attributes("list", "", "pods", "", "../kube-system")]) == []


@given(st.text(max_size=300))
def test_names_are_dns_labels_whatever_the_user_is_called(user: str) -> None:
    assert LABEL.fullmatch(role_name(user))
    assert len(f"{role_name(user)}-shared-999") <= 253
