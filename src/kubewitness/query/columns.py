"""Where the fields of a query stand in the columns of an event, as SQL expressions."""

from __future__ import annotations

from collections.abc import Callable

from kubewitness.events.normalisation import quoted
from kubewitness.query.expression import Question
from kubewitness.query.fields import FIELDS

# activity.action in SQL
ACTION = """CASE WHEN "subresource" IN ('exec', 'attach', 'portforward')
    THEN "subresource" || ' ' || coalesce(nullif("resource", '')
        || coalesce('.' || nullif("api_group", ''), ''), '')
    ELSE CASE "verb" WHEN 'watch' THEN 'list' ELSE coalesce("verb", '') END || ' '
        || coalesce(nullif("resource", '') || coalesce('.' || nullif("api_group", ''), '')
            || coalesce('/' || nullif("subresource", ''), ''),
            '/' || regexp_extract(coalesce("request_uri", ''), '^/*([^/?]{0,64})', 1)) END"""


ANNOTATIONS = {
    "decision": "authorization.k8s.io/decision",
    "decision_reason": "authorization.k8s.io/reason",
}

# Whose texts are costly to search, and repeat: the columns they stand in.
COSTLY = {
    "principal": ('"user"', '"impersonated_user"'),
    "source_ip": ('"source_ips"[-1]',),
    "extra": ("extra",),
    **dict.fromkeys(("annotations", "decision", "decision_reason"), ("annotations",)),
    **{
        name: (f'"{name}"',)
        for name in ("user", "impersonated_user", "user_agent", "namespace", "reason", "verb")
    },
}


def ordering(name: str) -> str:
    """The SQL expression by which events are sorted and counted by a field: of several values
    the first that there is. Raises ``ValueError`` for a map, which has no one value."""
    if name == "time":
        return '"received_at"'
    if name in ANNOTATIONS:
        return f"json_extract_string(annotations, {quoted(pointer(ANNOTATIONS[name]))})"
    if FIELDS[name].kind == "map":
        raise ValueError(f"{name} has a value for each key")
    if name in DERIVED:
        return DERIVED[name](Question(FIELDS[name], "exists"))[0]
    return f'"{name}"[1]' if FIELDS[name].kind == "texts" else f'"{name}"'


def pointer(key: str) -> str:
    """A JSON pointer (RFC 6901) to a key of an object."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _resource(question: Question) -> list[str]:
    group = """nullif("resource", '') || '.' || nullif("api_group", '')"""
    part = """ || '/' || nullif("subresource", '')"""
    if question.operator != "in":
        return ['"resource"', group, f"nullif(\"resource\", ''){part}", group + part]
    # Only what has a point or a slash can be one of the longer spellings.
    grouped = any("." in str(value) for value in question.values)
    parted = any("/" in str(value) for value in question.values)
    spelt = ['"resource"', group] if grouped else ['"resource"']
    if parted:
        spelt += [f"nullif(\"resource\", ''){part}", *([group + part] if grouped else [])]
    return spelt


DERIVED: dict[str, Callable[[Question], list[str]]] = {
    "principal": lambda question: ['"user"', '"impersonated_user"'],
    "resource": _resource,
    "action": lambda question: [ACTION],
    "source_ip": lambda question: ['"source_ips"[-1]'],
}
