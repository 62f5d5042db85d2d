"""SQL and memory give the same answer to every query about every event."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.query.expression import Expression, Not
from kubewitness.query.fields import FIELDS
from kubewitness.query.grammar import parse
from kubewitness.query.memory import predicate
from kubewitness.query.sql import condition, prepare
from kubewitness.query.writing import quoted, written
from queries import events, expressions, questions

ALIKE = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def lake() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with an empty table ``events``."""
    with duckdb.connect(config={"threads": 1}) as connection:
        columns = ", ".join(f'"{name}" {kind}' for name, kind in EVENT_COLUMNS.items())
        connection.execute(f"CREATE TABLE events (nth INTEGER, {columns})")
        prepare(connection)
        yield connection


def fill(connection: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]) -> None:
    connection.execute("DELETE FROM events")
    for nth, row in enumerate(rows):
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" for _ in row)
        connection.execute(
            f"INSERT INTO events (nth, {names}) VALUES (?, {marks})", [nth, *row.values()]
        )


def by_sql(connection: duckdb.DuckDBPyConnection, expression: Expression) -> list[int]:
    asked = condition(expression)
    found = connection.execute(
        f"SELECT nth FROM events WHERE {asked.text} ORDER BY nth", asked.parameters
    ).fetchall()
    return [nth for (nth,) in found]


def by_values(connection: duckdb.DuckDBPyConnection, expression: Expression) -> list[int]:
    """By SQL that knows which values there are, as the search of a lake does."""

    def distinct(column: str) -> list[Any]:
        rows = connection.execute(f"SELECT DISTINCT {column} FROM events").fetchall()
        return [value for (value,) in rows if value is not None]

    asked = condition(expression, distinct)
    found = connection.execute(
        f"SELECT nth FROM events WHERE {asked.text} ORDER BY nth", asked.parameters
    ).fetchall()
    return [nth for (nth,) in found]


def in_memory(rows: list[dict[str, Any]], expression: Expression) -> list[int]:
    holds = predicate(expression)
    return [nth for nth, row in enumerate(rows) if holds(row)]


@ALIKE
@given(rows=st.lists(events, min_size=1, max_size=3), expression=expressions())
def test_both_evaluators_agree(
    lake: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], expression: Expression
) -> None:
    fill(lake, rows)
    found = in_memory(rows, expression)
    assert by_sql(lake, expression) == found
    assert by_values(lake, expression) == found


@pytest.mark.parametrize("name", FIELDS)
@settings(ALIKE, max_examples=15)
@given(data=st.data())
def test_both_evaluators_agree_on_each_field(
    lake: duckdb.DuckDBPyConnection, name: str, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(events, min_size=1, max_size=4))
    question = data.draw(questions(FIELDS[name]))
    fill(lake, rows)
    found = by_sql(lake, question)
    assert found == in_memory(rows, question)
    assert found == by_values(lake, question)
    # What is denied is everything else, whatever is missing.
    assert sorted([*found, *by_sql(lake, Not(question))]) == list(range(len(rows)))


@pytest.mark.parametrize(
    ("row", "text", "holds"),
    [
        # JSON may write any letter as an escape, and a key twice: the first counts.
        ({"extra": r'{"a":["\u0061d\u0061"]}'}, 'extra["a"] = ada', True),
        ({"annotations": r'{"\u0061":"\u0061da"}'}, 'annotations["a"] = ada', True),
        ({"annotations": '{"a":"ada","a":"eve"}'}, 'annotations["a"] = ada', True),
        ({"annotations": '{"a":"ada","a":"eve"}'}, 'annotations["a"] = eve', False),
        ({"extra": '{"a/b~c":["ada"]}'}, 'extra["a/b~c"] = ada', True),
        ({"extra": '{"a":"ada"}'}, 'extra["a"] = ada and extra["b"] not exists', True),
        # What SQL gives a meaning in LIKE has none here.
        ({"name": r"a\%"}, r"name like 'a\\%'", True),
        ({"name": r"a\%"}, r"name like 'a\\*'", True),
        ({"name": "a%"}, r"name like 'a\\%'", False),
        ({"name": "ab"}, "name like 'a_' or name like 'a%'", False),
        ({"name": "a\nb"}, "name like 'a*b' and name ~ '^a.b$'", True),
        # Missing is empty, and neither is any other value.
        ({"name": None}, "name = '' and name != x and name ~ '^$' and not name exists", True),
        ({"name": ""}, "name = '' and name != x and name ~ '^$' and not name exists", True),
        ({"groups": None}, "groups = '' and groups != x and groups not exists", True),
        ({"groups": ["", None, "x"]}, "groups = '' or groups not exists", False),
        ({"user": "ada", "impersonated_user": ""}, "principal = ''", False),
        ({"code": None}, "code < 400 or code >= 400 or code = 0 or code exists", False),
        ({"code": None}, "code != 200 and not code < 400", True),
        # What an address is does not depend on how it is written, and a zone is none of it.
        ({"source_ips": ["10.0.0.1", "::ffff:a00:2"]}, "source_ip in 10.0.0.0/8", True),
        ({"source_ips": ["2001:DB8:0::9"]}, "source_ips = 2001:db8::9", True),
        ({"source_ips": ["10.0.0.1"]}, "source_ip in ::/0", False),
        ({"source_ips": ["010.0.0.1"]}, "source_ip in 0.0.0.0/0", False),
        ({"source_ips": ["fe80::1%eth0"]}, "source_ip in fe80::/10", True),
        ({"source_ips": []}, "source_ip not in 0.0.0.0/0 and source_ips not exists", True),
        (
            {"verb": "create", "resource": "pods", "subresource": "exec"},
            "action = 'exec pods'",
            True,
        ),
        ({"verb": "watch", "resource": "pods"}, "action in ('get x', 'list pods')", True),
        ({"verb": "a b", "resource": "pods"}, "action = 'a b pods'", True),
        ({"verb": "", "resource": "pods"}, "action = ' pods'", True),
        ({"verb": "get", "resource": "pods", "subresource": "exec"}, "resource = pods/exec", True),
        ({"resource": "pods", "api_group": "metrics.k8s.io"}, "resource = pods", True),
        ({"resource": "pods", "api_group": ""}, "resource = pods.metrics.k8s.io", False),
    ],
)
def test_both_evaluators_know_the_traps(
    lake: duckdb.DuckDBPyConnection, row: dict[str, Any], text: str, holds: bool
) -> None:
    fill(lake, [row])
    assert by_sql(lake, parse(text)) == ([0] if holds else [])
    assert by_values(lake, parse(text)) == ([0] if holds else [])
    assert predicate(parse(text))(row) is holds


@given(expression=expressions())
def test_what_is_written_is_read_again(expression: Expression) -> None:
    assert parse(written(expression)) == expression


@given(row=events, expression=expressions())
def test_an_object_is_asked_like_a_mapping(row: dict[str, Any], expression: Expression) -> None:
    holds = predicate(expression)
    assert holds(SimpleNamespace(**row)) == holds(row)


# With a slash, an address would be a network, and a mistake if it is none.
@given(
    text=st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"])),
    operator=st.sampled_from(["=", "!=", "like", "not like"]),
    key=st.text(),
)
def test_what_is_asked_for_is_never_sql(text: str, operator: str, key: str) -> None:
    """Values are parameters; the key of a map is a string literal."""
    for field in ("name", "groups", "resource", "source", f"extra[{quoted('mark' + key)}]"):
        asked = condition(parse(f"{field} {operator} {quoted('mark' + text)}"))
        assert "mark" in repr(asked.parameters)
        assert "mark" not in re.sub("'(?:[^']|'')*'", "", asked.text)
