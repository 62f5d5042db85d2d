"""Every baseline on a small cluster with one theft."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from evaluate_fixtures import TEST_FROM, THEFT, small
from kubewitness.evaluate.baselines import BASELINES, Baseline
from kubewitness.evaluate.baselines.hourly import everything, hours, incidents, replayed
from kubewitness.evaluate.baselines.rules import RULES
from kubewitness.evaluate.dataset import Trial, read_dataset, trial
from kubewitness.evaluate.judgement import credit
from kubewitness.incidents.model import Incident

NAMED = {baseline.name: baseline for baseline in BASELINES}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with trial(read_dataset(small(tmp_path_factory.mktemp("data") / "small"))) as prepared:
        yield prepared


def detected(baseline: Baseline, ready: Trial, seed: int = 0) -> list[Incident]:
    if baseline.name == "Isolation Forest":
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return baseline.detect(ready, seed)


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
def test_a_baseline_keeps_the_contract(baseline: Baseline, ready: Trial) -> None:
    found = detected(baseline, ready)
    assert found
    assert len({one.id for one in found}) == len(found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert all(one.opened_at >= TEST_FROM and one.evidence and one.principals for one in found)
    assert detected(baseline, ready) == found, "a seed decides everything"


@pytest.mark.parametrize("name", ["global rarity", "first-seen list", "the usual rules"])
def test_what_flags_new_things_finds_the_theft_first(name: str, ready: Trial) -> None:
    best = credit(NAMED[name].detect(ready, 0)[:1], ready.episodes)
    assert [row.attack for row in best] == ["theft"]
    assert best[0].incident.alert


def test_a_first_seen_list_shows_only_what_is_new(ready: Trial) -> None:
    best = NAMED["first-seen list"].detect(ready, 0)[0]
    assert best.opened_at == THEFT
    assert set(best.evidence) == {f"theft-{n}" for n in range(6)}
    # six deeds, a network and a client
    assert best.score == 8


def test_counts_flag_who_does_more_than_usual(ready: Trial) -> None:
    best = NAMED["per-principal counts"].detect(ready, 0)[0]
    assert (best.principals, best.opened_at) == (("ada",), THEFT)


def test_chance_differs_between_seeds(ready: Trial) -> None:
    first, second = (NAMED["random"].detect(ready, seed) for seed in (0, 1))
    assert [one.id for one in first] != [one.id for one in second]


def test_every_rule_is_a_condition_of_its_own(ready: Trial) -> None:
    assert (
        len({rule.title for rule in RULES}) == len({rule.condition for rule in RULES}) == len(RULES)
    )
    hits = {
        rule.title: ready.connection.execute(
            f"SELECT count(*) FROM activities WHERE {rule.condition}"
        ).fetchall()[0][0]
        for rule in RULES
    }
    assert {title for title, n in hits.items() if n} == {"secrets read"}


def test_hours_hold_together_one_principal_and_hour(ready: Trial) -> None:
    all_hours = everything(ready)
    assert len({(hour.principal, hour.start) for hour in all_hours}) == len(all_hours)
    assert len(all_hours) == 9 * 24 + 9 * 8 * 3 + 1
    flagged = hours(ready, "SELECT *, CAST(resource = 'secrets' AS INT) AS points FROM activities")
    assert [hour.opened for hour in flagged] == [THEFT]


def test_the_threshold_is_what_history_exceeds_once_a_day(ready: Trial) -> None:
    found = hours(ready, "SELECT *, n AS points FROM activities", total="sum")
    later_half = sorted(
        (h.score for h in found if TEST_FROM - timedelta(days=3.5) <= h.opened < TEST_FROM),
        reverse=True,
    )
    assert replayed(ready, found, np.array([hour.score for hour in found])) == later_half[3]
    assert not any(one.alert for one in incidents(ready, found) if one.score <= later_half[3])
