"""Evaluations as tables of words and numbers; terminal, Markdown and HTML print the same ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple

from kubewitness.evaluate.evaluation import Evaluation, Measured
from kubewitness.evaluate.judgement import BUDGETS, FAMILIES_AT, UNEXPLAINED, Judgement
from kubewitness.report.wording import duration, plural

NOTHING = "–"
Figure = Callable[[Judgement], float | None]


class Grid(NamedTuple):
    """A table: ``rows`` are as long as ``header``; the first column names, the others count."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def grids(evaluations: Sequence[Evaluation]) -> list[Grid]:
    """Every table there is something to say in."""
    tables = [methods(evaluation) for evaluation in evaluations]
    tables.append(families(evaluations))
    if any(evaluation.ablation for evaluation in evaluations):
        tables.append(ablation(evaluations))
    if any(evaluation.calibration for evaluation in evaluations):
        tables.append(calibration(evaluations))
    return tables


def methods(evaluation: Evaluation) -> Grid:
    """Detection and baselines on one dataset."""
    daily = evaluation.days >= 1
    header = (
        "Method",
        *(f"recall @{n}/day" for n in BUDGETS if daily),
        "r-precision",
        "alert recall",
        "false alerts/day" if daily else "false alerts",
        "benign, misconf., unexpl.",
        "time to detect",
        "evidence found",
    )
    rows = tuple(
        (
            measured.method,
            *(_share(measured, _recall(n)) for n in BUDGETS if daily),
            _share(measured, lambda j: j.r_precision),
            _share(measured, lambda j: j.alert_recall),
            _plain(measured.mean(lambda j: j.false_alerts_per_day if daily else _false(j)), 1),
            _kinds(measured),
            _delay(measured.mean(lambda j: j.seconds_to_detect)),
            _share(measured, lambda j: j.completeness),
        )
        for measured in evaluation.methods
    )
    judged = duration(timedelta(days=evaluation.days))
    what = (
        f"{evaluation.events:,} events as {evaluation.activities:,} rows of activity. In the"
        f" {judged} that are judged: {plural(evaluation.attacks, 'attack')}; in all"
        f" {plural(evaluation.benign_changes, 'benign change')} and"
        f" {plural(evaluation.misconfigurations, 'misconfiguration')}. False alerts are told apart"
        " by what they show: a benign change, a misconfiguration, or nothing that is labelled."
    )
    what += _doubt(evaluation)
    if not daily:
        what += " The log is too short for a budget a day."
    return Grid(evaluation.dataset, header, rows, " ".join((what, *evaluation.notes)))


def summary(evaluations: Sequence[Evaluation]) -> Grid:
    """One row a method: recall at five a day where there are days, else r-precision."""
    names = list(dict.fromkeys(m.method for e in evaluations for m in e.methods))
    rows = []
    for name in names:
        row = [name]
        for evaluation in evaluations:
            found = next((m for m in evaluation.methods if m.method == name), None)
            daily = evaluation.days >= 1
            figure = _recall(FAMILIES_AT) if daily else _r_precision
            row.append(_share(found, figure) if found else NOTHING)
            row.append(_share(found, lambda j: j.alert_recall) if found else NOTHING)
            row.append(
                _plain(found.mean(lambda j: j.false_alerts_per_day), 1)
                if found and daily
                else _plain(found.mean(_false), 0)
                if found
                else NOTHING
            )
        rows.append(tuple(row))
    header = ["Method"]
    for e in evaluations:
        first = f"recall @{FAMILIES_AT}/day" if e.days >= 1 else "r-precision"
        last = "false alerts/day" if e.days >= 1 else "false alerts"
        header += [f"{e.dataset}: {first}", "alert recall", last]
    return Grid("Detection against the simplest things that might work", tuple(header), tuple(rows))


def families(evaluations: Sequence[Evaluation]) -> Grid:
    """Which attacks are found, by family."""
    names = sorted({family for e in evaluations for family in e.product.families})
    rows = tuple(
        (name, *(_found(evaluation.product.families.get(name)) for evaluation in evaluations))
        for name in names
    )
    note = f"Found of all among {FAMILIES_AT} incidents a day, or as many as there are attacks."
    return Grid("Attack families", ("Family", *(e.dataset for e in evaluations)), rows, note)


def ablation(evaluations: Sequence[Evaluation]) -> Grid:
    """What is lost without each factor and aspect."""
    shown = [evaluation for evaluation in evaluations if evaluation.ablation]
    figures: tuple[tuple[str, Figure], ...] = (
        (f"recall @{FAMILIES_AT}/day", _recall(FAMILIES_AT)),
        ("r-precision", _r_precision),
        ("alert recall", lambda j: j.alert_recall),
    )
    header = ["Left out"]
    columns: list[tuple[Evaluation, Figure]] = []
    for evaluation in shown:
        for name, figure in figures if evaluation.days >= 1 else figures[1:]:
            header.append(f"{evaluation.dataset}: {name}")
            columns.append((evaluation, figure))
    rows = [("nothing", *(_plain(figure(e.product), 2) for e, figure in columns))]
    names = dict.fromkeys((w.kind, w.name) for evaluation in shown for w in evaluation.ablation)
    for kind, name in names:
        row = [f"{kind} “{name}”"]
        for evaluation, figure in columns:
            left = next((w for w in evaluation.ablation if (w.kind, w.name) == (kind, name)), None)
            whole = figure(evaluation.product)
            row.append(_against(figure(left.judgement), whole) if left else NOTHING)
        rows.append(tuple(row))
    one = min(1 / max(1, evaluation.attacks) for evaluation in shown)
    note = (
        f"In brackets the difference it makes. One attack is {one:.2f}: that little is no evidence."
        " A factor that costs nothing anywhere is a candidate for removal, unless another covers"
        " for it here."
    )
    return Grid("Ablation", tuple(header), tuple(rows), note)


def calibration(evaluations: Sequence[Evaluation]) -> Grid:
    """How often each factor calls something rarer than 1 in 10, 100, 1,000."""
    shown = [evaluation for evaluation in evaluations if evaluation.calibration]
    levels = list(shown[0].calibration[0].below)
    header = ("Factor", *(f"{e.dataset}: p ≤ {level:g}" for e in shown for level in levels))
    names = dict.fromkeys(h.factor for e in shown for h in e.calibration)
    rows = []
    for name in names:
        row = [name]
        for evaluation in shown:
            found = next((h for h in evaluation.calibration if h.factor == name), None)
            row += [_plain(found.below[level], 4) if found else NOTHING for level in levels]
        rows.append(tuple(row))
    note = (
        "The observed share of (principal, time slice) of the judged part, attacks taken out. With"
        " perfect calibration and no change in the cluster it would be at most the level itself."
    )
    return Grid("Calibration", header, tuple(rows), note)


def interval(share: float, n: int) -> tuple[float, float]:
    """What a share of ``n`` may be in truth: Wilson's interval of 95 %.

    >>> "{:.2f} {:.2f}".format(*interval(16 / 19, 19))
    '0.62 0.94'
    """
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _doubt(evaluation: Evaluation) -> str:
    """How little so few attacks tell."""
    if not evaluation.attacks:
        return ""
    share = evaluation.product.alert_recall
    low, high = interval(share, evaluation.attacks)
    return (
        f" With {plural(evaluation.attacks, 'attack')}, an alert recall of {share:.2f} is anything"
        f" from {low:.2f} to {high:.2f} (95 %)."
    )


def _recall(n: int) -> Figure:
    return lambda judgement: judgement.recall[n]


def _r_precision(judgement: Judgement) -> float:
    return judgement.r_precision


def _false(judgement: Judgement) -> float:
    return judgement.false_alerts_per_day * judgement.days


def _plain(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _share(measured: Measured, figure: Figure) -> str:
    """The figure; with seeds the mean and how far the farthest seed lies from it."""
    mean, seeds = measured.mean(figure), measured.values(figure)
    if mean is None or max(seeds) == min(seeds):
        return _plain(mean, 2)
    return f"{mean:.2f}±{max(mean - min(seeds), max(seeds) - mean):.2f}"


def _against(value: float | None, whole: float | None) -> str:
    if value is None or whole is None:
        return NOTHING
    difference = value - whole
    if abs(difference) < 0.005:
        return f"{value:.2f}"
    sign = "+" if difference > 0 else "−"
    return f"{value:.2f} ({sign}{abs(difference):.2f})"


def _kinds(measured: Measured) -> str:
    """False alerts in the judged time, by what they showed; with seeds their means."""
    kinds = ("benign_change", "misconfiguration", UNEXPLAINED)
    totals = (
        sum(j.false_alerts_by_kind.get(kind, 0) for j in measured.judgements) for kind in kinds
    )
    return ", ".join(f"{total / len(measured.judgements):.0f}" for total in totals)


def _delay(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration(timedelta(seconds=seconds))


def _found(counts: tuple[int, int] | None) -> str:
    return NOTHING if counts is None else f"{counts[0]} of {counts[1]}"
