"""``history``, ``state``, ``diff`` and ``inventory`` as commands, and what they print."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from activities import START
from audit_log import event, stamp, write
from conftest import Command
from kubewitness.forensics.objects.fields import Field
from kubewitness.forensics.objects.model import Change, History, Subject
from kubewitness.report.terminal import objects
from report_fixtures import HOSTILE

BODY: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"a": "1"}},
    "spec": {"containers": [{"name": "web", "image": "postgres:16"}], "nodeName": "n1"},
}
LATER = stamp(START + timedelta(minutes=5))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    changed = {**BODY, "metadata": {**BODY["metadata"], "labels": {"a": "2"}}}
    fields: dict[str, Any] = {"level": "RequestResponse", "requestObject": BODY}
    return write(
        tmp_path / "audit.jsonl",
        [
            event(START, "ada", "create", code=201, responseObject=BODY, **fields),
            event(
                START + timedelta(minutes=10),
                "bob",
                "patch",
                level="RequestResponse",
                requestObject={"metadata": {"labels": {"a": "2"}}},
                responseObject=changed,
            ),
        ],
    )


def test_history_tells_who_changed_what(kubewitness: Command, log: Path) -> None:
    ran = kubewitness("history", "po/web", "-n", "shop", log)
    assert ran.code == 0
    assert "created  create  ada" in ran.text
    assert '~ metadata.labels.a  "1" → "2"' in ran.text
    told = json.loads(kubewitness("history", "po/web", log, "-o", "json").out)
    assert told["kind"] == "History"
    assert [one["principal"] for one in told["changes"]] == ["ada", "bob"]
    late = kubewitness("history", "po/web", log, "--since", LATER, "-o", "json")
    assert [one["principal"] for one in json.loads(late.out)["changes"]] == ["bob"]


def test_state_gives_a_manifest(kubewitness: Command, log: Path) -> None:
    ran = kubewitness("state", "po/web", log, "--at", LATER, "-o", "yaml")
    assert yaml.safe_load(ran.out) == BODY
    assert ran.text.startswith("# at ")
    assert "image: postgres:16" in kubewitness("state", "po/web", log).text


def test_diff_shows_fields(kubewitness: Command, log: Path) -> None:
    ran = kubewitness("diff", "po/web", log, "--from", LATER, "-o", "yaml")
    assert [one["path"] for one in yaml.safe_load(ran.out)["fields"]] == ["metadata.labels.a"]


def test_inventory_lists_what_ran_and_when(kubewitness: Command, log: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    assert kubewitness("ingest", log, "--lake", lake).code == 0
    now = kubewitness("inventory", "--lake", lake, "-o", "json")
    (one,) = json.loads(now.out)["workloads"]
    assert (one["images"], one["node"]) == (["postgres:16"], "n1")
    ever = kubewitness("inventory", "--lake", lake, "--where", "image~postgres")
    assert "1 time" in ever.text
    assert "still then" in ever.text
    assert (
        kubewitness("inventory", "--lake", lake, "--where", "image~redis", "--at", "0s").code == 0
    )


def test_what_cannot_be_answered_says_why(kubewitness: Command, log: Path) -> None:
    ran = kubewitness("state", "po/wep", log)
    assert ran.code == 1
    assert ran.out == b""
    assert "of similar name: web -n shop" in ran.talk
    assert kubewitness("state", "po/web").code == 2


def test_hostile_text_does_nothing() -> None:
    for text in HOSTILE:
        change = Change(
            at=START,
            until=START,
            life=1,
            uid=text,
            effect="changed",
            how=text,
            subresource=text,
            principal=text,
            acting_as=text,
            owner=text,
            source_ips=(text,),
            user_agent=text,
            reason=text,
            outcome="ok",
            code=200,
            level="Request",
            fields=(Field(text, "replace", text, {text: text}),),
            note=text,
            n=1,
            audit_ids=(text,),
        )
        stream = io.StringIO()
        console = Console(file=stream, width=120, force_terminal=False)
        found = History(Subject(text, text, text, text), (change,), 2, (text,))
        objects.history_report(found, console)
        printed = stream.getvalue()
        assert "\x1b" not in printed
        assert "\u202e" not in printed
        assert "[red]fine[/red]" in printed or "[red]" not in text
