"""Incidents and summaries for programs: JSON lines, JSON and YAML documents, OCSF, kubectl names.

The keys are the field names of the models and stay; times are RFC 3339 in UTC with ``Z``. A list
is shaped as Kubernetes shapes one: ``apiVersion``, ``kind``, ``metadata``, ``items``. What an
attacker wrote into a log is kept letter by letter, but written as an escape where a terminal or a
reader could be fooled by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, Any

import msgspec

from kubewitness.forensics.objects.model import Snapshot
from kubewitness.incidents.model import Broken, Incident
from kubewitness.report import inert, ocsf
from kubewitness.report.headline import ranked
from kubewitness.report.model import Analysis, Summary
from kubewitness.report.wording import rfc3339

API_VERSION = "kubewitness.dev/v1alpha1"
FORMATS = ("jsonl", "json", "yaml", "ocsf", "name")

Exportable = Analysis | Summary | Iterable[Incident]


def write(subject: Exportable, fmt: str, stream: IO[bytes]) -> None:
    """Write an analysis, a summary or incidents to ``stream``, which gets data and nothing else.

    ``jsonl``, ``ocsf`` and ``name`` write an incident a line and need no list in memory; an
    ``Analysis`` stands for all its incidents, best first. A summary is one document: ``json``,
    ``yaml``, or one line of ``jsonl``.
    """
    match fmt:
        case "jsonl" if not isinstance(subject, Summary):
            for incident in _incidents(subject):
                stream.write(incident_line(incident))
        case "ocsf":
            for incident in _incidents(subject):
                stream.write(json_bytes(plain(ocsf.finding(incident))) + b"\n")
        case "name":
            for incident in _incidents(subject):
                stream.write(f"incident/{inert.plain(incident.id)}\n".encode())
        case "json" | "jsonl" | "yaml":
            write_plain(document(subject), fmt, stream)
        case _:
            raise ValueError(f"unknown format {fmt!r}: one of {', '.join(FORMATS)}")


def write_document(subject: msgspec.Struct, fmt: str, stream: IO[bytes], *, kind: str = "") -> None:
    """Write any struct as one document, ``json`` or ``yaml``: its fields beside ``apiVersion``."""
    told = {"apiVersion": API_VERSION, "kind": kind or type(subject).__name__, **plain(subject)}
    write_plain(told, fmt, stream)


def write_plain(value: Mapping[str, Any], fmt: str, stream: IO[bytes]) -> None:
    """Write plain values as one document, for ``jsonl`` in one line."""
    match fmt:
        case "json":
            stream.write(msgspec.json.format(json_bytes(value), indent=2) + b"\n")
        case "jsonl":
            stream.write(json_bytes(value) + b"\n")
        case "yaml":
            stream.write(yaml_text(value).encode())
        case _:
            raise ValueError(f"unknown format {fmt!r}: json, jsonl or yaml")


def write_manifest(found: Snapshot, stream: IO[bytes]) -> None:
    """Write the object of a snapshot as kubectl would; what is not known stands above it."""
    lines = [f"# {line}" for line in _above(found)]
    text = yaml_text(_timed(found.object)) if found.object else "{}\n"
    stream.write(("\n".join(lines) + "\n" + text).encode())


def _above(found: Snapshot) -> Iterator[str]:
    yield f"at {rfc3339(found.at)}: {found.existence}"
    for source in found.sources[-8:]:
        yield f"from the {source.gave} of {inert.plain(source.audit_id)} at {rfc3339(source.at)}"
    yield from map(inert.plain, found.notes)
    for gap in found.gaps:
        yield f"not knowable: {inert.plain(gap.path)}: {inert.plain(gap.why)}"


def write_manifests(manifests: Iterable[Mapping[str, Any]], stream: IO[bytes]) -> None:
    """Objects of Kubernetes as one YAML stream, as ``kubectl apply -f -`` reads it."""
    for manifest in manifests:
        stream.write(b"---\n" + yaml_text(manifest).encode())


def incident_line(incident: Incident) -> bytes:
    """The incident as one line of JSON, its line break included."""
    return json_bytes(plain(incident)) + b"\n"


def document(subject: Exportable) -> dict[str, Any]:
    """What ``-o json`` and ``-o yaml`` write, as plain values."""
    if isinstance(subject, Summary):
        return summary_document(subject)
    metadata: dict[str, Any] = {}
    if isinstance(subject, Analysis):
        metadata = {
            "cluster": subject.cluster,
            "mode": subject.mode,
            "start": rfc3339(subject.summary.start),
            "end": rfc3339(subject.summary.end),
            "intake": plain(subject.intake),
            "notes": list(subject.notes),
        }
    items = [plain(incident) for incident in _incidents(subject)]
    told = {
        "apiVersion": API_VERSION,
        "kind": "IncidentList",
        "metadata": metadata,
        "items": items,
    }
    if isinstance(subject, Analysis):
        told["misconfigurations"] = [plain(one) for one in subject.misconfigurations]
    return told


def summary_document(summary: Summary) -> dict[str, Any]:
    """A summary as plain values, as Kubernetes would write an object."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Summary",
        "metadata": {"start": rfc3339(summary.start), "end": rfc3339(summary.end)},
        "summary": plain(summary),
    }


def write_misconfigurations(found: Sequence[Broken], fmt: str, stream: IO[bytes]) -> None:
    """Write what is broken as a list, ``json`` or ``yaml``, or as a line each, ``jsonl``: the
    fields of a misconfiguration, and when it was seen."""
    items = []
    for one in found:
        told = plain(one)
        items.append({**told.pop("misconfiguration"), **told})
    if fmt == "jsonl":
        for item in items:
            write_plain(item, fmt, stream)
        return
    kind = "MisconfigurationList"
    write_plain(
        {"apiVersion": API_VERSION, "kind": kind, "metadata": {}, "items": items}, fmt, stream
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of a line of ``-o jsonl``."""
    return msgspec.json.schema(Incident)


def _incidents(subject: Exportable) -> Sequence[Incident]:
    if isinstance(subject, Summary):
        raise TypeError("a summary has no incidents")
    return ranked(subject) if isinstance(subject, Analysis) else tuple(subject)


def plain(value: msgspec.Struct | Mapping[str, Any]) -> dict[str, Any]:
    """A struct as dicts, lists and strings; every time in UTC, whatever zone it came in."""
    values: dict[str, Any] = msgspec.to_builtins(value, builtin_types=(datetime,))
    return {key: _timed(item) for key, item in values.items()}


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


def json_bytes(value: Any) -> bytes:
    """Compact JSON that is safe to look at."""
    return inert.json(msgspec.json.encode(value).decode()).encode()


def yaml_text(value: Any) -> str:
    """YAML in block style that is safe to look at."""
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
