"""The example log: what a newcomer sees first must be what happened in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
    assert {incident.severity for incident in top} <= {"high", "critical"}


def test_the_history_of_the_demo_ends_before_the_first_episode(demo: Analysis) -> None:
    assert demo.since is not None
    assert f"{demo.since:%H:%M:%S}" < min(episode["start"] for episode in episodes())


def episodes() -> list[dict[str, str]]:
    """The rows of the table in docs/example.md."""
    page = (ROOT / "docs" / "example.md").read_text(encoding="utf-8")
    found = [match.groupdict() for match in EPISODE.finditer(page)]
    assert len(found) == 25
    return found
