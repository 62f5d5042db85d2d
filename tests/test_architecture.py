"""Imports run one way, and what is not needed is not loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "kubewitness"
# Each may import what stands before it.
ORDER = (
    *("errors", "times", "events", "sources", "lake", "activity", "baseline", "surprise"),
    *("incidents", "report", "analysis", "evaluate", "cli", "__main__"),
)
# Models see tables, and what is shown is seen by nobody: whatever the order would allow.
NEVER = {
    **{model: {"sources", "lake"} for model in ("activity", "baseline", "surprise", "incidents")},
    "report": {"sources", "lake", "baseline", "surprise"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The folder of the package a module is in, or its own name."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imported(path: Path) -> Iterator[str]:
    """The rooms that a module imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module or ""]
            if node.module == "kubewitness":
                names = [f"kubewitness.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "kubewitness" and len(parts) > 1 and parts[1] != "__version__":
                yield parts[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        assert not list(imported(path))
        return
    below = set(ORDER[: ORDER.index(own) + 1]) - NEVER.get(own, set())
    assert set(imported(path)) <= below


def test_every_room_has_a_place_in_the_order() -> None:
    assert {room(path) for path in FILES} == {*ORDER, "__init__"}


def test_modules_are_named_after_things() -> None:
    assert not {path.stem for path in FILES} & {"utils", "util", "helpers", "common", "manager"}


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import kubewitness.cli", {"numpy", "duckdb", "rich", "jinja2", "yaml", "sklearn"}),
        ("import kubewitness.analysis", {"rich", "jinja2", "yaml", "sklearn", "pandas", "pyarrow"}),
        ("import kubewitness.surprise.registry", {"kubewitness.lake", "kubewitness.report"}),
    ],
)
def test_what_is_not_needed_is_not_loaded(code: str, unwanted: set[str]) -> None:
    """``kubewitness --help`` waits for no engine; no model waits for a page."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not unwanted & set(done.stdout.split())
