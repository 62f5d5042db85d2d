"""Baselines that count: what is rare, what is new, and who does more than usual."""

from __future__ import annotations

from kubewitness.evaluate.baselines.hourly import hours, incidents, width
from kubewitness.evaluate.dataset import Trial
from kubewitness.events.normalisation import quoted
from kubewitness.incidents.model import Incident


def rarity(trial: Trial, seed: int = 0) -> list[Incident]:
    """1/(1 + requests that anybody made before this hour with the same action, namespace, client
    and outcome), summed over what differs within the hour."""
    seconds = int(width(trial).total_seconds())
    scored = f"""
        WITH timed AS (
            SELECT *, time_bucket(INTERVAL '{seconds} seconds', first) AS hour FROM activities
        )
        SELECT * EXCLUDE (hour), coalesce(sum(n) OVER earlier, 0) AS before,
            CASE WHEN row_number() OVER same = 1 THEN 1 / (1 + before) ELSE 0 END AS points
        FROM timed
        WINDOW earlier AS (PARTITION BY action, namespace, client, outcome ORDER BY hour
                RANGE BETWEEN UNBOUNDED PRECEDING AND INTERVAL 1 SECOND PRECEDING),
            same AS (PARTITION BY principal, hour, action, namespace, client, outcome
                ORDER BY first, audit_ids)"""
    return incidents(trial, hours(trial, scored, total="sum"))


def first_seen(trial: Trial, seed: int = 0) -> list[Incident]:
    """How much of what a principal did in an hour it had never done before: its first use of
    each (action, namespace), of each network and of each client."""
    scored = """
        SELECT *,
            CAST(row_number() OVER deeds = 1 AS INT) + CAST(row_number() OVER networks = 1 AS INT)
                + CAST(row_number() OVER clients = 1 AS INT) AS points
        FROM activities
        WINDOW deeds AS (PARTITION BY principal, action, namespace ORDER BY first, audit_ids),
            networks AS (PARTITION BY principal, network ORDER BY first, audit_ids),
            clients AS (PARTITION BY principal, client ORDER BY first, audit_ids)"""
    return incidents(trial, hours(trial, scored, total="sum", share=0.0))


def counts(trial: Trial, seed: int = 0) -> list[Incident]:
    """Requests in an hour against the principal's own mean: the Poisson surprise
    n·ln(n/m) − n + m of hours above it. The mean is that of the history; who was never seen
    counts as one request in all of it."""
    seconds = int(width(trial).total_seconds())
    scored = f"""
        WITH hourly AS (
            SELECT *, sum(n) OVER (PARTITION BY principal,
                time_bucket(INTERVAL '{seconds} seconds', first)) AS now
            FROM activities
        ), span AS (
            SELECT greatest(1, epoch(max(last) - min(first)) / {seconds}) AS hours
            FROM activities WHERE {_history(trial)}
        ), usual AS (
            SELECT principal, sum(n) / any_value(hours) AS mean
            FROM activities CROSS JOIN span WHERE {_history(trial)} GROUP BY principal
        ), compared AS (
            SELECT hourly.*, coalesce(mean, 1 / span.hours) AS m
            FROM hourly CROSS JOIN span LEFT JOIN usual USING (principal)
        )
        SELECT *, CASE WHEN now > m THEN now * ln(now / m) - now + m ELSE 0 END AS points
        FROM compared"""
    return incidents(trial, hours(trial, scored))


def _history(trial: Trial) -> str:
    if trial.since is None:
        return "true"
    return f"first < TIMESTAMPTZ {quoted(trial.since.isoformat())} AT TIME ZONE 'UTC'"
