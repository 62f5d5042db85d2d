"""An audit policy from its file, held to what the API server demands of it, and all mistakes told.

Source of the demands: k8s.io/apiserver, pkg/apis/audit/validation and pkg/audit/policy/reader.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from kubewitness.config.document import Sequence, Table, Text, Value, read_document
from kubewitness.config.origin import Origin, below
from kubewitness.config.problem import Problem, did_you_mean, refused
from kubewitness.errors import ConfigError
from kubewitness.policy.policy import LEVELS, STAGES, Policy, Rule, Stage

_VERSION = "audit.k8s.io/v1"
# Where msgspec says what it means: "… - at `$.resources[0].group`", "… key `verb` …"
_PLACE = re.compile(r" - at `\$\.?(.*?)`$")
_UNKNOWN = re.compile(r"unknown field `(.*?)`")
_STEP = re.compile(r"[^.\[\]]+")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class _Frame(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A policy but for its rules, which are read one by one."""

    api_version: str
    kind: str
    metadata: Any = None
    rules: list[Any] = []
    omit_stages: tuple[Stage, ...] = ()
    omit_managed_fields: bool = False


def read_policy(path: Path) -> Policy:
    """The policy in a file. Raises ``ConfigError`` with every mistake in it."""
    problems: list[Problem] = []
    try:
        table = read_document(path, problems)
    except OSError as error:
        raise ConfigError(
            f"the policy cannot be read: {error.strerror}",
            where=str(path),
            remedy="'kubewitness init policy' prints one to begin with",
        ) from error
    policy = _policy(table, problems) if table is not None else None
    if problems or policy is None:
        raise refused(problems, str(path), "the audit policy")
    return policy


def _policy(table: Table, problems: list[Problem]) -> Policy | None:
    frame = _converted(table, _Frame, "", problems)
    if frame is None:
        return None
    for key, said, wanted in (
        ("apiVersion", frame.api_version, _VERSION),
        ("kind", frame.kind, "Policy"),
    ):
        if said != wanted:
            problems.append(
                Problem(_at(table, key), key, f"{said[:60]!r} is not {wanted}", f"write {wanted}")
            )
    _, rules = table.entries.get("rules", (table.origin, Sequence((), table.origin)))
    if not isinstance(rules, Sequence) or not rules.items:
        problems.append(
            Problem(_at(table, "rules"), "rules", "an API server refuses a policy without rules")
        )
        return None
    found: list[Rule] = []
    for n, one in enumerate(rules.items):
        rule = _converted(one, Rule, f"rules[{n}]", problems)
        if rule is not None:
            problems.extend(
                Problem(_at(one, place), f"rules[{n}].{place}", what, remedy)
                for place, what, remedy in _demands(rule)
            )
            found.append(rule)
    return Policy(
        rules=tuple(found),
        omit_stages=frame.omit_stages,
        omit_managed_fields=frame.omit_managed_fields,
        lines=tuple(one.origin.line for one in rules.items),
    )


def _converted(value: Value, kind: type[Any], key: str, problems: list[Problem]) -> Any:
    try:
        return msgspec.convert(_plain(value), kind, strict=False)
    except msgspec.ValidationError as error:
        message = str(error)
        place = found[1] if (found := _PLACE.search(message)) else ""
        what, remedy = _PLACE.sub("", message).replace("`", ""), ""
        if unknown := _UNKNOWN.search(message):
            what, remedy = "no such field", did_you_mean(unknown[1], _fields(kind, place))
            place = below(place, unknown[1])
        elif place.endswith("level"):
            remedy = f"write {', '.join(LEVELS)}"
        elif place.startswith("omitStages"):
            remedy = f"write {', '.join(STAGES)}"
        problems.append(
            Problem(
                _at(value, place), f"{key}.{place}".strip("."), what[:1].lower() + what[1:], remedy
            )
        )
        return None


def _fields(kind: type[Any], place: str) -> list[str]:
    """The fields of the struct at ``place``."""
    found: msgspec.inspect.Type = msgspec.inspect.type_info(kind)
    for step in _STEP.findall(place):
        if isinstance(found, msgspec.inspect.StructType):
            found = {one.encode_name: one.type for one in found.fields}[step]
        elif isinstance(found, msgspec.inspect.VarTupleType):
            found = found.item_type
    assert isinstance(found, msgspec.inspect.StructType)
    return [one.encode_name for one in found.fields]


def _plain(value: Value) -> Any:
    if isinstance(value, Table):
        return {name: _plain(one) for name, (_, one) in value.entries.items()}
    return [_plain(one) for one in value.items] if isinstance(value, Sequence) else value.value


def _at(value: Value, place: str) -> Origin:
    """The place of ``resources[0].group`` in ``value``, as far as it is there."""
    origin = value.origin
    for step in _STEP.findall(place):
        if isinstance(value, Table) and step in value.entries:
            origin, value = value.entries[step]
        elif isinstance(value, Sequence) and step.isdigit() and int(step) < len(value.items):
            value = value.items[int(step)]
            origin = value.origin
        else:
            break
    return value.origin if isinstance(value, Text) else origin


def _demands(rule: Rule) -> Iterator[tuple[str, str, str]]:
    """What an API server refuses in a rule that has the right fields: place, what, remedy."""
    for n, url in enumerate(rule.non_resource_urls):
        place = f"nonResourceURLs[{n}]"
        if url != "*" and not url.startswith("/"):
            yield place, f"{url[:60]!r} does not begin with '/'", "write /PATH, or * alone"
        if "*" in url[:-1]:
            yield place, f"{url[:60]!r} has a * inside", "* is for the end of a path only"
    if rule.non_resource_urls and (rule.resources or rule.namespaces):
        yield (
            "nonResourceURLs",
            "a rule is about resources or about other URLs, not about both",
            "make two rules of it",
        )
    for n, one in enumerate(rule.resources):
        if one.group and one.group != "*" and not _SUBDOMAIN.fullmatch(one.group):
            yield (
                f"resources[{n}].group",
                f"{one.group[:60]!r} is no API group",
                "write the group without its version: apps, not apps/v1",
            )
        if one.group == "*":
            yield f"resources[{n}].group", "an API group is named, * is none", "name each group"
        if one.resource_names and not one.resources:
            yield (
                f"resources[{n}].resourceNames",
                "names without resources",
                "say of which resources they are",
            )


def detection_policy() -> str:
    """The text of the policy that is tuned for detection."""
    return resources.files("kubewitness.policy").joinpath("detection.yaml").read_text("utf-8")
