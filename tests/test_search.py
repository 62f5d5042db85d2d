"""Searching a lake: the newest first, facets, histograms, and what was around an event."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from activities import START
from audit_log import event, write
from conftest import Command
from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.forensics.search import around, facets, histogram, neighbourhood, search
from kubewitness.inquiry import opened
from kubewitness.query.grammar import parse
from kubewitness.query.memory import predicate

MINUTE = timedelta(minutes=1)
SECRET = {"kind": "Pod", "metadata": {"name": "web"}, "spec": {"hostNetwork": True}}
HOSTILE = "=cmd|'/c calc'!A0\x1b[2J\u202e\n,\""


def log() -> list[dict[str, Any]]:
    """A day of two people and a controller; on the next day somebody with a strange name."""
    day = [
        event(START + n * MINUTE, "system:serviceaccount:ci:deployer", "list", "pods", name="")
        for n in range(120)
    ]
    return [
        *day,
        event(START + 10 * MINUTE, "ada", "get", "secrets", name="db", auditID="read"),
        event(START + 11 * MINUTE, "ada", "create", "pods", name="web", auditID="made",
              level="RequestResponse", requestObject=SECRET),
        event(START + 12 * MINUTE, "eve", "delete", "secrets", name="db", code=403, auditID="kept"),
        event(START + 13 * MINUTE, "eve", "get", "secrets", name="db", namespace="other"),
        event(START + 60 * MINUTE, "ada", "list", "nodes", name="", namespace="", auditID="late",
              impersonatedUser={"username": "root"}),
        event(START + timedelta(days=1), HOSTILE, "get", "pods", name=HOSTILE, auditID="odd"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    with opened([write(folder / "audit.log", log())], lake=folder / "lake", cluster="prod"):
        return folder / "lake"


@pytest.fixture
def connection(lake: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with opened([], lake=lake) as (_, found, _):
        yield found


def ids(connection: duckdb.DuckDBPyConnection, text: str, **options: Any) -> list[str]:
    return [one["audit_id"] for one in search(connection, parse(text), **options).events]


def test_the_newest_come_first(connection: duckdb.DuckDBPyConnection) -> None:
    assert ids(connection, "principal = ada") == ["late", "made", "read"]
    found = search(connection, parse("verb = list and resource = pods"), limit=7)
    times = [one["received_at"] for one in found.events]
    assert times == [START + n * MINUTE for n in range(119, 112, -1)]
    assert found.more
    assert not search(connection, parse("verb = list and resource = pods"), limit=120).more


@pytest.mark.parametrize("limit", [1, 3, 50, None])
@pytest.mark.parametrize(
    "sort_by", ["", "user", "code", "groups", "source_ip", "action", "stage_at"]
)
def test_a_limit_cuts_and_changes_nothing_else(
    connection: duckdb.DuckDBPyConnection, limit: int | None, sort_by: str
) -> None:
    everything = search(connection, parse(""), limit=None, sort_by=sort_by)
    some = search(connection, parse(""), limit=limit, sort_by=sort_by)
    assert len(everything.events) == len(log())
    assert some.events == everything.events[:limit]


def test_sorted_by_a_field_ascending(connection: duckdb.DuckDBPyConnection) -> None:
    assert ids(connection, "user in (ada, eve) and resource = secrets", sort_by="name")[0] != ""
    found = search(connection, parse(""), sort_by="user", limit=4).events
    assert [one["user"] for one in found] == [HOSTILE, "ada", "ada", "ada"]


def test_what_is_found_in_the_lake_is_found_in_memory(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    everything = search(connection, parse(""), limit=None).events
    for text in (
        "groups = dev",
        "decision = forbid",
        "time >= 2020-01-01",
        "code = 403 or not name exists",
    ):
        found = search(connection, parse(text), limit=None).events
        assert list(found) == [one for one in everything if predicate(parse(text))(one)]
        assert found


def test_bodies_are_read_only_when_asked_for(connection: duckdb.DuckDBPyConnection) -> None:
    (plain,) = search(connection, parse("audit_id = made")).events
    (whole,) = search(connection, parse("audit_id = made"), columns=list(EVENT_COLUMNS)).events
    assert "request_object" not in plain
    assert whole["request_object"] == SECRET
    assert plain["annotations"]["authorization.k8s.io/decision"] == "allow"


def test_durations_count_back_from_the_last_event(connection: duckdb.DuckDBPyConnection) -> None:
    assert ids(connection, "time > 1h") == ["odd"]
    assert ids(connection, "time > 23h10m and principal = ada") == ["late"]


def test_facets_count_what_is_common(connection: duckdb.DuckDBPyConnection) -> None:
    found = {one.field: one for one in facets(connection, parse("not verb = list"), top=2)}
    assert found["principal"].values == (("ada", 2), ("eve", 2))
    assert found["principal"].distinct == 3
    assert found["code"].values == (("200", 4), ("403", 1))
    every = {one.field: one for one in facets(connection, parse(""))}
    assert ("", 1) in every["namespace"].values
    assert all(sum(n for _, n in one.values) == len(log()) for one in every.values())
    assert all(one.values == () for one in facets(connection, parse("user = nobody")))


def test_a_histogram_counts_every_event_once(connection: duckdb.DuckDBPyConnection) -> None:
    hour = histogram(connection, parse("resource = pods and verb = list"), slots=200)
    assert (hour.start, hour.seconds, hour.counts) == (START, 60, (1,) * 120)
    for slots in (1, 5, 24, 72):
        found = histogram(connection, parse(""), slots=slots)
        assert sum(found.counts) == len(log())
        assert len(found.counts) <= max(slots, 1)
        assert found.start is not None
        assert found.start <= START
    assert histogram(connection, parse("user = nobody")).counts == ()


def test_around_an_event_is_what_its_principal_and_its_object_met(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    (read,) = search(connection, parse("audit_id = read")).events
    found = around(connection, [read], within=5 * MINUTE).neighbours
    assert [(one.relation, one.event["audit_id"]) for one in found] == [
        ("match", "read"),
        ("principal", "made"),
        ("object", "kept"),
    ]
    some = around(connection, [read], within=5 * MINUTE, among=parse("code >= 400")).neighbours
    assert [one.event["audit_id"] for one in some] == ["read", "kept"]
    far = around(connection, [read], within=2 * 60 * MINUTE, each=1).neighbours
    assert [one.event["audit_id"] for one in far] == ["read", "made"]
    assert around(connection, [], within=MINUTE).neighbours == ()


def test_the_neighbourhood_is_a_query_of_its_own(connection: duckdb.DuckDBPyConnection) -> None:
    (late,) = search(connection, parse("audit_id = late")).events
    near = neighbourhood([late], 5 * MINUTE)
    # Under either name, ada's or root's, which she used.
    assert predicate(near)({**late, "user": "root", "impersonated_user": None})
    assert not predicate(near)({**late, "user": "eve", "impersonated_user": None})
    assert not predicate(near)({**late, "received_at": late["received_at"] + 6 * MINUTE})
    assert not predicate(near)({**late, "cluster": "another"})


def test_a_table_has_one_line_an_event(kubewitness: Command, lake: Path) -> None:
    done = kubewitness("query", "principal in (ada, eve)", "--lake", lake)
    head, *lines = done.text.splitlines()
    assert head.split() == [
        "TIME",
        "CODE",
        "PRINCIPAL",
        "ACTION",
        "OBJECT",
        "SOURCE",
        "CLIENT",
        "AUDIT-ID",
    ]
    assert len(lines) == 5
    assert lines[0].split()[2:5] == ["ada", "as", "root"]
    assert done.err == b""
    bare = kubewitness(
        "query", "principal in (ada, eve)", "--lake", lake, "--no-headers", "-o", "wide"
    )
    assert len(bare.text.splitlines()) == 5
    assert bare.code == done.code == 0


@pytest.mark.parametrize("output", ["table", "wide", "csv", "json", "jsonl", "yaml"])
def test_hostile_text_is_shown_inert(kubewitness: Command, lake: Path, output: str) -> None:
    done = kubewitness("query", "audit_id = odd", "--lake", lake, "-o", output)
    assert done.code == 0
    assert "\x1b" not in done.text
    assert "\u202e" not in done.text
    if output in ("table", "wide"):
        assert len(done.text.splitlines()) == 2
        assert "'=cmd" in done.text
    elif output == "csv":
        (row,) = csv.DictReader(io.StringIO(done.text))
        assert list(row) == [name for name in EVENT_COLUMNS if not name.endswith("_object")]
        assert all(not cell.startswith(("=", "+", "-", "@")) for cell in row.values())
        assert row["user"].startswith("'=cmd")
    else:
        read: Callable[[str], Any] = yaml.safe_load if output == "yaml" else json.loads
        found = read(done.text)
        assert (found if output == "jsonl" else found["items"][0])["user"] == HOSTILE


def test_data_is_a_list_as_kubernetes_shapes_one(kubewitness: Command, lake: Path) -> None:
    done = kubewitness("query", "audit_id = made", "--lake", lake, "-o", "json")
    document = json.loads(done.text)
    assert document["apiVersion"] == "kubewitness.dev/v1alpha1"
    assert document["kind"] == "EventList"
    assert document["metadata"] == {"query": "audit_id = made"}
    (item,) = document["items"]
    assert list(item) == list(EVENT_COLUMNS)
    assert item["request_object"] == SECRET
    assert item["received_at"] == "2026-03-02T00:11:00Z"
    assert (
        kubewitness("query", "audit_id = made", "--lake", lake, "-o", "name").text == "event/made\n"
    )


def test_facets_and_histogram_are_told_and_written(kubewitness: Command, lake: Path) -> None:
    told = kubewitness("query", "", "--lake", lake, "--facets").text
    assert "system:serviceaccount:ci:deployer" in told
    assert "\x1b" not in told
    document = json.loads(kubewitness("query", "", "--lake", lake, "--facets", "-o", "json").text)
    assert document["kind"] == "FacetList"
    assert document["items"][1] == {
        "field": "verb",
        "values": [
            {"value": "list", "count": 121},
            {"value": "get", "count": 3},
            {"value": "create", "count": 1},
            {"value": "delete", "count": 1},
        ],
        "distinct": 4,
    }
    assert "126 events" in kubewitness("query", "", "--lake", lake, "--histogram").text
    found = json.loads(kubewitness("query", "", "--lake", lake, "--histogram", "-o", "json").text)
    assert (found["kind"], sum(found["counts"])) == ("Histogram", 126)
    assert (
        kubewitness("query", "user = nobody", "--lake", lake, "--histogram").text == "No events.\n"
    )


def test_context_and_around_on_the_command_line(kubewitness: Command, lake: Path) -> None:
    done = kubewitness("query", "", "--lake", lake, "--around", "read", "-o", "jsonl")
    found = [json.loads(line) for line in done.text.splitlines()]
    assert [(one["relation"], one["audit_id"]) for one in found] == [
        ("match", "read"),
        ("principal", "made"),
        ("object", "kept"),
    ]
    lines = kubewitness(
        "query", "verb = delete", "--lake", lake, "--context", "1"
    ).text.splitlines()
    assert [line.split()[0] for line in lines] == ["WHY", "object", "match", "principal"]
    missing = kubewitness("query", "", "--lake", lake, "--around", "nothing")
    assert missing.code == 1
    assert "no event with the auditID 'nothing'" in missing.talk


def test_logs_are_searched_without_a_lake(kubewitness: Command, tmp_path: Path) -> None:
    path = write(tmp_path / "audit.log", log())
    done = kubewitness("query", "verb = delete", path, "-o", "name")
    assert (done.code, done.text) == (0, "event/kept\n")
    since = kubewitness("query", "", path, "--since", "2026-03-03", "-o", "name")
    assert since.text == "event/odd\n"
    until = kubewitness(
        "query", "user = eve", path, "--until", "2026-03-02T00:13:00Z", "-o", "name"
    )
    assert until.text == "event/kept\n"


def test_nothing_found_and_more_to_find_are_said_aside(kubewitness: Command, lake: Path) -> None:
    nothing = kubewitness("query", "user = nobody", "--lake", lake)
    assert (nothing.code, nothing.out, nothing.talk) == (0, b"", "No events found.\n")
    more = kubewitness("query", "", "--lake", lake, "--limit", "1")
    assert "There are more" in more.talk
    other = kubewitness("query", "", "--lake", lake, "--cluster", "test")
    assert (other.code, other.out) == (1, b"")
    assert "there are: prod" in other.talk


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["verv = get"], "  verv = get\n  ^\n"),
        (["", "--facets", "--histogram"], "one at a time"),
        (["", "--facets", "-o", "csv"], "-o csv is for events"),
        (["", "--sort-by", "annotations"], "'annotations' is none of principal"),
        (["", "--around", "x", "--within", "2026-03-02"], "a duration like 5m"),
        (["", "--around", "x", "--context", "1"], "--around takes --within"),
    ],
)
def test_mistakes_are_usage_errors(
    kubewitness: Command, lake: Path, arguments: list[str], told: str
) -> None:
    done = kubewitness("query", *arguments, "--lake", lake)
    assert done.code == 2
    assert done.out == b""
    assert told in done.talk
