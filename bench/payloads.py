"""Write ``docs/sinks/``: the test alert as each kind of receiver gets it.

    python bench/payloads.py

The documentation shows these files; a test compares them with what the sinks make.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from kubewitness.report import exports
from kubewitness.sinks import alertmanager, falco, ocsf, slack, webhook
from kubewitness.sinks.template import Template
from kubewitness.sinks.trial import trial

FOLDER = Path(__file__).parents[1] / "docs" / "sinks"
NOW = datetime(2026, 3, 14, 4, 0, tzinfo=UTC)


def payloads() -> Iterator[tuple[str, bytes]]:
    """The name of each file, and its content."""
    notice = trial(NOW, "prod-eu-1")
    documents: dict[str, Any] = {
        "falco.json": falco.document(notice),
        "alertmanager.json": [alertmanager.document(notice, NOW)],
        "webhook.json": webhook.document(notice),
        "slack.json": slack.document(notice),
        "ocsf.json": ocsf.document(notice),
    }
    for name, document in documents.items():
        yield name, msgspec.json.format(exports.json_bytes(document), indent=2) + b"\n"
    yield "teams.json", Template(FOLDER / "teams.json.j2", "teams").render(notice) + b"\n"


if __name__ == "__main__":
    for name, content in payloads():
        (FOLDER / name).write_bytes(content)
