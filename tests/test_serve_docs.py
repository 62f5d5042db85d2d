"""What docs/serve.md and the alert rules say of metrics is what the service has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client import Metric

from kubewitness.service import metrics
from kubewitness.service.gaps.model import Kind

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
RULES = ROOT / "docs" / "alerts.yaml"


def own() -> list[Metric]:
    return [one for one in metrics.REGISTRY.collect() if one.name.startswith("kubewitness_")]


def documented() -> dict[str, str]:
    """The labels of each metric in the table, by its name."""
    return dict(re.findall(r"^\| `(kubewitness_\w+)` \| ([\w, ]*)\|", PAGE, re.MULTILINE))


def full_name(metric: Metric) -> str:
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")


def exported() -> set[str]:
    suffixes = {"histogram": ("_bucket", "_sum", "_count")}
    return {full_name(one) + suffix for one in own() for suffix in suffixes.get(one.type, ("",))}


def test_every_metric_is_documented_in_order() -> None:
    assert list(documented()) == [full_name(one) for one in own()]


def test_every_label_is_documented() -> None:
    for name, labels in documented().items():
        collector = metrics.REGISTRY._names_to_collectors[name]
        found = getattr(collector, "_labelnames", ())
        if not name.endswith("_info"):
            assert tuple(filter(None, labels.strip().split(", "))) == tuple(found), name


def test_every_kind_of_gap_is_documented_and_a_label() -> None:
    told = re.findall(
        r"^\| `([\w-]+)` \| .* \| .* \|$",
        PAGE.partition("### Gaps")[2].partition("\n## ")[0],
        re.MULTILINE,
    )
    assert told == list(get_args(Kind))
    assert metrics.KNOWN["kind"] == get_args(Kind)


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    assert set(document) == {"groups"}
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    expression = rule["expr"]
    asked = set(re.findall(r"kubewitness_\w+", expression))
    assert asked <= exported()
    assert asked or expression.startswith("up{")
    for name, selector in re.findall(r"(kubewitness_\w+)\{([^}]*)\}", expression):
        for label, values in re.findall(r'(\w+)(?:=~?|!=)"([^"]*)"', selector):
            assert label in documented()[name].strip().split(", ")
            assert set(values.split("|")) <= set(metrics.KNOWN[label])


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_the_brackets_of_an_alert_rule_are_closed(rule: dict[str, Any]) -> None:
    pairs = {")": "(", "}": "{", "]": "["}
    within: list[str] = []
    for sign in re.sub(r'"[^"]*"', "", rule["expr"]):
        if sign in pairs.values():
            within.append(sign)
        elif sign in pairs:
            assert within.pop() == pairs[sign]
    assert within == []


def test_the_rules_are_where_the_documentation_says() -> None:
    assert "[alerts.yaml](alerts.yaml)" in PAGE
    assert len(rules()) > 8
