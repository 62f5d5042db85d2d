"""JSON patch, merge patch, strategic merge patch and server-side apply."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.forensics.objects.knowledge import Open, OpenList, Unknown, fits, known
from kubewitness.forensics.objects.patch import PatchError, json_patched, merge_patched, same
from kubewitness.forensics.objects.server_side import applied
from kubewitness.forensics.objects.strategic import is_strategic, strategic_patched

Json = Any

PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab/~", max_size=3)
JSON = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("ab/~", max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def without_nulls(value: Json) -> Json:
    """What a merge patch can say: a null in a map asks for nothing to be there."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


# --- JSON patch (RFC 6902) ---------------------------------------------------------------------


def operations(before: Json, after: Json, path: str = "") -> list[dict[str, Json]]:
    """A JSON patch from one document to another: the reference that ``json_patched`` undoes."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[dict[str, Json]] = []
        for key in {**before, **after}:
            below = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in after:
                found.append({"op": "remove", "path": below})
            elif key not in before:
                found.append({"op": "add", "path": below, "value": after[key]})
            else:
                found += operations(before[key], after[key], below)
        return found
    if isinstance(before, list) and isinstance(after, list):
        shared = min(len(before), len(after))
        found = [op for n in range(shared) for op in operations(before[n], after[n], f"{path}/{n}")]
        found += [{"op": "remove", "path": f"{path}/{shared}"} for _ in before[shared:]]
        return found + [{"op": "add", "path": f"{path}/-", "value": one} for one in after[shared:]]
    return [] if same(before, after) else [{"op": "replace", "path": path, "value": after}]


@given(JSON, JSON)
def test_a_json_patch_leads_from_one_document_to_the_other(before: Json, after: Json) -> None:
    assert same(json_patched(before, operations(before, after)), after)


# Appendix A of the RFC.
@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": [1, 2]}, {"op": "add", "path": "/a/1", "value": 3}, {"a": [1, 3, 2]}),
        ({"a": [1, 2]}, {"op": "remove", "path": "/a/0"}, {"a": [2]}),
        ({"a": 1, "b": 2}, {"op": "replace", "path": "/a", "value": [2]}, {"a": [2], "b": 2}),
        ({"a": {"x": 1}}, {"op": "move", "from": "/a/x", "path": "/b"}, {"a": {}, "b": 1}),
        ({"a": [1, 2, 3]}, {"op": "move", "from": "/a/0", "path": "/a/2"}, {"a": [2, 3, 1]}),
        ({"a": [1]}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": [1], "b": [1]}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": 10}, {"/": 9, "~1": 10}),
        ({"foo": "bar"}, {"op": "add", "path": "", "value": {"a": 1}}, {"a": 1}),
    ],
)
def test_what_the_rfc_says_of_json_patch(document: Json, patch: Json, expected: Json) -> None:
    assert json_patched(document, [patch]) == expected


@pytest.mark.parametrize(
    "patch",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "test", "path": "/t", "value": 1},
        {"op": "remove", "path": "/b"},
        {"op": "replace", "path": "/b", "value": 1},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/l/9", "value": 1},
        {"op": "add", "path": "/l/01", "value": 1},
        {"op": "move", "from": "/m", "path": "/m/x"},
        {"op": "add", "path": "/a"},
        {"op": "sing", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
    ],
)
def test_a_json_patch_that_does_not_fit_is_refused(patch: Json) -> None:
    with pytest.raises(PatchError, match="does not fit"):
        json_patched({"a": 1, "t": True, "l": [1], "m": {}}, [patch])


def test_a_json_patch_tells_of_what_was_never_seen() -> None:
    patch = [
        {"op": "test", "path": "/spec/replicas", "value": 3},
        {"op": "replace", "path": "/spec/paused", "value": True},
        {"op": "add", "path": "/spec/list/0", "value": 1},
    ]
    found = json_patched(Open(), patch)
    assert known(found) == {"spec": {"replicas": 3, "paused": True}}
    assert isinstance(found["spec"], Open)
    assert isinstance(found["spec"]["list"], Unknown)


# --- merge patch (RFC 7386) --------------------------------------------------------------------


def merging(before: Json, after: Json) -> Json:
    """A merge patch from one document to another."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    return {
        key: merging(before[key], after[key]) if key in before and key in after else after.get(key)
        for key in {**before, **after}
        if not (key in before and key in after and same(before[key], after[key]))
    }


@given(JSON.map(without_nulls), JSON.map(without_nulls))
def test_a_merge_patch_leads_from_one_document_to_the_other(before: Json, after: Json) -> None:
    assert same(merge_patched(before, merging(before, after)), after)


@given(JSON, JSON)
def test_a_merge_patch_twice_is_as_good_as_once(document: Json, patch: Json) -> None:
    once = merge_patched(document, patch)
    assert same(merge_patched(once, patch), once)


# The test cases of appendix A of the RFC.
@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_what_the_rfc_says_of_merge_patch(document: Json, patch: Json, expected: Json) -> None:
    assert merge_patched(document, patch) == expected


# --- strategic merge patch ---------------------------------------------------------------------

POD = {
    "metadata": {"finalizers": ["a", "b"], "labels": {"app": "web"}},
    "spec": {
        "containers": [
            {"name": "web", "image": "web:1", "env": [{"name": "A", "value": "1"}]},
            {"name": "log", "image": "log:1"},
        ],
        "tolerations": [{"key": "a"}],
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
    },
}


def test_lists_of_well_known_types_are_merged_by_their_key() -> None:
    patch = {"spec": {"containers": [{"name": "web", "env": [{"name": "B", "value": "2"}]}]}}
    found = strategic_patched(POD, patch)["spec"]["containers"]
    assert [one["name"] for one in found] == ["web", "log"]
    assert found[0]["image"] == "web:1"
    assert [one["name"] for one in found[0]["env"]] == ["A", "B"]


def test_lists_without_a_key_are_replaced() -> None:
    found = strategic_patched(POD, {"spec": {"tolerations": [{"key": "b"}]}})
    assert found["spec"]["tolerations"] == [{"key": "b"}]


def test_directives_delete_replace_and_retain() -> None:
    patch = {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"$patch": "delete"}},
        "spec": {
            "containers": [{"name": "web", "$patch": "delete"}, {"name": "new"}],
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
        },
    }
    found = strategic_patched(POD, patch)
    assert found["metadata"] == {"finalizers": ["b"]}
    assert [one["name"] for one in found["spec"]["containers"]] == ["log", "new"]
    assert found["spec"]["strategy"] == {"type": "Recreate"}
    replaced = strategic_patched(POD, {"spec": {"$patch": "replace", "replicas": 1}})
    assert replaced["spec"] == {"replicas": 1}
    emptied = {"spec": {"containers": [{"$patch": "replace"}, {"name": "only"}]}}
    assert strategic_patched(POD, emptied)["spec"]["containers"] == [{"name": "only"}]


def test_the_last_finalizer_takes_the_list_with_it() -> None:
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "b"]}}
    assert "finalizers" not in strategic_patched(POD, patch)["metadata"]


def test_finalizers_are_a_set() -> None:
    found = strategic_patched(POD, {"metadata": {"finalizers": ["b", "c"]}})
    assert found["metadata"]["finalizers"] == ["a", "b", "c"]


def test_the_order_of_elements_is_what_the_patch_says() -> None:
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "new"}, {"name": "web"}],
            "containers": [{"name": "new"}],
        }
    }
    found = strategic_patched(POD, patch)["spec"]["containers"]
    assert [one["name"] for one in found] == ["new", "web", "log"]


def test_ports_are_told_apart_by_what_they_stand_in() -> None:
    service = {"spec": {"ports": [{"port": 80, "targetPort": 1}, {"port": 443}]}}
    found = strategic_patched(service, {"spec": {"ports": [{"port": 80, "targetPort": 2}]}})
    assert found["spec"]["ports"] == [{"port": 80, "targetPort": 2}, {"port": 443}]


def test_what_a_patch_tells_of_a_pod_that_was_never_seen() -> None:
    patch = {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}
    found = strategic_patched(Open(), patch)
    assert isinstance(found["spec"]["containers"], OpenList)
    assert fits(
        found, {"spec": {"containers": [{"name": "log"}, {"name": "web", "image": "web:2"}]}}
    )
    assert not fits(found, {"spec": {"containers": [{"name": "web", "image": "web:1"}]}})


NAMES = st.sampled_from(["web", "log", "db"])
CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": NAMES}, optional={"image": NAMES, "args": st.lists(NAMES)}),
    unique_by=lambda one: str(one["name"]),
    max_size=3,
)
SPECS = st.fixed_dictionaries({}, optional={"containers": CONTAINERS, "nodeName": NAMES})


@given(SPECS, SPECS)
def test_a_strategic_merge_patch_twice_is_as_good_as_once(spec: Json, patch: Json) -> None:
    once = strategic_patched({"spec": spec}, {"spec": patch})
    assert strategic_patched(once, {"spec": patch}) == once


@given(SPECS, SPECS)
def test_a_patch_on_what_is_known_in_part_contradicts_nothing(spec: Json, patch: Json) -> None:
    whole = strategic_patched({"spec": spec}, {"spec": patch})
    assert fits(strategic_patched(Open(), {"spec": patch}), whole)


@given(
    JSON.filter(lambda value: isinstance(value, dict)), JSON.filter(lambda v: isinstance(v, dict))
)
def test_documents_are_not_changed_in_place(document: Json, patch: Json) -> None:
    before = repr(document)
    merge_patched(document, patch)
    strategic_patched(document, patch)
    applied(document, patch, "me", custom=False)
    assert repr(document) == before


def test_only_directives_make_a_patch_strategic() -> None:
    assert is_strategic({"spec": {"containers": [{"$patch": "delete"}]}})
    assert not is_strategic({"spec": {"containers": [{"name": "$patch"}]}})


# --- server-side apply -------------------------------------------------------------------------


def managed(manager: str, fields: Json, operation: str = "Apply") -> Json:
    return {"manager": manager, "operation": operation, "fieldsV1": fields}


LABELS: Json = {"f:metadata": {"f:labels": {"f:mine": {}, "f:shared": {}}}}


def test_what_a_manager_states_no_more_is_removed_unless_another_owns_it() -> None:
    base = {
        "metadata": {
            "labels": {"mine": "1", "shared": "1", "theirs": "1"},
            "managedFields": [
                managed("me", LABELS),
                managed("you", {"f:metadata": {"f:labels": {"f:shared": {}, "f:theirs": {}}}}),
            ],
        }
    }
    found = applied(base, {"metadata": {"labels": {"new": "2"}}}, "me", custom=False)
    assert found["metadata"]["labels"] == {"shared": "1", "theirs": "1", "new": "2"}


def test_elements_are_owned_by_their_keys() -> None:
    key = 'k:{"containerPort":80,"protocol":"TCP"}'
    fields: Json = {
        "f:spec": {"f:containers": {'k:{"name":"web"}': {"f:ports": {key: {}}, "f:args": {}}}}
    }
    base = {
        "metadata": {"managedFields": [managed("me", fields)]},
        "spec": {"containers": [{"name": "web", "args": ["a"], "ports": [{"containerPort": 80}]}]},
    }
    config = {"spec": {"containers": [{"name": "web", "ports": [{"containerPort": 81}]}]}}
    found = applied(base, config, "me", custom=False)["spec"]["containers"]
    assert found == [{"name": "web", "ports": [{"containerPort": 81}]}]


def test_lists_of_custom_resources_are_not_guessed() -> None:
    base = {"metadata": {}, "spec": {"rules": [{"name": "a"}]}}
    found = applied(base, {"spec": {"rules": [{"name": "b"}]}}, "me", custom=True)
    assert isinstance(found["spec"]["rules"], Unknown)


def test_an_atomic_map_is_replaced() -> None:
    base = {"metadata": {}, "spec": {"selector": {"a": "1"}}}
    found = applied(base, {"spec": {"selector": {"b": "2"}}}, "me", custom=False)
    assert found["spec"]["selector"] == {"b": "2"}
