"""A query as a tree: what is asked of which field, and how the answers are joined."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from kubewitness.query.address import Network
from kubewitness.query.fields import FIELDS, Field
from kubewitness.times import Moment

Operator = Literal["in", "<", "<=", ">", ">=", "~", "like", "exists"]
Value = str | int | Moment | Network
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

UNSETTLED = "a duration counts back from the last event of a log: write a time"


@dataclass(frozen=True, slots=True)
class Question:
    """Does ``field`` (of a map: the value at ``key``) stand in this relation to ``values``?

    ``in`` has one value or more, ``exists`` none, the others one. Values are texts, integers for
    a number, moments for a time, and networks where the field holds addresses.
    """

    field: Field
    operator: Operator
    values: tuple[Value, ...] = ()
    key: str = ""


@dataclass(frozen=True, slots=True)
class Not:
    """True where ``term`` is false."""

    term: Expression


@dataclass(frozen=True, slots=True)
class And:
    """True where all ``terms`` are; without any, everywhere."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """True where at least one of ``terms`` is."""

    terms: tuple[Expression, ...]


Expression = Question | Not | And | Or


def same(name: str, text: str) -> Question:
    """Whether the field ``name`` is ``text``, letter by letter."""
    return Question(FIELDS[name], "in", (text,))


def narrowed(
    expression: Expression,
    *,
    cluster: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> Expression:
    """What ``expression`` asks for, of this cluster and in this time only."""
    time = FIELDS["time"]
    bounds: list[Expression] = [same("cluster", cluster)] if cluster else []
    if since is not None:
        bounds.append(Question(time, ">=", (since,)))
    if until is not None:
        bounds.append(Question(time, "<", (until,)))
    if not bounds:
        return expression
    return And((*bounds, *(() if expression == And(()) else (expression,))))


def settled(expression: Expression, last: datetime) -> Expression:
    """The same with instants for durations, which count back from ``last``."""
    if isinstance(expression, Not):
        return Not(settled(expression.term, last))
    if isinstance(expression, And | Or):
        return replace(expression, terms=tuple(settled(term, last) for term in expression.terms))
    return replace(
        expression,
        values=tuple(
            Moment(when=value.at(last)) if isinstance(value, Moment) else value
            for value in expression.values
        ),
    )


def questions(expression: Expression) -> Iterator[Question]:
    """Every question in the tree, from left to right."""
    if isinstance(expression, Question):
        yield expression
    elif isinstance(expression, Not):
        yield from questions(expression.term)
    else:
        for term in expression.terms:
            yield from questions(term)
