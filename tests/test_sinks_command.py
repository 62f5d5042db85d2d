"""``kubewitness sinks``: a test alert, and a dry run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import report_fixtures as fixtures
from conftest import Command
from kubewitness.report.kept import save
from receivers import answers, receiver


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    path = tmp_path / "kubewitness.yaml"
    secret = tmp_path / "slack.url"
    secret.write_text("https://hooks.slack.example/services/T0/B0/hushhush\n")
    secret.chmod(0o600)
    path.write_text(
        f"""
data: {tmp_path}/data
clusters:
- name: prod-eu-1
sinks:
- name: pager
  type: falco
  url: http://127.0.0.1:9/
- name: chat
  type: slack
  url_file: {tmp_path}/slack.url
- name: log
  type: file
  path: {tmp_path}/alerts.jsonl
- name: out
  type: stdout
  format: ocsf
"""
    )
    return path


def test_a_test_alert_arrives_and_that_is_said(
    configured: Path, tmp_path: Path, kubewitness: Command
) -> None:
    with receiver(answers(200)) as there:
        configured.write_text(configured.read_text().replace("http://127.0.0.1:9/", there.url))
        done = kubewitness("sinks", "test", "pager", "--config", configured)
    assert (done.code, done.out) == (0, b"")
    assert done.talk == "The sink pager has taken the test alert.\n"
    alert = json.loads(there.last.body)
    assert alert["hostname"] == "prod-eu-1"
    assert "test" in alert["tags"]
    assert kubewitness("sinks", "test", "log", "--config", configured).code == 0
    assert json.loads((tmp_path / "alerts.jsonl").read_text())["type"] == "incident.test"


def test_a_test_alert_on_standard_output_is_data(configured: Path, kubewitness: Command) -> None:
    done = kubewitness("sinks", "test", "out", "--config", configured)
    assert done.code == 0
    assert json.loads(done.out)["metadata"]["labels"] == ["test"]


def test_a_test_alert_that_fails_says_where_and_why(configured: Path, kubewitness: Command) -> None:
    with receiver(answers(403, b"forbidden here")) as there:
        configured.write_text(configured.read_text().replace("http://127.0.0.1:9/", there.url))
        done = kubewitness("sinks", "test", "pager", "--config", configured)
    assert (done.code, done.out) == (1, b"")
    assert f"sink pager at {there.url}: answered 403 Forbidden: forbidden here" in done.talk
    assert "renew its credentials" in done.talk


def test_a_dry_run_sends_nothing_and_hides_secrets(configured: Path, kubewitness: Command) -> None:
    done = kubewitness("sinks", "show", "chat", "--config", configured)
    assert (done.code, done.err) == (0, b"")
    head, _, body = done.text.partition("\n\n")
    assert head.startswith("POST https://hooks.slack.example/(hidden)\n")
    assert json.loads(body)["text"].startswith("High: Test: ")
    assert "hushhush" not in done.text


def test_a_dry_run_of_an_incident_of_the_last_analysis(
    configured: Path, state: Path, tmp_path: Path, kubewitness: Command
) -> None:
    save(fixtures.week(), state / "kubewitness" / "analysis.json")
    done = kubewitness("sinks", "show", "log", "--config", configured, "--incident", "c04b")
    body = json.loads(done.text.partition("\n\n")[2])
    assert (body["type"], body["data"]["id"]) == ("incident.opened", "c04be7d9")
    assert not (tmp_path / "alerts.jsonl").exists()
    save(fixtures.week(), tmp_path / "lake" / "analysis.json")
    lake = ("--lake", tmp_path / "lake")
    again = kubewitness("sinks", "show", "log", "--config", configured, "--incident", "c04b", *lake)
    assert again.out == done.out
    assert kubewitness("sinks", "show", "log", "--config", configured, *lake).code == 2
    none = kubewitness("sinks", "show", "log", "--config", configured, "--incident", "ff")
    assert none.code == 1
    assert "no incident begins with 'ff'" in none.talk


def test_an_unknown_sink_is_told_with_those_there_are(
    configured: Path, kubewitness: Command
) -> None:
    done = kubewitness("sinks", "test", "pagr", "--config", configured)
    assert done.code == 1
    assert "there is no sink 'pagr'" in done.talk
    assert "pager, chat, log, out" in done.talk
