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
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import report_fixtures as fixtures
from kubewitness.config.settings import Sink as SinkSettings
from kubewitness.sinks.alertmanager import LASTS
from kubewitness.sinks.courier import Courier
from kubewitness.sinks.sink import Notice, sink
from kubewitness.sinks.trial import trial
from kubewitness.state.database import State

SERVER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
GUIDE = Path(__file__).parents[1] / "docs" / "serve.md"
pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no Alertmanager on this machine")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def alertmanager(tmp_path: Path, place: str) -> Iterator[str]:
    with running(tmp_path, place) as url:
        yield url


@contextmanager
def running(tmp_path: Path, place: str) -> Iterator[str]:
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
    assert alert["annotations"]["summary"] == "It grew"

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


def test_one_that_was_restarted_knows_again_what_stands(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alerts are in its memory only."""
    monkeypatch.setattr("kubewitness.sinks.courier.POLL", 0.02)
    monkeypatch.setattr("kubewitness.sinks.alertmanager.Alertmanager.every", 0.1)
    wanted = SinkSettings(name="pager", type="alertmanager", url=f"http://{place}", per_minute=600)
    there = sink(wanted)

    async def known(url: str) -> dict[str, Any]:
        for _ in range(200):
            if found := await asyncio.to_thread(alerts, url):
                return found[0]
            await asyncio.sleep(0.05)
        raise AssertionError("it does not know")

    async def served() -> list[dict[str, Any]]:
        with State(tmp_path / "state.sqlite") as state:
            state.keep("prod-eu-1", [fixtures.escalation()], [wanted])
            serving = asyncio.create_task(Courier(state, [(wanted, there)]).run())
            found = []
            for _ in range(2):
                with running(tmp_path, place) as url:
                    found.append(await known(url))
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        return found

    before, after = asyncio.run(served())
    assert before["fingerprint"] == after["fingerprint"]
    ends = datetime.fromisoformat(after["endsAt"])
    assert timedelta() < datetime.now(UTC) + LASTS - ends < timedelta(minutes=2)
