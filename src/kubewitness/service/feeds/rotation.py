"""Which files a log consists of, told from their names: the one being written, and what was rotated
away from it.

- lumberjack, which the API server's ``--audit-log-maxage`` and ``-maxbackup`` use:
  ``audit-2026-11-23T18-00-00.000.log``, perhaps with ``.gz``
- logrotate: ``audit.log.1``, ``audit.log.2.gz``, and with ``dateext`` ``audit.log-20261123``
- the kubelet, for logs of containers: ``0.log.20261123-180000.gz``
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kubewitness.errors import SourceError
from kubewitness.sources.files import expand, reason

_PACKED = re.compile(r"\.(?:gz|zst|bz2|xz)\Z")
_DATED = re.compile(
    r"(?P<stem>.+?)[-._]"
    r"(?P<mark>\d{4}-?\d\d-?\d\d(?:[T_-]?\d\d(?:[:-]?\d\d){0,2}(?:[.,]\d+)?)?Z?|\d{10})"
    r"(?P<extension>\.[A-Za-z]\w*)?\Z"
)
_NUMBERED = re.compile(r"(?P<stem>.+)\.(?P<mark>\d{1,3})\Z")
_DIGITS = 20


class Generation(NamedTuple):
    """``base``: the name of the log that a file belongs to; ``age`` sorts from oldest to the one
    that is written."""

    base: str
    age: tuple[int, int]


def generation(name: str) -> Generation:
    """
    >>> generation("audit-2026-11-23T18-00-00.000.log.gz").base, generation("audit.log.2").base
    ('audit.log', 'audit.log')
    >>> generation("audit.log").age > generation("audit.log.1").age > generation("audit.log.2").age
    True
    """
    name = _PACKED.sub("", name)
    if dated := _DATED.match(name):
        digits = re.sub(r"\D", "", dated["mark"])[:_DIGITS].ljust(_DIGITS, "0")
        return Generation(dated["stem"] + (dated["extension"] or ""), (1, int(digits)))
    if numbered := _NUMBERED.match(name):
        return Generation(numbered["stem"], (0, -int(numbered["mark"])))
    return Generation(name, (2, 0))


class Family(NamedTuple):
    """The files of one log, from the oldest to the one that is written."""

    files: tuple[Path, ...]


def families(named: Path) -> list[Family]:
    """The logs that ``named`` stands for: a file with what was rotated away from it, all files
    below a directory, or those a glob matches, each with its own.

    Symbolic links are followed, and files are given where they really are. Raises ``SourceError``
    where there is nothing (yet), and may raise ``OSError``.
    """
    try:
        found = [source.path for source in expand([named]) if source.path is not None]
    except SourceError:
        # Between two generations there is none with the name itself.
        found = [named] if not named.is_dir() and _rotated(named) else []
        if not found:
            raise
    whole = named.is_dir()
    files: set[Path] = set()
    for path in found:
        real = Path(os.path.realpath(path))
        files.add(real)
        if path.is_symlink():
            files.update(_rotated(real.with_name(generation(real.name).base)))
        if not whole:
            files.update(_rotated(path))
    return _sorted(files)


def _rotated(path: Path) -> list[Path]:
    """What was rotated away from ``path`` and still lies beside it."""
    try:
        names = os.listdir(path.parent)
    except OSError as error:
        raise SourceError(reason(error), where=str(path.parent)) from error
    return [
        Path(os.path.realpath(path.parent / name))
        for name in names
        if name != path.name and generation(name).base == path.name
    ]


def _sorted(files: Iterable[Path]) -> list[Family]:
    members: dict[tuple[Path, str], list[tuple[tuple[int, int], Path]]] = {}
    for path in files:
        base, age = generation(path.name)
        members.setdefault((path.parent, base), []).append((age, path))
    return [Family(tuple(path for _, path in sorted(members[of]))) for of in sorted(members)]
