"""Every format of docs/formats.md, by an input of its own in tests/data/formats."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kubewitness.sources.reading import Reader

DATA = Path(__file__).parent / "data" / "formats"
EVENTS: list[dict[str, Any]] = [
    json.loads(line) for line in (DATA / "v1.jsonl").read_text().splitlines()
]

# Envelopes leave the event as it is. File: cluster that the envelope names, what else is in it.
ENVELOPES: dict[str, tuple[str, dict[str, int]]] = {
    "v1.jsonl": ("", {}),
    "without-apiversion.jsonl": ("", {}),
    "eventlist.json": ("", {}),
    "array.json": ("", {}),
    "array-lines.json": ("", {}),
    "pretty.json": ("", {}),
    "pretty-array.json": ("", {}),
    "concatenated.json": ("", {}),
    "suspicious-events.json": ("", {}),
    "raw-event.json": ("", {}),
    "powershell.json": ("", {}),
    "openshift-node-logs.txt": ("", {}),
    "openshift-fluentd.txt": ("", {}),
    "openshift-viaq.jsonl": ("6a1b2c3d", {"OpenShift log of another type": 1}),
    "eks-query-results.json": ("shop", {"not the audit stream of CloudWatch": 1}),
    "eks-subscription.json": ("shop", {}),
    "eks-firehose-s3": ("shop", {"CloudWatch control message": 1}),
    "eks-lambda.json": ("shop", {}),
    "eks-kinesis.json": ("shop", {}),
    "eks-firehose-http.json": ("shop", {}),
    "eks-filter-log-events.json": ("", {"not the audit stream of CloudWatch": 1}),
    "eks-console.csv": ("", {}),
    "eks-s3-export.txt": ("", {}),
    "aks-records.json": ("shop", {"Azure log of another category": 1}),
    "aks-lines.jsonl": ("shop", {}),
    "elastic.jsonl": ("shop", {}),
    "elastic-source.jsonl": ("shop", {}),
    "elastic-hits.json": ("shop", {}),
    "docker.jsonl": ("", {}),
    "fluent-bit.jsonl": ("", {}),
    "cri.log": ("", {"not an audit event: klog text": 1}),
    "syslog-rfc5424.log": ("", {}),
    "loki-push.json": ("shop", {}),
    "loki-query.json": ("", {}),
    "logcli.jsonl": ("shop", {}),
    "splunk-hec.json": ("", {}),
    "splunk-export.jsonl": ("", {}),
    "splunk.csv": ("", {}),
    "victorialogs-msg.jsonl": ("", {}),
    "journald.jsonl": ("", {}),
    "kubectl-logs-prefix.txt": ("", {}),
}
PARTIAL = {  # these have the first event only
    "aks-log-analytics.jsonl": ("shop", {"Azure log of another category": 1}),
}
NOTHING = {
    "klog.log": {"not an audit event: klog text": 2},
    "policy.yaml": {"not an audit event: Policy": 1},
    "eks-skipped.jsonl": {
        "CloudWatch control message": 1,
        "not the audit stream of CloudWatch": 1,
    },
}
ELSEWHERE = {  # tested one by one below
    "v1beta1.jsonl",
    "v1alpha1.jsonl",
    "rke2.jsonl",
    "rancher.jsonl",
    "openshift-oauth.jsonl",
    "eks-raw.jsonl",
    "gke.json",
    "gke-sink.jsonl",
    "gke-pubsub.json",
    "gke.yaml",
    "aks-audit-table.jsonl",
    "aks-query.json",
    "aks-portal.csv",
    "docker-parts.jsonl",
    "cri-parts.log",
    "syslog-rfc3164.log",
    "victorialogs.jsonl",
    "logstash.csv",
    "not-audit.jsonl",
    "broken.jsonl",
    "mistyped.jsonl",
    "mixed.log",
}


class Readout:
    """What a Reader made of a file, with everything sifted."""

    def __init__(self, path: Path, directory: Path) -> None:
        quarantine = directory / "quarantine.jsonl"
        spool = directory / "spool"
        self.events: list[dict[str, Any]] = []
        with Reader([path], quarantine=quarantine, spool=spool, sift=True) as reader:
            for chunk in reader.chunks():
                events = [json.loads(line) for line in chunk.path.read_bytes().splitlines()]
                reader.accepted(chunk, len(events))
                self.events += events
        tally = reader.tally
        self.skipped = {rejection.reason: rejection.n for rejection in tally.skipped}
        self.broken = {rejection.reason: rejection.n for rejection in tally.broken}
        self.warnings = tally.warnings
        self.quarantine = (
            [json.loads(line) for line in quarantine.read_text().splitlines()]
            if quarantine.exists()
            else []
        )
        rejected = sum(self.skipped.values()) + sum(self.broken.values())
        assert tally.lines == len(self.events) + rejected
        assert tally.events == len(self.events)
        assert not spool.exists() or not list(spool.iterdir())


def readout(name: str, directory: Path) -> Readout:
    return Readout(DATA / name, directory)


def without_cluster(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "cluster"}


def test_every_input_is_tested() -> None:
    tested = {*ENVELOPES, *PARTIAL, *NOTHING, *ELSEWHERE}
    assert {path.name for path in DATA.iterdir()} == tested


def test_every_input_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    documented = set(re.findall(r"`([a-z0-9-]+(?:\.[a-z]+)?)`", text))
    assert {path.name for path in DATA.iterdir()} <= documented


@pytest.mark.parametrize("name", ENVELOPES)
def test_envelope_leaves_the_events_as_they_are(name: str, tmp_path: Path) -> None:
    cluster, skipped = ENVELOPES[name]
    read = readout(name, tmp_path)
    assert [without_cluster(event) for event in read.events] == EVENTS
    assert {event.get("cluster", "") for event in read.events} == {cluster}
    assert (read.skipped, read.broken, read.warnings) == (skipped, {}, ())


@pytest.mark.parametrize("name", PARTIAL)
def test_envelope_of_one_event(name: str, tmp_path: Path) -> None:
    cluster, skipped = PARTIAL[name]
    read = readout(name, tmp_path)
    assert read.events == [{**EVENTS[0], "cluster": cluster}]
    assert (read.skipped, read.broken) == (skipped, {})


@pytest.mark.parametrize("name", NOTHING)
def test_understood_and_passed_over(name: str, tmp_path: Path) -> None:
    read = readout(name, tmp_path)
    assert (read.events, read.skipped, read.broken) == ([], NOTHING[name], {})
    assert read.quarantine == []


def test_v1beta1_is_read_as_v1(tmp_path: Path) -> None:
    (event,) = readout("v1beta1.jsonl", tmp_path).events
    assert {**event, "apiVersion": "audit.k8s.io/v1"}.items() >= EVENTS[0].items()


def test_v1alpha1_has_one_timestamp(tmp_path: Path) -> None:
    (event,) = readout("v1alpha1.jsonl", tmp_path).events
    assert event["stageTimestamp"] == event["requestReceivedTimestamp"]
    assert event["stageTimestamp"] == "2017-09-11T19:55:05.000000Z"


@pytest.mark.parametrize("name", ["rke2.jsonl", "eks-raw.jsonl", "openshift-oauth.jsonl"])
def test_distributions_that_write_plain_v1(name: str, tmp_path: Path) -> None:
    read = readout(name, tmp_path)
    assert read.events == [json.loads((DATA / name).read_text())]


def test_rancher_is_converted(tmp_path: Path) -> None:
    proxied, own, local = readout("rancher.jsonl", tmp_path).events
    assert proxied["cluster"] == "c-m-dwvjznpd"
    assert proxied["verb"] == "list"
    assert proxied["requestURI"] == "/api/v1/namespaces/payments/secrets?limit=500"
    assert proxied["objectRef"] == {
        "resource": "secrets",
        "namespace": "payments",
        "apiVersion": "v1",
    }
    assert proxied["user"]["username"] == "u-dlzdlz55n3"
    assert proxied["user"]["groups"] == ["system:authenticated", "system:cattle:authenticated"]
    assert proxied["user"]["extra"]["username"] == ["alice"]
    assert "impersonatedUser" not in proxied
    assert proxied["sourceIPs"] == ["203.0.113.7", "192.0.2.1", "10.42.0.105"]
    assert proxied["responseStatus"] == {"code": 200}
    assert proxied["stageTimestamp"] == "2025-12-30T02:47:33.000000Z"
    assert "cluster" not in own
    assert (own["verb"], own.get("objectRef"), own["sourceIPs"]) == ("post", None, ["2001:db8::1"])
    assert (local["verb"], local["cluster"]) == ("delete", "local")
    assert local["objectRef"]["apiGroup"] == "apps"
    assert local["impersonatedUser"] == {"username": "bob"}


def test_gke_is_converted(tmp_path: Path) -> None:
    read = readout("gke.json", tmp_path)
    get, exec_, ready, rbac = read.events
    for name in ("cluster", "verb", "user", "userAgent", "sourceIPs", "annotations", "auditID"):
        expected = {
            **EVENTS[0],
            "cluster": "shop",
            "user": {"username": "alice@example.com"},
            "sourceIPs": ["203.0.113.7"],
        }
        assert get[name] == expected[name], name
    assert get["objectRef"] == EVENTS[0]["objectRef"]
    assert get["requestURI"] == "/api/v1/namespaces/payments/secrets/db-password"
    assert get["responseStatus"] == {"code": 200}
    assert (get["stage"], get["level"]) == ("ResponseComplete", "Metadata")
    assert exec_["objectRef"]["subresource"] == "exec"
    assert exec_["responseStatus"] == {"code": 403, "status": "Failure", "message": "forbidden"}
    assert exec_["impersonatedUser"] == {"username": "bob"}
    assert exec_["requestObject"] == {"kind": "PodExecOptions"}
    assert exec_["level"] == "Request"
    assert (ready["verb"], ready["requestURI"]) == ("get", "/readyz")
    assert "objectRef" not in ready
    assert ready["stage"] == "ResponseStarted"
    assert rbac["verb"] == "create"
    assert rbac["objectRef"]["apiGroup"] == "rbac.authorization.k8s.io"
    assert rbac["requestURI"] == "/apis/rbac.authorization.k8s.io/v1/clusterroles/x"
    assert rbac["responseStatus"]["code"] == 409
    assert read.skipped == {
        "audit entry of another Google Cloud service": 1,
        "Google Cloud log entry without audit payload": 1,
    }


def test_gke_arrives_the_same_by_every_way(tmp_path: Path) -> None:
    first, second = readout("gke.json", tmp_path).events[:2]
    assert readout("gke-sink.jsonl", tmp_path).events == [first, second]
    assert readout("gke-pubsub.json", tmp_path).events == [first]
    yaml = readout("gke.yaml", tmp_path)
    assert yaml.events == [first, second, EVENTS[0]]
    assert (yaml.skipped, yaml.broken) == ({"not an audit event: Pod": 1}, {"not YAML": 1})


@pytest.mark.parametrize("name", ["aks-audit-table.jsonl", "aks-query.json"])
def test_aks_tables(name: str, tmp_path: Path) -> None:
    read = readout(name, tmp_path)
    expected = [{**event, "cluster": "shop"} for event in EVENTS]
    del expected[1]["impersonatedUser"]  # the tables have no column for it
    assert read.events == expected[: len(read.events)]
    assert read.broken == {}


def test_aks_portal_export(tmp_path: Path) -> None:
    (event,) = readout("aks-portal.csv", tmp_path).events
    assert event == {
        **EVENTS[0],
        "cluster": "shop",
        "requestReceivedTimestamp": "2025-03-04T10:15:00.123000Z",
        "stageTimestamp": "2025-03-04T10:15:00.124000Z",
    }


@pytest.mark.parametrize("name", ["docker-parts.jsonl", "cri-parts.log"])
def test_lines_cut_by_the_container_runtime_are_joined(name: str, tmp_path: Path) -> None:
    read = readout(name, tmp_path)
    (event,) = read.events
    assert len(event["requestObject"]["pad"]) == 20_000
    assert (read.skipped, read.broken) == ({"not an audit event: klog text": 1}, {})


def test_old_syslog(tmp_path: Path) -> None:
    assert readout("syslog-rfc3164.log", tmp_path).events == [*EVENTS, EVENTS[0]]


def test_victorialogs_flattened(tmp_path: Path) -> None:
    read = readout("victorialogs.jsonl", tmp_path)
    first, second = read.events
    assert first == EVENTS[0]
    # Empty values are not stored, and bodies cannot be told from keys with dots.
    expected = {name: value for name, value in EVENTS[1].items() if name != "requestObject"}
    annotations = {"authorization.k8s.io/decision": "allow"}
    assert second == {**expected, "annotations": annotations}
    note = "requestObject, responseObject: dropped, flattened (events: 1, first at"
    assert any(warning.startswith(note) for warning in read.warnings)


def test_logstash_csv(tmp_path: Path) -> None:
    read = readout("logstash.csv", tmp_path)
    get, token, ready = read.events
    assert get["objectRef"] == EVENTS[0]["objectRef"]
    assert get["auditID"] == EVENTS[0]["auditID"]
    assert get["responseStatus"] == {"code": 200}
    assert token["objectRef"]["subresource"] == "token"
    assert token["objectRef"]["namespace"] == "payments"
    assert "objectRef" not in ready
    assert read.broken == {"cut row": 1}


def test_other_objects_of_kubernetes_are_named(tmp_path: Path) -> None:
    read = readout("not-audit.jsonl", tmp_path)
    assert read.events == []
    assert read.skipped == {
        "not an audit event: AdmissionReview": 1,
        "not an audit event: Event of v1": 1,
        "not an audit event: Event of events.k8s.io/v1": 1,
        "not an audit event: Policy": 1,
        "not an audit event: PodList": 1,
        "not an audit event: JSON object": 1,
    }
    assert read.broken == {"not JSON": 1}


def test_broken_lines_lose_nothing_else(tmp_path: Path) -> None:
    read = readout("broken.jsonl", tmp_path)
    assert read.events == [EVENTS[0], EVENTS[1], EVENTS[0]]
    assert read.broken == {
        "cut off": 2,
        "malformed JSON": 1,
        "NUL bytes": 1,
        "not UTF-8": 1,
        "absurd timestamp": 1,
        "not JSON": 1,
        "binary data": 1,
        "audit event without verb": 1,
    }
    assert [entry["line"] for entry in read.quarantine] == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert Counter("base64" in entry for entry in read.quarantine)[True] == 2


def test_fields_of_the_wrong_type_cost_no_event(tmp_path: Path) -> None:
    read = readout("mistyped.jsonl", tmp_path)
    assert (read.skipped, read.broken) == ({}, {})
    by_id = {event["auditID"]: event for event in read.events}
    assert by_id["mistyped-0"]["userAgent"] == "12"
    assert by_id["mistyped-1"]["user"] == {"username": "bob"}
    assert by_id["mistyped-2"]["sourceIPs"] == ["203.0.113.7", "10.0.0.1"]
    assert by_id["mistyped-3"]["responseStatus"] == {}
    assert by_id["mistyped-4"]["responseStatus"] == {"code": 403}
    assert "objectRef" not in by_id["mistyped-5"]
    assert by_id["mistyped-6"]["annotations"] == {"a": '{"b":1}', "d": "2"}
    assert by_id["mistyped-7"]["user"] == {"username": "u", "groups": ["g"], "extra": {"k": ["v"]}}
    assert by_id["mistyped-8"]["level"] == "Metadata"
    assert by_id["mistyped-9"]["stageTimestamp"] == "2025-03-04T10:15:00.123000Z"
    assert any(audit_id.startswith("derived-") for audit_id in by_id)
    assert by_id["twice"]["verb"] == "delete"
    note = "duplicate keys: the last of each was read (events: 1, first at"
    assert any(warning.startswith(note) for warning in read.warnings)
    assert len(read.events) == 14


def test_formats_may_be_mixed_in_a_file(tmp_path: Path) -> None:
    read = readout("mixed.log", tmp_path)
    first, second = EVENTS
    expected = [first, first, second, second, first, first, second, first, first, second]
    assert [without_cluster(event) for event in read.events] == expected
    assert (read.skipped, read.broken) == ({}, {})
