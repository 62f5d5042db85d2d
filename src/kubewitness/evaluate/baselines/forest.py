"""The catch-all of the textbooks: an Isolation Forest over what each principal did in an hour.

Liu, Ting & Zhou, "Isolation Forest" (ICDM 2008). Needs scikit-learn (the extra ``evaluate``).
"""

from __future__ import annotations

import numpy as np

from kubewitness.activity.table import Floats
from kubewitness.evaluate.baselines.hourly import everything, incidents, width
from kubewitness.evaluate.dataset import Trial
from kubewitness.incidents.model import Incident

TREES = 200
# Aggregates of an hour, each an SQL expression over its activity rows.
FEATURES = (
    "sum(n)",
    "count(DISTINCT action)",
    "count(DISTINCT namespace)",
    "count(DISTINCT resource)",
    "count(DISTINCT template)",
    "count(DISTINCT source_ip)",
    "count(DISTINCT client)",
    "sum(n) FILTER (verb IN ('get', 'list', 'watch'))",
    "sum(n) FILTER (verb IN ('create', 'update', 'patch'))",
    "sum(n) FILTER (verb IN ('delete', 'deletecollection'))",
    "sum(n) FILTER (outcome IN ('denied', 'unauthenticated'))",
    "sum(n) FILTER (outcome NOT IN ('ok', 'denied', 'unauthenticated'))",
    "sum(n) FILTER (resource = 'secrets')",
    "sum(n) FILTER (contains(resource, 'rbac.authorization.k8s.io'))",
    "sum(n) FILTER (subresource IN ('exec', 'attach', 'portforward'))",
    "sum(n) FILTER (scope = 'public')",
    "max(hour(first))",
)


def forest(trial: Trial, seed: int) -> list[Incident]:
    """Fitted to the hours of the history (all of them where there is none).

    Raises ``ImportError`` when scikit-learn is not installed.
    """
    from sklearn.ensemble import IsolationForest

    judged = everything(trial)
    features = _features(trial)
    past = np.array([trial.since is None or hour.opened < trial.since for hour in judged])
    if not past.any():
        past[:] = True
    model = IsolationForest(n_estimators=TREES, random_state=seed).fit(features[past])
    return incidents(trial, judged, -model.score_samples(features))


def _features(trial: Trial) -> Floats:
    """One row an hour, in the order of ``everything``; counts as ln(1 + n)."""
    seconds = int(width(trial).total_seconds())
    columns = ", ".join(f"coalesce({feature}, 0)" for feature in FEATURES)
    rows = trial.connection.execute(f"""
        SELECT {columns} FROM activities
        GROUP BY principal, time_bucket(INTERVAL '{seconds} seconds', first)
        ORDER BY time_bucket(INTERVAL '{seconds} seconds', first), principal""").fetchall()
    return np.log1p(np.array(rows, dtype=np.float64).reshape(len(rows), len(FEATURES)))
