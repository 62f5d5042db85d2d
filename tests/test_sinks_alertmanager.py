"""A real Alertmanager, where there is one: Debian's ``prometheus-alertmanager``, or upstream's.

It is started as ``prometheus-alertmanager --config.file=FILE --storage.path=DIR
--web.listen-address=127.0.0.1:PORT --cluster.listen-address=``, with the rule that
``docs/serve.md`` tells of.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import report_fixtures as fixtures
from kubewitness.config.settings import Sink as SinkSettings
from kubewitness.sinks.sink import Notice, sink
from kubewitness.sinks.trial import trial

SERVER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
GUIDE = Path(__file__).parents[1] / "docs" / "serve.md"
pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no Alertmanager on this machine")


@pytest.fixture
def alertmanager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    (rule,) = re.findall(r"```yaml\n(inhibit_rules:.*?)```", GUIDE.read_text(), re.DOTALL)
    config = tmp_path / "alertmanager.yml"
    config.write_text(f"route: {{receiver: nobody}}\nreceivers: [{{name: nobody}}]\n{rule}")
    assert SERVER is not None
    command = [SERVER, f"--config.file={config}", f"--storage.path={tmp_path}"]
    command += [f"--web.listen-address={place}", "--cluster.listen-address="]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait(f"http://{place}")
            yield f"http://{place}"
        finally:
            server.terminate()


def _wait(url: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("Alertmanager did not start")


def alerts(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def test_it_takes_whatever_we_send_and_tells_alerts_apart(alertmanager: str) -> None:
    there = sink(SinkSettings(name="pager", type="alertmanager", url=alertmanager))

    def send(notice: Notice) -> None:
        asyncio.run(there.send(notice))

    incident = fixtures.escalation()
    grown = msgspec.structs.replace(incident, title="It grew", score=99.0)
    send(Notice("opened", incident, 1))
    send(Notice("updated", grown, 2))
    (alert,) = alerts(alertmanager)
    assert alert["annotations"]["summary"] == "Grew: It grew"

    send(Notice("updated", msgspec.structs.replace(grown, severity="critical"), 3))
    for notice in (trial(datetime.now(UTC), "x"), Notice("opened", fixtures.hostile(), 1)):
        send(notice)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        state = {
            (alert["labels"]["incident"], alert["labels"]["severity"]): alert["status"]["state"]
            for alert in alerts(alertmanager)
        }
        if state.get((incident.id, "high")) == "suppressed":
            break
        time.sleep(0.2)
    assert state[incident.id, "high"] == "suppressed"
    assert state[incident.id, "critical"] == "active"
    assert len(state) == 4


def test_what_is_over_is_resolved_whatever_its_severity_was(alertmanager: str) -> None:
    there = sink(SinkSettings(name="pager", type="alertmanager", url=alertmanager))
    incident = fixtures.escalation()
    worse = msgspec.structs.replace(incident, severity="critical")
    for notice in (Notice("opened", incident, 1), Notice("updated", worse, 2)):
        asyncio.run(there.send(notice))
    assert len(alerts(alertmanager)) == 2
    asyncio.run(there.send(Notice("resolved", worse, 3)))
    assert alerts(alertmanager) == []
