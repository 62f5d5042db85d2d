"""Who touched an object, was that usual, and who could have."""

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
from kubewitness.forensics.rbac.answer import Who
from kubewitness.forensics.rbac.who import who
from kubewitness.report.terminal.who import sentence
from kubewitness.times import moment
from rbac_log import API, API_READS, DAY, KEEPER, READER, READERS, binding, permitted, week, wrote

Ask = Callable[..., Who]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """The answer about secrets/db of shop, of a log of these events."""

    def answer(events: Iterable[Event], text: str = "secret/db", **options: Any) -> Who:
        log = write(tmp_path / "audit.log", events)
        until = options.pop("until", None)
        return inquiry.ask(
            [log],
            lambda connection: who(connection, text, **{"namespace": "shop", **options}),
            until=until,
            bodies=True,
        )[0]

    return answer


def could(answer: Who) -> dict[str, tuple[str, ...]]:
    return {one.subject: one.may for one in answer.able if not one.machinery}


def test_everybody_who_touched_it_and_nobody_else(ask: Ask) -> None:
    answer = ask(week())
    assert answer.unit == "day"
    found = {(one.principal, one.acting_as): one for one in answer.touched}
    assert set(found) == {
        ("ada", ""), (API, ""), ("kim", ""), ("mallory", ""), ("eve", "ada"),
    }  # fmt: skip
    ada, api, kim = found["ada", ""], found[API, ""], found["kim", ""]
    assert (ada.requests, ada.actions, ada.habit) == (7, {"get secrets": 7}, "usual")
    assert api.actions == {"list secrets in shop": 7}
    assert api.clients == {"api": 7}
    assert api.bindings == ("RoleBinding shop/api → ClusterRole reader",)
    assert (ada.first, ada.last) == (
        START + timedelta(hours=1),
        START + 6 * DAY + timedelta(hours=1),
    )
    assert kim.source_ips == {"203.0.113.9": 1}
    assert kim.bindings == ("ClusterRoleBinding keeper → ClusterRole cluster-admin",)
    assert found["mallory", ""].refused == found["mallory", ""].requests == 1


def test_whether_it_is_usual_is_told_by_itself_its_team_and_others(ask: Ask) -> None:
    day = timedelta(days=1)
    events = [
        event(START + n * day, who, "get", "secrets", name="db", groups=(team,))
        for n in range(6)
        for who, team in (("ada", "dev"),)
    ]
    last = START + 6 * day
    events += [
        event(last, who, "get", "secrets", name="db", groups=(team,))
        for who, team in (("ada", "dev"), ("bob", "dev"), ("kim", "ops"))
    ]
    for since in (moment("1d"), None):
        answer = ask(events, since=since)
        habits = {one.principal: one.habit for one in answer.touched}
        assert habits == {"ada": "usual", "bob": "team", "kim": "new"}
    only = ask([event(START, "ada", "get", "secrets", name="db"), event(last, "x")])
    assert [one.habit for one in only.touched] == ["first"]


def test_since_tells_of_what_came_after_and_learns_from_what_was_before(ask: Ask) -> None:
    answer = ask(week(), since=moment("1d"))
    ada = next(one for one in answer.touched if (one.principal, one.acting_as) == ("ada", ""))
    assert ada.requests == 1
    assert (ada.days_self, ada.days_team, ada.days_anyone) == (5, 5, 5)


def test_of_watches_and_execs_start_and_end_are_one(ask: Ask) -> None:
    stages = [
        event(START, "ada", "watch", "secrets", name="", stage=stage, auditID="a")
        for stage in ("RequestReceived", "ResponseStarted", "ResponseComplete")
    ]
    named = event(START, "kim", "get", "secrets", name="db")
    (ada, _) = sorted(ask([*stages, named]).touched, key=lambda one: one.principal)
    assert ada.actions == {"list secrets in shop": 1}


def test_who_could_have_by_bindings_seen_in_bodies(ask: Ask) -> None:
    answer = ask(week())
    assert could(answer) == {
        "Group dev": ("read",),
        "ServiceAccount shop/api": ("read",),
        "User kim": ("read", "change", "delete", "mount"),
        "Group system:masters": ("read", "change", "delete", "mount"),
    }
    dev = next(one for one in answer.able if one.subject == "Group dev")
    # eve acted as ada, so that ada's right was used
    assert (dev.members, dev.touched) == (("ada", "bob", "zoe"), ("ada",))
    assert (answer.knowledge.bindings, answer.knowledge.used) == (3, 3)
    assert "2 of them where neither they nor their team usually do" in sentence(answer)


def test_taken_away_rights_are_gone_and_dry_runs_change_nothing(ask: Ask) -> None:
    later = START + 6 * DAY + timedelta(hours=3)
    gone = wrote(KEEPER, later, "delete", responseObject=None, requestObject=None)
    dry = wrote({**READERS, "subjects": []}, later, "update", query="dryRun=All")
    by_body = wrote(KEEPER, later, "delete", "Request", requestObject={"dryRun": ["All"]})
    assert "User kim" not in could(ask([*week(), gone]))
    assert "User kim" in could(ask([*week(), by_body]))
    assert "Group dev" in could(ask([*week(), dry]))
    emptied = wrote({**READERS, "subjects": []}, later, "update")
    assert "Group dev" not in could(ask([*week(), emptied]))
    assert "User kim" in could(ask([*week(), gone], until=moment("2h")))


def test_deleting_all_bindings_of_a_namespace_takes_them_all(ask: Ask) -> None:
    later = START + 6 * DAY + timedelta(hours=3)
    every = event(later, "root", "deletecollection", "rolebindings", name="",
                  group="rbac.authorization.k8s.io")  # fmt: skip
    assert not {"Group dev", "ServiceAccount shop/api"} & could(ask([*week(), every])).keys()
    some = event(later, "root", "deletecollection", "rolebindings", name="",
                 group="rbac.authorization.k8s.io", query="labelSelector=a%3Db")  # fmt: skip
    assert "Group dev" in could(ask([*week(), some]))


def test_a_write_without_a_body_makes_known_only_that_it_changed(ask: Ask) -> None:
    later = START + 6 * DAY + timedelta(hours=3)
    answer = ask([*week(), wrote(READERS, later, "patch", "Metadata")])
    assert answer.knowledge.changed == ("RoleBinding shop/readers",)


def test_reasons_tell_of_bindings_at_every_level(ask: Ask) -> None:
    answer = ask(one for one in week() if one["level"] == "Metadata")
    # what "reader" permits nobody has said; cluster-admin is a default
    assert could(answer).keys() == {"User kim", "Group system:masters"}
    assert answer.knowledge.only_used == answer.knowledge.bindings == 3
    assert answer.knowledge.unknown_roles == ("ClusterRole reader",)


def test_lists_of_bindings_tell_of_them_too(ask: Ask) -> None:
    listed = event(
        START, "root", "list", "clusterrolebindings", name="", namespace="",
        group="rbac.authorization.k8s.io", level="RequestResponse",
        responseObject={"kind": "ClusterRoleBindingList", "items": [
            {key: value for key, value in KEEPER.items() if key != "kind"}, "nonsense"]},
    )  # fmt: skip
    answer = ask([listed, event(START + DAY, "zoe", "get", "secrets", name="db")])
    assert "User kim" in could(answer)


@pytest.mark.parametrize(
    "dump", [json.dumps, yaml.safe_dump, lambda one: yaml.safe_dump_all(one["items"])]
)
def test_a_snapshot_is_believed_before_the_log(
    ask: Ask, tmp_path: Path, dump: Callable[[Any], str]
) -> None:
    items = [READER, binding("only", "reader", ("User", "zoe"), namespace="shop")]
    file = tmp_path / "rbac"
    file.write_text(dump({"kind": "List", "items": items}))
    answer = ask(week(), snapshot=file)
    found = could(answer)
    assert found["User zoe"] == ("read",)
    assert "ServiceAccount shop/api" not in found
    assert answer.knowledge.source == "snapshot"
    assert "3 bindings allowed requests in the log and are not in the snapshot" in str(
        answer.knowledge.notes
    )


@pytest.mark.parametrize("content", ["", "[", "kind: List\nitems: []", "a: b: c", "\x00", "{}"])
def test_a_file_that_is_no_snapshot_is_refused(ask: Ask, tmp_path: Path, content: str) -> None:
    file = tmp_path / "rbac"
    file.write_text(content)
    with pytest.raises(KubewitnessError, match="bindings"):
        ask(week(), snapshot=file)


@pytest.mark.parametrize(
    ("text", "namespace", "what", "remedy"),
    [
        ("secret", None, "names no object", "KIND/NAME"),
        ("secret/dbb", "shop", "no secrets/dbb in namespace shop", "db -n shop"),
        ("secret/db", "bank", "no secrets/db in namespace bank", "secrets/db -n shop"),
        ("pod/web", "nowhere", "nowhere", "-n shop"),
        ("secret/d'b\udcff", "shop", "no secrets/d'b", "db -n shop"),
        ("roof/db", None, "no kind 'roof'", "only Kubernetes' own"),
    ],
)
def test_an_unknown_object_is_told_with_what_was_perhaps_meant(
    ask: Ask, text: str, namespace: str | None, what: str, remedy: str
) -> None:
    with pytest.raises(KubewitnessError) as error:
        ask(week(), text, namespace=namespace)
    assert what in error.value.what
    assert remedy in error.value.remedy


def test_a_name_in_several_namespaces_is_ambiguous(ask: Ask) -> None:
    two = [event(START, "ada", "get", "secrets", name="db", namespace=n) for n in ("shop", "bank")]
    with pytest.raises(KubewitnessError, match="2 namespaces have secrets/db") as error:
        ask(two, namespace=None)
    assert "-n: bank, shop" in error.value.remedy
    assert ask(two[:1], namespace=None).namespace == "shop"


def test_logs_of_several_clusters_are_not_mixed(ask: Ask, tmp_path: Path) -> None:
    log = write(tmp_path / "a.log", week())
    lake = tmp_path / "lake"
    for cluster in ("east", "west"):
        inquiry.ask([log], lambda connection: None, lake=lake, cluster=cluster)

    def ask_both(cluster: str | None) -> Who:
        return inquiry.ask(
            [],
            lambda connection: who(connection, "secret/db", namespace="shop"),
            lake=lake,
            cluster=cluster,
        )[0]

    with pytest.raises(KubewitnessError) as error:
        ask_both(None)
    assert "east, west" in error.value.remedy
    assert ask_both("east").cluster == "east"


def test_ways_to_a_pod_and_a_service_account(ask: Ask) -> None:
    enter = permitted("x/shop", "enter", "User ada", START, "ada", "create", "pods",
                      name="web", subresource="exec")  # fmt: skip
    events = [
        enter,
        wrote({"kind": "ClusterRole", "metadata": {"name": "enter"}, "rules": [
            {"verbs": ["create"], "apiGroups": [""],
             "resources": ["pods/exec", "serviceaccounts/token"]}]}),
        wrote(binding("x", "enter", ("User", "ada"), namespace="shop")),
        event(START, "kim", "get", "serviceaccounts", name="api"),
    ]  # fmt: skip
    assert could(ask(events, "po/web"))["User ada"] == ("enter",)
    assert could(ask(events, "sa/api"))["User ada"] == ("mint tokens",)


HOSTILE = "\x1b[2Jeve'); DROP\u202e<script>"


def test_the_command_line(kubewitness: Command, tmp_path: Path) -> None:
    log = write(
        tmp_path / "audit.log",
        [*week(), event(START, HOSTILE, "get", "secrets", name="db", client=f"{HOSTILE}/1")],
    )
    asking = ("who", "secret/db", log, "-n", "shop")
    report = kubewitness(*asking)
    assert report.code == 0, report.talk
    assert "Who could have" in report.text
    assert "\x1b[2J" not in report.text
    assert "\u202e" not in report.text
    table = kubewitness(*asking, "-o", "table")
    assert table.text.startswith("PRINCIPAL")
    assert "\x1b" not in table.text
    assert "\nCOULD" in table.text
    for loads, form in ((json.loads, "json"), (yaml.safe_load, "yaml")):
        found = loads(kubewitness(*asking, "-o", form).text)
        assert (found["kind"], found["name"]) == ("Who", "db")
        assert HOSTILE in [one["principal"] for one in found["touched"]]
    assert kubewitness("who", "secret/nix", log).code == 1
    assert kubewitness("who", "secret/db").code == 2


def test_a_role_that_was_bound_by_name_only_is_known_where_its_body_is(ask: Ask) -> None:
    only = [one for one in week() if one.get("responseObject") != API_READS]
    api = next(one for one in ask(only).able if one.subject == "ServiceAccount shop/api")
    assert (api.may, api.sources) == (("read",), ("reason",))
