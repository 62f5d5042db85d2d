"""What several checks ask: of files, of addresses, of names that may stand only once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from kubewitness.config import material
from kubewitness.config.origin import Origins
from kubewitness.config.problem import Problem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

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


def url_of(text: str) -> SplitResult:
    """The parts of a URL; empty ones for what is none.

    >>> url_of("https://db.example/x").hostname, url_of("http://[oops").hostname
    ('db.example', None)
    """
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


def is_name(text: str) -> bool:
    """Whether a cluster or a sink may be called so: it stands in paths and metrics.

    >>> is_name("prod-1.eu"), is_name("a b"), is_name("../x")
    (True, False, False)
    """
    return _NAME.fullmatch(text) is not None


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
