"""The example log: what a newcomer sees first must be what happened in it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import zstandard

from kubewitness.analysis import analyze
from kubewitness.report.model import Analysis
from kubewitness.times import moment

ROOT = Path(__file__).parents[1]
EPISODE = re.compile(
    r"^\| (?P<start>[\d:]+)–(?P<end>[\d:]+) \| (?P<who>[^|]+) \| (?P<source>[^|]+)"
    r" \| (?P<label>attack|misconfiguration|harmless): (?P<title>[^|]+) \| (?P<events>\d+) \|$",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def demo() -> Analysis:
    """What ``make demo`` finds."""
    return analyze([ROOT / "examples"], cluster="demo", since=moment("30m"))


def test_the_example_is_read_without_a_word_of_complaint(demo: Analysis) -> None:
    assert demo.intake.sources == 1
    assert demo.intake.events == demo.intake.lines > 50_000
    assert not demo.intake.skipped
    assert not demo.intake.broken
    assert not demo.intake.warnings


def test_what_is_on_top_in_the_demo_are_attacks_that_happened(demo: Analysis) -> None:
    attacks = [episode for episode in episodes() if episode["label"] == "attack"]
    top = (*demo.incidents, *demo.queue)[:3]

    for incident in top:
        told = [
            attack
            for attack in attacks
            if any(who in attack["who"] for who in incident.principals)
            and set(incident.source_ips) & set(attack["source"].split(", "))
        ]
        assert told, incident.title
    # Attempts that were all refused may rank first, but do no harm yet.
    gained = [
        one
        for one in top
        if any(moment.outcome == "ok" and moment.notable for moment in one.timeline)
    ]
    assert gained
    assert {incident.severity for incident in gained} <= {"high", "critical"}


def test_the_history_of_the_demo_ends_before_the_first_episode(demo: Analysis) -> None:
    assert demo.since is not None
    assert f"{demo.since:%H:%M:%S}" < min(episode["start"] for episode in episodes())


@pytest.fixture(scope="module")
def log(demo: Analysis) -> dict[str, list[dict[str, Any]]]:
    """The raw events that the incidents speak of, by auditID."""
    told = (*demo.incidents, *demo.queue)
    wanted = {audit_id for one in told for audit_id in (*one.evidence, *one.events)}
    wanted |= {audit_id for one in told for event in one.timeline for audit_id in event.audit_ids}
    events = defaultdict(list)
    with zstandard.open(ROOT / "examples" / "audit.jsonl.zst", "rt", encoding="utf-8") as lines:
        for line in lines:
            audit_id = line.partition('"auditID":"')[2].partition('"')[0]
            if audit_id in wanted:
                events[audit_id].append(json.loads(line))
    return events


def test_whom_and_where_a_story_names_its_events_show(
    demo: Analysis, log: dict[str, list[dict[str, Any]]]
) -> None:
    for incident in (*demo.incidents, *demo.queue):
        events = [event for one in (*incident.evidence, *incident.events) for event in log[one]]
        users = {event["user"].get("username", "<unauthenticated>") for event in events}
        users |= {event.get("impersonatedUser", {}).get("username") for event in events}
        assert set(incident.principals) <= users
        # Behind the load balancer of the example, the peer is the last but one.
        peers = {address for event in events for address in event["sourceIPs"][-2:]}
        assert set(incident.source_ips) <= peers
        for address in re.findall(r"address \(([^)]+)\)", incident.title):
            assert address in incident.source_ips


@pytest.mark.parametrize(
    ("words", "resource", "verbs"),
    [
        ("read secrets", "secrets", {"get", "list", "watch"}),
        ("deleted workloads", "", {"delete", "deletecollection"}),
        ("changed permissions", "", {"create", "update", "patch", "delete", "deletecollection"}),
        ("approved client certificates", "certificatesigningrequests", {"update", "patch"}),
    ],
)
def test_what_a_title_says_was_done_was_done_and_served(
    words: str,
    resource: str,
    verbs: set[str],
    demo: Analysis,
    log: dict[str, list[dict[str, Any]]],
) -> None:
    told = [one for one in (*demo.incidents, *demo.queue) if words in done(one.title)]
    assert told
    for incident in told:
        assert any(
            event["verb"] in verbs
            and resource in event.get("objectRef", {}).get("resource", "")
            and event["responseStatus"]["code"] < 400
            and event["user"]["username"] == incident.principals[0]
            for one in (*incident.evidence, *incident.events)
            for event in log[one]
            if "responseStatus" in event and "username" in event["user"]
        ), incident.title


def test_a_moment_says_how_its_events_were_answered(
    demo: Analysis, log: dict[str, list[dict[str, Any]]]
) -> None:
    codes = {"ok": range(400), "denied": range(403, 404), "unauthenticated": range(401, 402)}
    for incident in (*demo.incidents, *demo.queue):
        for moment_ in incident.timeline:
            for event in (event for one in moment_.audit_ids for event in log[one]):
                if moment_.outcome in codes and "responseStatus" in event:
                    assert event["responseStatus"]["code"] in codes[moment_.outcome]


def done(title: str) -> str:
    """What a title says was done, without what was tried in vain."""
    return title.partition("tried in vain")[0]


def episodes() -> list[dict[str, str]]:
    """The rows of the table in docs/example.md."""
    page = (ROOT / "docs" / "example.md").read_text(encoding="utf-8")
    found = [match.groupdict() for match in EPISODE.finditer(page)]
    assert len(found) == 25
    return found
