"""What is told of an evaluation: tables, pages, the figures in the documentation, the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from evaluate_fixtures import TEST_FROM, small
from kubewitness.cli.evaluate import evaluate as command
from kubewitness.errors import KubewitnessError
from kubewitness.evaluate import figures, page, results, terminal
from kubewitness.evaluate.baselines import BASELINES, Baseline
from kubewitness.evaluate.dataset import read_dataset, trial
from kubewitness.evaluate.evaluation import Evaluation, Measured, evaluate
from kubewitness.incidents.model import Incident


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluation]:
    # The forest needs scikit-learn and time; test_evaluate_baselines has it.
    few = [baseline for baseline in BASELINES if baseline.name != "Isolation Forest"]
    with trial(read_dataset(small(tmp_path_factory.mktemp("data") / "small"))) as ready:
        yield evaluate(ready, baselines=few, ablation=True)


def test_an_evaluation_says_what_was_measured(found: Evaluation) -> None:
    assert (found.dataset, found.attacks, found.since) == ("small", 1, TEST_FROM)
    assert found.days == pytest.approx(2.0, abs=0.1)
    assert [method.method for method in found.methods] == [
        "kubewitness", "random", "global rarity", "first-seen list", "per-principal counts",
        "the usual rules",
    ]  # fmt: skip
    assert [len(method.judgements) for method in found.methods] == [1, 5, 1, 1, 1, 1]
    assert found.product.recall[5] == 1.0
    assert msgspec.json.decode(msgspec.json.encode(found), type=Evaluation) == found


def test_a_baseline_without_its_package_is_a_note(tmp_path: Path) -> None:
    def missing(*_: object) -> list[Incident]:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    with trial(read_dataset(small(tmp_path / "small"))) as ready:
        evaluation = evaluate(ready, baselines=[Baseline("a forest", missing)])
    assert [method.method for method in evaluation.methods] == ["kubewitness"]
    assert evaluation.notes[0].startswith("a forest: not measured, sklearn is not installed")
    assert evaluation.notes[0] in results.methods(evaluation).note


def test_every_row_is_as_long_as_its_header(found: Evaluation) -> None:
    tables = [*results.grids([found, found]), results.summary([found, found])]
    assert [table.title for table in tables[:3]] == ["small", "small", "Attack families"]
    assert "With 1 attack, an alert recall of 1.00 is anything from 0.21 to 1.00" in tables[0].note
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_seeds_are_told_by_their_mean_and_farthest(found: Evaluation) -> None:
    one = found.product
    none = msgspec.structs.replace(one, r_precision=0.0)
    mixed = Measured("mixed", (one, none, none, none))
    grid = results.methods(msgspec.structs.replace(found, methods=(mixed,)))
    assert grid.rows[0][grid.header.index("r-precision")] == "0.25±0.75"


def test_ablation_shows_the_difference(found: Evaluation) -> None:
    grid = results.ablation([found])
    rows = {row[0]: row[1:] for row in grid.rows}
    assert rows["nothing"] == ("1.00", "1.00", "1.00")
    assert set(rows) > {"factor “action”", "aspect “what”", "aspect “where from”"}
    blind = msgspec.structs.replace(found.product, r_precision=0.4)
    left = msgspec.structs.replace(found.ablation[0], judgement=blind)
    again = results.ablation([msgspec.structs.replace(found, ablation=(left,))])
    assert again.rows[1][1:] == ("1.00", "0.40 (−0.60)", "1.00")


def test_a_log_of_hours_has_no_budget_a_day(found: Evaluation) -> None:
    short = msgspec.structs.replace(found, days=0.02)
    assert not any("/day" in name for name in results.methods(short).header)
    assert "short" in results.methods(short).note
    assert results.summary([short]).header[1] == "small: r-precision"


def test_the_terminal_shows_every_figure(found: Evaluation) -> None:
    out = StringIO()
    terminal.tables([found], Console(file=out))
    text = out.getvalue()
    assert "per-principal counts" in text
    assert "stolen_credential" in text
    assert "…" not in text, "nothing is cut off"


def test_the_page_is_self_contained_and_inert(found: Evaluation) -> None:
    hostile = msgspec.structs.replace(found, dataset="<script>alert(1)</script>")
    html = page.render([found, hostile])
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert html.count('class="bar"') >= len(found.calibration)


def test_figures_replace_what_stands_between_the_marks(found: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{figures.BEGIN}\nold\n{figures.END}\nafter\n", encoding="utf-8")
    block = figures.short([found], date(2026, 4, 1))
    assert figures.rewrite(path, block)
    once = path.read_text(encoding="utf-8")
    assert figures.rewrite(path, block)
    assert path.read_text(encoding="utf-8") == once
    assert once.startswith(f"before\n{figures.BEGIN}\n| Method |")
    assert once.endswith(f"{figures.END}\nafter\n")
    assert "old" not in once
    assert "Measured on 2026-04-01 by `bench/evaluate.py` on small" in once


def test_figures_without_marks_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("no figures here\n", encoding="utf-8")
    assert not figures.rewrite(path, "x")
    assert path.read_text(encoding="utf-8") == "no figures here\n"


@pytest.mark.parametrize("text", [figures.BEGIN, figures.END, figures.END + figures.BEGIN])
def test_marks_that_are_no_pair_lose_no_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KubewitnessError, match="no pair"):
        figures.rewrite(path, "x")
    assert path.read_text(encoding="utf-8") == text


def test_the_command(tmp_path: Path) -> None:
    folder, report = small(tmp_path / "small"), tmp_path / "report.html"
    arguments = [str(folder), "--no-baselines", "-o", "json", "--report", str(report)]
    ran = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert ran.exit_code == 0
    assert [one["dataset"] for one in json.loads(ran.stdout)] == ["small"]
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_command_wants_folders(tmp_path: Path) -> None:
    assert CliRunner().invoke(command, []).exit_code == 2
    assert CliRunner().invoke(command, [str(tmp_path / "missing")]).exit_code == 2
