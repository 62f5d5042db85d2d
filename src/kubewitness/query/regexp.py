"""Regular expressions that take linear time whatever they meet, and mean the same everywhere.

The engine's are RE2's (https://github.com/google/re2/wiki/Syntax), and so are ours: Python's own
would let one hostile name stop a service for hours.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

LONGEST = 1000


@lru_cache(maxsize=1024)
def regexp(pattern: str) -> Callable[[str], bool]:
    """Whether ``pattern`` is found anywhere in a text; a point stands for line breaks, too.

    Raises ``ValueError`` for what is no regular expression.

    >>> regexp("^sa:.*deployer$")("sa:ci:deployer"), regexp("(?i)ADA")("ada"), regexp("b.")("a")
    (True, True, False)
    """
    import re2

    if len(pattern) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    # RE2 of DuckDB knows only one of the spellings of a named group; nothing here asks for names.
    if re.search(r"\(\?P?<", pattern):
        raise ValueError("a group needs no name here: write (…)")
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    try:
        search = re2.compile(pattern, options).search
    except re2.error as error:
        raise ValueError(error.args[0].decode("utf-8", "replace")) from None

    def found(text: str) -> bool:
        try:
            return search(text) is not None
        except UnicodeEncodeError:  # half a surrogate pair, which no UTF-8 can hold
            return search(text.encode("utf-8", "replace").decode()) is not None

    return found
