"""The settings of the service: one YAML file, then variables, then flags; what is said later wins.

Mistakes are gathered, so that all are told at once: first those of single values, and once there
are none of these, those of values that do not go together (``config.checking``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kubewitness.config.checking import check
from kubewitness.config.document import Sequence, Table, Text, Value, read_document
from kubewitness.config.environment import from_environment, from_flags, over
from kubewitness.config.material import secret
from kubewitness.config.origin import DEFAULT, Origin, Origins, below
from kubewitness.config.problem import Problem, did_you_mean, refused
from kubewitness.config.scalar import MistakeError, plain_type, read_scalar, scalar
from kubewitness.config.settings import Cluster, Settings, shape
from kubewitness.errors import ConfigError

_log = logging.getLogger(__name__)
_SHOWN = 60
_SHAPES = {Text: "nothing", Table: "a table", Sequence: "a list"}


class Configuration(msgspec.Struct, frozen=True):
    """Settings, where each of them was said, and what is doubtful about them."""

    settings: Settings
    origins: Origins
    warnings: tuple[Problem, ...]


def read(
    path: Path | None,
    *,
    environment: Mapping[str, str],
    overrides: Mapping[str, str],
    stdin: str = "",
) -> Settings:
    """The settings that ``path``, variables named ``KUBEWITNESS_*`` and ``overrides`` (by key, as
    ``listen.port``) amount to; the cluster ``stdin`` is read from standard input, too. What is
    doubtful is logged. Raises ``ConfigError``."""
    found = configuration(path, environment=environment, overrides=overrides, stdin=stdin)
    for warning in found.warnings:
        _log.warning("%s", warning)
    return found.settings


def configuration(
    path: Path | None,
    *,
    environment: Mapping[str, str],
    overrides: Mapping[str, str],
    stdin: str = "",
) -> Configuration:
    """``read``, with all there is to tell. Raises ``ConfigError``."""
    problems: list[Problem] = []
    table = Table({}, DEFAULT) if path is None else _file(path, problems)
    said = over(from_environment(environment, problems), from_flags(overrides, problems))
    settings, origins = (
        understood(table, said, problems) if table is not None else (None, Origins({}, {}))
    )
    warnings: list[Problem] = []
    if settings is not None:
        settings = _heard(settings, stdin)
        for problem in check(settings, origins):
            (warnings if problem.warning else problems).append(problem)
    if problems or settings is None:
        raise refused(problems, str(path or ""), "the configuration")
    return Configuration(settings, origins, tuple(warnings))


def _heard(settings: Settings, stdin: str) -> Settings:
    """With the cluster ``stdin`` on standard input; it need not be named elsewhere."""
    if not stdin:
        return settings
    known = {one.name: one for one in settings.clusters}
    one = known.get(stdin) or Cluster(name=stdin)
    known[stdin] = msgspec.structs.replace(one, follow=(*one.follow, Path("-")))
    return msgspec.structs.replace(settings, clusters=tuple(known.values()))


def understood(
    table: Table, said: Mapping[str, Text], problems: list[Problem]
) -> tuple[Settings | None, Origins]:
    """The settings that ``table`` and, over it, ``said`` amount to, if each value is what it is
    meant to be; else what is wrong is added to ``problems``."""
    reading = _Reading(said, problems)
    try:
        settings = reading.table(shape(), table, "")
    except _MistakenError:
        settings = None
    return settings, reading.origins


def _file(path: Path, problems: list[Problem]) -> Table | None:
    try:
        return read_document(path, problems)
    except OSError as error:
        raise ConfigError(
            f"the configuration cannot be read: {error.strerror}",
            where=str(path),
            remedy="'kubewitness config example' prints a file to begin with",
        ) from error


class _MistakenError(Exception):
    """There is no value; why is among the problems."""


class _Reading:
    """One walk along the types of the settings, with what was said of each."""

    def __init__(self, said: Mapping[str, Text], problems: list[Problem]) -> None:
        self._said = said
        self._problems = problems
        self.origins = Origins({}, {})

    def table(self, kind: msgspec.inspect.Type, told: Table, key: str) -> Any:
        """A struct, all its mistakes gathered."""
        assert isinstance(kind, msgspec.inspect.StructType)
        fields = {field.encode_name: field for field in kind.fields}
        sound = self._know(told, key, [*fields])
        values = {}
        for name, field in fields.items():
            field_key = below(key, name)
            value = self._told(told, name, field_key, field.type)
            if value is None:
                if field.required:
                    self._problems.append(Problem(told.origin, field_key, "is missing"))
                    sound = False
                continue
            try:
                values[field.name] = self._value(field.type, value, field_key)
            except _MistakenError:
                sound = False
        if not sound:
            raise _MistakenError
        return kind.cls(**values)

    def _know(self, told: Table, key: str, known: list[str]) -> bool:
        unknown = [name for name in told.entries if name not in known]
        for name in unknown:
            origin, _ = told.entries[name]
            self._problems.append(
                Problem(origin, below(key, name), "no such key", did_you_mean(name, known))
            )
        return not unknown

    def _told(self, told: Table, name: str, key: str, kind: msgspec.inspect.Type) -> Value | None:
        """What was said last."""
        if key in self._said:
            return self._said[key]
        entry = told.entries.get(name)
        in_file = entry[1] if entry else None
        inner = f"{key}."
        parts = {k.removeprefix(inner): v for k, v in self._said.items() if k.startswith(inner)}
        if not parts:
            return in_file
        first = next(iter(parts.values())).origin
        if isinstance(plain_type(kind)[0], msgspec.inspect.StructType):
            # Its fields will look for themselves.
            return in_file if isinstance(in_file, Table) else Table({}, first)
        return Table({name: (part.origin, part) for name, part in parts.items()}, first)

    def _value(self, kind: msgspec.inspect.Type, told: Value, key: str) -> Any:
        plain, written, optional = plain_type(kind)
        self.origins.said[key] = told.origin
        if optional and isinstance(told, Text) and told.value is None:
            return None
        if isinstance(plain, msgspec.inspect.StructType):
            if not isinstance(told, Table):
                raise self._mistaken(told.origin, key, "a table of keys is expected")
            return self.table(plain, told, key)
        if isinstance(plain, msgspec.inspect.DictType):
            if not isinstance(told, Table):
                raise self._mistaken(told.origin, key, "a table of keys is expected")
            entries = {name: value for name, (_, value) in told.entries.items()}
            values = self._each(
                plain.value_type, [(below(key, name), value) for name, value in entries.items()]
            )
            return dict(zip(entries, values, strict=True))
        if isinstance(plain, msgspec.inspect.VarTupleType):
            if not isinstance(told, Sequence):
                raise self._mistaken(
                    told.origin, key, "a list is expected", "put '- ' before each item"
                )
            return tuple(
                self._each(
                    plain.item_type, [(f"{key}[{n}]", item) for n, item in enumerate(told.items)]
                )
            )
        if written == "secret" and isinstance(told, Table):
            return self._secret(told, key)
        return self._scalar(plain, written, told, key)

    def _each(self, kind: msgspec.inspect.Type, told: Iterable[tuple[str, Value]]) -> list[Any]:
        values, sound = [], True
        for key, value in told:
            try:
                values.append(self._value(kind, value, key))
            except _MistakenError:
                sound = False
        if not sound:
            raise _MistakenError
        return values

    def _scalar(self, kind: msgspec.inspect.Type, written: str, told: Value, key: str) -> Any:
        expected = scalar(kind, written)
        if not isinstance(told, Text) or told.value is None:
            said = _SHAPES[type(told)]
            raise self._mistaken(told.origin, key, f"{expected.name} is expected, not {said}")
        try:
            return read_scalar(kind, written, told.value, told.origin)
        except MistakeError as mistake:
            shown = told.value if len(told.value) <= _SHOWN else f"{told.value[:_SHOWN]}…"
            raise self._mistaken(
                told.origin, key, f"{shown!r} is {mistake.what}", mistake.remedy
            ) from None

    def _secret(self, told: Table, key: str) -> str:
        """The text in the file that ``{file: PATH}`` names."""
        inner = below(key, "file")
        if [*told.entries] != ["file"]:
            raise self._mistaken(told.origin, key, "text is expected, or {file: PATH}")
        _, entry = told.entries["file"]
        path: Path = self._scalar(msgspec.inspect.CustomType(Path), "", entry, inner)
        try:
            text = secret(path)
        except ValueError as error:
            raise self._mistaken(entry.origin, inner, f"{path}: {error}") from None
        self.origins.said[key] = entry.origin
        self.origins.files[key] = path
        return text

    def _mistaken(self, origin: Origin, key: str, what: str, remedy: str = "") -> _MistakenError:
        self._problems.append(Problem(origin, key, what, remedy))
        return _MistakenError()
