"""What is wrong with a configuration, and where: found all at once, told one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from kubewitness.config.origin import DEFAULT, Origin
from kubewitness.errors import ConfigError

_FEW = 20
_ALL = "docs/configuration.md has all of them"


class Problem(NamedTuple):
    """``key`` as ``clusters[0].name``; ``what`` completes it to a sentence, ``remedy`` is what
    helps. With a ``warning`` the configuration is taken nevertheless."""

    origin: Origin
    key: str
    what: str
    remedy: str = ""
    warning: bool = False

    def __str__(self) -> str:
        place = "" if self.origin == DEFAULT else f"{self.origin}: "
        key = f"{self.key}: " if self.key else ""
        return f"{place}{key}{self.what}" + (f"\n  {self.remedy}" if self.remedy else "")


def refused(problems: Iterable[Problem], where: str, what: str) -> ConfigError:
    """The error that tells of all ``problems`` of ``what``, in the order of the file."""
    found = sorted(dict.fromkeys(problems), key=lambda p: (p.origin.line, p.origin.column))
    listed = "\n".join(str(problem) for problem in found)
    return ConfigError(
        f"{len(found)} mistake{'s' if len(found) != 1 else ''} in {what}",
        where=where,
        remedy=listed.replace("\n", "\n  "),
    )


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A known word that is like ``word``, else all that are known.

    >>> did_you_mean("prot", ["address", "port"])
    'did you mean port?'
    >>> did_you_mean("x", ["address", "port"])
    'known are address, port'
    """
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(known)}" if len(known) <= _FEW else _ALL
