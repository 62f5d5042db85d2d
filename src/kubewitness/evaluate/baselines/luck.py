"""Drawing lots: what a list of incidents is worth that knows nothing."""

from __future__ import annotations

import numpy as np

from kubewitness.evaluate.baselines.hourly import everything, incidents
from kubewitness.evaluate.dataset import Trial
from kubewitness.incidents.model import Incident


def luck(trial: Trial, seed: int) -> list[Incident]:
    """Every hour of every principal, in random order."""
    drawn = everything(trial)
    return incidents(trial, drawn, np.random.default_rng(seed).random(len(drawn)))
