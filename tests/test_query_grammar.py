"""The language of queries: what is read how, and where a mistake is pointed at."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.errors import QueryError
from kubewitness.query.expression import And, Expression, Not, Or, narrowed, same, settled
from kubewitness.query.grammar import DEEPEST, LONGEST, parse
from kubewitness.query.memory import predicate
from kubewitness.query.regexp import regexp
from kubewitness.query.sql import condition
from kubewitness.query.writing import quoted, written
from kubewitness.times import moment

READING = {
    "who": "ada",
    "user": "ada",
    "groups": ["dev", "system:authenticated"],
    "verb": "get",
    "resource": "roles",
    "api_group": "rbac.authorization.k8s.io",
    "namespace": "shop",
    "name": "web-7f9c",
    "source_ips": ["203.0.113.9", "10.0.0.7"],
    "code": 403,
    "received_at": datetime(2026, 3, 16, 10),  # noqa: DTZ001 - as the lake tells it
    "request_uri": "/apis/rbac.authorization.k8s.io/v1/roles",
    "extra": '{"authentication.kubernetes.io/credential-id":["JTI=4bae"]}',
    "annotations": {"authorization.k8s.io/decision": "forbid"},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "verb=get",
        "verb in(get,list)AND resource = roles",
        "resource = roles.rbac.authorization.k8s.io",
        "resource like *.rbac.authorization.k8s.io",
        "NOT verb = list and not (code < 400 or code >= 500)",
        "verb = list or verb = get and code = 403",
        "principal = ada and principal != eve",
        "groups = dev and groups ~ ^system: and groups != system:masters",
        "groups not in (system:masters, admins)",
        'name like "web-*" and name not like *-db',
        "source_ip in 10.0.0.0/8 and source_ips in (203.0.113.0/24, 192.0.2.1)",
        "source_ip = 10.0.0.7 and not source_ip in 203.0.113.0/24",
        "impersonated_user not exists and not subresource exists",
        'impersonated_user = "" and impersonated_user != eve',
        "code in (401, 403) and code != 200",
        "time >= 2026-03-16T10:00 and time < 2026-03-16T12:00:01+01:00",
        "not time < 2026-03-16",
        'extra["authentication.kubernetes.io/credential-id"] = "JTI=4bae"',
        "extra['authentication.kubernetes.io/credential-id'] = JTI=4bae",
        "annotations['authorization.k8s.io/decision'] = forbid and decision = forbid",
        'action = "get roles.rbac.authorization.k8s.io"',
        r'name ~ "^web-[0-9a-f]{4}$" and name !~ "\s"',
    ],
)
def test_what_is_meant_is_found(text: str) -> None:
    assert predicate(parse(text))(READING)
    assert not predicate(Not(parse(text)))(READING)


def test_and_binds_closer_than_or() -> None:
    a, b, c = (same("name", letter) for letter in "abc")
    assert parse("name = a or name = b and name = c") == Or((a, And((b, c))))
    assert parse("not name = a and name = b") == And((Not(a), b))


@pytest.mark.parametrize(
    ("text", "column", "told"),
    [
        ("pricipal = ada", 0, "did you mean principal?"),
        ("verb = get and codes > 400", 15, "did you mean code?"),
        ("xyzzy = 1", 0, "there are: principal, user"),
        ("verb", 4, "verb takes =, !=, ~"),
        ("verb == get", 5, "write = for =="),
        ("verb > get", 5, "verb takes"),
        ("code ~ 4", 5, "code takes"),
        ("code = four", 7, "'four' is no number"),
        ("time = 2026-03-16", 5, "time >= FROM and time < TO"),
        ("time > yesterday", 7, "'yesterday' is no time"),
        ("verb =", 6, "here a value should stand"),
        ("verb = get code = 200", 11, "'and' or 'or' is missing"),
        ("name = a b", 9, "needs quotes"),
        ("verb in (get, list", 8, "this list is never closed"),
        ("verb in ()", 9, "here a value should stand"),
        ("(verb = get", 0, "this parenthesis is never closed"),
        ("verb = get)", 10, "a parenthesis that was never opened"),
        ('name = "web', 7, "this quote is never closed"),
        ("and verb = get", 0, "here a field should stand"),
        ("verb = get and", 14, "here a field should stand"),
        ("not", 3, "here a field should stand"),
        ('user ~ "a(b"', 7, "missing )"),
        ("user ~ '(?P<name>a)'", 7, "needs no name"),
        ("source_ip in 10.0.0.0/99", 13, "does not appear to be"),
        ("name = web-*", 7, "use like"),
        ("annotations = x", 12, "asked by key"),
        ("extra[key] = x", 6, "a key in quotes"),
        ("name = a\ud800", 8, "not UTF-8"),
    ],
)
def test_a_mistake_is_pointed_at(text: str, column: int, told: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert caught.value.column == column
    assert told in caught.value.what
    shown, caret = str(caught.value).splitlines()[-2:]
    assert caret.index("^") == len(caret) - 1
    assert shown[2:] == "".join(c if c.isprintable() else " " for c in text)
    assert len(caret) - 3 == column


def test_in_a_long_query_the_place_is_shown_all_the_same() -> None:
    with pytest.raises(QueryError) as caught:
        parse(f'name = "{"x" * 500}" and verv = get and name = "{"x" * 500}"')
    shown, caret = str(caught.value).splitlines()[-2:]
    assert len(shown) <= 80
    assert shown[caret.index("^") :].startswith("verv = get")


@given(text=st.text(max_size=60) | st.text(alphabet="abn=<>~!()[]'\"\\, \n*/.:1", max_size=60))
def test_any_text_is_a_query_or_a_mistake_in_it(text: str) -> None:
    found = _read(text)
    if isinstance(found, QueryError):
        assert 0 <= found.column <= len(text)
    else:
        assert parse(written(found)) == found


def _read(text: str) -> Expression | QueryError:
    try:
        return parse(text)
    except QueryError as error:
        return error


@given(text=st.text())
def test_any_text_can_be_quoted(text: str) -> None:
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert parse(f"name = {quoted(text)}") == same("name", text)


def test_a_query_of_anothers_making_exhausts_nothing() -> None:
    for text in ("(" * LONGEST, "not " * (LONGEST // 4), "verb = x or " * LONGEST):
        with pytest.raises(QueryError):
            parse(text)
    parse("(" * (DEEPEST - 1) + "verb = get" + ")" * (DEEPEST - 1))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(a*)*b", "(.*a){20}$", "(a?){30}a{30}"])
def test_no_pattern_stops_the_clock(pattern: str) -> None:
    began = time.perf_counter()
    regexp(pattern)("a" * 50_000 + "!")
    assert time.perf_counter() - began < 2


def test_half_a_character_is_no_trouble() -> None:
    assert regexp("^a.b$")("a\ud800b")
    assert predicate(parse("user ~ a or user = a or user like a*"))({"user": "a\ud800"})


def test_durations_count_back_from_the_last_event() -> None:
    last = datetime(2026, 3, 16, 12, tzinfo=UTC)
    asked = parse("verb = get and (time > 2h30m or not time < 1d)")
    for evaluator in (predicate, condition):
        with pytest.raises(ValueError, match="counts back"):
            evaluator(asked)
    holds = predicate(settled(asked, last))
    at = [last - timedelta(hours=hours) for hours in (1, 3, 23, 25)]
    assert [holds({"verb": "get", "received_at": when}) for when in at] == [True, True, True, False]


def test_a_query_is_narrowed_to_a_cluster_and_a_time() -> None:
    asked = narrowed(
        parse("verb = get or verb = list"), cluster="prod", since=moment("2026-03-16"), until=None
    )
    assert written(asked) == (
        "cluster = prod and time >= 2026-03-16T00:00:00+00:00 and (verb = get or verb = list)"
    )
    assert narrowed(parse(""), cluster=None) == parse("")
