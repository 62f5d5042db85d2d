"""Settings from variables and flags: single values, each by the name of its key.

``listen.port`` is the variable ``KUBEWITNESS_LISTEN_PORT``. Lists and tables of free keys
(clusters, sinks, options) are for the file alone. ``null`` switches off what may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from kubewitness.config.document import Text
from kubewitness.config.origin import Origin, below
from kubewitness.config.problem import Problem, did_you_mean
from kubewitness.config.scalar import plain_type
from kubewitness.config.settings import shape

PREFIX = "KUBEWITNESS_"
FILE_VARIABLE = f"{PREFIX}CONFIG"
"""Names the file; no setting of its own."""

# What Kubernetes tells every pod of services in its namespace, one named kubewitness-* included
# (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)|_PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


def keys(kind: msgspec.inspect.Type | None = None, key: str = "") -> Iterator[str]:
    """Every key that a variable or a flag can set.

    >>> "listen.tls.key" in keys(), "clusters" in keys()
    (True, False)
    """
    plain, written, optional = plain_type(kind or shape())
    if isinstance(plain, msgspec.inspect.StructType):
        if optional:
            yield key
        for field in plain.fields:
            yield from keys(field.type, below(key, field.encode_name))
    elif not isinstance(plain, msgspec.inspect.VarTupleType | msgspec.inspect.DictType):
        yield key
        if written == "secret":
            yield below(key, "file")


def variable(key: str) -> str:
    """
    >>> variable("listen.tls.client_ca")
    'KUBEWITNESS_LISTEN_TLS_CLIENT_CA'
    """
    return PREFIX + key.replace(".", "_").upper()


def from_environment(environment: Mapping[str, str], problems: list[Problem]) -> dict[str, Text]:
    """What variables say, by key."""
    known = {variable(key): key for key in keys()}
    said = {}
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or name == FILE_VARIABLE or _of_service(name, text):
            continue
        origin = Origin(f"environment {name}", folder=Path.cwd())
        if name in known:
            said[known[name]] = _text(text, origin)
        else:
            problems.append(Problem(origin, "", "no such setting", did_you_mean(name, [*known])))
    return said


def _of_service(name: str, text: str) -> bool:
    return bool(_SERVICE_LINK.search(name) or (name.endswith("_PORT") and _SERVICE_URL.match(text)))


def from_flags(overrides: Mapping[str, str], problems: list[Problem]) -> dict[str, Text]:
    """What flags say, by key."""
    known = [*keys()]
    said = {}
    for key, text in overrides.items():
        origin = Origin(f"--set {key}", folder=Path.cwd())
        if key in known:
            said[key] = _text(text, origin)
        else:
            problems.append(Problem(origin, "", "no such setting", did_you_mean(key, known)))
    return said


def over(earlier: dict[str, Text], later: dict[str, Text]) -> dict[str, Text]:
    """Both, of which ``later`` wins: a key of it is for all of that key, ``listen`` for what was
    said of ``listen.port``, and the other way round."""

    def replaced(key: str) -> bool:
        return any(f"{one}.".startswith(f"{key}.") or key.startswith(f"{one}.") for one in later)

    return {key: text for key, text in earlier.items() if not replaced(key)} | later


def _text(text: str, origin: Origin) -> Text:
    return Text(None if text == "null" else text, origin)
