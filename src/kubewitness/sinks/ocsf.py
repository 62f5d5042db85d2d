"""OCSF Detection Findings, posted or appended to a file; ``report.ocsf`` has the mapping."""

from __future__ import annotations

from typing import Any

from kubewitness.config import settings
from kubewitness.report import exports
from kubewitness.report.ocsf import finding
from kubewitness.sinks.appending import Appender
from kubewitness.sinks.bounds import bounded
from kubewitness.sinks.posting import Message, Poster
from kubewitness.sinks.sink import Notice, Sink


def sink(wanted: settings.Sink) -> Sink:
    if wanted.path is not None:
        return Appender(wanted.name, wanted.path, document)
    return Poster(wanted, lambda notice, _: Message(exports.json_bytes(document(notice))))


def document(notice: Notice) -> dict[str, Any]:
    """The finding as plain values."""
    told = finding(
        notice.incident,
        activity={"updated": 2, "resolved": 3}.get(notice.kind, 1),
        revision=notice.revision,
        uid=notice.uid,
        test=notice.kind == "test",
    )
    return bounded({**told, "message": notice.headline})
