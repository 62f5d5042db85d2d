"""Incidents and summaries as data."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta, timezone

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

import report_fixtures as fixtures
from kubewitness.incidents.model import Incident
from kubewitness.report import exports, inert
from kubewitness.report.exports import Exportable
from kubewitness.report.model import Rejected

WEEK = fixtures.week()


def written(subject: Exportable, fmt: str) -> str:
    stream = io.BytesIO()
    exports.write(subject, fmt, stream)
    return stream.getvalue().decode()


def test_jsonl(snapshot: SnapshotAssertion) -> None:
    assert written(WEEK, "jsonl") == snapshot


def test_yaml(snapshot: SnapshotAssertion) -> None:
    assert written(fixtures.analysis(fixtures.escalation()), "yaml") == snapshot


def test_name() -> None:
    names = written(WEEK, "name").splitlines()
    assert names == [f"incident/{i}" for i in ("7f3a91c2", "c04be7d9", "19d2e0aa", "5b88f013")]


def test_a_line_is_the_incident() -> None:
    for incident in (*WEEK.incidents, fixtures.giant(), fixtures.hostile()):
        line = exports.incident_line(incident)
        assert line.count(b"\n") == 1
        assert msgspec.json.decode(line, type=Incident) == incident


def test_a_line_has_every_field_and_the_keys_scripts_rely_on() -> None:
    line = json.loads(exports.incident_line(fixtures.stolen_token()))
    assert tuple(line) == Incident.__struct_fields__
    assert line["opened_at"] == "2026-03-14T02:11:09Z"
    assert line["timeline"][0]["until"] == "2026-03-14T02:00:30Z"
    assert {"factor", "observed", "expected", "days_self", "days_peers", "days_cluster", "p",
            "share"} <= line["reasons"][0].keys()  # fmt: skip
    assert line["reasons"][0]["expected"][0] == {"value": "10.244.3.0/24 (pods)", "share": 0.93}


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=2))])
def test_times_are_utc_whatever_zone_they_came_in(zone: timezone | None) -> None:
    opened = datetime(2026, 3, 14, 4, 11, 9, 250_000, tzinfo=zone)
    incident = msgspec.structs.replace(fixtures.escalation(), opened_at=opened)
    line = json.loads(exports.incident_line(incident))
    assert line["opened_at"] == f"2026-03-14T0{4 if zone is None else 2}:11:09.250000Z"


def test_json_and_yaml_are_one_document_shaped_as_kubernetes_does() -> None:
    document = json.loads(written(WEEK, "json"))
    assert document["apiVersion"] == "kubewitness.dev/v1alpha1"
    assert document["kind"] == "IncidentList"
    assert document["metadata"]["cluster"] == "prod-eu-1"
    assert next(item["id"] for item in document["items"]) == "7f3a91c2"
    assert len(document["items"]) == 4
    assert yaml.safe_load(written(WEEK, "yaml")) == document


def test_no_incidents_is_an_empty_list() -> None:
    assert json.loads(written(fixtures.silence(), "json"))["items"] == []
    assert json.loads(written((), "json")) == {
        "apiVersion": "kubewitness.dev/v1alpha1", "kind": "IncidentList", "metadata": {},
        "items": [],
    }  # fmt: skip
    assert written(fixtures.silence(), "jsonl") == ""


def test_an_incident_in_both_lists_is_written_once() -> None:
    both = msgspec.structs.replace(WEEK, queue=WEEK.incidents)
    assert len(written(both, "jsonl").splitlines()) == len(WEEK.incidents)


@pytest.mark.parametrize("fmt", ["json", "yaml", "jsonl"])
def test_summary(fmt: str) -> None:
    document = yaml.safe_load(written(fixtures.summary(), fmt))
    assert document["kind"] == "Summary"
    assert document["metadata"] == {
        "start": "2026-03-09T00:00:00Z",
        "end": "2026-03-16T00:00:00Z",
    }
    assert document["summary"]["requests"] == fixtures.summary().requests
    assert document["summary"]["slots"][1] == "2026-03-09T01:00:00Z"


@pytest.mark.parametrize("fmt", exports.FORMATS)
def test_hostile_text_does_nothing(fmt: str) -> None:
    text = written(fixtures.attack_on_the_report(), fmt)
    assert text
    assert not inert.acts(text.replace("\n", ""))


@given(st.text(max_size=80), st.sampled_from(fixtures.HOSTILE))
def test_hostile_text_is_kept_letter_by_letter(text: str, hostile: str) -> None:
    title = text + hostile + text
    incident = msgspec.structs.replace(fixtures.escalation(), title=title, objects=(text,))
    assert msgspec.json.decode(exports.incident_line(incident), type=Incident) == incident
    listed = yaml.safe_load(written((incident,), "yaml"))["items"][0]
    assert (listed["title"], listed["objects"]) == (title, [text])


def test_a_file_name_that_is_not_utf8_can_be_written() -> None:
    odd = Rejected("audit-\udcff.log", "not JSON", 1, ("audit-\udcff.log:1",))
    broken = msgspec.structs.replace(
        WEEK, intake=msgspec.structs.replace(WEEK.intake, broken=(odd,))
    )
    for fmt in ("json", "yaml"):
        assert "audit-\\" in written(broken, fmt)


def test_a_wrong_format_or_subject_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown format 'xml'"):
        written(WEEK, "xml")
    with pytest.raises(TypeError, match="no incidents"):
        written(fixtures.summary(), "name")


def test_schema_describes_a_line() -> None:
    schema = exports.schema()
    fields = schema["$defs"]["Incident"]["properties"]
    assert set(fields) == set(Incident.__struct_fields__)
