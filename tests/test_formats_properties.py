"""Formats as properties: what is wrapped comes back, and nothing that is read raises."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubewitness.events.columns import EARLIEST
from kubewitness.events.formats import Broken, Found, encode, outcomes
from kubewitness.events.formats.decoding import decode
from kubewitness.events.formats.plain import is_plain
from kubewitness.events.formats.splitting import pieces
from kubewitness.events.formats.times import timestamp

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAME = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TIMES = (
    st.integers(0, 3_000_000_000_000_000)
    .map(lambda elapsed: EARLIEST + timedelta(microseconds=elapsed))
    .map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
)
USER = st.fixed_dictionaries(
    {"username": TEXT.filter(bool)},
    optional={
        "uid": TEXT,
        "groups": st.lists(TEXT, max_size=3),
        "extra": st.dictionaries(TEXT, st.lists(TEXT, max_size=2), max_size=2),
    },
)
EVENT = st.fixed_dictionaries(
    {
        "kind": st.just("Event"),
        "apiVersion": st.just("audit.k8s.io/v1"),
        "level": st.sampled_from(["None", "Metadata", "Request", "RequestResponse"]),
        "auditID": TEXT.filter(bool),
        "stage": st.sampled_from(["RequestReceived", "ResponseStarted", "ResponseComplete"]),
        "requestURI": NAME.map("/api/v1/{}".format),
        "verb": st.sampled_from(["get", "list", "create", "deletecollection"]),
        "user": USER,
        "sourceIPs": st.lists(st.ip_addresses().map(str), max_size=3),
        "requestReceivedTimestamp": TIMES,
        "stageTimestamp": TIMES,
    },
    optional={
        "userAgent": TEXT,
        "impersonatedUser": USER,
        "objectRef": st.fixed_dictionaries(
            {"resource": NAME}, optional={"namespace": NAME, "name": NAME, "subresource": NAME}
        ),
        "responseStatus": st.fixed_dictionaries({"code": st.integers(100, 599)}),
        "requestObject": st.dictionaries(TEXT, JSON, min_size=1, max_size=3),
        "responseObject": st.dictionaries(TEXT, JSON, min_size=1, max_size=3),
        "annotations": st.dictionaries(TEXT, TEXT, max_size=3),
    },
)


def line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def packed(value: Any) -> str:
    return base64.b64encode(gzip.compress(line(value).encode())).decode()


def subscription(event: Any) -> dict[str, Any]:
    return {
        "messageType": "DATA_MESSAGE",
        "logGroup": "/aws/eks/shop/cluster",
        "logStream": "kube-apiserver-audit-0",
        "logEvents": [{"id": "1", "timestamp": 1, "message": line(event)}],
    }


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda event: event,
    "text": line,
    "bytes": lambda event: line(event).encode(),
    "gzip": lambda event: gzip.compress(line(event).encode()),
    "list": lambda event: [event],
    "items": lambda event: {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [event]},
    "event": lambda event: {"event": event},
    "cloudwatch": subscription,
    "lambda": lambda event: {"awslogs": {"data": packed(subscription(event))}},
    "firehose": lambda event: {"records": [{"data": packed(subscription(event))}]},
    "aks text": lambda event: {
        "category": "kube-audit",
        "properties": {"log": line(event) + "\n"},
    },
    "aks object": lambda event: {"records": [{"category": "kube-audit", "properties": event}]},
    "elastic": lambda event: {"_source": {"kubernetes": {"audit": event}}},
    "docker": lambda event: {"log": line(event) + "\n", "stream": "stdout"},
    "loki": lambda event: {"streams": [{"stream": {}, "values": [["1", line(event)]]}]},
    "splunk": lambda event: {"result": {"_raw": line(event)}},
    "cri": lambda event: f"2025-01-01T00:00:00Z stdout F {line(event)}",
    "node": lambda event: f"node-1.example {line(event)}",
    "syslog": lambda event: f"<134>1 2025-01-01T00:00:00Z host kube-apiserver - - - {line(event)}",
    "fluentd": lambda event: f"2025-01-01T00:00:00Z\ttag\t{line(event)}",
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@settings(max_examples=25)
@given(event=EVENT)
def test_what_is_wrapped_comes_back(wrapper: str, event: dict[str, Any]) -> None:
    (outcome,) = outcomes(WRAPPERS[wrapper](event))
    assert isinstance(outcome, Found)
    outcome.event.pop("cluster", None)
    if wrapper != "elastic":  # whose keys are restored, whatever they were
        assert outcome.event == event
        assert outcome.notes == ()


@given(event=EVENT)
def test_canonical_form_is_a_fixed_point(event: dict[str, Any]) -> None:
    (once,) = outcomes(event)
    assert isinstance(once, Found)
    assert decode(encode(once.event)) == once.event
    (twice,) = outcomes(decode(encode(once.event)))
    assert twice == once


@given(event=EVENT)
def test_plain_lines_say_the_same_to_the_formats(event: dict[str, Any]) -> None:
    written = line(event).encode()
    assert is_plain(written)
    (outcome,) = outcomes(decode(written))
    assert outcome == Found(event)


@given(
    events=st.lists(EVENT, min_size=1, max_size=4),
    layouts=st.lists(
        st.tuples(st.sampled_from([None, 0, 1, 4]), st.sampled_from(["", "\n", "\r\n", " \n\n"])),
        min_size=4,
        max_size=4,
    ),
    array=st.booleans(),
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=20),
)
def test_any_layout_and_any_blocks_give_the_same_values(
    events: list[dict[str, Any]],
    layouts: list[tuple[int | None, str]],
    array: bool,
    cuts: list[int],
) -> None:
    texts = [
        json.dumps(event, indent=indent) + gap
        for event, (indent, gap) in zip(events, layouts, strict=False)
    ]
    data = (f"[{','.join(texts)}]" if array else "".join(texts)).encode()
    blocks, at = list[bytes](), 0
    while at < len(data):
        size = cuts[len(blocks) % len(cuts)]
        blocks.append(data[at : at + size])
        at += size
    found = list(pieces(blocks))
    assert [piece.value for piece in found] == events
    assert all(decode(piece.raw) == piece.value for piece in found)


@given(
    events=st.lists(EVENT, min_size=2, max_size=4),
    data=st.data(),
)
def test_a_cut_line_costs_no_other_line(events: list[dict[str, Any]], data: st.DataObject) -> None:
    lines = [line(event) for event in events]
    victim = data.draw(st.integers(0, len(lines) - 1))
    cut = data.draw(st.integers(1, len(lines[victim]) - 1))
    lines[victim] = lines[victim][:cut]
    values = [piece.value for piece in pieces(["\n".join(lines).encode()])]
    expected = [*events[:victim], *events[victim + 1 :]]
    assert [value for value in values if isinstance(value, dict)] == expected
    assert sum(isinstance(value, Broken) for value in values) == 1


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_no_bytes_raise(blocks: list[bytes]) -> None:
    for piece in pieces(blocks):
        list(outcomes(piece.value))
    list(outcomes(b"".join(blocks)))


SNIPPETS = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\n", b" ", b"1", b"true", b'"a"', b"\0"]
)


@given(st.lists(SNIPPETS, max_size=40), st.integers(1, 7))
def test_no_punctuation_raises_or_gets_lost(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(pieces(blocks))
    for piece in found:
        list(outcomes(piece.value))
    # Nothing vanishes but what separates values.
    kept = b"".join(piece.raw for piece in found)
    dropped = len(data.translate(None, b" \n,[]")) - len(kept.translate(None, b" \n,[]"))
    assert dropped == 0
    assert [piece.line for piece in found] == sorted(piece.line for piece in found)


@given(JSON)
def test_no_value_raises(value: Any) -> None:
    assert all(not isinstance(outcome, Found) for outcome in outcomes(value))


MEMBERS = st.sampled_from(
    """kind apiVersion items event events records logEvents messageType results awslogs data
    message protoPayload category properties log log_s tables AuditId Verb kubernetes _source hits
    line streams result user objectRef requestURI verb stageTimestamp sourceIPs method auditID
    responseStatus annotations openshift k8s_audit_level audit.verb kinesis""".split()  # noqa: SIM905
)
WORDS = st.sampled_from(["Event", "EventList", "audit.k8s.io/v1", "kube-audit", "get", "k8s.io"])
ODD = st.recursive(
    JSON
    | st.sampled_from(["Event", "EventList", "audit.k8s.io/v1", "kube-audit", "get", "k8s.io"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=6),
    max_leaves=20,
)


@given(ODD)
def test_no_odd_envelope_raises(value: Any) -> None:
    for outcome in outcomes(value):
        if isinstance(outcome, Found):
            encode(outcome.event)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.datetimes(), st.dates(), st.none()))
def test_no_time_raises(value: Any) -> None:
    written = timestamp(value)
    assert written is None or timestamp(written) == written
