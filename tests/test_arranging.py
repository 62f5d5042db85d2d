"""A lake in the order of objects: the same events, found at once, and never needed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities import START
from audit_log import Event, event, write
from conftest import remount
from forensic_log import rollout, stolen_token
from kubewitness.events.change import CHANGE_COLUMNS, TOUCH_COLUMNS
from kubewitness.forensics.objects.condition import where
from kubewitness.forensics.objects.inventory import holdings, inventory
from kubewitness.forensics.target import last_event
from kubewitness.inquiry import ask, opened
from kubewitness.lake import arranging
from kubewitness.lake.arranging import arrange
from kubewitness.lake.compaction import compact
from kubewitness.lake.retention import expire
from kubewitness.lake.store import Lake
from lake_service import Live, live

NOW = timedelta()
VIEWS = {"changes": CHANGE_COLUMNS, "touches": TOUCH_COLUMNS}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of one event is large, and three are sorted at once."""
    monkeypatch.setattr(arranging, "FEWEST_ROWS", 1)
    monkeypatch.setattr(arranging, "_ROWS", 3)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path / "lake", tmp_path / "work") as service:
        yield service


def seen(service: Live, *, without: str = "") -> dict[str, list[Any]]:
    """All rows of the views, but for what an arrangement adds."""
    service.lake.attach(service.connection)
    found = {}
    for view, columns in VIEWS.items():
        told = ", ".join(f'CAST("{name}" AS VARCHAR)' for name in columns if name != without)
        found[view] = service.connection.execute(
            f"SELECT {told} FROM {view} ORDER BY ALL"
        ).fetchall()
    return found


def everything() -> list[Event]:
    """Changes and reads, of objects and of none, with bodies and without."""
    swept = {"kind": "PodList", "items": [{"metadata": {"name": "a", "finalizers": ["x/y"]}},
                                          {"metadata": {"name": "b"}}]}  # fmt: skip
    read = {"kind": "Pod", "metadata": {"name": "web"}}
    return [
        *rollout(),
        *stolen_token(),
        event(START, verb="deletecollection", name="", level="RequestResponse",
              responseObject=swept),
        event(START, verb="delete", level="Request", requestObject={"dryRun": ["All"]}),
        event(START, verb="patch", requestURI="/api/v1/pods/web?dryRun=All"),
        event(START, verb="get", level="RequestResponse", responseObject=read),
        event(START, verb="list", name=""),
        event(START, verb="get", objectRef=None, requestURI="/healthz?verbose"),
    ]  # fmt: skip


def test_the_views_hold_the_same_in_either_order(service: Live) -> None:
    service.add(everything())
    before = seen(service, without="superseded_at")
    assert len(before["touches"]) == len(everything()) > len(before["changes"]) > 0
    assert arrange(service.lake, service.connection) == 1
    assert arrange(service.lake, service.connection) == 0
    assert seen(service, without="superseded_at") == before
    files = sorted(file.name for file in service.lake.objects.glob("*/*/*/*"))
    assert len(files) == 2 * -(-len(everything()) // 3)


def test_what_bodies_tell_has_columns(service: Live) -> None:
    service.add(everything())
    arrange(service.lake, service.connection)
    service.lake.attach(service.connection)
    told = service.connection.execute(
        """SELECT verb, resource, metadata ->> 'uid', pod_spec ->> '$.containers[0].image'
        FROM changes WHERE pod_spec IS NOT NULL ORDER BY stage_at"""
    ).fetchall()
    assert ("create", "deployments", "d-1", "web:1") in told
    assert ("create", "replicasets", "r-1", "web:1") in told
    swept, dry = service.connection.execute(
        """SELECT any_value(items)::VARCHAR, count(*) FILTER (dry_run) FROM changes"""
    ).fetchall()[0]
    assert swept == (
        '[{"metadata":{"name":"a","finalizers":["x/y"]}},{"metadata":{"name":"b",'
        '"finalizers":null}}]'
    )
    assert dry == 2


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.sampled_from(["a", "b"]),
            st.sampled_from(["create", "update", "delete", "get"]),
            st.sampled_from([200, 201, 403]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_at_any_time_the_last_write_of_an_object_stands_in_a_file(
    tmp_path_factory: pytest.TempPathFactory, done: list[tuple[int, str, str, int]]
) -> None:
    home = tmp_path_factory.mktemp("lake")
    with live(home / "lake", home / "work") as service:
        service.add(
            event(START + timedelta(seconds=at), verb=verb, name=name, code=code, id=f"{n}")
            for n, (at, name, verb, code) in enumerate(done)
        )
        arrange(service.lake, service.connection)
        for file in service.lake.objects.glob("*/*/*/changes-*"):
            rows = service.connection.execute(
                f"""SELECT name, stage_at, superseded_at, code < 300 AND verb <> 'get'
                FROM read_parquet('{file}')"""
            ).fetchall()
            assert [row[:2] for row in rows] == sorted(row[:2] for row in rows)
            for at in {row[1] for row in rows}:
                for name in {row[0] for row in rows}:
                    standing = [
                        when for one, when, until, _ in rows
                        if one == name and when <= at and (until is None or until > at)
                    ]  # fmt: skip
                    written = [
                        when for one, when, _, wrote in rows
                        if one == name and when <= at and wrote
                    ]  # fmt: skip
                    assert standing == [when for when in written if when == written[-1]]


def test_a_damaged_arrangement_costs_time_only(
    service: Live, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = write(tmp_path / "audit.log", everything())
    home = tmp_path / "ingested"
    with opened([log], lake=home) as (lake, _, _):
        (kept,) = {file.parent for files in lake.arranged().values() for file in files}
    whole, _ = ask([], _there, lake=home)
    assert whole.workloads
    for damaged in sorted(kept.iterdir()):
        content = damaged.read_bytes()
        damaged.write_bytes(content[: len(content) // 2] + b"\0" * 9 + content[len(content) // 2 :])
    found, intake = ask([], _there, lake=home)
    assert found == whole
    assert all("nothing is lost" in warning for warning in intake.warnings)
    assert not kept.exists()
    with opened([log], lake=home) as (lake, _, _):
        assert lake.arranged()
    assert ask([], _there, lake=home)[0] == whole


def _there(connection: duckdb.DuckDBPyConnection) -> Any:
    return inventory(connection, last_event(connection))


def test_a_damaged_part_is_set_aside_and_the_others_arranged(
    service: Live, caplog: pytest.LogCaptureFixture
) -> None:
    for at in range(2):
        service.add([event(START + timedelta(days=at), id=f"{at}")])
    part = service.lake.parts()[0]
    content = bytearray(part.read_bytes())
    content[4:200] = b"\0" * 196
    part.write_bytes(content)
    assert arrange(service.lake, service.connection) == 1
    assert len(service.lake.parts()) == 1
    assert "damaged lake part" in caplog.text


def test_the_arrangement_of_what_was_merged_goes_with_it(service: Live) -> None:
    for at in range(20):
        service.add([event(START + timedelta(seconds=at), id=f"{at}")])
    assert arrange(service.lake, service.connection, most=3) == 3
    assert len(service.lake.arranged()) == 3
    arrange(service.lake, service.connection)
    before = seen(service, without="superseded_at")
    while compact(service.lake, service.connection, grace=NOW):
        pass
    assert not service.lake.arranged().keys() - set(service.lake.parts())
    assert seen(service, without="superseded_at") == before
    arrange(service.lake, service.connection)
    assert service.lake.arranged().keys() == set(service.lake.parts())
    assert seen(service, without="superseded_at") == before


def test_a_part_merged_meanwhile_is_not_arranged(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.add([event(START)])
    (part,) = service.lake.parts()

    def write_and_lose(*arguments: Any) -> None:
        write_all(*arguments)
        part.unlink()

    write_all = arranging._write
    monkeypatch.setattr(arranging, "_write", write_and_lose)
    assert arrange(service.lake, service.connection) == 0
    assert not service.lake.arranged()


def test_what_is_too_old_goes_in_either_order(service: Live) -> None:
    for at in range(4):
        service.add([event(START + timedelta(days=at), id=f"{at}")])
    arrange(service.lake, service.connection)
    day = timedelta(days=1)
    expire(service.lake, events=2 * day, activity=2 * day, now=START + 3 * day)
    kept = set(service.lake.parts())
    assert len(kept) == 3
    assert service.lake.arranged().keys() == kept


def test_half_an_arrangement_counts_for_nothing(service: Live) -> None:
    service.add(everything())
    before = seen(service, without="superseded_at")
    arrange(service.lake, service.connection)
    ((_, files),) = service.lake.arranged().items()
    files[0].unlink()
    assert not service.lake.arranged()
    assert seen(service, without="superseded_at") == before
    assert arrange(service.lake, service.connection) == 1
    assert seen(service, without="superseded_at") == before


def test_what_was_damaged_is_made_again_once_by_whoever_found_it(service: Live) -> None:
    service.add(everything())
    arrange(service.lake, service.connection)
    ((part, files),) = service.lake.arranged().items()
    files[0].write_bytes(b"nothing")
    assert len(service.lake.disarrange([part], service.connection)) == 1
    assert not service.lake.arranged()
    assert [arrange(service.lake, service.connection) for _ in range(3)] == [1, 0, 0]
    assert service.lake.arranged()


def test_what_could_not_be_sorted_is_not_tried_again(
    service: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(3):
        service.add([event(START + timedelta(days=at), id=f"{at}")])
    tried = []

    def write_nothing(part: Path, *_: Any) -> None:
        tried.append(part)
        raise duckdb.OutOfMemoryException("too much")

    monkeypatch.setattr(arranging, "_write", write_nothing)
    for _ in range(5):
        assert arrange(service.lake, service.connection, most=1) == 0
    assert sorted(tried) == sorted(service.lake.parts())


def test_a_disk_that_is_full_while_sorting_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_nothing(*_: Any) -> None:
        raise duckdb.IOException("No space left on device")

    log = write(tmp_path / "audit.log", everything())
    monkeypatch.setattr(arranging, "_write", write_nothing)
    with opened([log], lake=tmp_path / "lake") as (lake, _, intake):
        assert intake.added == len(everything())
        assert any("No space left" in warning for warning in intake.warnings)
        assert not lake.arranged()


def test_arrangements_of_another_version_go(service: Live) -> None:
    service.add([event(START)])
    old = service.lake.objects.parent / "v0" / "cluster=prod"
    old.mkdir(parents=True)
    compact(service.lake, service.connection)
    service.lake.sweep()
    assert not old.exists()


def test_a_dry_run_may_be_written_with_percent_signs(service: Live) -> None:
    uris = {"?dry%52un=All": True, "?x=%26dryRun=All": False, "?a=1&dryRun=All": True, "": False}
    service.add(
        event(START + timedelta(seconds=n), verb="patch", requestURI=f"/api/v1/pods/web{query}")
        for n, query in enumerate(uris)
    )
    service.lake.attach(service.connection)
    told = service.connection.execute("SELECT dry_run FROM changes ORDER BY stage_at").fetchall()
    assert [dry for (dry,) in told] == list(uris.values())


_LIVES = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["web", "api"]),
        st.sampled_from(["create", "patch", "scale", "delete", "sweep", "dry run"]),
        st.sampled_from(["Metadata", "Request", "RequestResponse"]),
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=30)
@given(_LIVES, st.integers(0, 6))
def test_an_inventory_is_the_same_in_either_order(
    tmp_path_factory: pytest.TempPathFactory, done: list[tuple[int, str, str, str]], hour: int
) -> None:
    home = tmp_path_factory.mktemp("lake")
    at = START + timedelta(hours=hour)
    with live(home / "lake", home / "work") as service:
        for n, (when, name, what, level) in enumerate(done):
            service.add([_write_of(START + timedelta(hours=when, seconds=n), name, what, level, n)])
        service.lake.attach(service.connection)
        running = inventory(service.connection, at)
        ever = [holdings(service.connection, where(text)) for text in ("image ~ web", "name = api")]
        arrange(service.lake, service.connection)
        service.lake.attach(service.connection)
        assert inventory(service.connection, at) == running
        assert ever == [
            holdings(service.connection, where(text)) for text in ("image ~ web", "name = api")
        ]


def _write_of(at: datetime, name: str, what: str, level: str, n: int) -> Event:
    spec = {"template": {"spec": {"containers": [{"name": "a", "image": f"{name}:{n}"}]}}}
    body = {"kind": "Deployment", "metadata": {"name": name, "namespace": "shop",
            "uid": f"u-{name}", "resourceVersion": f"{n + 1}"}, "spec": spec}  # fmt: skip
    verbs = {"scale": "patch", "sweep": "deletecollection", "dry run": "patch"}
    verb = verbs.get(what, what)
    more: dict[str, Any] = {"level": level, "id": f"{n}", "code": 201 if verb == "create" else 200}
    if level != "Metadata" and what in ("create", "patch", "dry run"):
        more["requestObject"] = body
    if level == "RequestResponse":
        more["responseObject"] = body if what in ("create", "patch", "dry run") else {
            "kind": "Status"}  # fmt: skip
    if what == "dry run":
        more["query"] = "dryRun=All"
    if what == "scale":
        more["subresource"] = "scale"
    return event(at, verb=verb, resource="deployments", group="apps",
                 name="" if what == "sweep" else name, **more)  # fmt: skip


def test_a_killed_run_leaves_nothing_that_counts(service: Live) -> None:
    service.add([event(START)])
    (part,) = service.lake.parts()
    left = service.lake.staging / "killed" / part.stem
    left.mkdir(parents=True)
    (left / "changes-0000-of-0002.parquet").write_bytes(b"PAR1")
    assert not service.lake.arranged()
    assert arrange(service.lake, service.connection) == 1
    assert os.listdir(service.lake.staging) == []


def test_a_lake_that_may_only_be_read_is_asked_all_the_same(disk: Path, tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", everything())
    home = disk / "lake"
    with opened([log], lake=home):
        pass
    whole, _ = ask([], _there, lake=home)
    shutil.rmtree(home / "objects")
    remount(disk, "ro")
    try:
        assert ask([], _there, lake=home)[0] == whole
    finally:
        remount(disk, "rw")


def test_a_passing_lake_is_not_arranged(tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", everything())
    with opened([log], bodies=True) as (lake, _, _):
        assert not lake.arranged()


def test_an_empty_lake_has_nothing_to_arrange(service: Live) -> None:
    assert arrange(service.lake, service.connection) == 0
    assert Lake(service.lake.root).arranged() == {}
