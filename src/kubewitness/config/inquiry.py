"""What several checks ask: of files, of addresses, of names that may stand only once."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from kubewitness.config import material
from kubewitness.config.origin import Origins
from kubewitness.config.problem import Problem

Doubts = Callable[[Path], Iterable[material.Doubt]]
"""What is doubtful about a file; raises ``ValueError`` where it is of no use."""


def loopback(address: str) -> bool:
    """Whether only this machine reaches an address.

    >>> loopback("127.0.0.1"), loopback("::1"), loopback("0.0.0.0"), loopback("witness.example")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def repeated(origins: Origins, values: Mapping[str, str]) -> Iterator[Problem]:
    """The keys of ``values`` whose value another one before them has."""
    first: dict[str, str] = {}
    for key, value in values.items():
        before = first.setdefault(value, key)
        if before != key:
            yield Problem(
                origins.of(key),
                key,
                f"{value!r} stands here a second time",
                f"first at {origins.of(before)} ({before})",
            )


def doubtful(origins: Origins, key: str, path: Path, ask: Doubts) -> Iterator[Problem]:
    """What ``ask`` finds wrong with the file that ``key`` names."""
    try:
        doubts = [*ask(path)]
    except ValueError as error:
        told = str(error)
        yield Problem(origins.of(key), key, told if str(path) in told else f"{path}: {told}")
        return
    for doubt in doubts:
        yield Problem(origins.of(key), key, doubt.what, doubt.remedy, warning=True)


def token_doubts(path: Path) -> Iterator[material.Doubt]:
    """Of a file with a bearer token. Raises ``ValueError``."""
    material.token(path)
    yield from material.exposed(path)
    yield from material.guessable(path)


def secret_doubts(path: Path) -> Iterator[material.Doubt]:
    """Of a file with a secret. Raises ``ValueError``."""
    material.secret(path)
    yield from material.exposed(path)
