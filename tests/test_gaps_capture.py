"""Gaps cut into the recording of a real API server are found, and none in it as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gap_worlds import Chunk, opened, told
from kubewitness.events.normalisation import event_rows, json_lines
from kubewitness.lake.engine import engine
from kubewitness.lake.store import Lake
from kubewitness.service.gaps.model import Gap
from kubewitness.service.gaps.survey import Mark, Sighting, Survey, survey

CAPTURE = Path(__file__).parents[2] / "shared" / "data" / "capture"

pytestmark = pytest.mark.skipif(not CAPTURE.exists(), reason="the shared data is not here")

CHUNK = 20.0
COLUMNS = (
    'cluster, stage_at, level, stage, code, verb, "user", user_uid, api_group, resource,'
    " subresource, namespace, name"
)


def chunks_of(folder: Path, *names: str) -> list[Chunk]:
    """Chunks that arrive two seconds after their end."""
    chunks: list[Chunk] = []
    with engine(folder / "spill", Lake(folder / "lake").redactor) as connection:
        logs = [
            event_rows(
                json_lines(str(CAPTURE / f"{name}.jsonl.zst"), "zstd"),
                cluster="capture",
                source=name,
                bodies=False,
            )
            for name in names
        ]
        connection.execute(
            f"CREATE TABLE sorted AS SELECT {COLUMNS},"
            f" floor(epoch(stage_at) / {CHUNK})::INT AS chunk"
            f" FROM ({' UNION ALL '.join(f'({log})' for log in logs)}) ORDER BY chunk"
        )
        ((first, last),) = connection.execute(
            "SELECT min(chunk), max(chunk) FROM sorted"
        ).fetchall()
        for chunk in range(first, last + 1):
            of_chunk = f"(SELECT * FROM sorted WHERE chunk = {chunk})"
            chunks.append(((chunk + 1) * CHUNK + 2, survey(connection, of_chunk)))
    return chunks


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> list[Chunk]:
    """The hour in which nothing is missing."""
    return chunks_of(tmp_path_factory.mktemp("recording"), "train", "test")


def middle(recording: list[Chunk]) -> float:
    return recording[len(recording) * 2 // 3][0]


def changed(
    recording: list[Chunk],
    sightings: Callable[[Sighting], Sighting | None] = lambda one: one,
    marks: Callable[[Mark], Mark | None] = lambda one: one,
) -> list[Gap]:
    """What is told if it is another log from the middle on."""
    start = middle(recording)
    world = [
        (at, one)
        if at <= start
        else (
            at,
            Survey(
                [kept for kept in map(sightings, one.sightings) if kept is not None],
                [kept for kept in map(marks, one.marks) if kept is not None],
            ),
        )
        for at, one in recording
    ]
    gaps = told(world)
    for gap in gaps:
        assert abs(gap.since.timestamp() - start) < 90
    return gaps


def test_nothing_is_missing_as_it_is(recording: list[Chunk]) -> None:
    assert sum(one.n for _, survey in recording for one in survey.sightings) == 209_707
    assert told(recording) == []


def test_minutes_that_are_cut_out(recording: list[Chunk]) -> None:
    start = middle(recording)
    gaps = told([chunk for chunk in recording if not start < chunk[0] <= start + 120])
    assert [gap.kind for gap in gaps] == ["hole"]
    silent = [
        (at, one if not start < at <= start + 360 else Survey([], [])) for at, one in recording
    ]
    assert opened(told(silent)) == ["silence"]


def test_the_leases_of_a_node(recording: list[Chunk]) -> None:
    node = next(mark.name for mark in recording[0][1].marks if mark.what == "node")
    leases = changed(
        recording, marks=lambda one: None if (one.what, one.name) == ("node", node) else one
    )
    assert [(gap.kind, gap.members) for gap in leases] == [("heartbeat", (node,))]
    assert "no longer logged" in leases[0].title
    silent = changed(recording, marks=lambda one: None if one.name == node else one)
    assert [gap.title for gap in silent] == [f"Nothing is heard of node {node}"]


def test_a_lowered_level(recording: list[Chunk]) -> None:
    (gap,) = changed(recording, sightings=lambda one: one._replace(rank=0))
    assert (gap.kind, gap.severity) == ("level", "high")
    assert len(gap.members) > 50


def test_requests_that_are_dropped(recording: list[Chunk]) -> None:
    (gap,) = changed(
        recording, sightings=lambda one: None if one.kind.endswith(" secrets") else one
    )
    assert gap.kind == "request"
    assert all(kind.endswith(" secrets") for kind in gap.members)


def test_a_clock_that_is_set(recording: list[Chunk]) -> None:
    def later(one: Sighting) -> Sighting:
        first = one.first + 45
        return one._replace(minute=first - first % 60, first=first, last=one.last + 45)

    def mark_later(one: Mark) -> Mark:
        return one._replace(first=one.first + 45, last=one.last + 45)

    gaps = changed(recording, sightings=later, marks=mark_later)
    assert [gap.kind for gap in gaps] == ["clock"]


def test_an_api_server_that_begins_again_with_another_policy(
    recording: list[Chunk], tmp_path: Path
) -> None:
    """This one happened: four minutes later, all is of level Metadata."""
    again = chunks_of(tmp_path, "policy_b_sample")
    silent = [
        (recording[-1][0] + CHUNK * n, Survey([], []))
        for n in range(1, round((again[0][0] - recording[-1][0]) / CHUNK))
    ]
    gaps = told([*recording, *silent, *again])
    assert opened(gaps) == ["silence", "level"]
    assert "now Metadata" in gaps[1].why
