"""``kubewitness incidents``, and ``kubewitness incident`` of a service."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Command
from kubewitness.state.database import State, state_at
from report_fixtures import BIDI, ESCAPE, hostile
from state_fixtures import incident


@pytest.fixture
def service(place: Path | str) -> tuple[str | Path, ...]:
    """How the command line says which service is meant, one with three incidents."""
    now = datetime.now(UTC)
    with State(place) as state:
        fresh = incident("fresh", updated_at=now, opened_at=now - timedelta(minutes=5))
        state.keep("prod", [incident("old"), fresh], [])
        quiet: dict[str, Any] = {"cluster": "test", "alert": False, "score": 99.0}
        state.keep("test", [incident("quiet", **quiet)], [])
    return ("--data", place.parent) if isinstance(place, Path) else ("--state", place)


def test_incidents_of_a_service_are_listed(
    kubewitness: Command, service: tuple[str | Path, ...]
) -> None:
    done = kubewitness("incidents", *service)
    assert (done.code, done.talk) == (0, "")
    head, *lines = done.text.splitlines()
    assert head.split()[:2] == ["ID", "SEVERITY"]
    assert [line.split()[0] for line in lines] == ["fresh", "old", "quiet"]
    assert "5m" in lines[0].split()
    bare = kubewitness("incidents", *service, "--no-headers").text.splitlines()
    assert [line.split()[0] for line in bare] == ["fresh", "old", "quiet"]


def test_incidents_are_chosen_by_cluster_and_time(
    kubewitness: Command, service: tuple[str | Path, ...]
) -> None:
    def names(*args: str) -> list[str]:
        return kubewitness("incidents", *service, *args, "-o", "name").text.split()

    assert names() == ["incident/fresh", "incident/old", "incident/quiet"]
    assert names("--cluster", "test") == ["incident/quiet"]
    assert names("--since", "2h") == ["incident/fresh"]
    done = kubewitness("incidents", *service, "--cluster", "elsewhere")
    assert (done.code, done.text, done.talk) == (0, "", "No incidents found.\n")


def test_what_became_part_of_another_is_listed_if_asked_for(
    kubewitness: Command, tmp_path: Path
) -> None:
    whole = incident("whole", principals=("ada", "eve"))
    gap = incident("gap", ended_at=incident().updated_at, evidence=(), score=1.0)
    with state_at(tmp_path) as state:
        state.keep("prod", [incident("part"), whole, gap], [])
        state.merge("prod", [whole])
    names = kubewitness("incidents", "--data", tmp_path, "-o", "name").text.split()
    assert names == ["incident/whole", "incident/gap"]
    assert "(over) " in kubewitness("incidents", "--data", tmp_path).text
    everything = kubewitness("incidents", "--data", tmp_path, "--all").text.splitlines()
    assert [line.split()[0] for line in everything[1:]] == ["part", "whole", "gap"]
    assert "(part of whole) " in everything[1]
    detail = kubewitness("incident", "part", "--data", tmp_path).text
    assert "part of" in detail
    assert "whole" in detail


def test_incidents_are_data_for_programs(
    kubewitness: Command, service: tuple[str | Path, ...]
) -> None:
    document = json.loads(kubewitness("incidents", *service, "-o", "json").text)
    assert document["kind"] == "IncidentList"
    lines = kubewitness("incidents", *service, "-o", "jsonl").text.splitlines()
    assert [json.loads(line) for line in lines] == document["items"]


def test_one_incident_of_a_service_is_told_in_full(
    kubewitness: Command, service: tuple[str | Path, ...]
) -> None:
    done = kubewitness("incident", "incident/fre", *service)
    assert done.code == 0
    assert incident().title in " ".join(done.text.split())
    (line,) = kubewitness("incident", "quiet", *service, "-o", "jsonl").text.splitlines()
    assert json.loads(line)["cluster"] == "test"
    missing = kubewitness("incident", "x", *service)
    assert missing.code == 1
    assert "there are: fresh, old, quiet" in missing.talk


def test_a_hostile_incident_is_listed_harmlessly(kubewitness: Command, tmp_path: Path) -> None:
    with state_at(tmp_path) as state:
        state.keep("prod", [hostile()], [])
    for output in ("table", "wide", "json", "yaml", "jsonl", "name"):
        done = kubewitness("incidents", "--data", tmp_path, "-o", output)
        assert done.code == 0
        assert done.text
        assert ESCAPE not in done.text
        assert BIDI not in done.text


def test_the_service_may_be_said_by_the_environment(
    kubewitness: Command, service: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    option, value = service
    monkeypatch.setenv(f"KUBEWITNESS_{str(option).removeprefix('--').upper()}", str(value))
    assert len(kubewitness("incidents", "-o", "name").text.split()) == 3


def test_no_service_is_a_mistake_and_no_state_an_error(
    kubewitness: Command, tmp_path: Path
) -> None:
    assert kubewitness("incidents").code == 2
    missing = kubewitness("incidents", "--data", tmp_path)
    assert missing.code == 1
    assert str(tmp_path / "state.sqlite") in missing.talk
    assert list(tmp_path.glob("state.sqlite*")) == []
