"""Checks of where incidents are sent: each type of sink needs its own, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kubewitness.config import material
from kubewitness.config.inquiry import (
    Doubts,
    doubtful,
    loopback,
    secret_doubts,
    token_doubts,
    url_of,
)
from kubewitness.config.origin import Origins, below
from kubewitness.config.problem import Problem
from kubewitness.config.settings import Settings, Sink

EVERY = frozenset({"name", "type", "min_severity", "alerts_only", "per_minute"})
"""The settings that every sink takes."""
_POSTED = frozenset({"url", "url_file", "token_file", "headers", "timeout"})
TAKEN: dict[str, frozenset[str]] = {
    "falco": _POSTED,
    "alertmanager": _POSTED,
    "webhook": _POSTED | {"secret_file", "template"},
    "slack": _POSTED - {"token_file"},
    "ocsf": _POSTED | {"path"},
    "file": frozenset({"path", "format"}),
    "stdout": frozenset({"format"}),
}
"""The settings that mean something to each type, besides those of every sink."""
_PLACES = ("url", "url_file", "path")


def sinks(settings: Settings, origins: Origins) -> Iterator[Problem]:
    """Each sink has its place and what its type takes."""
    for n, sink in enumerate(settings.sinks):
        key = f"sinks[{n}]"
        yield from _place(sink, origins, key)
        for name in given(sink):
            at = below(key, name)
            if name not in TAKEN[sink.type]:
                yield Problem(
                    origins.of(at),
                    at,
                    f"means nothing to a sink of type {sink.type}",
                    "leave it away",
                )
            elif name in _FILES:
                yield from doubtful(origins, at, getattr(sink, name), _FILES[name])


def given(sink: Sink) -> list[str]:
    """The settings of a sink that differ from their defaults, but for those that every one has."""
    bare = Sink(name=sink.name, type=sink.type)
    names = (name for name in sink.__struct_fields__ if name not in EVERY)
    return [name for name in names if getattr(sink, name) != getattr(bare, name)]


def _place(sink: Sink, origins: Origins, key: str) -> Iterator[Problem]:
    places = [name for name in _PLACES if name in TAKEN[sink.type]]
    said = [name for name in places if getattr(sink, name)]
    if places and len(said) != 1:
        yield Problem(
            origins.of(key),
            key,
            f"a sink of type {sink.type} has {'one place' if said else 'no place'} to send to",
            f"give {' or '.join(places)}",
        )
    if "url" not in said:
        return
    parts = url_of(sink.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield Problem(origins.of(f"{key}.url"), f"{key}.url", "no http:// or https:// URL")
    elif parts.scheme == "http" and sink.token_file and not loopback(parts.hostname):
        yield Problem(
            origins.of(f"{key}.token_file"),
            f"{key}.token_file",
            f"would go over the network to {parts.hostname} in the clear",
            "use https",
        )


def _template_doubts(path: Path) -> Iterator[material.Doubt]:
    material.text(path)
    yield from ()


_FILES: dict[str, Doubts] = {
    "url_file": secret_doubts,
    "secret_file": secret_doubts,
    "token_file": token_doubts,
    "template": _template_doubts,
}
