"""Secrets stand in files of their own: a configuration is copied, committed and shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

from kubewitness.config import material
from kubewitness.config.inquiry import doubtful, loopback, url_of
from kubewitness.config.origin import Origins
from kubewitness.config.problem import Problem
from kubewitness.config.settings import Settings

# Ends of names that hold a secret: librdkafka's, obstore's and those of headers.
_SECRETIVE = re.compile(
    r"(password|passwd|passphrase|secret|token|secret_access_key|account_key|access_key|sas_key"
    r"|master_key|private_key|service_account_key|key\.pem|api[-_]?key|signature|authorization"
    r"|cookie)",
    re.IGNORECASE,
)


def secrets(settings: Settings, origins: Origins) -> Iterator[Problem]:
    """Secrets that are written down where settings are, and files that everybody may read."""
    for key, holds, instead in _secretive(settings):
        if key not in origins.files and holds:
            yield Problem(
                origins.of(key),
                key,
                "holds a secret, which belongs into a file of its own",
                f"write it to a file that only kubewitness may read, and here {instead}",
            )
    for key, path in origins.files.items():
        yield from doubtful(origins, key, path, material.exposed)


def _secretive(settings: Settings) -> Iterator[tuple[str, bool, str]]:
    """Keys that may hold a secret, whether they do, and how to name its file."""
    instead = "{file: PATH}"
    yield "state", _tells(settings.state), instead
    for n, cluster in enumerate(settings.clusters):
        for kind in ("buckets", "kafka"):
            for m, feed in enumerate(getattr(cluster, kind)):
                for name in feed.options:
                    key = f"clusters[{n}].{kind}[{m}].options.{name}"
                    yield key, _is_secretive(name), instead
    for n, sink in enumerate(settings.sinks):
        # Whoever knows the URL of a Slack webhook can post.
        slack = sink.type == "slack" and not loopback(url_of(sink.url).hostname or "127.0.0.1")
        yield f"sinks[{n}].url", slack or _tells(sink.url), "url_file: PATH instead of url"
        for name in sink.headers:
            yield f"sinks[{n}].headers.{name}", _is_secretive(name), instead


def _is_secretive(name: str) -> bool:
    """
    >>> [_is_secretive(n) for n in ("sasl.password", "aws_secret_access_key", "X-Api-Key")]
    [True, True, True]
    >>> [_is_secretive(n) for n in ("aws_access_key_id", "ssl.key.location", "token_file")]
    [False, False, False]
    """
    return any(name.endswith(found[0]) for found in _SECRETIVE.finditer(name))


def _tells(url: str) -> bool:
    """Whether a URL holds a secret: a password, a parameter, or a long part that no word is.

    >>> _tells("postgresql://me@db/kubewitness?sslmode=verify-full"), _tells("postgresql://me:pw@db/x")
    (False, True)
    >>> _tells("http://falcosidekick:2801/"), _tells("https://example.org/hooks/8Kd92ksPq01mZx7Yw3Tt")
    (False, True)
    """
    parts = url_of(url)
    return (
        bool(parts.password)
        or any(_is_secretive(name) for name, _ in parse_qsl(parts.query))
        or any(_looks_random(part) for part in parts.path.split("/"))
    )


def _looks_random(part: str) -> bool:
    return len(part) >= 20 and any(c.isdigit() for c in part) and any(c.isalpha() for c in part)
