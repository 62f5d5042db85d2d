"""Misconfigurations: what is refused again and again, why, and the rule or credential it lacks.

A kind of finding of its own: nobody has to be suspected. What a program is refused in this way
is no evidence of an incident either; what a person is refused stays evidence, for people know
what they ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import numpy as np

from kubewitness.activity.table import MICROSECONDS, Ints
from kubewitness.incidents.misconfiguration.refusals import find_series, joined
from kubewitness.incidents.misconfiguration.standing import standings
from kubewitness.incidents.misconfiguration.telling import tell
from kubewitness.incidents.model import Misconfiguration

# What is told at most; those that ask most often come first.
LISTED = 50


@dataclass(frozen=True, slots=True)
class Findings:
    """``excused``: rows of the table ``activity`` that are explained by something broken, and so
    are no evidence against the program that made them."""

    misconfigurations: tuple[Misconfiguration, ...]
    excused: Ints


def find_misconfigurations(
    connection: duckdb.DuckDBPyConnection, cluster: str, begin: int
) -> Findings:
    """From the table ``activity`` (``activity.table.load``); what goes on at or after ``begin``
    (µs) is told: what is not mended first, and of that what asks most often."""
    series = find_series(connection)
    rows = [
        row for one in series if one.whose != "human" for thing in one.things for row in thing.rows
    ]
    since = datetime.fromtimestamp(begin / MICROSECONDS, UTC).replace(tzinfo=None)
    current = [one for one in joined(series) if one.last >= since]
    known = standings(current, connection)
    told = [tell(one, standing, cluster) for one, standing in zip(current, known, strict=True)]
    told.sort(key=lambda one: (one.mended is not None, -one.n, one.first))
    return Findings(tuple(told[:LISTED]), np.array(sorted(rows), dtype=np.int64))
