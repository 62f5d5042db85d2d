"""Text from a log made harmless where it is shown.

Names, user agents, addresses and messages in an audit log are written by whoever made the
request, an attacker included. Everything a report shows passes through one of four functions,
named after where the text goes: ``plain`` (a terminal, and the base of the others), ``html``,
``cell`` (a table that may be pasted into a spreadsheet) and ``json``.

Nothing is dropped: what could act instead of being read becomes its visible escape, so an auditor
sees that it was there.
"""

from __future__ import annotations

import html as entities
import re

CAP = 240

# Everything that acts or hides instead of being read: C0 and C1 controls, DEL, soft hyphen,
# direction marks and overrides, zero-width and invisible letters, spaces that only look like one,
# line separators, variation selectors, surrogates, private use, non-characters and language tags.
_ACTIVE = re.compile(
    "["
    "\x00-\x1f\x7f-\xa0\xad"
    "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001345f"
    "\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f"
    "\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164"
    "\ud800-\udfff\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
    "]"
)
# More than two combining marks on one letter climb over the neighbouring lines.
_PILE = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{3,}")
_FORMULA = ("=", "+", "-", "@")


def plain(text: str, cap: int = CAP) -> str:
    """One line of ``text`` that neither moves a cursor nor hides or reorders anything.

    Give the result to rich as ``Text``: a ``str`` would still be read as markup.

    >>> plain("eve\\x1b[2J\\u202egnp.exe")
    'eve\\\\x1b[2J\\\\u202egnp.exe'
    """
    # Cut first: the escapes of a hostile megabyte would be another six.
    shown = _ACTIVE.sub(_visible, ends(text, cap))
    return ends(_PILE.sub(_flattened, shown), cap)


def html(text: str, cap: int = CAP) -> str:
    """``plain`` text with the characters that HTML and its attributes give a meaning escaped.

    >>> html("<script>alert('x')</script>")
    '&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;'
    """
    return entities.escape(plain(text, cap), quote=True)


def cell(text: str, cap: int = CAP) -> str:
    """``plain`` text that a spreadsheet takes for text, whatever it is pasted from.

    >>> cell("=HYPERLINK(1)")
    "'=HYPERLINK(1)"
    """
    shown = plain(text, cap)
    return "'" + shown if shown.lstrip().startswith(_FORMULA) else shown


def json(document: str) -> str:
    """A JSON document that means the same and is safe to look at.

    JSON itself escapes only the C0 controls; inside its strings any character may be written as
    an escape, and outside them none of these occurs but line breaks.

    >>> json('{"user": "a\\u202eb"}')
    '{"user": "a\\\\u202eb"}'
    """
    return _ACTIVE.sub(lambda found: _json_escape(found[0]), document)


def acts(text: str) -> bool:
    """Whether ``text`` holds a character that would act instead of being read."""
    return _ACTIVE.search(text) is not None


def ends(text: str, cap: int) -> str:
    """At most ``cap`` characters of ``text``, both ends kept: names differ at either.

    >>> ends("system:serviceaccount:payments:checkout-api", 20)
    'system:ser…ckout-api'
    """
    if len(text) <= cap:
        return text
    if cap < 3:
        return text[: max(cap, 0)]
    tail = (cap - 1) // 2
    return f"{text[: cap - 1 - tail]}…{text[-tail:]}"


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _flattened(found: re.Match[str]) -> str:
    marks = found[0]
    return marks[:2] + "".join(f"\\u{ord(mark):04x}" for mark in marks[2:])


def _json_escape(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return character
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
