"""The service's own log: lines that can be read, and do nothing else."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.report.inert import acts
from kubewitness.service import logs
from kubewitness.service.logs import Line, Thrift, write_logs


@pytest.fixture(autouse=True)
def _own_loggers() -> Iterator[None]:
    """The loggers of this process as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def written(form: Literal["text", "json"], *said: object, **fields: object) -> str:
    stream = io.StringIO()
    write_logs(form, stream)
    logging.getLogger("kubewitness.service.spool").warning(*said, extra=fields)
    return stream.getvalue()


def test_a_record_is_one_line_of_text() -> None:
    line = written("text", "the tail of %s was torn", "segment 3", bytes=17)
    time, _, rest = line.partition(" ")
    assert rest == ("WARNING kubewitness.service.spool: the tail of segment 3 was torn bytes=17\n")
    assert time.endswith("Z")


def test_a_record_is_one_line_of_json() -> None:
    record = json.loads(written("json", "the tail of %s was torn", "segment 3", bytes=17))
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "WARNING",
        "logger": "kubewitness.service.spool",
        "message": "the tail of segment 3 was torn",
        "bytes": 17,
    }


@pytest.mark.parametrize("form", ["text", "json"])
@given(name=st.text())
def test_whatever_is_logged_stays_one_harmless_line(
    form: Literal["text", "json"], name: str
) -> None:
    record = logging.makeLogRecord({"name": "a", "msg": "of %s", "args": (name,), "who": name})
    line = Line(form).format(record)
    assert not acts(line)
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_secret_in_an_error_is_not_written(form: Literal["text", "json"]) -> None:
    stream = io.StringIO()
    write_logs(form, stream)
    try:
        int("postgresql://witness:hunter2@db/state")
    except ValueError:
        logging.getLogger("kubewitness.state").exception("token=abcdefghijkl is wrong")
    assert "hunter2" not in stream.getvalue()
    assert "abcdefghijkl" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_a_line_is_of_bounded_length() -> None:
    assert len(written("text", "x" * 1_000_000)) < 2 * logs.LONGEST


def test_a_wrong_template_still_says_something(caplog: pytest.LogCaptureFixture) -> None:
    record = logging.makeLogRecord({"name": "a", "msg": "of %d", "args": ("nothing",)})
    assert "of %d" in Line("text").format(record)


def test_what_repeats_is_counted_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("kubewitness.service.logs.time.monotonic", lambda: now[0])
    thrift = Thrift()

    def passes(text: str, n: int) -> list[logging.LogRecord]:
        records = [
            logging.makeLogRecord({"name": "a", "msg": text, "args": (i,)}) for i in range(n)
        ]
        return [record for record in records if thrift.filter(record)]

    assert len(passes("broken line %d", 1000)) == logs.MOST_ALIKE
    assert len(passes("another %d", 1)) == 1
    now[0] += logs.WINDOW
    told, *rest = passes("broken line %d", 2)
    assert "held_back" in vars(told)
    assert vars(told)["held_back"] == 1000 - logs.MOST_ALIKE
    assert [vars(record)["held_back"] for record in rest] == [0]


def test_templates_made_of_what_a_client_says_do_not_fill_the_memory() -> None:
    thrift = Thrift()
    for number in range(3 * logs.MOST_TEMPLATES):
        thrift.filter(logging.makeLogRecord({"name": "a", "msg": f"line {number}"}))
    assert len(thrift._passed) <= logs.MOST_TEMPLATES + 1


def test_the_log_of_the_web_server_goes_the_same_way() -> None:
    stream = io.StringIO()
    write_logs("json", stream)
    logging.getLogger("uvicorn.error").warning("of uvicorn")
    logging.getLogger("uvicorn.access").info("GET /metrics")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "of uvicorn"
    ]
