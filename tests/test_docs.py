"""Documentation that cannot lie: what it says of the code is compared with the code."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import duckdb
import msgspec
import pytest

from audit_log import event, lines, quiet_days, write
from forensic_log import POD, rollout
from kubewitness.activity.rollup import ACTIVITY_COLUMNS
from kubewitness.cli import cli
from kubewitness.config.reading import read
from kubewitness.config.scalar import plain_type, scalar
from kubewitness.config.sending import TAKEN
from kubewitness.config.settings import (
    Admin,
    Bucket,
    Cluster,
    Detection,
    Kafka,
    Listen,
    Retention,
    Settings,
    Sink,
    Tls,
)
from kubewitness.config.webhook import flags
from kubewitness.errors import ConfigError, QueryError
from kubewitness.evaluate.figures import BEGIN, END
from kubewitness.events.change import CHANGE_COLUMNS, METADATA
from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.forensics.objects import condition
from kubewitness.forensics.rbac.answer import Able, Access, Danger, Grant, Knowledge, Touched, Who
from kubewitness.incidents.model import (
    Expected,
    Incident,
    Misconfiguration,
    Moment,
    Reason,
    Refused,
)
from kubewitness.inquiry import opened
from kubewitness.lake import arranging
from kubewitness.query import grammar
from kubewitness.query.fields import FIELDS, Field
from kubewitness.query.grammar import parse
from kubewitness.query.writing import written
from kubewitness.report.model import Coverage, Summary
from kubewitness.sinks.sink import sink
from kubewitness.surprise.registry import FACTORS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("bench/*.md")])


def commands(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by what is typed for it."""
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{name}{word} ")
        else:
            yield f"{name}{word}", command


COMMANDS = dict(commands(cli))


def page(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its rank."""
    _, found, rest = text.partition(f"\n{heading}")
    assert found, f"there is no {heading!r}"
    rank = heading.split(" ", maxsplit=1)[0]
    return re.split(rf"\n#{{1,{len(rank)}}} ", rest)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = [n for n, row in enumerate(cells) if all(set(cell) <= set("-: ") for cell in row)]
    return [row for n, row in enumerate(cells) if n not in rules and n + 1 not in rules]


def first_words(text: str) -> list[str]:
    return [row[0].strip("`") for row in rows(text)]


def test_every_column_of_an_event_is_documented_with_its_type() -> None:
    documented = {
        row[0].strip("`"): row[1] for row in rows(section(page("docs/events.md"), "## Events"))
    }
    assert documented == EVENT_COLUMNS
    assert list(documented) == list(EVENT_COLUMNS)


def test_every_column_that_changes_have_besides_is_documented() -> None:
    told = section(page("docs/events.md"), "## Events by object")
    documented = {row[0].strip("`"): row[1] for row in rows(told)}
    assert {**EVENT_COLUMNS, "date": "DATE", **documented} == CHANGE_COLUMNS
    metadata = next(row[2] for row in rows(told) if row[0] == "`metadata`")
    assert metadata.rpartition(": ")[2] == ", ".join(METADATA)


def test_every_column_of_activity_is_documented() -> None:
    assert first_words(section(page("docs/events.md"), "## Activity")) == list(ACTIVITY_COLUMNS)


def test_every_factor_is_documented_with_its_question() -> None:
    documented = [tuple(row) for row in rows(page("docs/factors.md"))]
    assert documented == [(one.name, one.aspect, one.question) for one in FACTORS]


@pytest.mark.parametrize(
    "struct",
    [Incident, Reason, Expected, Moment, Misconfiguration, Refused, Summary, Coverage],
)
def test_every_field_of_what_is_exported_is_documented(struct: type[msgspec.Struct]) -> None:
    text = section(page("docs/incidents.md"), f"## {struct.__name__}")
    assert first_words(text) == list(struct.__struct_fields__)


@pytest.mark.parametrize("struct", [Who, Touched, Able, Access, Grant, Danger, Knowledge])
def test_every_field_of_an_answer_is_documented(struct: type[msgspec.Struct]) -> None:
    text = section(page("docs/forensics.md"), f"### {struct.__name__} fields")
    assert first_words(text) == list(struct.__struct_fields__)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_documented(name: str) -> None:
    command = COMMANDS[name]
    text = section(page("docs/commands.md"), f"## kubewitness {name}")
    documented = [
        flag for row in rows(text) for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row[0])
    ]
    options = [param for param in command.params if isinstance(param, click.Option)]
    flags = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    assert sorted(documented) == sorted(flags)
    for option in options:
        if isinstance(option.type, click.Choice):
            row = next(row for row in rows(text) if option.opts[-1] in row[0])
            assert {f"`{choice}`" for choice in option.type.choices} <= set(
                re.findall(r"`[^`]+`", row[1])
            )


def test_every_command_is_in_the_readme() -> None:
    told = re.findall(r"`kubewitness ([\w-]+)", section(page("README.md"), "## Commands"))
    assert set(told) == set(cli.list_commands(click.Context(cli)))


def told_kind(kind: msgspec.inspect.Type) -> str:
    """How the documentation calls what a setting holds."""
    plain, written, _ = plain_type(kind)
    if isinstance(plain, msgspec.inspect.StructType):
        return plain.cls.__name__
    if isinstance(plain, msgspec.inspect.VarTupleType):
        return f"list of {told_kind(plain.item_type)}"
    if isinstance(plain, msgspec.inspect.DictType):
        return f"table of {told_kind(plain.value_type)}"
    return "secret" if written == "secret" else scalar(plain, written).name.removeprefix("a ")


def told_default(field: msgspec.inspect.Field) -> str:
    """The default of a setting as it would stand in the file."""
    plain, written, _ = plain_type(field.type)
    if field.required:
        return ""
    if isinstance(plain, msgspec.inspect.StructType) and field.default is not None:
        return "see below"
    if isinstance(plain, msgspec.inspect.VarTupleType | msgspec.inspect.DictType):
        return "`[]`" if isinstance(plain, msgspec.inspect.VarTupleType) else "`{}`"
    if field.default is None or isinstance(field.default, bool):
        return f"`{msgspec.json.encode(field.default).decode()}`"
    said = scalar(plain, written).write(field.default)
    return f"`{said}`" if said != "" else '`""`'


SETTINGS = (Settings, Listen, Tls, Admin, Cluster, Bucket, Kafka, Detection, Retention, Sink)


@pytest.mark.parametrize("struct", SETTINGS)
def test_every_setting_is_documented(struct: type[msgspec.Struct]) -> None:
    text = section(page("docs/configuration.md"), f"## {struct.__name__}")
    found = msgspec.inspect.type_info(struct)
    assert isinstance(found, msgspec.inspect.StructType)
    assert [tuple(row[:3]) for row in rows(text)] == [
        (f"`{one.encode_name}`", told_kind(one.type), told_default(one)) for one in found.fields
    ]


def test_all_settings_are_among_the_documented_ones() -> None:
    def structs(kind: msgspec.inspect.Type) -> Iterator[type]:
        plain, _, _ = plain_type(kind)
        if isinstance(plain, msgspec.inspect.VarTupleType):
            yield from structs(plain.item_type)
        if isinstance(plain, msgspec.inspect.StructType):
            yield plain.cls
            for field in plain.fields:
                yield from structs(field.type)

    assert set(structs(msgspec.inspect.type_info(Settings))) == set(SETTINGS)


def test_mistakes_of_a_configuration_look_as_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page("docs/configuration.md")
    (shown,) = re.findall(r"<!-- mistakes -->\n```\nkubewitness: (.*?)\n```", text, re.DOTALL)
    *_, wrong = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("serve.yaml").write_text(wrong)
    with pytest.raises(ConfigError) as caught:
        read(Path("serve.yaml"), environment={}, overrides={})
    assert str(caught.value) == shown


def test_the_flags_of_an_api_server_are_documented() -> None:
    text = section(page("docs/connecting.md"), "## The audit webhook")
    table = [tuple(row) for row in rows(text) if row[0].startswith("`audit-")]
    assert table == [(f"`{flag.name}`", flag.why) for flag in flags()]


def test_the_marks_of_the_figures_are_in_place() -> None:
    for path in ("README.md", "docs/evaluation.md"):
        text = page(path)
        assert text.count(BEGIN) == text.count(END) == 1
        assert text.index(BEGIN) < text.index(END)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{path.name} points to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}
            assert anchor in slugs, f"{path.name} points to {target}"


def test_make_demo_is_what_the_documentation_says() -> None:
    makefile = page("Makefile")
    command = "kubewitness analyze examples/ --cluster demo --since 30m --report demo/report.html"
    assert f"$(BIN)/{command}" in makefile
    assert "`--since 30m`" in page("docs/example.md")
    for target in re.findall(r"^\$ make (\w+)", page("README.md"), re.MULTILINE):
        assert f"\n{target}:" in makefile


COMMAND_LINES = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", page("README.md"), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ kubewitness")
]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_the_quick_start_runs(line: str, tmp_path: Path) -> None:
    """As a newcomer types it, in a folder that has the example."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    home = tmp_path / "home"
    home.mkdir()
    log = "/var/log/kubernetes/audit/"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace(log, "examples/")],
        cwd=tmp_path,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) > 10
    report = re.search(r"--report (\S+)", line)
    if report:
        assert (tmp_path / report[1]).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_there_is_a_quick_start() -> None:
    assert len(COMMAND_LINES) >= 4


def test_the_queries_of_the_lake_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arranging, "FEWEST_ROWS", 1)
    counting, whole, running = re.findall(r"```sql\n(.*?)```", page("docs/events.md"), re.DOTALL)
    log = tmp_path / "audit.log"
    log.write_bytes(quiet_days() + lines(rollout()))
    with opened([log], lake=tmp_path / "lake") as (lake, _, _intake):
        first, *others = lake.parts()
    with duckdb.connect() as connection:
        found = connection.execute(counting.replace("DIR", str(tmp_path / "lake"))).fetchall()
        (first.parent / "merged-x.replaces").write_text(first.name)
        rest = connection.execute(whole.replace("DIR", str(tmp_path / "lake"))).fetchall()
        listed = connection.execute(lake.relation(others)).fetchall()
        ran = connection.execute(running.replace("DIR", str(tmp_path / "lake"))).fetchall()
    assert len(found) > 1
    assert found[0][2] == max(n for _, _, n in found)
    assert len(rest) == len(listed) > 1
    assert POD in {name for _, _, name, _ in ran}


def script(name: str) -> ModuleType:
    """A script in ``bench``, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def walk() -> ModuleType:
    return script("walk")


def test_the_payloads_of_the_documentation_are_what_the_sinks_make() -> None:
    for name, content in script("payloads").payloads():
        assert (DOCS / "sinks" / name).read_bytes() == content, "run 'make docs'"


def test_every_type_of_sink_is_documented_and_in_the_example(tmp_path: Path) -> None:
    documented = first_words(section(page("docs/serve.md"), "## Sinks"))[: len(TAKEN)]
    assert documented == list(TAKEN)
    for template in (DOCS / "sinks").glob("*.j2"):
        shutil.copy(template, tmp_path)
    text = re.sub(r"/(etc|var/\w+)/kubewitness", str(tmp_path), page("docs/sinks/kubewitness.yaml"))
    for path in re.findall(rf"(?:_file|file): ({tmp_path}/[\w-]+)", text):
        Path(path).write_text("https://chat.example/0123456789abcdef")
    for path in re.findall(rf"token_file: ({tmp_path}/[\w-]+)", text):
        Path(path).write_text("0123456789abcdef0123456789")
    (tmp_path / "kubewitness.yaml").write_text(text)
    known = read(tmp_path / "kubewitness.yaml", environment={}, overrides={})
    assert {sink(one).name for one in known.sinks} == {one.name for one in known.sinks}
    assert {one.type for one in known.sinks} == TAKEN.keys() - {"stdout"}


def test_the_walk_of_one_event_is_what_the_pipeline_does(walk: Any) -> None:
    text = page("docs/architecture.md")
    assert text == walk.rewritten(text, walk.walk()), "run 'make docs' and look at the difference"


QUERIES = "docs/query.md"


def test_every_field_of_a_query_is_documented() -> None:
    documented = [tuple(row) for row in rows(section(page(QUERIES), "## Fields"))]
    assert documented == [(f"`{f.name}`", told(f), f.what) for f in FIELDS.values()]


def test_the_fields_of_workloads_are_documented() -> None:
    documented = rows(section(page("docs/forensics.md"), "## Inventory"))
    assert documented == [[f"`{f.name}`", told(f), f.what] for f in condition.FIELDS.values()]


def told(field: Field) -> str:
    return {"text": "text", "texts": "texts", "map": "texts by key"}.get(field.kind, field.kind) + (
        ", addresses" if field.addresses else ""
    )


def test_the_queries_of_the_documentation_are_queries() -> None:
    examples = [
        row[0].strip("`").replace("\\|", "|") for row in rows(section(page(QUERIES), "## Examples"))
    ]
    assert len(examples) > 10
    for example in examples:
        assert parse(written(parse(example))) == parse(example)
    for line in re.findall(r"\$ kubewitness query '([^']*)'", page(QUERIES)):
        parse(line)


def test_every_sign_of_a_query_is_documented() -> None:
    text = section(page(QUERIES), "## The language")
    assert grammar.__doc__ is not None
    rules = re.findall(r"^    \S.*|^     +.*", grammar.__doc__, re.MULTILINE)
    assert rules
    for rule in rules:
        assert rule in text


def test_a_mistake_looks_as_documented() -> None:
    (shown,) = re.findall(
        r"<!-- mistake -->\n```\nkubewitness: (.*?)\n```", page(QUERIES), re.DOTALL
    )
    with pytest.raises(QueryError) as caught:
        parse(shown.splitlines()[1].strip())
    assert str(caught.value) == shown


def test_the_example_in_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", page(QUERIES), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "audit.log", [event(who="eve", resource="secrets", code=403)])
    exec(compile(code, QUERIES, "exec"), {})
    assert capsys.readouterr().out == "['eve']\n"
