"""A query's tree as text again."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from kubewitness.query.expression import COMPARISONS, And, Expression, Not, Or, Question, Value
from kubewitness.times import Moment


def written(expression: Expression) -> str:
    """A text that ``parse`` reads as ``expression``.

    >>> from kubewitness.query.grammar import parse
    >>> written(parse('not(verb=get or  name LIKE web-*)AND code!=200'))
    'not (verb = get or name like "web-*") and code != 200'
    """
    match expression:
        case Question():
            return _written_question(expression, denied=False)
        case Not(Question() as denied):
            return _written_question(denied, denied=True)
        case Not(term):
            return f"not {_enclosed(term)}"
        case And(terms):
            return " and ".join(map(_enclosed, terms))
        case Or(terms):
            return " or ".join(map(_enclosed, terms))


def _enclosed(expression: Expression) -> str:
    text = written(expression)
    return f"({text})" if isinstance(expression, And | Or) else text


_DENIED = {"~": "!~", "=": "!="}


def _written_question(question: Question, *, denied: bool) -> str:
    name = (
        f"{question.field.name}[{quoted(question.key)}]"
        if question.field.kind == "map"
        else question.field.name
    )
    relation: str = question.operator
    values = ", ".join(map(_written_value, question.values))
    if relation == "in" and len(question.values) == 1:
        relation = "="
    elif relation == "in":
        values = f"({values})"
    if denied and relation in COMPARISONS:
        return f"not {name} {relation} {values}"
    if denied:
        relation = _DENIED.get(relation, f"not {relation}")
    return f"{name} {relation} {values}".rstrip()


def _written_value(value: Value) -> str:
    match value:
        case Moment(when=datetime() as when):
            return when.isoformat()
        case Moment():
            return f"{int((value.before or timedelta()).total_seconds())}s"
        case str():
            return value if _PLAIN.fullmatch(value) else quoted(value)
        case _:
            return str(value)


def quoted(text: str) -> str:
    """``text`` as a quoted value of the language."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


# What never needs quotes: no glob, and no word that would be read as anything else.
_PLAIN = re.compile(r"[\w./:@-]+", re.ASCII)
