"""An incident as plain values that no name can make huge.

Who writes a megabyte into a log could otherwise have the alert refused for its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kubewitness.report import exports
from kubewitness.report.inert import ends

LONGEST = 1000
"""Characters of one text."""


def bounded(document: msgspec.Struct | Mapping[str, Any]) -> dict[str, Any]:
    """Dicts, lists, strings and numbers; of a longer text both ends."""
    return {key: _bounded(value) for key, value in exports.plain(document).items()}


def _bounded(value: Any) -> Any:
    match value:
        case str():
            return ends(value, LONGEST)
        case dict():
            return {key: _bounded(item) for key, item in value.items()}
        case list():
            return [_bounded(item) for item in value]
        case _:
            return value
