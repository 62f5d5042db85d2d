"""Incidents and summaries for programs: JSON lines, JSON and YAML documents, kubectl names.

The keys are the field names of the models and stay; times are RFC 3339 in UTC with ``Z``. A list
is shaped as Kubernetes shapes one: ``apiVersion``, ``kind``, ``metadata``, ``items``. What an
attacker wrote into a log is kept letter by letter, but written as an escape where a terminal or a
reader could be fooled by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import IO, Any

import msgspec

from kubewitness.forensics.graph import Chain, Reach
from kubewitness.incidents.model import Incident
from kubewitness.report import inert
from kubewitness.report.headline import ranked
from kubewitness.report.model import Analysis, Summary
from kubewitness.report.wording import rfc3339

API_VERSION = "kubewitness.dev/v1alpha1"
FORMATS = ("jsonl", "json", "yaml", "name")

Exportable = Analysis | Summary | Chain | Reach | Iterable[Incident]
_DOCUMENTS = {Chain: "CauseChain", Reach: "BlastRadius"}


def write(subject: Exportable, fmt: str, stream: IO[bytes]) -> None:
    """Write an analysis, a summary or incidents to ``stream``, which gets data and nothing else.

    ``jsonl`` and ``name`` write an incident a line and need no list in memory; an ``Analysis``
    stands for all its incidents, best first. A summary is one document: ``json``, ``yaml``, or
    one line of ``jsonl``.
    """
    match fmt:
        case "jsonl":
            if isinstance(subject, Summary):
                stream.write(_json(summary_document(subject)) + b"\n")
                return
            for incident in _incidents(subject):
                stream.write(incident_line(incident))
        case "name":
            for incident in _incidents(subject):
                stream.write(f"incident/{inert.plain(incident.id)}\n".encode())
        case "json":
            stream.write(msgspec.json.format(_json(document(subject)), indent=2) + b"\n")
        case "yaml":
            stream.write(_yaml(document(subject)).encode())
        case _:
            raise ValueError(f"unknown format {fmt!r}: one of {', '.join(FORMATS)}")


def incident_line(incident: Incident) -> bytes:
    """The incident as one line of JSON, its line break included."""
    return _json(_plain(incident)) + b"\n"


def document(subject: Exportable) -> dict[str, Any]:
    """What ``-o json`` and ``-o yaml`` write, as plain values."""
    if isinstance(subject, Summary):
        return summary_document(subject)
    if isinstance(subject, Chain | Reach):
        return {
            "apiVersion": API_VERSION,
            "kind": _DOCUMENTS[type(subject)],
            "metadata": {"subject": subject.subject},
            "spec": _plain(subject),
        }
    metadata: dict[str, Any] = {}
    if isinstance(subject, Analysis):
        metadata = {
            "cluster": subject.cluster,
            "mode": subject.mode,
            "start": rfc3339(subject.summary.start),
            "end": rfc3339(subject.summary.end),
            "intake": _plain(subject.intake),
            "notes": list(subject.notes),
        }
    items = [_plain(incident) for incident in _incidents(subject)]
    return {
        "apiVersion": API_VERSION,
        "kind": "IncidentList",
        "metadata": metadata,
        "items": items,
    }


def summary_document(summary: Summary) -> dict[str, Any]:
    """A summary as plain values, as Kubernetes would write an object."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Summary",
        "metadata": {"start": rfc3339(summary.start), "end": rfc3339(summary.end)},
        "summary": _plain(summary),
    }


def schema() -> dict[str, Any]:
    """The JSON Schema of a line of ``-o jsonl``."""
    return msgspec.json.schema(Incident)


def _incidents(subject: Exportable) -> Sequence[Incident]:
    if isinstance(subject, Summary | Chain | Reach):
        raise TypeError(f"a {type(subject).__name__.lower()} has no incidents")
    return ranked(subject) if isinstance(subject, Analysis) else tuple(subject)


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    """The struct as dicts, lists and strings; every time in UTC, whatever zone it came in."""
    values: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(datetime,))
    return {key: _timed(value) for key, value in values.items()}


def _timed(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, dict):
        return {key: _timed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_timed(item) for item in value]
    if isinstance(value, str) and not value.isascii():
        # A file name that is not UTF-8 arrives with lone surrogates, which JSON cannot carry.
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _json(value: Any) -> bytes:
    return inert.json(msgspec.json.encode(value).decode()).encode()


def _yaml(value: Any) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Block style; text that could act is quoted and written in ASCII."""

        def write_double_quoted(self, text: str, split: bool = True) -> None:
            self.allow_unicode = not inert.acts(text)
            super().write_double_quoted(text, split)
            self.allow_unicode = True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = '"' if inert.acts(value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
