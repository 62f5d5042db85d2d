"""The crediting rule, on cases made by hand and against the reference implementation."""

from __future__ import annotations

import importlib.util
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evaluate_fixtures import TEST_FROM, THEFT, episode, incident
from kubewitness.evaluate.dataset import Episode
from kubewitness.evaluate.judgement import Judgement, credit, judge
from kubewitness.incidents.model import Incident

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "eval" / "score.py"
UNTIL = TEST_FROM + timedelta(days=2)


def known(**changes: Any) -> Episode:
    return msgspec.convert(episode(**changes), Episode)


def judged(*incidents: Incident, episodes: tuple[Episode, ...] = (known(),)) -> Judgement:
    return judge(incidents, episodes, TEST_FROM, UNTIL)


def test_a_right_incident_finds_its_attack() -> None:
    found = judged(incident(opened_at=THEFT + timedelta(seconds=30)))
    assert found.recall == {3: 1.0, 5: 1.0, 10: 1.0}
    assert (found.r_precision, found.alert_recall, found.false_alerts_per_day) == (1.0, 1.0, 0.0)
    assert found.seconds_to_detect == 30.0
    assert found.completeness == pytest.approx(2 / 6)
    assert found.families == {"stolen_credential": (1, 1)}
    assert found.missed == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"evidence": ()}, "it shows nothing"),
        ({"evidence": ("theft-0", "a", "b", "c")}, "three quarters of it are something else"),
        ({"principals": ("ben",), "source_ips": ("10.8.0.4",)}, "it accuses others"),
        ({"evidence": ("reaction",)}, "it shows only what controllers did in reaction"),
        ({"opened_at": TEST_FROM - timedelta(hours=1)}, "it opened before the test"),
    ],
)
def test_what_is_not_credited(changes: dict[str, Any], why: str) -> None:
    found = judged(incident(**changes), episodes=(known(related_ids=["reaction"]),))
    assert found.recall[10] == 0.0, why
    assert found.missed, why


def test_reactions_count_towards_purity() -> None:
    mixed = incident(evidence=("theft-0", "reaction", "a", "b", "c"))
    assert judged(mixed).recall[5] == 0.0
    assert judged(mixed, episodes=(known(related_ids=["reaction"]),)).recall[5] == 1.0


def test_a_giant_incident_is_credited_once() -> None:
    other = known(episode_id="other", audit_ids=["x", "y"])
    both = incident(evidence=("theft-0", "theft-1", "theft-2", "x", "y"))
    assert [row.attack for row in credit([both], [known(), other])] == ["theft"]
    assert judged(both, episodes=(known(), other)).alert_recall == 0.5


def test_an_attack_is_counted_once() -> None:
    found = judged(incident("a"), incident("b", evidence=("theft-2",)))
    assert (found.alerts, found.alert_recall, found.precision[3]) == (2, 1.0, 1.0)
    assert found.completeness == pytest.approx(3 / 6)


def test_false_alerts_are_told_by_what_they_show() -> None:
    change = known(episode_id="move", label="benign_change", audit_ids=["m1"], actors=["ben"])
    found = judged(
        incident("a"),
        incident("b", evidence=("m1",), principals=("ben",)),
        incident("c", evidence=("nothing",)),
        incident("d", evidence=("nothing",), alert=False),
        episodes=(known(), change),
    )
    assert found.false_alerts_by_kind == {"benign_change": 1, "unexplained": 1}
    assert found.false_alerts_per_day == 1.0


def test_a_budget_takes_the_best_scored() -> None:
    noise = [incident(f"n{n}", evidence=("nothing",), score=20.0 + n) for n in range(8)]
    found = judged(*noise, incident())
    # Two days: six, ten and twenty incidents are read.
    assert found.recall == {3: 0.0, 5: 1.0, 10: 1.0}
    assert found.r_precision == 0.0


def test_without_incidents_nothing_is_found_and_nothing_breaks() -> None:
    found = judged()
    assert (found.recall[5], found.seconds_to_detect, found.completeness) == (0.0, None, None)
    assert judge((), ()).attacks == 0


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference score.py is not beside this tree")
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("bounded", [True, False])
def test_the_figures_are_those_of_the_reference(seed: int, bounded: bool) -> None:
    spec = importlib.util.spec_from_file_location("reference_score", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    rng = random.Random(seed)
    truth = [_any_episode(rng, number) for number in range(12)]
    incidents = [_any_incident(rng, number) for number in range(60)]
    since, until = (TEST_FROM, UNTIL) if bounded else (None, None)

    ours = judge(incidents, msgspec.convert(truth, list[Episode]), since, until)
    theirs = reference.measure(
        [{**msgspec.to_builtins(i), "evidence": sorted(i.evidence)} for i in incidents],
        truth, since, until,
    )  # fmt: skip

    assert ours.days == pytest.approx(theirs["days"], abs=0.006)
    assert (ours.incidents, ours.attacks) == (theirs["incidents"], theirs["attacks"])
    for n in (3, 5, 10):
        assert ours.recall[n] == pytest.approx(theirs[f"recall@{n}/day"], abs=1e-4)
        assert ours.precision[n] == pytest.approx(theirs[f"precision@{n}/day"], abs=1e-4)
    assert ours.r_precision == pytest.approx(theirs["r_precision"], abs=1e-4)
    assert ours.alerts == theirs["alerts"]
    assert ours.alert_recall == pytest.approx(theirs["alert_recall"], abs=1e-4)
    assert ours.false_alerts_per_day == pytest.approx(theirs["false_alerts_per_day"], abs=1e-3)
    assert ours.false_alerts_by_kind == theirs["false_alerts_by_kind"]
    assert ours.seconds_to_detect == pytest.approx(theirs["time_to_detect_median_s"], abs=0.06)
    assert ours.completeness == pytest.approx(theirs["evidence_completeness_mean"], abs=1e-3)
    assert {f: f"{a}/{b}" for f, (a, b) in ours.families.items()} == theirs["families"]
    assert list(ours.missed) == theirs["missed"]


def _any_episode(rng: random.Random, number: int) -> dict[str, Any]:
    start = TEST_FROM + timedelta(hours=rng.uniform(-20, 60))
    return episode(
        episode_id=f"e{number}",
        label=rng.choice(["attack", "attack", "benign_change", "misconfiguration"]),
        family=f"family{number % 3}",
        start=start.isoformat().replace("+00:00", "Z"),
        end=(start + timedelta(hours=1)).isoformat().replace("+00:00", "Z"),
        actors=[f"user{number % 5}"],
        source_ips=[f"10.0.0.{number % 7}"],
        # An odd number of each, so that no incident is owned equally by two.
        audit_ids=[f"{number}-{n}" for n in range(3)],
        related_ids=[f"{number}-r{n}" for n in range(2)],
    )


def _any_incident(rng: random.Random, number: int) -> Incident:
    """Evidence of one episode, part of another and noise, in numbers that never tie."""
    main, other = rng.sample(range(12), 2)
    evidence = [f"{main}-{n}" for n in range(3)][: rng.randint(0, 3)]
    evidence += [f"{main}-r{n}" for n in range(2)]
    evidence += [f"{other}-0"][: rng.randint(0, 1)]
    evidence += [f"noise-{n}" for n in range(rng.randint(0, 8))]
    return incident(
        f"i{number}",
        score=rng.random(),
        alert=rng.random() < 0.4,
        opened_at=TEST_FROM + timedelta(hours=rng.uniform(-10, 50)),
        principals=(f"user{rng.choice([main % 5, rng.randint(0, 4)])}",),
        source_ips=(f"10.0.0.{rng.randint(0, 9)}",),
        evidence=tuple(evidence),
    )
