"""Rehearsals: what is woven in is there, is plausible here, and is the only thing that is new."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Command
from evaluate_fixtures import TEST_FROM, episode, event, habits, small, write
from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.dataset import Episode, read_dataset
from kubewitness.evaluate.rehearsal.family import Family, families
from kubewitness.evaluate.rehearsal.habit import Habit
from kubewitness.evaluate.rehearsal.rehearsal import Rehearsed, rehearse
from kubewitness.evaluate.rehearsal.rights import Rights
from kubewitness.evaluate.rehearsal.survey import Survey
from kubewitness.evaluate.rehearsal.weaving import Log, weave
from kubewitness.events.formats.plain import is_plain
from kubewitness.times import moment

EXAMPLE = Path(__file__).parents[1] / "examples" / "audit.jsonl.zst"


def lines_of(folder: Path) -> list[bytes]:
    """Every line of the logs of a folder, in order."""
    found: list[bytes] = []
    for path in sorted(folder.glob("*.jsonl.zst")):
        with zstandard.open(path, "rb") as file:
            found += file.read().splitlines()
    return found


def by_audit_id(lines: list[bytes]) -> dict[str, list[dict[str, Any]]]:
    events: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        one = json.loads(line)
        events.setdefault(one["auditID"], []).append(one)
    return events


class Played:
    """The example log, with every family played once."""

    def __init__(self, folder: Path) -> None:
        self.rehearsed: Rehearsed = rehearse([EXAMPLE], folder, attacks=len(families()), seed=7)
        self.dataset = read_dataset(folder)
        self.lines = lines_of(folder)
        owned = {i: e for e in self.dataset.episodes for i in e.audit_ids}
        self.forged = [line for line in self.lines if json.loads(line)["auditID"] in owned]
        events = by_audit_id(self.forged)
        self.attacks: list[tuple[Episode, list[dict[str, Any]]]] = [
            (e, [one for i in e.audit_ids for one in events[i]]) for e in self.dataset.episodes
        ]

    def of(self, family: str) -> list[dict[str, Any]]:
        return next(events for e, events in self.attacks if e.family == family)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("rehearsal") / "example")


@cache
def example_lines() -> list[bytes]:
    with zstandard.open(EXAMPLE, "rb") as file:
        return list(file.read().splitlines())


def test_every_family_is_played(played: Played) -> None:
    assert Counter(e.family for e in played.dataset.episodes) == Counter(
        family.name for family in families()
    )
    assert len(families()) >= 60


def test_every_request_of_the_truth_is_in_the_log(played: Played) -> None:
    for attack, events in played.attacks:
        assert attack.audit_ids
        assert {one["auditID"] for one in events} == set(attack.audit_ids)
        assert {one["user"].get("username", "<unauthenticated>") for one in events} == set(
            attack.actors
        )
        times = [one["requestReceivedTimestamp"] for one in events]
        assert attack.start == datetime.fromisoformat(min(times))
        assert attack.end == datetime.fromisoformat(max(times))
        assert played.rehearsed.since <= attack.start


def test_what_was_there_is_untouched_and_in_order(played: Played) -> None:
    forged = set(played.forged)
    assert [line for line in played.lines if line not in forged] == example_lines()
    assert played.rehearsed.lines == len(example_lines()) + len(played.forged)


def test_what_is_new_is_as_the_api_server_writes_it(played: Played) -> None:
    assert all(is_plain(line) for line in played.forged)
    log = Log(played.dataset.files)
    assert sum(1 for _ in log.lines()) == len(played.lines)
    assert (log.tally.rejected, log.tally.warnings) == (0, ())


def test_what_is_new_stands_where_its_time_is(played: Played) -> None:
    forged = set(played.forged)
    last = ""
    for line in played.lines:
        at = json.loads(line)["stageTimestamp"]
        if line in forged:
            assert last <= at
        else:
            last = max(last, at) if last else at


def test_answers_fit(played: Played) -> None:
    for _, events in played.attacks:
        for one in events:
            code = one["responseStatus"]["code"]
            decision = one.get("annotations", {}).get("authorization.k8s.io/decision")
            assert decision == {401: None, 403: "forbid"}.get(code, "allow")
            if code == 401:
                assert one["user"] == {}
            if code == 403:
                assert one["user"]["username"] in one["responseStatus"]["message"]
                assert "responseObject" not in one


def test_reasons_name_whom_they_allow(played: Played) -> None:
    for _, events in played.attacks:
        for one in events:
            reason = one.get("annotations", {}).get("authorization.k8s.io/reason", "")
            subject, _, name = reason.rpartition(" to ")[2].partition(" ")
            user = one["user"].get("username")
            if subject == "User":
                assert name == f'"{user}"'
            elif subject == "ServiceAccount":
                account, _, namespace = name.strip('"').partition("/")
                assert user == f"system:serviceaccount:{namespace}:{account}"
            elif subject == "Group":
                assert name.strip('"') in one["user"]["groups"]


def test_credentials_are_never_in_a_body(played: Played) -> None:
    secretive = [
        one
        for _, events in played.attacks
        for one in events
        if one.get("objectRef", {}).get("resource") == "secrets"
        or one.get("objectRef", {}).get("subresource") == "token"
    ]
    assert secretive
    assert all("requestObject" not in one and "responseObject" not in one for one in secretive)


def test_a_uri_says_what_the_object_says(played: Played) -> None:
    for _, events in played.attacks:
        for one in events:
            ref = one.get("objectRef")
            path = one["requestURI"].partition("?")[0]
            if ref is None:
                assert path.count("/") == 1
                continue
            kind = "/".join(
                filter(
                    None, ["", "namespaces" if ref.get("namespace") else "", ref.get("namespace")]
                )
            )
            assert path.startswith("/apis/" + ref["apiGroup"] if "apiGroup" in ref else "/api/v1/")
            assert kind in path
            assert f"/{ref['resource']}" in path


def test_who_comes_from_outside_comes_through_the_same_proxy(played: Played) -> None:
    outside = [
        one
        for attack, events in played.attacks
        for one in events
        if attack.family in {"token_spray", "account_token_outside"}
    ]
    assert outside
    assert all(one["sourceIPs"][1:] == ["127.0.0.1"] for one in outside)


def test_a_minted_token_is_the_one_that_is_used(played: Played) -> None:
    events = played.of("token_minted_for_privileged")
    issued = [
        one["annotations"]["authentication.kubernetes.io/issued-credential-id"]
        for one in events
        if one["objectRef"].get("subresource") == "token"
    ]
    used = {
        credential
        for one in events
        if one["user"]["username"].startswith("system:serviceaccount:")
        for credential in one["user"]["extra"]["authentication.kubernetes.io/credential-id"]
    }
    assert issued
    assert used == set(issued[-1:])


def test_interactive_requests_have_both_stages(played: Played) -> None:
    stages = Counter(
        one["stage"]
        for one in played.of("files_copied_out")
        if one["objectRef"].get("subresource") == "exec"
    )
    assert stages["ResponseStarted"] == stages["ResponseComplete"] > 0


def test_impersonation_keeps_the_real_caller(played: Played) -> None:
    for one in played.of("impersonation_of_masters"):
        assert "system:masters" in one["impersonatedUser"]["groups"]
        assert "system:masters" not in one["user"]["groups"]


def test_what_is_written_bears_the_danger(played: Played) -> None:
    (pod,) = [
        one
        for one in played.of("privileged_pod")
        if one["verb"] == "create" and one["objectRef"]["resource"] == "pods"
        and "subresource" not in one["objectRef"]
    ]  # fmt: skip
    assert '"privileged": true' in json.dumps(pod["requestObject"])
    assert pod["responseObject"]["metadata"]["name"] == pod["objectRef"]["name"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "log", "audit.jsonl", habits(9))
    for name, seed in (("one/set", 3), ("two/set", 3), ("three/set", 4)):
        rehearse([tmp_path / "log"], tmp_path / name, seed=seed, attacks=30)
    assert contents(tmp_path / "one/set") == contents(tmp_path / "two/set")
    assert contents(tmp_path / "one/set") != contents(tmp_path / "three/set")


def test_labelled_attacks_go_and_everything_else_stays(tmp_path: Path) -> None:
    source = small(tmp_path / "small")
    change = episode(episode_id="change", label="benign_change", audit_ids=["ada-9"], note="kept")
    write(source, "truth.jsonl", [episode(), change])
    done = rehearse([source], tmp_path / "out", attacks=3)
    assert (done.since, done.removed, done.kept) == (TEST_FROM, 1, 1)
    truth = [json.loads(line) for line in (tmp_path / "out/truth.jsonl").read_text().splitlines()]
    assert [one["label"] for one in truth] == ["attack"] * 3 + ["benign_change"]
    assert truth[-1] == change
    ids = by_audit_id(lines_of(tmp_path / "out"))
    assert not any(name.startswith("theft") for name in ids)
    assert {row["auditID"] for row in habits(9)} <= ids.keys()


def test_a_poisoned_history_holds_every_attack_once(tmp_path: Path) -> None:
    write(tmp_path / "log", "audit.jsonl", habits(9))
    done = rehearse([tmp_path / "log"], tmp_path / "out", attacks=5, poison=True)
    known = {row["auditID"] for row in habits(9)}
    labelled = {i for e in read_dataset(tmp_path / "out").episodes for i in e.audit_ids}
    first: Counter[tuple[str, ...]] = Counter()
    again: Counter[tuple[str, ...]] = Counter()
    for audit_id, (one, *_) in by_audit_id(lines_of(tmp_path / "out")).items():
        deed = (one["verb"], one["user"].get("username", ""), one["requestURI"].partition("?")[0])
        at = datetime.fromisoformat(one["requestReceivedTimestamp"])
        if audit_id in labelled:
            first[deed] += 1
            assert at >= done.since
        elif audit_id not in known:
            again[deed] += 1
            assert at < done.since
    assert first == again


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "log", "audit.jsonl", habits(3))
    spray = [family for family in families() if family.name == "token_spray"]
    done = rehearse(
        [tmp_path / "log"], tmp_path / "out", attacks=2, only=spray, since=moment("12h")
    )
    assert done.families == ("token_spray", "token_spray")
    assert done.since == datetime(2026, 3, 4, 11, 2, tzinfo=UTC)


def test_broken_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "log", "audit.jsonl", habits(3))
    with (tmp_path / "log/audit.jsonl").open("a") as file:
        file.write('{"kind": "Event", \nno event\n')
    done = rehearse([tmp_path / "log"], tmp_path / "out", attacks=2)
    assert done.tally.rejected == 2
    assert all(is_plain(line) for line in lines_of(tmp_path / "out"))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "log", "audit.jsonl", habits(1))
    with pytest.raises(KubewitnessError, match="not empty"):
        rehearse([tmp_path / "log"], tmp_path / "log")
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["audit.jsonl"]


def test_a_time_outside_the_log(tmp_path: Path) -> None:
    write(tmp_path / "log", "audit.jsonl", habits(1))
    with pytest.raises(KubewitnessError, match="nothing before or nothing after"):
        rehearse([tmp_path / "log"], tmp_path / "out", since=moment("2027-01-01"))
    assert not (tmp_path / "out").exists()


def test_the_command_makes_what_evaluate_reads(kubewitness: Command, tmp_path: Path) -> None:
    write(tmp_path / "log", "audit.jsonl", habits(9))
    out = tmp_path / "out"
    ran = kubewitness("rehearse", tmp_path / "log", "--out", out, "--attacks", "4", "--seed", "2")
    assert ran.code == 0, ran.talk
    assert sum(int(line.split()[0]) for line in ran.text.splitlines()) == 4
    assert "4 attacks from 2026-03-07" in ran.talk
    judged = kubewitness("evaluate", out, "--no-baselines", "-o", "json")
    assert judged.code == 0, judged.talk
    assert '"attacks": 4' in judged.text


def test_standard_input_is_refused(kubewitness: Command, tmp_path: Path) -> None:
    ran = kubewitness("rehearse", "-", "--out", tmp_path / "out")
    assert (ran.code, "read twice" in ran.talk) == (2, True)


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_a_family_is_well_written(family: Family) -> None:
    assert "actor" in family.cast
    assert family.mitre
    for step in family.steps:
        assert step.as_ in family.cast
        assert step.in_ != "account" or "account" in family.cast
        assert step.times[0] <= step.times[1]
        assert step.resource or step.path


def test_the_documentation_counts_the_families() -> None:
    text = (EXAMPLE.parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert f"{len(families())} of them" in text


# What is told by the reasons of the authorizer.

REASON = 'RBAC: allowed by ClusterRoleBinding "{}" of ClusterRole "{}" to Group "{}"'
GET, DELETE = ("get", "secrets", ""), ("delete", "secrets", "")


def test_who_has_a_role_may_do_what_others_did_with_it() -> None:
    rights = Rights()
    rights.learn(GET, REASON.format("readers", "reader", "dev"))
    rights.learn(DELETE, REASON.format("cleaners", "reader", "ops"))
    assert [grant.reason for grant in rights.grants("ada", ["dev"], DELETE)] == [
        REASON.format("readers", "reader", "dev")
    ]
    assert rights.grants("ada", [], DELETE) == []


def test_a_role_binding_holds_in_its_namespace() -> None:
    rights = Rights()
    rights.learn(
        GET,
        'allowed by RoleBinding "edit/shop" of ClusterRole "edit" to ServiceAccount "api/shop"',
    )
    (grant,) = rights.grants("system:serviceaccount:shop:api", [], GET)
    assert grant.namespace == "shop"


def test_a_dormant_grant_names_its_holder() -> None:
    rights = Rights()
    assert rights.dormant("ada", {GET}) is None
    rights.learn(GET, REASON.format("admins", "cluster-admin", "ops"))
    grant = rights.dormant("system:serviceaccount:shop:api", {DELETE})
    assert grant is not None
    assert grant.reason.endswith('of ClusterRole "cluster-admin" to ServiceAccount "api/shop"')


# What a survey keeps is bounded.


def test_sightings_are_few_and_span_the_whole_time() -> None:
    habit = Habit("ada", "human")
    start = datetime(2026, 3, 2, tzinfo=UTC)
    for minute in range(20_000):
        habit.saw(start + timedelta(minutes=minute), b"{}", ("10.0.0.1",), "kubectl/v1")
    assert 16 <= len(habit.sightings) <= 64
    assert habit.sightings[0].at - start < timedelta(days=1)
    assert start + timedelta(minutes=20_000) - habit.sightings[-1].at < timedelta(days=1)
    assert habit.events == 20_000


def test_a_survey_of_many_names_stays_small() -> None:
    survey = Survey(random.Random(0))
    for n in range(2000):
        row = event(f"e{n}", TEST_FROM + timedelta(seconds=n), "ada", "get", "pods", name=f"p{n}")
        survey.see(json.dumps(row).encode())
    names = survey.names("pods", "shop")
    assert len(names) == 200
    assert "p1999" in names
    assert "p0" not in names


def stamped(seconds: int, n: int) -> bytes:
    at = (TEST_FROM + timedelta(seconds=seconds)).isoformat()
    return json.dumps({"auditID": f"a{n}", "stageTimestamp": at}).encode()


@settings(max_examples=40)
@given(
    there=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 50)), max_size=30),
    new=st.lists(st.integers(-5, 60), max_size=10),
)
def test_weaving_loses_and_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, there: list[tuple[str, int]], new: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("woven")
    old = [(source, stamped(at, n)) for n, (source, at) in enumerate(sorted(there))]
    events = [
        (TEST_FROM + timedelta(seconds=at), stamped(at, 1000 + n))
        for n, at in enumerate(sorted(new))
    ]

    def lines() -> Iterator[tuple[str, bytes]]:
        yield from old

    assert weave(lines(), events, folder) == len(old) + len(events)
    written = lines_of(folder)
    added = {line for _, line in events}
    assert [line for line in written if line not in added] == [line for _, line in old]
    assert [line for line in written if line in added] == [line for _, line in events]
