"""Where each setting was said: a line of the file, a variable, a flag, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Origin(NamedTuple):
    """A file with line and column (from 1), a variable or a flag; ``folder`` is what relative
    paths in it are relative to."""

    where: str
    line: int = 0
    column: int = 0
    folder: Path = Path()

    def __str__(self) -> str:
        return f"{self.where}:{self.line}:{self.column}" if self.line else self.where


DEFAULT = Origin("default")


class Origins(NamedTuple):
    """By key: where it was ``said``, and from which of the ``files`` a secret came."""

    said: dict[str, Origin]
    files: dict[str, Path]

    def of(self, key: str) -> Origin:
        """Where ``key`` was said, else what it would stand in; the default if that was not,
        either.

        >>> Origins({"listen": Origin("serve.yaml", 3, 1)}, {}).of("listen.tls.key").line
        3
        """
        while key and key not in self.said:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return self.said.get(key, DEFAULT)


def below(key: str, name: str) -> str:
    """The key of ``name`` in the table at ``key``."""
    return f"{key}.{name}" if key else name
