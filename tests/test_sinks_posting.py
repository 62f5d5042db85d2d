"""Notices over HTTP, to servers that behave and servers that do not."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_fixtures as fixtures
from kubewitness.config import settings
from kubewitness.errors import KubewitnessError
from kubewitness.sinks.posting import LONGEST, pause
from kubewitness.sinks.sink import SLOWLY, DeliveryError, Notice, sink
from receivers import answers, receiver, resets, self_signed

NOTICE = Notice("opened", fixtures.stolen_token(), 1)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def to(url: str, kind: str = "falco", **options: Any) -> settings.Sink:
    return settings.Sink(name="pager", type=kind, url=url, **options)  # type: ignore[arg-type]


def send(wanted: settings.Sink, notice: Notice = NOTICE) -> None:
    asyncio.run(sink(wanted).send(notice))


def fault(wanted: settings.Sink) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        send(wanted)
    assert caught.value.__cause__ is None
    assert caught.value.where.startswith("sink pager")
    return caught.value


def test_a_notice_arrives() -> None:
    with receiver(answers(200)) as there:
        send(to(there.url))
    (taken,) = there.taken
    assert (taken.method, taken.path) == ("POST", "/")
    assert taken.headers["content-type"] == "application/json"
    assert taken.headers["user-agent"].startswith("kubewitness/")
    assert json.loads(taken.body)["rule"] == "Kubewitness incident"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_whatever_begins_with_2_is_taken(status: int) -> None:
    with receiver(answers(status)) as there:
        send(to(there.url))
    assert len(there.taken) == 1


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/api/v2/alerts"),
        ("/", "/api/v2/alerts"),
        ("/alertmanager/", "/alertmanager/api/v2/alerts"),
        ("/api/v2/alerts", "/api/v2/alerts"),
    ],
)
def test_alertmanager_is_named_by_its_address_alone(base: str, path: str) -> None:
    with receiver(answers(200)) as there:
        send(to(there.url + base, "alertmanager"))
    assert there.last.path == path


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with receiver(answers(status, b"busy")) as there:
        error = fault(to(there.url))
    assert (error.permanent, error.retry_after) == (False, None)
    assert f"answered {status}" in error.what
    assert "busy" in error.what


@pytest.mark.parametrize("status", [400, 404, 405, 410, 413, 415, 422])
def test_what_is_refused_for_good_is_not_tried_again(status: int) -> None:
    with receiver(answers(status, b"invalid_payload")) as there:
        error = fault(to(there.url))
    assert error.permanent
    assert "invalid_payload" in error.what


@pytest.mark.parametrize("status", [401, 403, 407])
def test_credentials_get_mended_so_it_is_tried_again_slowly(status: int) -> None:
    with receiver(answers(status)) as there:
        error = fault(to(there.url))
    assert (error.permanent, error.retry_after) == (False, SLOWLY)


def test_retry_after_is_honoured_as_seconds_and_as_a_date() -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    with receiver(answers(429, Retry_After="17")) as there:
        assert fault(to(there.url)).retry_after == 17
    with receiver(answers(503, Retry_After=format_datetime(later, usegmt=True))) as there:
        assert fault(to(there.url)).retry_after == pytest.approx(90, abs=5)
    with receiver(answers(503, Retry_After="999999999999")) as there:
        assert fault(to(there.url)).retry_after == LONGEST


@given(st.text(st.characters(codec="latin-1"), max_size=60) | st.from_regex(r"-?\d+[a-z ]*"))
def test_no_retry_after_is_longer_than_an_hour_or_ends_before_now(text: str) -> None:
    wait = pause(text, datetime.now(UTC))
    assert wait is None or 0 <= wait <= LONGEST


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with (
        receiver(answers(200)) as elsewhere,
        receiver(answers(status, Location=elsewhere.url)) as there,
    ):
        error = fault(to(there.url))
    assert elsewhere.taken == []
    assert (error.permanent, error.retry_after) == (False, SLOWLY)
    assert "new address" in error.remedy


def test_a_huge_answer_is_read_to_its_first_words_only() -> None:
    sent: list[int] = []

    def floods(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(500)
        handler.end_headers()
        sent.extend(handler.wfile.write(b"no \x1b[31m" + b"x" * 65536) for _ in range(2000))

    with receiver(floods) as there:
        error = fault(to(there.url))
    assert len(error.what) < 400
    assert "no \\x1b[31m" in error.what
    assert sum(sent) < 64 << 20


def test_a_packed_answer_is_not_unpacked() -> None:
    with receiver(answers(500, b"\x1f\x8b" * 99, Content_Encoding="gzip")) as there:
        assert "answered 500" in fault(to(there.url)).what
    assert there.last.headers["accept-encoding"] == "identity"


def test_who_does_not_answer_in_time_is_left() -> None:
    begun = time.monotonic()
    with receiver(lambda handler: time.sleep(3)) as there:
        error = fault(to(there.url, timeout=0.3))
        took = time.monotonic() - begun
    assert took < 2
    assert "no answer within 0.3 s" in error.what
    assert not error.permanent


def test_who_answers_a_letter_at_a_time_is_left_too() -> None:
    def dribbles(handler: BaseHTTPRequestHandler) -> None:
        for letter in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 100:
            handler.wfile.write(bytes([letter]))
            time.sleep(0.05)

    with receiver(dribbles) as there:
        assert "no answer within" in fault(to(there.url, timeout=0.5)).what


def test_a_status_counts_even_if_its_reason_never_ends() -> None:
    def trails_off(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(401)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"wrong")
        time.sleep(2)

    with receiver(trails_off) as there:
        error = fault(to(there.url, timeout=0.5))
    assert "answered 401" in error.what
    assert error.retry_after == SLOWLY


def test_a_connection_that_breaks_is_tried_again() -> None:
    with receiver(resets) as there:
        error = fault(to(there.url))
    assert "not reached" in error.what
    assert (error.permanent, error.retry_after) == (False, None)


def test_nobody_at_home_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    error = fault(to(f"http://127.0.0.1:{port}"))
    assert "not reached" in error.what
    assert not error.permanent


def test_nonsense_for_an_answer_is_tried_again() -> None:
    def babbles(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"\x00\xffhello\r\n\r\n")

    with receiver(babbles) as there:
        assert not fault(to(there.url)).permanent


def test_a_certificate_that_nobody_vouches_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, certificate = self_signed(tmp_path)
    with receiver(answers(200), tls) as there:
        error = fault(to(there.url))
        assert there.taken == []
        assert "certificate verify failed" in error.what
        assert "SSL_CERT_FILE" in error.remedy
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        send(to(there.url))
        assert len(there.taken) == 1
        error = fault(to(there.url.replace("127.0.0.1", "localhost")))
        assert "certificate verify failed" in error.what


def test_authorities_that_cannot_be_read_are_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").touch()
    for place in (tmp_path / "none", tmp_path / "empty", tmp_path):
        monkeypatch.setenv("SSL_CERT_FILE", str(place))
        error = fault(to("https://127.0.0.1:9"))
        assert "authorities to trust" in error.what
        assert (error.permanent, error.retry_after) == (False, SLOWLY)


def test_a_proxy_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "sock://user:proxy-secret@nowhere:99999")
    error = fault(to("http://127.0.0.1:9"))
    assert not error.permanent
    assert "proxy-secret" not in str(error)


def test_a_proxy_is_used_only_where_the_environment_names_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiver(answers(200)) as proxy, receiver(answers(200)) as there:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        send(to(there.url))
        assert (len(proxy.taken), len(there.taken)) == (1, 0)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        send(to(there.url))
        assert (len(proxy.taken), len(there.taken)) == (1, 1)


def test_tokens_are_read_anew_for_each_attempt(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first-token\n")
    with receiver(answers(200)) as there:
        pager = sink(to(there.url, token_file=token))
        asyncio.run(pager.send(NOTICE))
        token.write_text("second-token")
        asyncio.run(pager.send(NOTICE))
    assert [one.headers["authorization"] for one in there.taken] == [
        "Bearer first-token",
        "Bearer second-token",
    ]


def test_a_url_that_is_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    place = tmp_path / "url"
    with receiver(answers(200)) as there:
        place.write_text(f"{there.url}/services/T0/B0/hushhush\n")
        wanted = settings.Sink(name="pager", type="slack", url_file=place)
        assert "hushhush" not in sink(wanted).show(NOTICE)
        send(wanted)
    assert there.last.path == "/services/T0/B0/hushhush"


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff", b"no url at all"])
def test_a_file_that_does_not_help_is_tried_again_slowly(
    content: bytes | None, tmp_path: Path
) -> None:
    place = tmp_path / "url"
    if content is not None:
        place.write_bytes(content)
    error = fault(settings.Sink(name="pager", type="slack", url_file=place))
    assert (error.permanent, error.retry_after) == (False, SLOWLY)
    assert "lines" not in str(error)
    assert "at all" not in str(error)


SECRETS = {
    "token": "sec-token-4711",
    "path": "/services/T00/B00/hushhush",
    "query": "key=query-secret-1",
    "header": "header-secret-99",
}


@pytest.mark.parametrize("manners", [200, 302, 400, 401, 500, "reset", "slow"], ids=str)
def test_secrets_are_in_no_error_no_log_and_no_dry_run(
    manners: int | str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if the other side repeats all it was sent."""
    token, signing = tmp_path / "token", tmp_path / "signing"
    token.write_text(SECRETS["token"])
    signing.write_text("signing-secret-of-32-letters-xyz")
    caplog.set_level(logging.DEBUG)
    ways: dict[int | str, Callable[[BaseHTTPRequestHandler], None]] = {
        "reset": resets,
        "slow": lambda handler: time.sleep(1),
    }

    def repeats(handler: BaseHTTPRequestHandler) -> None:
        assert isinstance(manners, int)
        body = f"{handler.path} {handler.headers}".encode()
        answers(manners, body, Location=handler.path)(handler)

    with receiver(ways.get(manners, repeats)) as there:
        wanted = to(
            f"{there.url}{SECRETS['path']}?{SECRETS['query']}",
            "webhook",
            token_file=token,
            secret_file=signing,
            headers={"X-Api-Key": SECRETS["header"]},
            timeout=0.5,
        )
        told = sink(wanted).show(NOTICE).replace(SECRETS["path"], "")
        if manners == 200:
            send(wanted)
        else:
            error = fault(wanted)
            told += f"{error} {error!r} {error.__context__!r}"
    assert there.last.path.endswith(SECRETS["query"])
    signature = there.last.headers["webhook-signature"]
    for secret in (*SECRETS.values(), "signing-secret", signature, signature[3:]):
        assert secret not in told + caplog.text


def test_no_slack_url_is_shown() -> None:
    shown = sink(to("https://hooks.slack.example/services/T0/B0/xyz", "slack")).show(NOTICE)
    assert shown.startswith("POST https://hooks.slack.example/(hidden)\n")
    assert "xyz" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x-secret",
        "https://",
        "host/x-secret",
        "https://host:99999/x-secret",
        "https://host/x-secret\r\nX: y",
        "https://host/x-secret y",
        "https://ho\u202est/x-secret",
        "https://user:x-secret@host/",
        "https://[::1/x-secret",
    ],
)
def test_a_url_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(KubewitnessError, match="sink pager") as caught:
        sink(to(url))
    assert "x-secret" not in str(caught.value)


def test_a_token_is_sent_encrypted_or_to_this_machine(tmp_path: Path) -> None:
    with pytest.raises(KubewitnessError, match="unencrypted"):
        sink(to("http://pager.example/", token_file=tmp_path / "token"))
    for url in ("https://pager.example/", "http://127.0.0.1:1", "http://[::1]:1"):
        sink(to(url, token_file=tmp_path / "token"))


@pytest.mark.parametrize(
    "headers", [{"X\r\nY": "z"}, {"": "z"}, {"X": "y\r\nZ: w"}, {"X": "ÿ"}, {"X:": "y"}]
)
def test_headers_that_would_be_two_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(KubewitnessError, match="header"):
        sink(to("https://pager.example", headers=headers))


def test_a_stopped_sink_stops() -> None:
    async def stopped(wanted: settings.Sink) -> None:
        task = asyncio.create_task(sink(wanted).send(NOTICE))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with receiver(lambda handler: time.sleep(1.5)) as there:
        asyncio.run(stopped(to(there.url)))


def test_a_dry_run_is_what_is_sent() -> None:
    with receiver(answers(200)) as there:
        wanted = to(there.url, headers={"X-Key": "something"})
        shown = sink(wanted).show(NOTICE)
        send(wanted)
    head, _, body = shown.partition("\n\n")
    assert body == there.last.body.decode() + "\n"
    assert head.splitlines()[0] == f"POST {there.url}/"
    for line in head.splitlines()[1:]:
        name, _, value = line.partition(": ")
        assert there.last.headers[name] == re.sub(r"^\(hidden\)$", "something", value)
