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

_PLACES = {
    "falco": ("url",),
    "alertmanager": ("url",),
    "webhook": ("url",),
    "slack": ("url",),
    "ocsf": ("url", "path"),
    "file": ("path",),
    "stdout": (),
}


def _template_doubts(path: Path) -> Iterator[material.Doubt]:
    material.text(path)
    yield from ()


_ONLY_FOR: dict[str, tuple[tuple[str, ...], Doubts | None]] = {
    "secret_file": (("webhook",), secret_doubts),
    "template": (("webhook",), _template_doubts),
    "token_file": (("falco", "alertmanager", "webhook", "ocsf"), token_doubts),
    "headers": (("falco", "alertmanager", "webhook", "slack", "ocsf"), None),
    "format": (("webhook", "file", "stdout"), None),
}


def sinks(settings: Settings, origins: Origins) -> Iterator[Problem]:
    """Each sink has its place and what its type takes."""
    for n, sink in enumerate(settings.sinks):
        key = f"sinks[{n}]"
        yield from _place(sink, origins, key)
        for name, (types, doubts) in _ONLY_FOR.items():
            value = getattr(sink, name)
            if value in (None, {}, "json"):
                continue
            if sink.type not in types:
                yield Problem(
                    origins.of(below(key, name)),
                    below(key, name),
                    f"means nothing to a sink of type {sink.type}",
                    f"it is for {', '.join(types)}; leave it away",
                )
            elif doubts is not None:
                yield from doubtful(origins, below(key, name), value, doubts)


def _place(sink: Sink, origins: Origins, key: str) -> Iterator[Problem]:
    places = _PLACES[sink.type]
    given = [name for name in ("url", "path") if getattr(sink, name)]
    if places and len([name for name in given if name in places]) != 1:
        yield Problem(
            origins.of(key),
            key,
            f"a sink of type {sink.type} needs {' or '.join(places)}"
            + (", one of them" if len(given) > 1 else ""),
        )
    for name in given:
        if name not in places:
            yield Problem(
                origins.of(below(key, name)),
                below(key, name),
                f"means nothing to a sink of type {sink.type}",
                "leave it away",
            )
    if not sink.url or "url" not in places:
        return
    parts = url_of(sink.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield Problem(origins.of(f"{key}.url"), f"{key}.url", "no http:// or https:// URL")
    elif parts.scheme == "http" and sink.token_file and not loopback(parts.hostname):
        yield Problem(
            origins.of(f"{key}.token_file"),
            f"{key}.token_file",
            f"goes over the network to {parts.hostname} in the clear",
            "use https",
            warning=True,
        )
