"""A query as a condition over the view ``events``: every value is a parameter.

SQL knows three answers, a query two. Where nothing is denied, "unknown" and "no" are the same, so
a bare comparison will do, and the engine can skip what its statistics rule out; what is denied is
asked with ``IS NOT TRUE``. A field without a value is the empty text: only a test that the empty
text passes has to be asked about NULL at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import duckdb
from duckdb.sqltypes import BOOLEAN, VARCHAR

from kubewitness.events.normalisation import quoted
from kubewitness.query.address import network, pattern, within
from kubewitness.query.fields import FIELDS
from kubewitness.query.grammar import UNSETTLED, And, Expression, Not, Or, Question, Value
from kubewitness.query.memory import text_predicate
from kubewitness.times import Moment

_WITHIN = "address_within"


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL that is TRUE for the events asked for and FALSE or NULL for others, with its
    parameters in the order of their marks."""

    text: str
    parameters: list[Any] = field(default_factory=list)


def condition(expression: Expression) -> Condition:
    """The condition of ``expression``; a connection needs ``prepare`` to ask it.

    Raises ``ValueError`` for a duration, which only has a meaning in a log: see ``settled``.

    >>> from kubewitness.query.grammar import parse
    >>> condition(parse('code >= 400 and not verb = "it\\'s"'))
    Condition(text='("code" >= ? AND ("verb" = ?) IS NOT TRUE)', parameters=[400, "it's"])
    """
    match expression:
        case Question():
            return _test(expression)
        case Not(term):
            denied = condition(term)
            return Condition(f"({denied.text}) IS NOT TRUE", denied.parameters)
        case And(terms):
            return _joined(" AND ", [condition(term) for term in terms], "TRUE")
        case Or(terms):
            return _joined(" OR ", [condition(term) for term in terms], "FALSE")


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Teach a connection what conditions ask for and SQL has not."""
    try:
        connection.create_function(
            _WITHIN, lambda text, home: within(text, network(home)), [VARCHAR, VARCHAR], BOOLEAN
        )
    except duckdb.NotImplementedException:
        return  # taught already


def ordering(name: str) -> str:
    """The SQL expression by which events are sorted and counted by a field: of several values
    the first that there is. Raises ``ValueError`` for a map, which has no one value."""
    if name == "time":
        return '"received_at"'
    if name in _ANNOTATIONS:
        return f"json_extract_string(annotations, {quoted(_pointer(_ANNOTATIONS[name]))})"
    if FIELDS[name].kind == "map":
        raise ValueError(f"{name} has a value for each key")
    if name in _DERIVED:
        return _DERIVED[name](Question(FIELDS[name], "exists"))[0]
    return f'"{name}"[1]' if FIELDS[name].kind == "texts" else f'"{name}"'


def _joined(word: str, parts: list[Condition], nothing: str) -> Condition:
    if not parts:
        return Condition(nothing)
    if len(parts) == 1:
        return parts[0]
    return Condition(
        f"({word.join(part.text for part in parts)})",
        [parameter for part in parts for parameter in part.parameters],
    )


def _test(question: Question) -> Condition:
    name = question.field.name
    if question.field.kind in ("number", "time"):
        return _measure(question)
    if name == "extra":
        pointer = quoted(_pointer(question.key))
        several = f"TRY_CAST(json_extract(extra, {pointer}) AS VARCHAR[])"
        listed = f"coalesce({several}, [json_extract_string(extra, {pointer})])"
        return _foreseen("extra", _listed(listed, question), question)
    if name == "annotations" or name in _ANNOTATIONS:
        pointer = quoted(_pointer(_ANNOTATIONS.get(name, question.key)))
        text = f"json_extract_string(annotations, {pointer})"
        return _foreseen("annotations", _spelt([text], question), question)
    if name in _DERIVED:
        return _spelt(_DERIVED[name](question), question)
    if question.field.kind == "texts":
        return _listed(f'"{name}"', question)
    return _spelt([f'"{name}"'], question)


def _measure(question: Question) -> Condition:
    column = '"received_at"' if question.field.name == "time" else f'"{question.field.name}"'
    if question.operator == "exists":
        return Condition(f"{column} IS NOT NULL")
    if question.operator == "in":
        return Condition(f"{column} IN ({_marks(question.values)})", list(question.values))
    bound = question.values[0]
    if not isinstance(bound, Moment):
        return Condition(f"{column} {question.operator} ?", [bound])
    if bound.when is None:
        raise ValueError(UNSETTLED)
    # The lake's times are UTC without saying so.
    naive = bound.when.astimezone(UTC).replace(tzinfo=None)
    return Condition(f"{column} {question.operator} CAST(? AS TIMESTAMP)", [naive])


def _spelt(texts: list[str], question: Question) -> Condition:
    """A test on the texts that these expressions give, each a text, '' or NULL."""
    if question.operator == "exists":
        return _joined(" OR ", [Condition(f"{text} <> ''") for text in texts], "FALSE")
    if not text_predicate(question)(""):
        return _joined(" OR ", [_matching(text, question) for text in texts], "FALSE")
    some = [_matching(f"nullif({text}, '')", question) for text in texts]
    none = " AND ".join(f"coalesce({text}, '') = ''" for text in texts)
    return _joined(" OR ", [*some, Condition(f"({none})")], "FALSE")


def _listed(texts: str, question: Question) -> Condition:
    """A test on the texts of a list."""
    some = f"coalesce(len(list_filter({texts}, lambda one: one <> '')), 0)"
    if question.operator == "exists":
        return Condition(f"{some} > 0")
    matching = _matching("one", question)
    if text_predicate(question)(""):
        found = f"len(list_filter({texts}, lambda one: one <> '' AND {matching.text})) > 0"
        return Condition(f"({found} OR {some} = 0)", matching.parameters)
    if question.operator == "in" and all(isinstance(value, str) for value in question.values):
        # list_has_any takes twice as long.
        any_of = " OR ".join(f"list_contains({texts}, ?)" for _ in question.values)
        return Condition(f"({any_of})", list(question.values))
    return Condition(
        f"len(list_filter({texts}, lambda one: {matching.text})) > 0", matching.parameters
    )


def _matching(text: str, question: Question) -> Condition:
    """The test on one text."""
    if question.operator == "~":
        return Condition(f"regexp_matches({text}, ?, 's')", [question.values[0]])
    if question.operator == "like":
        glob = re.sub(r"([\\%_])", r"\\\1", str(question.values[0])).replace("*", "%")
        escape = " ESCAPE '\\'" if "\\" in glob else ""
        return Condition(f"{text} LIKE ?{escape}", [glob])
    texts = [value for value in question.values if isinstance(value, str)]
    parts = [Condition(f"{text} IN ({_marks(texts)})", texts)] if texts else []
    if len(texts) == 1:
        parts = [Condition(f"{text} = ?", texts)]
    for home in question.values:
        # In most logs no address has a colon; CASE keeps Python away from those.
        if isinstance(home, IPv4Network):
            plain = Condition(f"regexp_full_match({text}, ?, 's')", [pattern(home)])
        elif isinstance(home, IPv6Network):
            plain = Condition("FALSE")
        else:
            continue
        parts.append(
            Condition(
                f"CASE WHEN contains({text}, ':') THEN {_WITHIN}({text}, ?) ELSE {plain.text} END",
                [str(home), *plain.parameters],
            )
        )
    return _joined(" OR ", parts, "FALSE")


def _foreseen(column: str, asked: Condition, question: Question) -> Condition:
    """``asked`` only where the JSON text of ``column`` can hold one of the values.

    Looking into JSON costs ten times as much as searching its text. What has neither letters nor
    digits may be escaped there in several ways, these only as \\uXXXX.
    """
    if question.operator != "in" or not all(map(_longest_word, question.values)):
        return asked
    words = [*map(_longest_word, question.values), r"\u"]
    anywhere = " OR ".join(f"contains({column}, ?)" for _ in words)
    return Condition(f"CASE WHEN {anywhere} THEN {asked.text} END", [*words, *asked.parameters])


def _longest_word(value: Value) -> str:
    return max(re.findall(r"[A-Za-z0-9 _.:=-]+", str(value)), key=len, default="")


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" for _ in values)


def _pointer(key: str) -> str:
    """A JSON pointer (RFC 6901) to a key of an object."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _resource(question: Question) -> list[str]:
    group = """nullif("resource", '') || '.' || nullif("api_group", '')"""
    part = """ || '/' || nullif("subresource", '')"""
    if question.operator != "in":
        return ['"resource"', group, f"nullif(\"resource\", ''){part}", group + part]
    # Only what has a point or a slash can be one of the longer spellings.
    grouped = any("." in str(value) for value in question.values)
    parted = any("/" in str(value) for value in question.values)
    spelt = ['"resource"', group] if grouped else ['"resource"']
    if parted:
        spelt += [f"nullif(\"resource\", ''){part}", *([group + part] if grouped else [])]
    return spelt


# activity.action in SQL
_ACTION = """CASE WHEN "subresource" IN ('exec', 'attach', 'portforward')
    THEN "subresource" || ' ' || coalesce(nullif("resource", '')
        || coalesce('.' || nullif("api_group", ''), ''), '')
    ELSE CASE "verb" WHEN 'watch' THEN 'list' ELSE coalesce("verb", '') END || ' '
        || coalesce(nullif("resource", '') || coalesce('.' || nullif("api_group", ''), '')
            || coalesce('/' || nullif("subresource", ''), ''),
            '/' || regexp_extract(coalesce("request_uri", ''), '^/*([^/?]{0,64})', 1)) END"""

_DERIVED: dict[str, Callable[[Question], list[str]]] = {
    "principal": lambda question: ['"user"', '"impersonated_user"'],
    "resource": _resource,
    "action": lambda question: [_ACTION],
    "source_ip": lambda question: ['"source_ips"[-1]'],
}
_ANNOTATIONS = {
    "decision": "authorization.k8s.io/decision",
    "decision_reason": "authorization.k8s.io/reason",
}
