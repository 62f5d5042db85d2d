"""Misconfigurations of clusters that are watched: in the state, and as they are listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from conftest import Command
from kubewitness.incidents.model import Misconfiguration
from kubewitness.state.database import State, state_at
from report_fixtures import BIDI, ESCAPE, HOSTILE, lost_binding, spent_quota
from state_fixtures import NOW, Clock

HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(place: Path | str, clock: Clock) -> Iterator[State]:
    with State(place, clock=clock) as opened:
        yield opened


def changed(one: Misconfiguration, **fields: Any) -> Misconfiguration:
    return msgspec.structs.replace(one, **fields)


def test_it_is_known_since_when_it_is_there_and_when_it_is_gone(state: State, clock: Clock) -> None:
    lost, spent = lost_binding(), spent_quota()
    state.keep_misconfigurations("prod", [lost, spent])
    clock.now += HOUR
    grown = changed(lost, n=lost.n + 7)
    state.keep_misconfigurations("prod", [grown])
    (still,) = state.misconfigurations()
    assert still.misconfiguration == grown
    assert (still.first_seen, still.last_seen, still.gone_at) == (NOW, NOW + HOUR, None)
    _, gone = state.misconfigurations(gone=True)
    assert gone.misconfiguration == spent
    assert (gone.first_seen, gone.last_seen, gone.gone_at) == (NOW, NOW, NOW + HOUR)

    clock.now += HOUR
    state.keep_misconfigurations("prod", [lost, spent])
    assert {one.gone_at for one in state.misconfigurations(gone=True)} == {None}
    assert {one.first_seen for one in state.misconfigurations()} == {NOW}


def test_it_stays_the_same_when_its_beginning_is_too_old_to_be_judged(
    state: State, clock: Clock
) -> None:
    """The history that is judged moves on, and so does the first refusal in it."""
    lost = lost_binding()
    for days in range(5):
        clock.now = NOW + timedelta(days=days)
        begun = lost.first + timedelta(days=days)
        later = changed(lost, id=f"from-{days}", first=begun, last=begun + timedelta(days=3), n=100)
        state.keep_misconfigurations("prod", [later])
    (only,) = state.misconfigurations(gone=True)
    assert (only.misconfiguration.id, only.misconfiguration.first) == ("from-0", lost.first)
    assert only.first_seen == NOW


@pytest.mark.parametrize(
    "other",
    [
        {"client": "another tool"},
        {"failure": "missing"},
        {"first": lost_binding().last + HOUR, "last": lost_binding().last + 2 * HOUR},
    ],
)
def test_another_loop_is_another_finding(state: State, other: dict[str, Any]) -> None:
    state.keep_misconfigurations("prod", [lost_binding()])
    state.keep_misconfigurations("prod", [changed(lost_binding(), id="other", **other)])
    found = {one.misconfiguration.id: one.gone_at for one in state.misconfigurations(gone=True)}
    assert found[lost_binding().id] is not None
    assert found["other"] is None


def test_one_is_not_taken_for_two(state: State) -> None:
    """Two loops alike are told apart, and of one that was known only one is the continuation."""
    lost = lost_binding()
    state.keep_misconfigurations("prod", [lost])
    twins = [changed(lost, id="left"), changed(lost, id="right")]
    state.keep_misconfigurations("prod", twins)
    assert {one.misconfiguration.id for one in state.misconfigurations(gone=True)} == {
        lost.id,
        "right",
    }


def test_clusters_are_kept_apart(state: State) -> None:
    state.keep_misconfigurations("prod", [lost_binding()])
    state.keep_misconfigurations("test", [])
    assert len(state.misconfigurations("prod")) == 1
    assert state.misconfigurations("test") == []


def test_what_was_broken_long_ago_is_forgotten(state: State, clock: Clock) -> None:
    state.keep_misconfigurations("prod", [lost_binding(), spent_quota()])
    clock.now += HOUR
    state.keep_misconfigurations("prod", [spent_quota()])
    assert state.forget(HOUR / 2) == 1
    assert [one.misconfiguration.id for one in state.misconfigurations(gone=True)] == [
        spent_quota().id
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    mended = changed(lost_binding(), id="mended", mended=NOW, title="Something was repaired")
    with state_at(tmp_path) as state:
        state.keep_misconfigurations("prod", [lost_binding(), spent_quota(), mended])
        state.keep_misconfigurations("prod", [lost_binding(), mended])
    return tmp_path


def test_they_are_listed_with_the_fix(kubewitness: Command, data: Path) -> None:
    done = kubewitness("misconfigurations", "--data", data)
    assert (done.code, done.talk) == (0, "")
    words = " ".join(done.text.split())
    for sentence in (lost_binding().title, lost_binding().fix[0], "Something was repaired"):
        assert sentence in words
    assert lost_binding().manifest.splitlines()[0] in done.text
    assert spent_quota().title not in words
    assert spent_quota().title in " ".join(
        kubewitness("misconfigurations", "--data", data, "--all").text.split()
    )


def test_they_are_a_table_and_data(kubewitness: Command, data: Path) -> None:
    def out(*options: str) -> str:
        return kubewitness("misconfigurations", "--data", data, "--all", *options).text

    head, *lines = out("-o", "table").splitlines()
    assert head.split() == ["ID", "CLUSTER", "STATUS", "FAILURE", "REFUSED", "AGE", "TITLE"]
    assert [line.split()[2] for line in lines] == ["broken", "mended", "gone"]
    document = json.loads(out("-o", "json"))
    assert document["kind"] == "MisconfigurationList"
    assert document == yaml.safe_load(out("-o", "yaml"))
    assert [json.loads(line) for line in out("-o", "jsonl").splitlines()] == document["items"]
    broken, _, gone = document["items"]
    assert broken["manifest"] == lost_binding().manifest
    assert broken["gone_at"] is None
    assert gone["gone_at"] >= gone["last_seen"] >= gone["first_seen"]


def test_nothing_broken_is_said(kubewitness: Command, data: Path) -> None:
    done = kubewitness("misconfigurations", "--data", data, "--cluster", "elsewhere")
    assert (done.code, done.text, done.talk) == (0, "", "No misconfigurations found.\n")


def test_a_hostile_one_is_listed_harmlessly(kubewitness: Command, tmp_path: Path) -> None:
    name = "".join(HOSTILE)
    nasty = changed(
        lost_binding(), id=name, cluster=name, title=name, principal=name, sentences=(name,),
        fix=(name,), manifest=name, caution=name, message=name,
    )  # fmt: skip
    with state_at(tmp_path) as state:
        state.keep_misconfigurations("prod", [nasty])
    for form in ("report", "table", "json", "yaml", "jsonl"):
        done = kubewitness("misconfigurations", "--data", tmp_path, "--all", "-o", form)
        assert done.code == 0
        assert done.text
        assert ESCAPE not in done.text
        assert BIDI not in done.text
