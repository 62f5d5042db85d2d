"""The baselines that detection must beat: the simplest things that might work.

Each is a function from a trial (and a seed, where there is chance) to incidents. All group
what they flag by principal and hour, and alert by the same replay of history as the product,
so that only the judgement of what is odd differs. A further baseline is one more line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kubewitness.evaluate.baselines.counting import counts, first_seen, rarity
from kubewitness.evaluate.baselines.forest import forest
from kubewitness.evaluate.baselines.luck import luck
from kubewitness.evaluate.baselines.rules import usual_rules
from kubewitness.evaluate.dataset import Trial
from kubewitness.incidents.model import Incident

SEEDS = 5


@dataclass(frozen=True, slots=True)
class Baseline:
    """``seeds``: how often it is measured; once where nothing is left to chance."""

    name: str
    detect: Callable[[Trial, int], list[Incident]]
    seeds: int = 1


BASELINES = (
    Baseline("random", luck, SEEDS),
    Baseline("global rarity", rarity),
    Baseline("first-seen list", first_seen),
    Baseline("per-principal counts", counts),
    Baseline("the usual rules", usual_rules),
    Baseline("Isolation Forest", forest, SEEDS),
)
