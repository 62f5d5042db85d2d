"""What settings have to do with one another and with the machine: each check yields problems."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from operator import attrgetter

from kubewitness.config import material
from kubewitness.config.arrival import certificates, clusters, encryption, feeds
from kubewitness.config.inquiry import is_name, repeated, url_of
from kubewitness.config.origin import Origins
from kubewitness.config.problem import Problem
from kubewitness.config.quantity import spelled_duration, spelled_size
from kubewitness.config.secrecy import secrets
from kubewitness.config.sending import sinks
from kubewitness.config.settings import Settings

# (settings, where they were said) → what is wrong
Check = Callable[[Settings, Origins], Iterator[Problem]]

_DATABASES = ("postgresql", "postgres", "postgresql+psycopg")
# (the smaller, the larger, how they are written)
_ORDERED: tuple[tuple[str, str, Callable[..., str]], ...] = (
    ("listen.body_bytes", "listen.unpacked_bytes", spelled_size),
    ("listen.unpacked_bytes", "retention.spool_bytes", spelled_size),
    ("detection.history", "retention.activity", spelled_duration),
    ("detection.learn", "detection.history", spelled_duration),
)


def check(settings: Settings, origins: Origins) -> Iterator[Problem]:
    """Everything that is wrong with or doubtful about settings that are well-formed each."""
    for one in CHECKS:
        yield from one(settings, origins)


def _addresses(settings: Settings, origins: Origins) -> Iterator[Problem]:
    listen, admin = settings.listen, settings.admin
    for key, one in (("listen", listen), ("admin", admin)):
        if one is not None and not _is_address(one.address):
            yield Problem(
                origins.of(f"{key}.address"),
                f"{key}.address",
                f"{one.address!r} is no address",
                "write an IP address of this machine, 0.0.0.0 or :: for all, or localhost",
            )
    if listen and admin and listen.port == admin.port and admin.port:
        yield Problem(
            origins.of("admin.port"),
            "admin.port",
            f"{admin.port} is the port of listen, too",
            "metrics and health need a port of their own",
        )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return text == "localhost"
    return True


def _limits(settings: Settings, origins: Origins) -> Iterator[Problem]:
    for small, large, spelled in _ORDERED:
        if small.startswith("listen.") and settings.listen is None:
            continue
        value, limit = attrgetter(small)(settings), attrgetter(large)(settings)
        if value > limit:
            if small in origins.said:
                key, what = small, f"{spelled(value)} is more than {large} ({spelled(limit)})"
            else:
                key, what = large, f"{spelled(limit)} is less than {small} ({spelled(value)})"
            yield Problem(origins.of(key), key, what, "change one of the two")


def _storage(settings: Settings, origins: Origins) -> Iterator[Problem]:
    try:
        material.writable_folder(settings.data)
    except ValueError as error:
        yield Problem(origins.of("data"), "data", str(error), "name a folder of the service's own")
    if settings.state and url_of(settings.state).scheme not in _DATABASES:
        yield Problem(
            origins.of("state"),
            "state",
            "is no URL of a PostgreSQL database",
            "write postgresql://USER@HOST/DATABASE, or leave it away to keep the state in data",
        )


def _names(settings: Settings, origins: Origins) -> Iterator[Problem]:
    for key, names in (
        ("clusters", [one.name for one in settings.clusters]),
        ("sinks", [one.name for one in settings.sinks]),
    ):
        for n, name in enumerate(names):
            if not is_name(name):
                yield Problem(
                    origins.of(f"{key}[{n}].name"),
                    f"{key}[{n}].name",
                    f"{name[:60]!r} is no name",
                    "use letters, digits, '.', '_' and '-'",
                )
        yield from repeated(origins, {f"{key}[{n}].name": one for n, one in enumerate(names)})


CHECKS: tuple[Check, ...] = (
    _addresses,
    encryption,
    certificates,
    _limits,
    _storage,
    _names,
    clusters,
    feeds,
    sinks,
    secrets,
)
