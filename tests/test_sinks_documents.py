"""What arrives at each kind of receiver: as it looks, and what holds for any incident."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

import report_fixtures as fixtures
from kubewitness.config.origin import Origins
from kubewitness.config.sending import TAKEN, sinks
from kubewitness.config.settings import Settings
from kubewitness.config.settings import Sink as SinkSettings
from kubewitness.incidents.model import SEVERITIES, Expected, Incident, Moment, Reason, Severity
from kubewitness.report import exports, inert
from kubewitness.report.ocsf import finding
from kubewitness.service.gaps.model import Gap
from kubewitness.service.gaps.telling import notice as gap_notice
from kubewitness.sinks import alertmanager, falco, ocsf, slack, webhook
from kubewitness.sinks.sink import Kind, Notice, sink
from kubewitness.sinks.trial import trial

NOW = datetime(2026, 3, 14, 4, 0, tzinfo=UTC)
KINDS: tuple[Kind, ...] = ("opened", "updated", "resolved", "test")
OPENED = Notice("opened", fixtures.stolen_token(), 1)
GREW = Notice("updated", fixtures.escalation(), 3)
HOSTILE = Notice("opened", fixtures.hostile(), 1)
GIANT = Notice("opened", fixtures.giant(), 1)
GAP = Gap(
    id="4be1d2",
    kind="level",
    cluster="prod-eu-1",
    severity="high",
    since=NOW - timedelta(hours=2),
    until=NOW - timedelta(minutes=20),
    title="Bodies are no longer logged",
    what="what was written",
    why="what came with a body comes without",
    remedy="compare the audit policy of each API server with the one that is meant",
    members=("update deployments.apps",),
)
OVER = Notice("resolved", gap_notice(GAP), 2)
TRIAL = trial(NOW, "prod-eu-1")
NOTICES = {"opened": OPENED, "grew": GREW, "over": OVER, "hostile": HOSTILE, "test": TRIAL}
DOCUMENTS = {
    "falco": falco.document,
    "alertmanager": lambda notice: alertmanager.document(notice, NOW),
    "webhook": webhook.document,
    "slack": slack.document,
    "ocsf": ocsf.document,
}


def document(kind: str, notice: Notice) -> Any:
    """The document as its receiver reads it."""
    return json.loads(exports.json_bytes(DOCUMENTS[kind](notice)))


@pytest.mark.parametrize("name", NOTICES)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents(kind: str, name: str, snapshot: SnapshotAssertion) -> None:
    written = exports.json_bytes(DOCUMENTS[kind](NOTICES[name]))
    assert msgspec.json.format(written, indent=1).decode() == snapshot


NASTY = (
    *fixtures.HOSTILE,
    *(
        "<!channel>",
        "<@U123|x>",
        "<http://evil.example|click>",
        "@channel @here @Everyone",
        "&amp;",
    ),
    *('"}, "x": {', "\\", "\n\n", "\ud800", "*b* _i_ ~s~ `c`", ":skull:", "&" * 4000, "A" * 5000),
    *("{{ 7*7 }}", "", " ", "0", "&amp;", "https://evil.example/x"),
)
texts = st.sampled_from(NASTY) | st.text(
    st.characters(codec=None, exclude_categories=()), max_size=40
)
several = st.lists(texts, max_size=12).map(tuple)
ENDS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
times = st.datetimes(timezones=st.just(UTC)) | st.sampled_from((NOW, *ENDS))
MOMENT = fixtures.escalation().timeline[0]
REASON = fixtures.escalation().reasons[0]
moments = st.builds(
    lambda at, one, two, ids: msgspec.structs.replace(
        MOMENT, at=at, until=at, principal=one, acting_as=two, action=f"{one} {two}", object=two,
        namespace=one, source_ip=two, client=one, outcome=two, audit_ids=ids,
    ),
    times, texts, texts, several,
)  # fmt: skip
reasons = st.builds(
    lambda one, two, share: msgspec.structs.replace(
        REASON, factor=one, question=two, sentence=one, observed=two,
        expected=(Expected(one, share), Expected(two, 1 - share)) if one else (),
    ),
    texts, texts, st.floats(0, 1),
)  # fmt: skip
incidents: st.SearchStrategy[Incident] = st.builds(
    msgspec.structs.replace,
    st.just(fixtures.escalation()),
    id=texts, cluster=texts, severity=st.sampled_from(SEVERITIES), alert=st.booleans(),
    score=st.floats(0, 1e6), opened_at=times, updated_at=times, principals=several,
    source_ips=several, title=texts, summary=texts, tactics=several, techniques=several,
    objects=several, reasons=st.lists(reasons, max_size=3).map(tuple),
    timeline=st.lists(moments, max_size=3).map(tuple), considered=several, next_steps=several,
    evidence=several, events=several,
)  # fmt: skip
notices = st.builds(Notice, st.sampled_from(KINDS), incidents, st.integers(1, 10**6))
anything = settings(max_examples=60)


def strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield from (key, *strings(item))
        case list():
            for item in value:
                yield from strings(item)


@anything
@given(notices)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_whatever_an_attacker_writes_it_is_one_inert_line_of_json(
    kind: str, notice: Notice
) -> None:
    body = exports.json_bytes(DOCUMENTS[kind](notice)).decode()
    assert not inert.acts(body)
    assert isinstance(json.loads(body), dict)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_nobody_can_have_an_alert_refused_for_its_size(kind: str) -> None:
    huge = "A" * 1_000_000
    named = msgspec.structs.replace(
        fixtures.giant(), title=huge, summary=huge, principals=(huge,) * 50, objects=(huge,) * 40,
        timeline=tuple(
            msgspec.structs.replace(moment, client=huge) for moment in fixtures.giant().timeline
        ),
    )  # fmt: skip
    body = exports.json_bytes(DOCUMENTS[kind](Notice("opened", named, 1)))
    assert len(body) < (12_000 if kind in ("falco", "alertmanager", "slack") else 900_000)


@cache
def schema(name: str) -> jsonschema.Draft202012Validator:
    """What a receiver takes; each file says where it is from."""
    path = Path(__file__).with_name("data") / f"{name}.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


FINDING = "ocsf-1.8.0-detection-finding"


# Falco


@anything
@given(notices)
def test_falcosidekick_takes_every_alert(notice: Notice) -> None:
    alert = document("falco", notice)
    schema("falcosidekick-payload").validate(alert)
    assert alert["source"] == "k8s_audit"
    assert len(json.dumps(alert, ensure_ascii=False)) < 12_000
    assert all(len(str(value)) <= 512 for value in alert["output_fields"].values())
    for tag in alert["tags"]:
        assert re.fullmatch(r"[a-z0-9_]+|T\d{4}(\.\d{3})?", tag)


def test_falco_fields_are_called_as_falcos() -> None:
    """The names in the table of fields of falcosecurity/plugins, k8saudit."""
    fields = document("falco", GREW)["output_fields"]
    assert fields["ka.user.name"] == fixtures.DEPLOYER
    assert fields["ka.verb"] == "create"
    assert fields["ka.target.resource"] == "clusterrolebindings"
    assert fields["ka.target.name"] == "ci-debug"
    assert {name for name in fields if name.startswith("ka.")} <= {
        "ka.auditid", "ka.user.name", "ka.impuser.name", "ka.verb", "ka.uri", "ka.target.name",
        "ka.target.namespace", "ka.target.resource", "ka.target.subresource", "ka.sourceips",
        "ka.useragent",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("exec pods", {"ka.target.resource": "pods", "ka.target.subresource": "exec"}),
        ("get /healthz", {"ka.verb": "get", "ka.uri": "/healthz"}),
        (
            "update deployments.apps/scale",
            {
                "ka.verb": "update",
                "ka.target.resource": "deployments",
                "ka.target.subresource": "scale",
            },
        ),
        ("list secrets", {"ka.verb": "list", "ka.target.resource": "secrets"}),
    ],
)
def test_an_action_becomes_the_fields_of_its_request(action: str, expected: dict[str, str]) -> None:
    deed = msgspec.structs.replace(MOMENT, action=action, object="")
    incident = msgspec.structs.replace(fixtures.escalation(), timeline=(deed,))
    fields = document("falco", Notice("opened", incident, 1))["output_fields"]
    told = ("ka.verb", "ka.uri", "ka.target.resource", "ka.target.subresource")
    assert {name: fields[name] for name in told if name in fields} == expected


def test_what_answers_to_a_rule_answers_neither_to_a_test_nor_to_an_end() -> None:
    rules = [document("falco", notice)["rule"] for notice in (OPENED, OVER, TRIAL)]
    assert len(set(rules)) == 3
    assert "test" in document("falco", TRIAL)["tags"]


# Alertmanager

ALERTS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["labels"],
        "additionalProperties": False,
        "properties": {
            "labels": {"$ref": "#/$defs/labelSet", "minProperties": 1},
            "annotations": {"$ref": "#/$defs/labelSet"},
            "startsAt": {"type": "string"},
            "endsAt": {"type": "string"},
            "generatorURL": {"type": "string"},
        },
    },
    "$defs": {
        "labelSet": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
            "additionalProperties": {"type": "string", "minLength": 1},
        }
    },
}
"""postableAlerts of the API's openapi.yaml, and the names that every version takes."""


@anything
@given(notices)
def test_alertmanager_takes_every_alert_and_it_fires(notice: Notice) -> None:
    alert = document("alertmanager", notice)
    jsonschema.Draft202012Validator(ALERTS).validate([alert])
    starts, ends = (datetime.fromisoformat(alert[key]) for key in ("startsAt", "endsAt"))
    assert starts <= NOW
    assert ends == NOW if notice.kind == "resolved" else ends > NOW


def test_an_incident_that_grows_is_the_same_alert() -> None:
    incident = fixtures.escalation()
    grown = msgspec.structs.replace(
        incident, score=99.0, title="Something else", principals=("eve",), objects=("nodes",),
        updated_at=incident.updated_at + timedelta(hours=3),
    )  # fmt: skip
    labels = [
        document("alertmanager", notice)["labels"]
        for notice in (Notice("opened", incident, 1), Notice("updated", grown, 2))
    ]
    assert labels[0] == labels[1]
    assert set(labels[0]) == {"alertname", "severity", "cluster", "incident"}


def test_what_is_over_is_so_for_each_alert_that_it_was() -> None:
    ended = alertmanager.alerts(OVER, NOW)
    assert [alert["labels"]["severity"] for alert in ended] == ["high", "medium", "low"]
    for alert in ended:
        assert alert["endsAt"] == "2026-03-14T04:00:00Z"
        labels = {**alert["labels"], "severity": "high"}
        assert labels == alertmanager.document(Notice("opened", OVER.incident, 1), NOW)["labels"]


def test_a_test_resolves_soon_and_can_be_told() -> None:
    alert = document("alertmanager", TRIAL)
    assert alert["labels"]["test"] == "true"
    assert datetime.fromisoformat(alert["endsAt"]) == NOW + timedelta(minutes=5)


# Slack


def texts_of(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for block in message["blocks"]:
        if "text" in block:
            yield block["text"]
        yield from (*block.get("fields", []), *block.get("elements", []))


@anything
@given(notices)
def test_slack_takes_every_message_and_nothing_in_it_acts(notice: Notice) -> None:
    message = document("slack", notice)
    schema("slack-message").validate(message)
    assert message["unfurl_links"] is message["unfurl_media"] is False
    ours = {"*Who*", "*From*", "*Touched*", "*Tactics*", "*When*"}
    for text in texts_of(message):
        assert text["text"].strip()
        if text["type"] == "mrkdwn":
            assert text["text"] in ours
            assert text["verbatim"] is True
        else:
            assert text["type"] == "plain_text"
            assert text["emoji"] is False
    for one in strings(message):
        assert not re.search("[<>]", one)
        assert not re.search("&(?!amp;|lt;|gt;)", one)
        assert not re.search("@(channel|here|everyone)", one, re.IGNORECASE)
    # What Slack says of no limit, but refuses: about 13,200 characters of blocks (bolt-js, 2509).
    assert sum(map(len, strings(message))) < 13_000


@given(texts, st.integers(3, 60))
def test_no_escape_is_cut_in_two(text: str, limit: int) -> None:
    shown = slack.escaped(text, limit)
    assert len(shown) <= limit
    assert not re.search("&(?!amp;|lt;|gt;)", shown)


def test_a_short_text_is_kept_and_a_long_one_keeps_both_ends() -> None:
    assert slack.escaped("a < b", 150) == "a &lt; b"
    assert re.fullmatch("a+…b+", slack.escaped("a" * 200 + "b" * 200, 150))


# OCSF


@anything
@given(notices)
def test_every_finding_is_one_of_ocsf(notice: Notice) -> None:
    found = document("ocsf", notice)
    schema(FINDING).validate(found)
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]


def test_a_schema_that_takes_anything_would_be_noticed() -> None:
    alert = document("falco", OPENED)
    for broken in (
        {**alert, "priority": ""},
        {**alert, "rule": ""},
        {**alert, "output_fields": {}},
        {**alert, "output_fields": {"k8s.ns.name": 7}},
        {**alert, "time": "0001-01-01T00:00:00Z"},
        {**alert, "tags": "k8s"},
    ):
        assert not schema("falcosidekick-payload").is_valid(broken)
    message = document("slack", OPENED)
    header, *blocks = message["blocks"]
    for broken in (
        {**message, "text": ""},
        {**message, "blocks": []},
        {**message, "blocks": [header] * 51},
        {**message, "blocks": [*blocks, {"type": "section"}]},
        {**message, "blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "*x*"}}]},
        {**message, "blocks": [{**header, "text": {"type": "plain_text", "text": "x" * 151}}]},
    ):
        assert not schema("slack-message").is_valid(broken)
    found = document("ocsf", OPENED)
    for wrong in (
        {**found, "mischief": 1},
        {**found, "severity_id": 7},
        {**found, "finding_info": {"title": "x"}},
        {**found, "time": "now"},
        {**found, "evidences": [{"name": "nobody"}]},
    ):
        assert not schema(FINDING).is_valid(wrong)


def test_a_finding_says_what_was_unusual_and_what_would_have_been_usual() -> None:
    (analysis, *_) = document("ocsf", OPENED)["anomaly_analyses"]
    assert analysis["anomalies"][0]["observations"] == [{"value": "203.0.113.44 (outside)"}]
    assert analysis["baselines"][0]["observations"][0] == {
        "value": "10.244.3.0/24 (pods)",
        "count": 7,
    }
    found = document("ocsf", GREW)
    assert (found["activity_name"], found["metadata"]["sequence"]) == ("Update", 3)
    assert (found["status_id"], found["status"]) == (1, "New")
    closed = document("ocsf", OVER)
    assert (closed["activity_id"], closed["activity_name"]) == (3, "Close")
    assert (closed["status_id"], closed["status"]) == (4, "Resolved")
    assert not closed["is_alert"]
    part = msgspec.structs.replace(OPENED.incident, merged_into="7")
    merged = document("ocsf", Notice("resolved", part, 2))
    schema(FINDING).validate(merged)
    told = (merged["status_id"], merged["status"], merged["status_detail"])
    assert told == (5, "Archived", "part of 7")
    assert found["finding_info"]["uid"] == fixtures.escalation().id


def test_an_export_is_the_finding_of_an_incident() -> None:
    stream = io.BytesIO()
    exports.write(fixtures.week(), "ocsf", stream)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    for line in lines:
        schema(FINDING).validate(json.loads(line))
    assert json.loads(lines[0]) == json.loads(
        exports.json_bytes(exports.plain(finding(fixtures.stolen_token())))
    )


# All of them


@pytest.mark.parametrize("severity", SEVERITIES)
def test_severities_keep_their_order_everywhere(severity: Severity) -> None:
    ranks = [
        ("Notice", "Warning", "Error", "Critical"),
        SEVERITIES,
        ("Low", "Medium", "High", "Critical"),
        (2, 3, 4, 5),
    ]
    notice = Notice("opened", msgspec.structs.replace(fixtures.escalation(), severity=severity), 1)
    told = (
        document("falco", notice)["priority"],
        document("alertmanager", notice)["labels"]["severity"],
        document("slack", notice)["text"].partition(":")[0],
        document("ocsf", notice)["severity_id"],
    )
    assert [rank.index(one) for rank, one in zip(ranks, told, strict=True)] == [
        SEVERITIES.index(severity)
    ] * 4


def test_a_notice_has_an_id_of_its_own_that_stays() -> None:
    incident = fixtures.escalation()
    assert GREW.uid == Notice("updated", fixtures.escalation(), 3).uid
    others = [
        Notice("opened", incident, 1),
        Notice("updated", incident, 2),
        Notice("updated", msgspec.structs.replace(incident, cluster="other"), 2),
        Notice("updated", fixtures.stolen_token(), 2),
    ]
    assert len({one.uid for one in others}) == 4


def test_a_notice_survives_being_stored() -> None:
    for notice in (*NOTICES.values(), GIANT):
        assert msgspec.json.decode(msgspec.json.encode(notice), type=Notice) == notice


def test_a_test_says_so_everywhere() -> None:
    for kind in DOCUMENTS:
        assert "test" in json.dumps(document(kind, TRIAL)).casefold()
    assert TRIAL.incident.updated_at <= NOW
    assert isinstance(TRIAL.incident.timeline[0], Moment)
    assert sum(reason.share for reason in TRIAL.incident.reasons) == pytest.approx(1)
    assert all(isinstance(reason, Reason) for reason in TRIAL.incident.reasons)


# Settings


@pytest.mark.parametrize("kind", TAKEN)
def test_every_type_has_a_sink(kind: Any, tmp_path: Path) -> None:
    place: dict[str, Any] = {"url": "https://there.example"}
    if kind == "file":
        place = {"path": tmp_path / "out"}
    elif kind == "stdout":
        place = {}
    made = sink(SinkSettings(name="here", type=kind, **place))
    assert made.name == "here"
    assert "{" in made.show(OPENED)


@pytest.mark.parametrize(
    ("kind", "given_", "said"),
    [
        ("falco", {}, "no place"),
        ("falco", {"url": "https://x", "url_file": Path("y")}, "one place"),
        ("ocsf", {"url": "https://x", "path": Path("y")}, "one place"),
        ("file", {}, "no place"),
        ("falco", {"url": "https://x", "secret_file": Path("y")}, "secret_file: means nothing"),
        ("slack", {"url": "https://x", "token_file": Path("y")}, "token_file: means nothing"),
        ("stdout", {"path": Path("y")}, "path: means nothing"),
        ("stdout", {"timeout": 3.0}, "timeout: means nothing"),
        ("alertmanager", {"url": "https://x", "format": "ocsf"}, "format: means nothing"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    kind: Any, given_: dict[str, Any], said: str
) -> None:
    wanted = SinkSettings(name="here", type=kind, **given_)
    problems = sinks(Settings(data=Path(), sinks=(wanted,)), Origins({}, {}))
    assert any(said in f"{problem.key}: {problem.what}" for problem in problems)
