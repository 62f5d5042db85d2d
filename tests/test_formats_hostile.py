"""Input that nobody wrote in good faith, or that broke on its way."""

from __future__ import annotations

import base64
import gzip
import json
import time
from typing import Any

import pytest

from kubewitness.events.formats import Broken, Found, Skipped, encode, outcomes
from kubewitness.events.formats.decoding import (
    DEPTH_LIMIT,
    UndecodableError,
    decode,
    inflate,
    repeats_keys,
)
from kubewitness.events.formats.documents import documents
from kubewitness.events.formats.plain import is_plain
from kubewitness.events.formats.splitting import pieces
from kubewitness.events.formats.tables import rows

EVENT: dict[str, Any] = {
    "kind": "Event",
    "apiVersion": "audit.k8s.io/v1",
    "level": "Metadata",
    "auditID": "a",
    "stage": "ResponseComplete",
    "requestURI": "/api/v1/pods",
    "verb": "list",
    "user": {"username": "alice"},
    "sourceIPs": ["203.0.113.7"],
    "requestReceivedTimestamp": "2025-03-04T10:15:00.100000Z",
    "stageTimestamp": "2025-03-04T10:15:00.123456Z",
}
LINE = json.dumps(EVENT, separators=(",", ":")).encode()


def values(*blocks: bytes, limit: int = 1 << 20) -> list[Any]:
    return [piece.value for piece in pieces(blocks, limit=limit)]


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b"[["])
def test_deep_nesting_is_broken_and_the_next_line_is_read(opening: bytes) -> None:
    found = values(opening * 100_000 + b"\n" + LINE)
    assert found[0] == Broken("nested too deeply")
    assert EVENT in found


def test_nesting_within_the_limit_is_read() -> None:
    body = b'{"a":' * (DEPTH_LIMIT - 5) + b"1" + b"}" * (DEPTH_LIMIT - 5)
    (outcome,) = outcomes(LINE[:-1] + b',"requestObject":' + body + b"}")
    assert isinstance(outcome, Found)


@pytest.mark.parametrize("begin", [b"", b"[", b"[\n"])
def test_a_value_over_the_limit_is_broken_and_the_rest_is_read(begin: bytes) -> None:
    long = json.dumps({"list": ["x" * 1000] * 3000}).encode()
    (first, *rest) = list(pieces([begin + long + b",\n" + LINE], limit=1 << 20))
    assert first.value == Broken("longer than 1 MiB")
    assert len(first.raw) <= 64 << 10
    assert EVENT in [piece.value for piece in rest]
    assert rest[0].line == 2 + begin.count(b"\n")


@pytest.mark.parametrize("begin", [b'{"a":"', b'"', b"x", b'[{"a":"'])
def test_a_line_without_end_is_broken_and_the_next_is_read(begin: bytes) -> None:
    blocks = [begin, *[b"x" * 100_000] * 40, b"\n", LINE]
    found = list(pieces(blocks, limit=1 << 20))
    assert found[0].value == Broken("longer than 1 MiB")
    assert EVENT in [piece.value for piece in found]


def test_a_line_of_ten_megabytes_is_read() -> None:
    event = {**EVENT, "requestObject": {"data": "x" * 10_000_000}}
    line = json.dumps(event, separators=(",", ":")).encode()
    assert is_plain(line)
    blocks = [line[at : at + 65_536] for at in range(0, len(line), 65_536)]
    assert [piece.value for piece in pieces([*blocks, b"\n", LINE])] == [event, EVENT]


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":[\n',
        b'[{"a":\n',
        b"{\n",
        b'{"a":1' + b"\n" * 100,
        b'"\n',
        b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","x":"' * 5 + b"\n",
        b"{},",
        b"[\n",
    ],
)
def test_time_is_linear_in_what_is_hostile(line: bytes) -> None:
    def seconds(size: int) -> float:
        begun = time.process_time()
        for _ in pieces([line * (size // len(line))]):
            pass
        return time.process_time() - begun

    seconds(10_000)
    small, large = seconds(40_000), seconds(160_000)
    assert large < 12 * small + 0.2


def test_an_event_behind_a_cut_line_is_found_but_none_inside_a_string() -> None:
    assert values(LINE[:60] + LINE)[1:] == [EVENT]
    inside = json.dumps({**EVENT, "userAgent": LINE.decode()}).encode()
    (cut,) = values(inside[:-1])
    assert isinstance(cut, Broken)


@pytest.mark.parametrize("text", ["Grüße", "naïve"])
def test_other_encodings_are_broken(text: str) -> None:
    event = json.dumps({**EVENT, "userAgent": text}, ensure_ascii=False)
    assert values(event.encode("latin-1")) == [Broken("not UTF-8")]
    assert values(text.encode("latin-1")) == [Broken("not UTF-8")]
    assert not is_plain(event.encode("latin-1"))
    assert is_plain(event.encode())


def test_bad_bytes_in_a_body_are_not_passed_over() -> None:
    for body in (b'"\xff"', b'"\\ud800"'):
        assert not is_plain(LINE[:-1] + b',"requestObject":' + body + b"}")


def test_half_a_surrogate_pair_is_mended() -> None:
    (outcome,) = outcomes(LINE.replace(b"alice", b"\\ud800lice"))
    assert isinstance(outcome, Found)
    assert json.loads(encode(outcome.event))["user"]["username"] == "?lice"


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5000, "1e999", "-0.0"])
def test_numbers_of_any_size(number: str) -> None:
    status = f',"responseStatus":{{"code":{number}}}}}'.encode()
    for outcome in outcomes(LINE[:-1] + status):
        assert isinstance(outcome, Found | Broken)


@pytest.mark.parametrize(
    "wrong", ["99999-01-01T00:00:00Z", "-1-01-01T00:00:00Z", "soon", {}, 1e300]
)
def test_absurd_times_are_broken(wrong: Any) -> None:
    event = {**EVENT, "stageTimestamp": wrong, "requestReceivedTimestamp": wrong}
    assert list(outcomes(event)) == [Broken("absurd timestamp")]
    (mended,) = outcomes({**EVENT, "stageTimestamp": wrong})
    assert isinstance(mended, Found)
    assert mended.event["stageTimestamp"] == EVENT["requestReceivedTimestamp"]
    assert mended.notes


@pytest.mark.parametrize("missing", ["verb", "requestURI", "stageTimestamp"])
def test_what_makes_an_event(missing: str) -> None:
    event = {name: value for name, value in EVENT.items() if name != missing}
    event.pop("requestReceivedTimestamp" if missing == "stageTimestamp" else "", None)
    (outcome,) = outcomes(event)
    assert isinstance(outcome, Broken)


@pytest.mark.parametrize("field", sorted(EVENT))
@pytest.mark.parametrize("wrong", [12, 1.5, True, "text", [], [1], {}, {"a": 1}, None, [[["x"]]]])
def test_a_field_of_any_type_costs_at_most_itself(field: str, wrong: Any) -> None:
    (outcome,) = outcomes({**EVENT, field: wrong})
    if isinstance(outcome, Found):
        kept = {name: value for name, value in outcome.event.items() if name != field}
        assert kept.items() >= {k: v for k, v in EVENT.items() if k != field}.items()
        encode(outcome.event)
    elif isinstance(outcome, Broken):
        assert field in ("verb", "requestURI")
    else:
        assert field in ("kind", "apiVersion")


def test_repeated_keys_are_noticed() -> None:
    twice = LINE[:-1] + b',"verb":"delete"}'
    assert repeats_keys(twice)
    assert repeats_keys(twice.replace(b":", b" : "))
    assert not repeats_keys(LINE)
    assert not repeats_keys(json.dumps(EVENT, indent=1).encode())
    assert not is_plain(twice)
    (outcome,) = outcomes(twice.decode())
    assert isinstance(outcome, Found)
    assert outcome.event["verb"] == "delete"
    assert outcome.notes == ("duplicate keys: the last of each was read",)


@pytest.mark.parametrize("kind", ["<script>", "x" * 1000, 7, ["a"], "\x1b[31m"])
def test_reasons_carry_no_text_from_the_input(kind: Any) -> None:
    (outcome,) = outcomes({"kind": kind, "apiVersion": "v1"})
    assert outcome == Skipped("not an audit event: object of unknown kind")


def test_klog_that_quotes_an_event_is_no_event() -> None:
    line = 'I0101 00:00:00.000000       1 httplog.go:1] "HTTP" agent=' + LINE.decode()
    assert list(outcomes(line)) == [Skipped("not an audit event: klog text")]
    for prefix in ("GET /x?", "he said: ", "UPPER ", "<script> "):
        assert list(outcomes(prefix + LINE.decode())) == [Broken("not JSON")]


def test_gzip_bombs_are_bounded() -> None:
    bomb = gzip.compress(b"\0" * (80 << 20))
    with pytest.raises(UndecodableError, match="more than 64 MiB"):
        inflate(bomb)
    data = base64.b64encode(gzip.compress(b" " * (40 << 20))).decode()
    found = list(outcomes({"records": [{"data": data}] * 5}))
    assert found == [Broken("more than 64 MiB when decompressed")] * 4


def test_damaged_payloads_are_broken() -> None:
    whole = gzip.compress(LINE)
    damaged = whole[:12] + b"\xff" + whole[13:]
    for content, reason in ((whole[:-10], "cut gzip"), (damaged, "damaged gzip")):
        data = base64.b64encode(content).decode()
        assert list(outcomes({"awslogs": {"data": data}})) == [Broken(reason)]
    assert list(outcomes({"awslogs": {"data": "%%%"}})) == [Broken("malformed base64")]


def test_envelopes_are_bounded() -> None:
    value: Any = EVENT
    for _ in range(30):
        value = {"event": json.dumps(value) if isinstance(value, str) else value}
    assert list(outcomes(value)) == [Broken("envelopes nested too deeply")]


def test_yaml_bombs_are_refused() -> None:
    bomb = b"kind: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    deep = b"kind: " + b"[" * 2000
    assert [piece.value for piece in documents([bomb])] == [Broken("YAML with aliases")]
    assert [piece.value for piece in documents([deep])] == [Broken("nested too deeply")]
    tagged = b"kind: !!python/object/apply:os.system ['true']\n"
    assert [piece.value for piece in documents([tagged])] == [Broken("not YAML")]


def test_csv_with_quotes_that_do_not_match() -> None:
    data = b'timestamp,message\n1,"a\n' + b"2,b\n" * 3000
    found = [piece.value for piece in rows([data])]
    assert Broken("malformed row") in found
    assert {"timestamp": "2", "message": "b"} in found
    assert [piece.value for piece in rows([b'timestamp,message\n1,"a\n'])] == [Broken("cut row")]


def test_decode_says_what_is_wrong() -> None:
    for data, reason in {
        b'{"a":1': "cut off",
        b'{"a" 1}': "malformed JSON",
        b'{"a":NaN}': "malformed JSON",
        b'{"a":"\xff"}': "not UTF-8",
        b"[" * 100_000: "nested too deeply",
        b"": "cut off",
    }.items():
        with pytest.raises(UndecodableError) as caught:
            decode(data)
        assert caught.value.reason == reason
