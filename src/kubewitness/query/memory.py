"""A query asked of one event in memory: a row of the lake as a mapping or an object."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kubewitness.activity.action import action
from kubewitness.query.address import address
from kubewitness.query.expression import COMPARISONS, UNSETTLED, And, Expression, Not, Or, Question
from kubewitness.query.fields import Field
from kubewitness.query.regexp import regexp
from kubewitness.times import Moment

Event = Any
"""A mapping, or an object with attributes, of ``EVENT_COLUMNS``; what it lacks is missing."""

_Get = Callable[[str], Any]


def predicate(expression: Expression) -> Callable[[Event], bool]:
    """Whether an event is what ``expression`` asks for.

    Raises ``ValueError`` for a duration, which only has a meaning in a log: see ``settled``.

    >>> from kubewitness.query.grammar import parse
    >>> predicate(parse("principal = eve or code >= 400"))({"user": "ada", "code": 403})
    True
    """
    holds = _compiled(expression)

    def asked(event: Event) -> bool:
        if isinstance(event, Mapping):
            return holds(event.get)
        return holds(lambda column: getattr(event, column, None))

    return asked


def _compiled(expression: Expression) -> Callable[[_Get], bool]:
    match expression:
        case Question():
            return _test(expression)
        case Not(term):
            holds = _compiled(term)
            return lambda get: not holds(get)
        case And(terms):
            every = [_compiled(term) for term in terms]
            return lambda get: all(holds(get) for holds in every)
        case Or(terms):
            some = [_compiled(term) for term in terms]
            return lambda get: any(holds(get) for holds in some)


def _test(question: Question) -> Callable[[_Get], bool]:
    field = question.field
    if field.kind in ("number", "time"):
        return _measure(question)
    texts = _texts(field, question.key)
    if question.operator == "exists":
        return lambda get: any(texts(get))
    matches = text_predicate(question)
    # Kubernetes leaves out what is empty: what is missing is the empty text.
    return lambda get: any(matches(text) for text in texts(get) or ("",))


def text_predicate(question: Question) -> Callable[[str], bool]:
    """What a test on a text field asks of one of its texts."""
    if question.operator == "~":
        return regexp(str(question.values[0]))
    if question.operator == "like":
        return lambda text: like(text, str(question.values[0]))
    texts = {value for value in question.values if isinstance(value, str)}
    networks = [value for value in question.values if not isinstance(value, str | int | Moment)]
    if not networks:
        return texts.__contains__

    def among(text: str) -> bool:
        found = address(text)
        return text in texts or (found is not None and any(found in home for home in networks))

    return among


def like(text: str, glob: str) -> bool:
    """Whether ``text`` is ``glob``, in which * stands for any text, in linear time.

    >>> like("web-7f9c", "web-*"), like("web", "w*b*b"), like("a", "a")
    (True, False, True)
    """
    first, *rest = glob.split("*")
    if not rest:
        return text == glob
    *middle, last = rest
    if not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, max(at, end))
        if found < 0:
            return False
        at = found + len(piece)
    return at <= end


def _measure(question: Question) -> Callable[[_Get], bool]:
    column = "received_at" if question.field.name == "time" else question.field.name
    if question.operator == "exists":
        return lambda get: get(column) is not None
    if question.operator == "in":
        return lambda get: get(column) in question.values
    compare = COMPARISONS[question.operator]
    bound = question.values[0]
    if isinstance(bound, Moment):
        if bound.when is None:
            raise ValueError(UNSETTLED)
        instant = bound.when

        def compared(get: _Get) -> bool:
            value = get(column)
            return value is not None and compare(_instant(value), instant)

        return compared

    def measured(get: _Get) -> bool:
        value = get(column)
        return value is not None and compare(value, bound)

    return measured


def _instant(value: datetime | str) -> datetime:
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _texts(field: Field, key: str) -> Callable[[_Get], Sequence[str]]:
    """The texts of a field that an event has, none of them empty."""
    if field.name == "extra":
        return lambda get: _several(get("extra"), key)
    if field.name == "annotations":
        return _annotation(key)
    if field.name in _DERIVED:
        derived = _DERIVED[field.name]
        return lambda get: [text for text in derived(get) if text]
    if field.kind == "texts":
        return lambda get: [text for text in get(field.name) or () if text]

    def single(get: _Get) -> Sequence[str]:
        text = get(field.name)
        return (text,) if text else ()

    return single


def _mapped(value: Any, key: str) -> Any:
    if isinstance(value, str):
        # Of a key that comes twice the first counts, as for the engine.
        try:
            value = json.loads(value, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
        except (ValueError, RecursionError):
            return None
    return value.get(key) if isinstance(value, Mapping) else None


def _several(value: Any, key: str) -> list[str]:
    found = _mapped(value, key)
    several = found if isinstance(found, list | tuple) else [found]
    return [text for text in map(_told, several) if text]


def _told(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _resource(get: _Get) -> list[str]:
    name, group, part = (get(c) or "" for c in ("resource", "api_group", "subresource"))
    if not name:
        return []
    spelt = [name, f"{name}.{group}"] if group else [name]
    return [*spelt, *(f"{one}/{part}" for one in spelt)] if part else spelt


def _action(get: _Get) -> list[str]:
    name, group = get("resource") or "", get("api_group") or ""
    resource = f"{name}.{group}" if name and group else name
    return [action(get("verb") or "", resource, get("subresource") or "", get("request_uri") or "")]


def _annotation(key: str) -> Callable[[_Get], list[str]]:
    return lambda get: [text for text in [_told(_mapped(get("annotations"), key))] if text]


_DERIVED: dict[str, Callable[[_Get], list[str]]] = {
    "principal": lambda get: [get("user"), get("impersonated_user")],
    "resource": _resource,
    "action": _action,
    "source_ip": lambda get: [(get("source_ips") or [""])[-1]],
    "decision": _annotation("authorization.k8s.io/decision"),
    "decision_reason": _annotation("authorization.k8s.io/reason"),
}
