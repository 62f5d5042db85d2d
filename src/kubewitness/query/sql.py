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
from kubewitness.query.columns import ACTION, ANNOTATIONS, COSTLY, DERIVED, pointer
from kubewitness.query.expression import UNSETTLED, And, Expression, Not, Or, Question, Value
from kubewitness.query.memory import predicate, text_predicate
from kubewitness.times import Moment

_WITHIN = "address_within"
# A regular expression that is just a text.
_WORD = re.compile(r"[\w/:@ -]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL that is TRUE for the events asked for and FALSE or NULL for others, with its
    parameters in the order of their marks."""

    text: str
    parameters: list[Any] = field(default_factory=list)


Distinct = Callable[[str], Sequence[Any] | None]
"""The distinct values of a SQL expression over ``events``, NULL left out; None if too many."""


def condition(expression: Expression, distinct: Distinct = lambda column: None) -> Condition:
    """The condition of ``expression``; a connection needs ``prepare`` to ask it.

    Hardly any column has many ``distinct`` values, and to ask each of them once in memory takes a
    tenth of what it takes to search the text of every event.

    Raises ``ValueError`` for a duration, which only has a meaning in a log: see ``settled``.

    >>> from kubewitness.query.grammar import parse
    >>> condition(parse('code >= 400 and not verb = "it\\'s"'))
    Condition(text='("code" >= ? AND ("verb" = ?) IS NOT TRUE)', parameters=[400, "it's"])
    """
    match expression:
        case Question():
            return _few(expression, distinct) or _test(expression)
        case Not(term):
            denied = condition(term, distinct)
            return Condition(f"({denied.text}) IS NOT TRUE", denied.parameters)
        case And(terms):
            return _joined(" AND ", [condition(term, distinct) for term in terms], "TRUE")
        case Or(terms):
            return _joined(" OR ", [condition(term, distinct) for term in terms], "FALSE")


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Teach a connection what conditions on addresses ask for and SQL has not."""
    try:
        connection.create_function(
            _WITHIN, lambda text, home: within(text, network(home)), [VARCHAR, VARCHAR], BOOLEAN
        )
    except duckdb.NotImplementedException:
        return  # taught already


def _joined(word: str, parts: list[Condition], nothing: str) -> Condition:
    if not parts:
        return Condition(nothing)
    if len(parts) == 1:
        return parts[0]
    return Condition(
        f"({word.join(part.text for part in parts)})",
        [parameter for part in parts for parameter in part.parameters],
    )


def _few(question: Question, distinct: Distinct) -> Condition | None:
    """The question put to the distinct values of its columns; None if that is no gain."""
    name = question.field.name
    columns = COSTLY.get(name, ())
    plain = all(isinstance(value, str) for value in question.values)
    json = columns in (("extra",), ("annotations",))
    if not columns or not (json or question.operator == "~" or not plain):
        return None
    holds = predicate(question)
    # An event that has nothing in any of the columns.
    if holds({}):
        return None
    parts = []
    for column in columns:
        values = distinct(column)
        if values is None:
            return None
        event = "source_ips" if name == "source_ip" else column.strip('"')
        found = [v for v in values if holds({event: [v] if name == "source_ip" else v})]
        if found:
            parts.append(Condition(f"{column} IN ({_marks(found)})", found))
    return _joined(" OR ", parts, "FALSE")


def _test(question: Question) -> Condition:
    name = question.field.name
    if question.field.kind in ("number", "time"):
        return _measure(question)
    if name == "extra":
        path = quoted(pointer(question.key))
        several = f"TRY_CAST(json_extract(extra, {path}) AS VARCHAR[])"
        listed = f"coalesce({several}, [json_extract_string(extra, {path})])"
        return _foreseen("extra", _listed(listed, question), question)
    if name == "annotations" or name in ANNOTATIONS:
        path = quoted(pointer(ANNOTATIONS.get(name, question.key)))
        text = f"json_extract_string(annotations, {path})"
        return _foreseen("annotations", _spelt([text], question), question)
    if name == "action" and question.operator == "in":
        return _deed(question)
    if name in DERIVED:
        return _spelt(DERIVED[name](question), question)
    return _plain(f'"{name}"', question)


def _plain(column: str, question: Question) -> Condition:
    if question.field.kind == "texts":
        return _listed(column, question)
    return _spelt([column], question)


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
        words = str(question.values[0]).split("|")
        if all(map(_WORD.fullmatch, words)):  # three times as fast
            found = [Condition(f"contains({text}, ?)", [word]) for word in words]
            return _joined(" OR ", found, "FALSE")
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


def _deed(question: Question) -> Condition:
    """Of the events whose verb or subresource an action begins with, those of this action."""
    asked = _spelt([ACTION], question)
    words = {str(value).partition(" ")[0] for value in question.values}
    if "" in words:
        return asked
    verbs = sorted(words | {"watch"} if "list" in words else words)
    marks = _marks(verbs)
    # A verb with a blank in it is nobody's but a forger's: its first word tells nothing.
    likely = f"""("verb" IN ({marks}) OR "subresource" IN ({marks}) OR contains("verb", ' '))"""
    return Condition(
        f"CASE WHEN {likely} THEN {asked.text} END", [*verbs, *verbs, *asked.parameters]
    )
