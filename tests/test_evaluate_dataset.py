"""Labelled folders: which logs are read, where history ends, and what is said when they are not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from evaluate_fixtures import TEST_FROM, episode, habits, small, write
from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.dataset import read_dataset, trial


def test_a_folder_with_test_from(tmp_path: Path) -> None:
    dataset = read_dataset(small(tmp_path / "small"))
    assert (dataset.name, dataset.test_from) == ("small", TEST_FROM)
    assert [file.name for file in dataset.files] == ["audit.jsonl"]
    assert [one.episode_id for one in dataset.episodes] == ["theft"]
    with trial(dataset) as ready:
        assert ready.since == TEST_FROM
        assert ready.first == TEST_FROM - timedelta(days=7)
        assert ready.events == 9 * 24 * 3 + 9 * 8 * 3 + 6
        row = ready.connection.execute(
            "SELECT sum(n), any_value(cluster) FROM activities"
        ).fetchone()
        assert row == (ready.events, "small")


def test_train_and_test_leave_other_logs_alone(tmp_path: Path) -> None:
    rows = habits(2)
    write(tmp_path, "bootstrap.jsonl", rows[:5])
    write(tmp_path, "train.jsonl", rows[5:100])
    write(tmp_path, "test.jsonl", rows[100:])
    write(tmp_path, "truth.jsonl", [episode()])
    dataset = read_dataset(tmp_path)
    assert [file.name for file in dataset.files] == ["train.jsonl", "test.jsonl"]
    with trial(dataset) as ready:
        assert ready.since is not None
        assert ready.since.strftime("%Y-%m-%dT%H:%M:%S.%fZ") == rows[100]["stageTimestamp"]


def test_without_either_the_whole_log_is_judged(tmp_path: Path) -> None:
    write(tmp_path, "audit.jsonl", habits(1))
    write(tmp_path, "truth.jsonl", [episode()])
    with trial(read_dataset(tmp_path)) as ready:
        assert ready.since is None


def test_related_ids_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path, "audit.jsonl", habits(1))
    write(tmp_path, "truth.jsonl", [episode(), episode(related_ids=["r"], difficulty="hard")])
    assert [one.related_ids for one in read_dataset(tmp_path).episodes] == [(), ("r",)]


def test_no_truth(tmp_path: Path) -> None:
    write(tmp_path, "audit.jsonl", habits(1))
    with pytest.raises(KubewitnessError, match="truth cannot be read"):
        read_dataset(tmp_path)


def test_a_broken_line_of_truth_is_located(tmp_path: Path) -> None:
    write(tmp_path, "audit.jsonl", habits(1))
    write(tmp_path, "truth.jsonl", [episode(), episode(start="yesterday")])
    with pytest.raises(KubewitnessError, match=r"truth\.jsonl:2: no episode"):
        read_dataset(tmp_path)


def test_no_logs(tmp_path: Path) -> None:
    write(tmp_path, "truth.jsonl", [episode()])
    with pytest.raises(KubewitnessError, match="no audit logs"):
        read_dataset(tmp_path)


def test_a_time_that_is_none(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "test_from.txt").write_text("Monday", encoding="utf-8")
    with pytest.raises(KubewitnessError, match="'Monday' is no time"):
        read_dataset(tmp_path)
