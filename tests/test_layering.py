"""Imports run one way only, and what is not needed is not loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import kubewitness
from audit_log import write
from forensic_log import POD, rollout
from kubewitness.cli import cli

PACKAGE = Path(kubewitness.__file__).parent

# Which rooms each room may know, besides itself; left to right is the way of an event.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "times": set(),
    "events": {"errors", "times"},
    "sources": {"errors", "times", "events"},
    "lake": {"errors", "times", "events", "sources"},
    "activity": {"errors", "times", "events"},
    "query": {"errors", "times", "events", "activity"},
    "baseline": {"errors", "times", "events", "activity"},
    "forensics": {"errors", "times", "events", "activity", "query", "baseline"},
    "surprise": {"errors", "times", "events", "activity", "baseline"},
    "incidents": {
        *("errors", "times", "events", "activity", "baseline", "surprise"),
        "forensics",
    },
}
ROOMS["report"] = {*ROOMS["incidents"], "query", "incidents"}
ROOMS["inquiry"] = {"sources", "lake", *ROOMS["report"], "report"}
ROOMS["assistant"] = {*ROOMS["inquiry"], "inquiry"}
ROOMS["analysis"] = {*ROOMS["inquiry"], "inquiry"}
ROOMS["evaluate"] = {*ROOMS["analysis"], "analysis"}
ROOMS["config"] = {"errors", "times", "incidents"}
ROOMS["policy"] = {"sources", *ROOMS["report"], "report", "config"}
ROOMS["state"] = {"errors", "times", "incidents"}
ROOMS["sinks"] = {*ROOMS["report"], "report", "config", "state"}
ROOMS["service"] = {*ROOMS["analysis"], "analysis", "config", "state", "sinks"}
ROOMS["cli"] = {*ROOMS["evaluate"], "evaluate", "config", "policy", "state", "sinks", "service"}
ROOMS["cli"] |= {"assistant"}
ROOMS["__main__"] = {"cli"}

# Names that say nothing of what is in there.
VAGUE = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc", "base"}

HEAVY = {
    *("numpy", "duckdb", "rich", "sklearn", "scipy", "jinja2", "msgspec", "zstandard", "yaml"),
    *("sqlalchemy", "alembic", "psycopg"),
}


def modules() -> Iterator[Path]:
    return PACKAGE.rglob("*.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every import anywhere in a module, those for type checkers included, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def upward(path: Path) -> Iterator[str]:
    own = room(path)
    for line, name in imported(path):
        package, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if package == "kubewitness" and other in ROOMS and other not in {own, *ROOMS[own]}:
            yield f"{path.relative_to(PACKAGE)}:{line}: {own} imports {other}"


def test_every_module_has_a_room() -> None:
    assert {room(path) for path in modules()} - {"__init__"} == ROOMS.keys()


def test_no_import_leads_upward() -> None:
    assert [arrow for path in modules() if room(path) in ROOMS for arrow in upward(path)] == []


def test_the_rooms_form_a_one_way_street() -> None:
    order = list(ROOMS)
    for name, known in ROOMS.items():
        assert all(order.index(other) < order.index(name) for other in known)
    assert not ROOMS["surprise"] & {"lake", "sources", "cli"}


def test_an_upward_arrow_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    wrong = tmp_path / "surprise" / "novelty.py"
    wrong.parent.mkdir()
    wrong.write_text(
        "def find():\n"
        "    from kubewitness.lake.store import Lake\n"
        "    from kubewitness import cli\n"
    )
    assert list(upward(wrong)) == [
        "surprise/novelty.py:2: surprise imports lake",
        "surprise/novelty.py:3: surprise imports cli",
    ]


def test_the_package_itself_imports_nothing() -> None:
    assert [name for _, name in imported(PACKAGE / "__init__.py")] in (
        [],
        ["__future__.annotations"],
    )


def test_modules_are_named_after_what_is_in_them() -> None:
    assert [path for path in modules() if path.stem in VAGUE] == []
    assert [path for path in PACKAGE.rglob("*") if path.is_dir() and path.name in VAGUE] == []


def loaded(*code: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after running ``code``."""
    script = "; ".join(["import sys", *code, "print(*{n.partition('.')[0] for n in sys.modules})"])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


HELP = "sys.argv = ['kubewitness', '--help']; from kubewitness.cli import cli"


@pytest.mark.parametrize(
    "code",
    [
        "import kubewitness.cli",
        f"{HELP}; cli(standalone_mode=False)",
        "from kubewitness.cli import cli; cli(['--version'], standalone_mode=False)",
    ],
)
def test_help_waits_for_nothing_heavy(code: str) -> None:
    assert loaded(code) & HEAVY == set()


COMMANDS = [
    *cli.list_commands(click.Context(cli)),
    *("config check", "init webhook", "policy lint"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_waits_for_no_engine(command: str) -> None:
    words = [*command.split(), "--help"]
    code = f"from kubewitness.cli import cli; cli({words}, standalone_mode=False)"
    assert loaded(code) & (HEAVY - {"msgspec"}) == set()


@pytest.mark.parametrize(
    "question",
    [
        ["query", "verb = create"],
        ["history", "deploy/web"],
        ["state", "deploy/web"],
        ["diff", "deploy/web", "--from", "10m"],
        ["inventory"],
        ["cause", f"pod/{POD}"],
        ["blast-radius", "ada"],
    ],
    ids=lambda words: words[0],
)
def test_a_question_waits_for_no_detection(question: list[str], tmp_path: Path) -> None:
    """Neither numpy, which detection needs, nor what reads logs is loaded to answer from a lake."""
    log = write(tmp_path / "audit.log", rollout())
    cli(["ingest", str(log), "--lake", str(tmp_path / "lake")], standalone_mode=False)
    asked = [*question, "--lake", str(tmp_path / "lake")]
    packages = loaded(f"from kubewitness.cli import cli; cli({asked!r}, standalone_mode=False)")
    assert "duckdb" in packages
    assert packages & {"numpy", "jinja2", "zstandard"} == set()


def test_detection_needs_neither_scikit_learn_nor_the_web() -> None:
    packages = loaded("import kubewitness.analysis", "import kubewitness.report.html")
    assert packages & {"sklearn", "scipy", "pandas", "pyarrow"} == set()
