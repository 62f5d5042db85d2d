"""The formats that a line of a file or of standard output can have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubewitness.sinks import falco, ocsf, webhook
from kubewitness.sinks.sink import Notice

FORMATS: dict[str, Callable[[Notice], dict[str, Any]]] = {
    "json": webhook.document,
    "falco": falco.document,
    "ocsf": ocsf.document,
}
