"""The generic webhook: signed so that others can verify it, and shaped by a user's template."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import report_fixtures as fixtures
from kubewitness.config.settings import Sink as SinkSettings
from kubewitness.errors import KubewitnessError
from kubewitness.incidents.model import Incident
from kubewitness.sinks import webhook
from kubewitness.sinks.sink import SLOWLY, DeliveryError, Notice, sink
from kubewitness.sinks.template import Template
from receivers import Taken, answers, receiver

NOTICE = Notice("opened", fixtures.escalation(), 1)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def verified(taken: Taken, secret: str, *, tolerance: float = 300) -> bool:
    """What a receiver does, written from the specification and not from our code."""
    key = base64.b64decode(secret.split("_", 1)[1])
    sent_at = int(taken.headers["webhook-timestamp"])
    if abs(time.time() - sent_at) > tolerance:
        return False
    message = taken.headers["webhook-id"] + "." + str(sent_at) + "."
    mac = hmac.new(key, digestmod=hashlib.sha256)
    mac.update(message.encode("ascii"))
    mac.update(taken.body)
    wanted = base64.standard_b64encode(mac.digest()).decode()
    offered = [one.split(",", 1) for one in taken.headers["webhook-signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(mine, wanted) for version, mine in offered)


def sent(folder: Path, *secrets: str, times: int = 1) -> list[Taken]:
    place = folder / "secret"
    place.write_text("\n".join(secrets) + "\n")
    with receiver(answers(200)) as there:
        hook = sink(SinkSettings(name="hook", type="webhook", url=there.url, secret_file=place))
        for _ in range(times):
            asyncio.run(hook.send(NOTICE))
    return there.taken


def test_a_receiver_can_verify_it(tmp_path: Path) -> None:
    (taken,) = sent(tmp_path, SECRET)
    assert verified(taken, SECRET)
    assert taken.headers["webhook-id"] == NOTICE.uid
    assert "." not in taken.headers["webhook-id"]


def test_a_receiver_notices_what_was_changed(tmp_path: Path) -> None:
    (taken,) = sent(tmp_path, SECRET)
    other = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    assert not verified(taken, other)
    assert not verified(Taken("POST", "/", taken.headers, taken.body + b" "), SECRET)
    for name, value in (("webhook-id", "x"), ("webhook-timestamp", str(int(time.time()) - 9))):
        assert not verified(Taken("POST", "/", {**taken.headers, name: value}, taken.body), SECRET)
    assert not verified(taken, SECRET, tolerance=-1)


def test_a_repetition_has_the_same_id(tmp_path: Path) -> None:
    first, second = sent(tmp_path, SECRET, times=2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_secrets_are_changed_without_a_gap(tmp_path: Path) -> None:
    other = "whsec_" + base64.b64encode(b"another secret of thirty-two let").decode()
    (taken,) = sent(tmp_path, SECRET, other)
    assert verified(taken, SECRET)
    assert verified(taken, other)


def test_the_example_of_the_specification() -> None:
    """Id, time and body as they stand there; the key is ours."""
    body = b'{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{}}'
    signed = webhook.signed(
        body,
        "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        datetime.fromtimestamp(1674087231, UTC),
        [b"k" * 32],
    )
    content = b"msg_2KWPBgLlAfxdpx2AI54pPJ85f4W.1674087231." + body
    expected = base64.b64encode(hmac.new(b"k" * 32, content, "sha256").digest()).decode()
    assert signed["webhook-timestamp"] == "1674087231"
    assert signed["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize("content", [None, "", "short", "whsec_????", "whsec_AAAA", "\xff" * 32])
def test_a_secret_that_signs_nothing_sends_nothing(content: str | None, tmp_path: Path) -> None:
    place = tmp_path / "secret"
    if content is not None:
        place.write_text(content, encoding="latin-1")
    with receiver(answers(200)) as there:
        hook = sink(SinkSettings(name="hook", type="webhook", url=there.url, secret_file=place))
        with pytest.raises(DeliveryError, match="no secret to sign with") as caught:
            asyncio.run(hook.send(NOTICE))
    assert there.taken == []
    assert (caught.value.permanent, caught.value.retry_after) == (False, SLOWLY)


def test_without_a_secret_there_is_no_signature() -> None:
    with receiver(answers(200)) as there:
        asyncio.run(sink(SinkSettings(name="hook", type="webhook", url=there.url)).send(NOTICE))
    assert not [name for name in there.last.headers if name.startswith("webhook-")]


def test_the_data_is_the_incident() -> None:
    told = json.loads(msgspec.json.encode(webhook.document(NOTICE)))
    assert (told["type"], told["revision"]) == ("incident.opened", 1)
    assert msgspec.convert(told["data"], Incident) == NOTICE.incident


# Templates

EVERYTHING = """{
  "in quotes": "{{ incident.title }}",
  "as json": {{ incident.title | tojson }},
  "joined": "{{ incident.principals | join(', ') }}",
  "list": {{ incident.objects }},
  "mapped": {{ incident.objects | map('upper') }},
  "number": {{ incident.score }}, "yes": {{ incident.alert }}, "nothing": {{ none }},
  "constant": "{{ '<a & b>' }}",
  "cut": "{{ headline | truncate(20, true) }}",
  "escaped": "{{ incident.summary | e }}",
  "joint": "{{ kind ~ ': ' ~ incident.title }}",
  "macro": {% macro quoted(x) %}"{{ x }}"{% endmacro %}{{ quoted(incident.title) }},
  "block": {% set told %}"{{ incident.title }}"{% endset %}{{ told }},
  "loop": [{% for one in incident.timeline %}"{{ loop.index }} {{ one.client }}"
           {{- "," if not loop.last }}{% endfor %}]
}"""
texts = st.sampled_from((*fixtures.HOSTILE, '"', "\\", '", "admin": "', "\\u0022", "{{ 7*7 }}")) | (
    st.text(max_size=30)
)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Template:
    place = tmp_path_factory.mktemp("templates") / "everything.json.j2"
    place.write_text(EVERYTHING, encoding="utf-8")
    return Template(place, "hook")


@settings(max_examples=60)
@given(one=texts, two=texts)
def test_no_text_leaves_its_place(everything: Template, one: str, two: str) -> None:
    incident = msgspec.structs.replace(
        NOTICE.incident, title=one, summary=two, principals=(one, two), objects=(two, one)
    )
    told = json.loads(everything.render(Notice("opened", incident, 1)))
    assert told["in quotes"] == told["as json"] == told["macro"] == told["block"] == one
    assert told["joined"] == f"{one}, {two}"
    assert told["list"] == [two, one]
    assert told["mapped"] == [two.upper(), one.upper()]
    assert (told["number"], told["yes"], told["nothing"]) == (incident.score, True, None)
    assert told["escaped"] == two
    assert told["loop"][1] == "2 kubectl/1.29"
    assert told["joint"] == f"opened: {one}"
    assert told["constant"] == "<a & b>"
    assert len(told) == 15


def test_a_template_is_sent_and_signed_as_it_is_made(tmp_path: Path) -> None:
    template, secret = tmp_path / "teams.json", tmp_path / "secret"
    template.write_text('{"text": "{{ headline }}",\n "n": {{ revision }}}')
    secret.write_text(SECRET)
    with receiver(answers(200)) as there:
        wanted = SinkSettings(
            name="hook", type="webhook", url=there.url, template=template, secret_file=secret
        )
        asyncio.run(sink(wanted).send(Notice("updated", fixtures.escalation(), 3)))
    assert there.last.body == (
        b'{"text": "Grew: The CI deployer granted itself cluster-admin",\n "n": 3}'
    )
    assert verified(there.last, SECRET)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {{ incident.title', "end of template|unexpected"),
        ("{{ incident.title | safe }}", "safe"),
        ("{{ incident.title | urlize }}", "urlize"),
    ],
)
def test_a_template_that_is_none_is_told_at_once(text: str, said: str, tmp_path: Path) -> None:
    place = tmp_path / "body.json.j2"
    place.write_text(text)
    wanted = SinkSettings(name="hook", type="webhook", url="https://x.example", template=place)
    with pytest.raises(KubewitnessError, match=said) as caught:
        sink(wanted)
    assert caught.value.where == f"sink hook: {place}:1"
    place.unlink()
    with pytest.raises(KubewitnessError, match="no such file"):
        sink(wanted)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": "{{ incident.titel }}"}', "no attribute 'titel'"),
        ('{"a": {{ incident.title }}}', "not JSON"),
        ('{"a": "{{ incident.objects }}"}', "not JSON"),
        ("", "not JSON"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ incident.update({'title': 'x'}) }}", "unsafe|not JSON"),
        ("{% for n in range(10000000) %}{% endfor %}1", "Range too big"),
        ("{% include '../../../../etc/passwd' %}", "passwd"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
    ],
)
def test_a_template_that_fails_is_mended_not_given_up(text: str, said: str, tmp_path: Path) -> None:
    place = tmp_path / "body.json.j2"
    place.write_text(text)
    template = Template(place, "hook")
    with pytest.raises(DeliveryError, match=said) as caught:
        template.render(NOTICE)
    assert (caught.value.permanent, caught.value.retry_after) == (False, SLOWLY)
    place.write_text('"mended"')
    os.utime(place, (1, 1))
    assert template.render(NOTICE) == b'"mended"'
