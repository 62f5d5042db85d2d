"""Hostile text stays text: on a terminal, in HTML, in a spreadsheet, in JSON."""

from __future__ import annotations

import html as entities
import json
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.report import inert
from report_fixtures import HOSTILE

ACTING = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
anything = st.text(st.characters(codec=None, exclude_categories=()), max_size=400)
nasty = st.lists(st.sampled_from(HOSTILE) | anything, max_size=6).map("".join)


def acting(text: str) -> list[str]:
    """Characters that do something other than being read."""
    return [
        c
        for c in text
        if unicodedata.category(c) in ACTING or (unicodedata.category(c) == "Zs" and c != " ")
    ]


@given(nasty)
def test_plain_is_one_line_in_which_nothing_acts(text: str) -> None:
    shown = inert.plain(text)
    assert acting(shown) == []
    assert len(shown.splitlines()) <= 1


@given(nasty, st.integers(0, 300))
def test_plain_is_capped_and_stable(text: str, cap: int) -> None:
    shown = inert.plain(text, cap)
    assert len(shown) <= cap
    assert inert.plain(shown, cap) == shown


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=30))
def test_a_cap_keeps_both_ends(text: str) -> None:
    shown = inert.plain(text, 21)
    assert shown[:10] == text[:10]
    assert shown[-10:] == text[-10:]


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200))
def test_harmless_text_is_left_alone(text: str) -> None:
    assert inert.plain(text) == text


@pytest.mark.parametrize("text", ["zażółć@example.com", "日本語", "naïve – “quoted”", "Müller"])
def test_letters_of_the_world_are_left_alone(text: str) -> None:
    assert inert.plain(text) == text


def test_what_acted_is_seen_to_have_been_there() -> None:
    assert inert.plain("a\x1b[31mb\x9bc\u202ed\u200be\U000e0041f") == (
        "a\\x1b[31mb\\x9bc\\u202ed\\u200be\\U000e0041f"
    )


def test_combining_marks_do_not_pile_up() -> None:
    assert inert.plain("e\u0301") == "e\u0301"
    assert inert.plain("e" + "\u0301" * 5) == "e\u0301\u0301" + "\\u0301" * 3


@given(nasty)
def test_html_is_text_only(text: str) -> None:
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            found.append(tag)

        def handle_comment(self, data: str) -> None:
            found.append(data)

        def handle_decl(self, decl: str) -> None:
            found.append(decl)

        def handle_pi(self, data: str) -> None:
            found.append(data)

    escaped = inert.html(text)
    Reader().feed(f"<p title='{escaped}' class=\"{escaped}\">{escaped}</p>")
    assert found == ["p"]
    assert entities.unescape(escaped) == inert.plain(text)


@given(nasty | st.sampled_from("=+-@").flatmap(lambda c: nasty.map(c.__add__)))
def test_a_cell_is_no_formula_and_stays_in_its_cell(text: str) -> None:
    shown = inert.cell(text)
    assert not shown.lstrip().startswith(("=", "+", "-", "@"))
    assert acting(shown) == []


documents = st.recursive(
    st.text(max_size=60) | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(HOSTILE) | st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(documents, st.sampled_from([None, 2]))
def test_json_means_the_same_and_does_nothing(value: object, indent: int | None) -> None:
    document = inert.json(json.dumps(value, ensure_ascii=False, indent=indent))
    assert json.loads(document) == value
    assert acting(document.replace("\n", "")) == []
