"""Queries and events for property tests: small alphabets, so that they meet."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.query.expression import And, Expression, Not, Operator, Or, Question, Value
from kubewitness.query.fields import FIELDS, Field
from kubewitness.query.regexp import regexp
from kubewitness.times import Moment

_WORDS = ("", "get", "watch", "secrets", "pods", "exec", "apps", "web-1", "it's", "ada", "eve")
_HOSTILE = (
    '"',
    "'",
    "\\",
    "\n",
    "\x00",
    "%",
    "_",
    "*",
    "--",
    ";",
    "é",
    "漢",
    "\U0001f469",
    "/",
    ".",
)
words = st.sampled_from(_WORDS) | st.lists(st.sampled_from([*_WORDS, *_HOSTILE]), max_size=3).map(
    "".join
)
addresses = st.sampled_from(
    [
        *(
            "10.0.0.1",
            "10.200.0.9",
            "203.0.113.9",
            "127.0.0.1",
            "::1",
            "2001:db8::9",
            "::ffff:a00:1",
        ),
        *(
            "::ffff:10.0.0.1",
            "fe80::1%eth0",
            "10.0.0.1%a\n:",
            "010.0.0.1",
            "unknown",
            "",
            "10.0.0.1 ",
        ),
    ]
)
networks = st.sampled_from(
    ["10.0.0.0/8", "10.0.0.0/9", "10.0.0.1/32", "0.0.0.0/0", "::/0", "2001:db8::/33", "200.0.0.0/6"]
).map(ip_network)
START = datetime(2026, 3, 2, tzinfo=UTC).replace(tzinfo=None)
times = st.integers(-3, 3).map(lambda n: START + timedelta(hours=n))
keys = st.sampled_from(
    [
        "authorization.k8s.io/decision",
        "authorization.k8s.io/reason",
        "a",
        "",
        "~1",
        "-",
        "0",
        'q"',
        "é",
    ]
)
scalars = words | st.integers(-9, 9) | st.booleans() | st.none()


def _json(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str | None]:
    """As JSON text in one of several ways to write it, perhaps with a key that comes twice."""
    found = st.dictionaries(keys, values, max_size=3)
    plain = st.builds(_compact, found, st.booleans())
    escaped = st.dictionaries(keys, words, min_size=1, max_size=3).map(
        lambda told: f"{{{','.join(f'{_escaped(key)}:{_escaped(told[key])}' for key in told)}}}"
    )
    twice = st.builds(
        lambda key, first, then: f"{{{json.dumps(key)}:{first},{json.dumps(key)}:{then}}}",
        keys, words.map(json.dumps), words.map(json.dumps),
    )  # fmt: skip
    return st.none() | plain | escaped | twice


def _compact(found: dict[str, Any], ascii: bool) -> str:
    return json.dumps(found, ensure_ascii=ascii, separators=(",", ":"))


def _escaped(text: str) -> str:
    units = text.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)) + '"'


_COLUMNS = {
    "extra": _json(st.lists(scalars, max_size=3) | scalars),
    "annotations": _json(scalars),
    "source_ips": st.none() | st.lists(st.none() | addresses, max_size=3),
    "request_uri": st.sampled_from(
        ["", "/", "//api/v1?x=/y", "api", "/healthz", f"/{'x' * 70}", "/\n?"]
    ),
}
_KINDS = {
    "VARCHAR": st.none() | words,
    "VARCHAR[]": st.none() | st.lists(st.none() | words, max_size=3),
    "INTEGER": st.none() | st.sampled_from([200, 403, 404]),
    "TIMESTAMP": st.none() | times,
}
events = st.fixed_dictionaries(
    {
        name: _COLUMNS.get(name, _KINDS.get(kind, st.none()))
        for name, kind in EVENT_COLUMNS.items()
        if not name.endswith("_object")
    }
)


def _is_regexp(text: str) -> bool:
    try:
        regexp(text)
    except ValueError:
        return False
    return True


_PATTERNS = [
    *(
        "get",
        "^$",
        "",
        ".",
        "^ada",
        "(?i)ADA$",
        "a.e",
        "[^a-z]",
        "\\d+",
        "x{2,60}",
        "(e|g)+t",
        "\\n",
    ),
    *("\\pL", "é", "\\bweb\\b", "^.*$", "\\.", "'", '"', "\x00"),
]
patterns = st.sampled_from(_PATTERNS) | words.filter(_is_regexp)
globs = words | st.lists(st.sampled_from(["*", "a", "we", "e", "get", ".", "%"]), max_size=5).map(
    "".join
)


@st.composite
def questions(draw: st.DrawFn, field: Field) -> Question:
    key = draw(keys) if field.kind == "map" else ""
    if field.kind == "number":
        operator: Operator = draw(st.sampled_from(["in", "<", "<=", ">", ">=", "exists"]))
        values: st.SearchStrategy[Value] = st.sampled_from([200, 400, 403])
    elif field.kind == "time":
        operator = draw(st.sampled_from(["<", "<=", ">", ">=", "exists"]))
        values = times.map(lambda at: Moment(when=at.replace(tzinfo=UTC)))
    else:
        operator = draw(st.sampled_from(["in", "in", "~", "like", "exists"]))
        values = {"~": patterns, "like": globs}.get(operator, words)
        if field.addresses and operator == "in":
            # What is an address in a query is asked as a network.
            values = networks | st.sampled_from(["unknown", "010.0.0.1", ""])
    most = {"exists": 0, "in": 3}.get(operator, 1)
    several = draw(st.lists(values, min_size=min(most, 1), max_size=most))
    return Question(field, operator, tuple(several), key)


def expressions() -> st.SearchStrategy[Expression]:
    test = st.sampled_from(list(FIELDS.values())).flatmap(questions)
    return st.recursive(
        test,
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, min_size=2, max_size=3).map(lambda terms: And(tuple(terms))),
            st.lists(inner, min_size=2, max_size=3).map(lambda terms: Or(tuple(terms))),
        ),
        max_leaves=5,
    )
