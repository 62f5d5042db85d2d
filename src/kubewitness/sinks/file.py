"""A file of JSON lines."""

from __future__ import annotations

from kubewitness.config import settings
from kubewitness.sinks.appending import Appender
from kubewitness.sinks.lines import FORMATS


def sink(wanted: settings.Sink) -> Appender:
    assert wanted.path is not None
    return Appender(wanted.name, wanted.path, FORMATS[wanted.format])
