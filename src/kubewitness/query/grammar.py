"""The language of queries: from text to a tree.

    expression = term { "or" term }
    term       = factor { "and" factor }
    factor     = "not" factor | "(" expression ")" | question
    question   = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~" ) value
               | field [ "not" ] "in" ( "(" value { "," value } ")" | value )
               | field [ "not" ] "like" value
               | field [ "not" ] "exists"
    field      = name [ "[" quoted "]" ]
    value      = quoted | bare

A bare value ends at a blank, a comma, a quote or a parenthesis. In quotes, a backslash takes the
meaning from a quote or another backslash and stands for itself before anything else, so that
``"\\d+"`` is the regular expression it looks like. Words of the language are written in any case.
The tree knows no ``!=``, ``!~`` and ``not in``: these are ``Not`` of what they deny.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import cast

from kubewitness.errors import QueryError
from kubewitness.query.address import address, network
from kubewitness.query.expression import And, Expression, Not, Operator, Or, Question, Value
from kubewitness.query.fields import FIELDS, Field
from kubewitness.query.regexp import regexp
from kubewitness.times import moment

# Longer or deeper than anybody writes: a text of another's making must not exhaust the stack.
LONGEST = 10_000
DEEPEST = 50


def parse(text: str, fields: Mapping[str, Field] = FIELDS) -> Expression:
    """The tree of a query over ``fields``; an empty text asks for everything.

    Raises ``QueryError``, which points at the place.

    >>> parse("verb in (get, list) and not code < 400").terms[1]
    Not(term=Question(field=Field(name='code', kind='number', what='HTTP status of the answer', \
addresses=False), operator='<', values=(400,), key=''))
    """
    return _Parser(text, fields).whole()


_BLANK = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
_SIGN = re.compile(r"==|!=|<=|>=|!~|=~|[=<>~]")
_BARE = re.compile(r"[^\s()\"',]+")
_QUOTED = {
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL),
    "'": re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL),
}
_ESCAPED = re.compile(r"""\\(["'\\])""")
_RESERVED = {"and", "or", "not", "in", "like", "exists"}
_SLIPS = {"==": "=", "=~": "~"}
_OPERATORS: dict[str, tuple[str, ...]] = {
    "text": ("=", "!=", "~", "!~", "in", "like", "exists"),
    "number": ("=", "!=", "<", "<=", ">", ">=", "in", "exists"),
    "time": ("<", "<=", ">", ">=", "exists"),
}
_OPERATORS["texts"] = _OPERATORS["map"] = _OPERATORS["text"]


class _Parser:
    """Reads ``text`` from left to right; ``at`` is where it has got to."""

    def __init__(self, text: str, fields: Mapping[str, Field]) -> None:
        self.text = text
        self.fields = fields
        self.at = 0
        self.depth = 0
        if len(text) > LONGEST:
            raise self.error(f"a query has at most {LONGEST:,} characters", LONGEST)
        foreign = re.search("[\ud800-\udfff]", text)
        if foreign:
            raise self.error("not UTF-8", foreign.start())

    def whole(self) -> Expression:
        self.blank()
        if self.at == len(self.text):
            return And(())
        found = self.alternatives()
        if self.at < len(self.text):
            what = (
                "a parenthesis that was never opened"
                if self.next(")")
                else "'and' or 'or' is missing"
            )
            raise self.error(
                what, hint="a value with blanks in it needs quotes" if not self.next(")") else ""
            )
        return found

    def alternatives(self) -> Expression:
        terms = [self.conjunction()]
        while self.word("or"):
            terms.append(self.conjunction())
        return Or(tuple(terms)) if len(terms) > 1 else terms[0]

    def conjunction(self) -> Expression:
        terms = [self.factor()]
        while self.word("and"):
            terms.append(self.factor())
        return And(tuple(terms)) if len(terms) > 1 else terms[0]

    def factor(self) -> Expression:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"nested more than {DEEPEST} deep")
        try:
            if self.word("not"):
                return Not(self.factor())
            opened = self.at
            if not self.sign("("):
                return self.question()
            found = self.alternatives()
            if not self.sign(")"):
                raise self.error("this parenthesis is never closed", opened)
            return found
        finally:
            self.depth -= 1

    def question(self) -> Expression:
        field, key = self.field()
        began = self.at
        denied = self.word("not")
        asked = next((word for word in ("in", "like", "exists") if self.word(word)), "")
        if not asked:
            sign = "" if denied else self.match(_SIGN)
            if sign in _SLIPS:
                raise self.error(f"write {_SLIPS[sign]} for {sign}", began)
            denied, asked = sign.startswith("!"), sign.removeprefix("!")
        allowed = _OPERATORS[field.kind]
        if asked not in allowed:
            raise self.error(
                f"{field.name} takes {', '.join(allowed)}",
                began,
                hint=f"a span of time is: {field.name} >= FROM and {field.name} < TO"
                if field.kind == "time" and asked in ("=", "in")
                else "",
            )
        question = Question(field, _operator(asked), self.values(field, asked), key)
        return Not(question) if denied else question

    def field(self) -> tuple[Field, str]:
        began = self.at
        name = self.match(_WORD)
        if not name or name.lower() in _RESERVED:
            there = f"there are: {', '.join(self.fields)}"
            hint = f"as in: {_EXAMPLE}" if self.fields is FIELDS else there
            raise self.error("here a field should stand", began, hint=hint)
        if name not in self.fields:
            near = get_close_matches(name.lower(), self.fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(self.fields)}"
            raise self.error(f"there is no field {name!r}", began, hint=hint)
        field = self.fields[name]
        if field.kind != "map":
            return field, ""
        hint = f'as in: {name}["authorization.k8s.io/decision"] = allow'
        if not self.sign("["):
            raise self.error(f"{name} is asked by key", hint=hint)
        key = self.quoted()
        if key is None or not self.sign("]"):
            raise self.error("here a key in quotes and ] should stand", hint=hint)
        return field, key

    def values(self, field: Field, asked: str) -> tuple[Value, ...]:
        if asked == "exists":
            return ()
        opened = self.at
        wanted = _operator(asked)
        if asked != "in" or not self.sign("("):
            return (self.value(field, wanted),)
        found = [self.value(field, wanted)]
        while self.sign(","):
            found.append(self.value(field, wanted))
        if not self.sign(")"):
            raise self.error("this list is never closed", opened, hint="as in: verb in (get, list)")
        return tuple(found)

    def value(self, field: Field, wanted: Operator) -> Value:
        began = self.at
        text = self.quoted()
        bare = text is None
        if text is None:
            text = self.match(_BARE)
            if not text:
                raise self.error("here a value should stand", began)
        try:
            if field.kind == "number":
                return _number(text)
            if field.kind == "time":
                return moment(text)
            if wanted == "~":
                regexp(text)
            elif wanted == "in" and field.addresses and ("/" in text or address(text)):
                return network(text)
        except ValueError as error:
            raise self.error(str(error), began) from None
        if bare and wanted == "in" and "*" in text:
            raise self.error(
                "= and in compare letter by letter", began, hint="use like, or quote the value"
            )
        return text

    def quoted(self) -> str | None:
        began = self.at
        mark = self.text[began : began + 1]
        if mark not in _QUOTED or not mark:
            return None
        found = _QUOTED[mark].match(self.text, began)
        if not found:
            raise self.error("this quote is never closed", began)
        self.at = found.end()
        self.blank()
        return _ESCAPED.sub(r"\1", found[1])

    def next(self, sign: str) -> bool:
        return self.text.startswith(sign, self.at)

    def sign(self, sign: str) -> bool:
        if not self.next(sign):
            return False
        self.at += len(sign)
        self.blank()
        return True

    def word(self, word: str) -> bool:
        found = _WORD.match(self.text, self.at)
        if not found or found[0].lower() != word:
            return False
        self.at = found.end()
        self.blank()
        return True

    def match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            return ""
        self.at = found.end()
        self.blank()
        return found[0]

    def blank(self) -> None:
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def error(self, what: str, at: int | None = None, *, hint: str = "") -> QueryError:
        return QueryError(what, self.text, self.at if at is None else at, hint=hint)


_EXAMPLE = "verb = get and resource = secrets"


def _operator(asked: str) -> Operator:
    return "in" if asked == "=" else cast(Operator, asked)


def _number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is no number")
    return int(text)
