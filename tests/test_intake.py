"""Deliveries become batches the same way, whatever they are wrapped in."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_log import Event, event, lines
from kubewitness.events.formats.plain import is_plain
from kubewitness.events.redaction import Redactor
from kubewitness.service import intake, metrics
from kubewitness.service.intake import Intake
from kubewitness.service.spool import Batch
from receiving import KEY, event_list, some_events


@pytest.fixture
def taking(tmp_path: Path) -> Iterator[Intake]:
    taken = Intake(tmp_path, Redactor(KEY))
    yield taken
    taken.close()


def read(taking: Intake, body: bytes) -> list[Event]:
    batch = taking.read("a", "webhook", body)
    assert isinstance(batch, Batch)
    assert all(b"\n" not in line for line in batch.lines)
    return [json.loads(line) for line in batch.lines]


def kept(folder: Path) -> dict[str, int]:
    """Lines in the quarantine, by file."""
    return {path.name: len(path.read_bytes().splitlines()) for path in sorted(folder.iterdir())}


WRAPPINGS: dict[str, Callable[[list[Event]], bytes]] = {
    "an EventList": lambda events: event_list(*events),
    "an EventList with line breaks": lambda events: json.dumps(
        json.loads(event_list(*events)), indent=1
    ).encode(),
    "an EventList whose items say what they are": lambda events: json.dumps(
        {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": events}
    ).encode(),
    "an EventList with more in it": lambda events: event_list(*events)[:-1] + b',"x":1}',
    "lines": lines,
    "lines with carriage returns": lambda events: lines(events).replace(b"\n", b"\r\n"),
    "lines and empty lines": lambda events: b"\n\n" + lines(events).replace(b"\n", b"\n\n"),
    "an array": lambda events: json.dumps(events, indent=2).encode(),
    "values behind each other": lambda events: b" ".join(lines(events).splitlines()),
    "gzip": lambda events: gzip.compress(event_list(*events)),
    "gzip of lines in parts": lambda events: b"".join(
        gzip.compress(line + b"\n") for line in lines(events).splitlines()
    ),
    "zstd": lambda events: zstandard.compress(event_list(*events)),
    "a byte order mark": lambda events: b"\xef\xbb\xbf" + event_list(*events),
    "UTF-16": lambda events: event_list(*events).decode().encode("utf-16"),
    "Elastic": lambda events: b"\n".join(
        json.dumps({"kubernetes": {"audit": one}}).encode() for one in events
    ),
    "fluent-bit": lambda events: b"\n".join(
        json.dumps({"log": json.dumps(one) + "\n", "stream": "stdout"}).encode() for one in events
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPINGS)
def test_events_are_the_same_in_any_wrapping(taking: Intake, name: str) -> None:
    status = {"code": 200}  # the sieve leaves out what is in no column
    events = [*some_events(3, responseStatus=status), event(name="ü", responseStatus=status)]
    assert read(taking, WRAPPINGS[name](events)) == events


def test_what_is_plain_is_kept_letter_by_letter(taking: Intake) -> None:
    odd = lines([event(name="<a>&b")]).replace(b"<", b"\\u003c").replace(b"&", b"\\u0026")
    body = lines(some_events(2)) + odd
    assert b"".join(line + b"\n" for line in taking.read("a", "file", body).lines) == body


def test_a_list_of_an_older_version_says_so_of_its_items(taking: Intake) -> None:
    body = event_list(event()).replace(b"audit.k8s.io/v1", b"audit.k8s.io/v1beta1")
    (one,) = read(taking, body)
    assert one["apiVersion"] == "audit.k8s.io/v1beta1"


def test_a_list_that_names_its_items_twice_hides_none_of_the_last(taking: Intake) -> None:
    first, second = event_list(event(auditID="1")), event_list(event(auditID="2"))
    body = first[:-1] + b"," + second[second.index(b'"items"') :]
    assert [one["auditID"] for one in read(taking, body)] == ["2"]


def test_an_item_that_repeats_a_key_does_not_go_the_plain_way(taking: Intake) -> None:
    body = event_list(event(auditID="1")).replace(b'"verb":"get"', b'"verb":"get","verb":"delete"')
    (line,) = taking.read("a", "webhook", body).lines
    assert json.loads(line)["verb"] == "delete"
    assert is_plain(line)


@pytest.mark.parametrize("first", [{"kind": "Event"}, {"kind": "Pod", "apiVersion": "v1"}, {}])
def test_items_are_told_apart_by_what_they_say_they_are(
    taking: Intake, first: dict[str, str]
) -> None:
    odd = {**first, "metadata": {"name": "x"}, "items": []}
    whole = json.loads(event_list(*some_events(2)))
    whole["items"].insert(1, odd)
    assert [one["auditID"] for one in read(taking, json.dumps(whole).encode())] == ["id-0", "id-1"]


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_cut_out_or_put_in_nothing_fails_and_other_events_come(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    body = event_list(*some_events(4))
    folder = tmp_path_factory.mktemp("intake")
    taking = Intake(folder, Redactor(KEY))
    begin = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(begin, len(body)))
    noise = data.draw(st.binary(max_size=8))
    read(taking, body[:begin] + noise + body[end:])
    read(taking, body[begin:end])
    read(taking, noise)
    assert len(read(taking, body)) == 4
    cut = [json.loads(line) for line in taking.read("a", "x", body[:end], cut=True).lines]
    whole = sum(f'"id-{number + 1}"'.encode() in body[:end] for number in range(3))
    assert len(cut) >= whole
    taking.close()
    assert not any(b"fault of kubewitness" in path.read_bytes() for path in folder.iterdir())


def test_a_delivery_is_cut_where_it_unpacks_to_too_much(tmp_path: Path) -> None:
    body = event_list(*some_events(100))
    taking = Intake(tmp_path, Redactor(KEY), most_bytes=len(body) // 2)
    for packed in (body, gzip.compress(body), zstandard.compress(body)):
        assert 45 <= len(read(taking, packed)) <= 50
    taking.close()
    (path,) = tmp_path.iterdir()
    reasons = [json.loads(line)["reason"] for line in path.read_bytes().splitlines()]
    assert sum("longer" in reason for reason in reasons) == 3
    assert set(reasons) - {"cut off"} == {reason for reason in reasons if "longer" in reason}


def test_a_delivery_that_is_mostly_no_events_is_read_so_far_and_counted_whole(
    taking: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MOST_REJECTED", 1000)
    counted = metrics.EVENTS_REJECTED.labels(reason="broken")._value
    before = counted.get()
    n = 50_000
    body = lines(some_events(1)) + b"nonsense\n" * n + lines(some_events(1))
    assert len(read(taking, zstandard.compress(body))) == 1
    taking.close()
    (path,) = tmp_path.iterdir()
    kept = [json.loads(line) for line in path.read_bytes().splitlines()]
    (rest,) = [one for one in kept if "not read" in one["reason"]]
    assert rest["cut"]
    assert "nonsense\nnonsense" in rest["text"]
    assert 1000 < len(kept) < 20_000
    assert n <= counted.get() - before <= n + 2  # one line may stand on both sides


def test_an_event_among_many_lines_that_are_none_is_found(taking: Intake) -> None:
    body = b'{"a":1}\n' * 20_000 + lines(some_events(2))
    assert len(read(taking, body)) == 2


def test_odd_items_of_a_list_are_told_together(
    taking: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [{"a": 1}, event(auditID="odd", annotations={"x": 1}), 1, "x", [], {"b": "]"}]
    whole = json.loads(event_list(*some_events(2)))
    whole["items"][1:1] = odd
    found = [one["auditID"] for one in read(taking, json.dumps(whole).encode())]
    assert sorted(found) == ["id-0", "id-1", "odd"]
    assert [one.getMessage() for one in caplog.records if "JSON object" in one.getMessage()] == [
        "a: 2 rejected: not an audit event: JSON object"
    ]


@pytest.mark.parametrize("n", range(6))
def test_no_client_can_have_its_events_taken_for_an_archive(taking: Intake, n: int) -> None:
    said = event(client="." * n + "ustar " * 60, auditID="1", annotations={"x": 1})
    said = {"userAgent": said.pop("userAgent"), **said}  # wherever it begins
    assert [one["auditID"] for one in read(taking, event_list(said))] == ["1"]
    assert [one["auditID"] for one in read(taking, lines([said]))] == ["1"]


def test_at_once_is_only_what_is_plain_throughout(taking: Intake) -> None:
    some = some_events(3, requestObject={"password": "hunter2hunter2"})
    whole = taking.read("a", "webhook", event_list(*some))
    at_once = taking.at_once("a", "webhook", event_list(*some))
    assert at_once is not None
    assert at_once.lines == whole.lines
    assert b"hunter2" not in b"".join(at_once.lines)
    for body in (
        gzip.compress(event_list(*some)),
        event_list(*some)[:-1],
        event_list(*some, {"a": 1}),
        lines(some),
    ):
        assert taking.at_once("a", "webhook", body) is None


def test_threads_may_share_it(taking: Intake, tmp_path: Path) -> None:
    bodies = [event_list(*some_events(20)), b'{"verb":"get","requestURI":"/"}', b"nonsense"] * 20
    found: list[int] = []

    def work() -> None:
        found.extend(len(taking.read("a", "webhook", body).lines) for body in bodies)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == 4 * 20 * 20
    taking.close()
    assert sum(kept(tmp_path).values()) == 4 * 40


def test_a_new_day_begins_a_new_file(
    taking: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for now in (1_700_000_000.0, 1_700_000_060.0, 1_700_086_400.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        read(taking, b"nonsense")
    assert kept(tmp_path) == {"received-2023-11-14.jsonl": 2, "received-2023-11-15.jsonl": 1}
