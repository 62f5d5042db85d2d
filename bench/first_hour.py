"""How quiet is the first hour of a cluster that nobody has seen before?

    python bench/first_hour.py CAPTURE...

Captures as for ``bench/fleet_prior.py``, at least two. Each is judged with the prior that the
*others* give, and with none: some hours of its benign history, each as if it were all there is,
and the hour around each attack where attacks are labelled. Rewrites the block between
``<!-- first-hour:begin -->`` and ``<!-- first-hour:end -->`` in docs/evaluation.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np

from fleet_prior import Logs, benign, count, events_of, logs, of_log, roll_up, span
from kubewitness.activity.component import component
from kubewitness.baseline.fleet import NOTHING, Capture, Deed, FleetPrior
from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.dataset import ATTACK, Episode
from kubewitness.evaluate.figures import markdown
from kubewitness.evaluate.judgement import credit
from kubewitness.evaluate.results import Grid
from kubewitness.incidents.detection import detect

PAGE = Path(__file__).resolve().parent.parent / "docs" / "evaluation.md"
BEGIN, END = "<!-- first-hour:begin -->", "<!-- first-hour:end -->"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Of each of the first days a quiet hour, the begin of work and the afternoon (UTC).
DAYS, HOURS = 4, (0, 9, 15)
# A log of less than a day: its first minutes and all of it.
MINUTES = (10, 30)
BEFORE_ATTACK, AFTER_ATTACK = timedelta(minutes=40), timedelta(minutes=20)
READ = 5


def windows(
    connection: duckdb.DuckDBPyConnection, capture: Logs
) -> Iterator[tuple[datetime, datetime, str]]:
    """The stretches of the benign history that are judged, from when until when of what."""
    first, until = benign(connection, capture)
    if until - first >= DAY:
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
        for begin in (midnight + day * DAY + hour * HOUR for day in range(DAYS) for hour in HOURS):
            if first < begin + HOUR <= until:
                yield begin, begin + HOUR, "everything"
        return
    for log in capture.files:
        if capture.labels is None or log != capture.labels.test_file:
            begin, last = span(connection, of_log(log))
            for minutes in MINUTES:
                if begin + timedelta(minutes=minutes) < last:
                    yield begin, begin + timedelta(minutes=minutes), of_log(log)
            yield begin, last + timedelta(seconds=1), of_log(log)


def machinery(connection: duckdb.DuckDBPyConnection, name: str, prior: FleetPrior) -> list[int]:
    """Incidents and alerts about stock components alone, then those about anybody else."""
    counted = np.zeros((2, 2), dtype=int)
    for incident in detect(connection, name, fleet=prior).incidents:
        stock = all(component(user).name for user in incident.principals)
        counted[int(not stock)] += (1, incident.alert)
    return [int(n) for n in counted.ravel()]


def attacks(capture: Logs, until: datetime) -> Iterator[tuple[datetime, datetime, list[Episode]]]:
    """The hour around each attack; where all that is judged is less than a day, all of it."""
    episodes = capture.labels.episodes if capture.labels is not None else ()
    labelled = [one for one in episodes if one.label == ATTACK and one.audit_ids]
    end = max((attack.end for attack in labelled), default=until)
    if end - until < DAY and labelled:
        yield until, end + HOUR, labelled
        return
    for attack in labelled:
        yield attack.start - BEFORE_ATTACK, attack.start + AFTER_ATTACK, [attack]


def found(
    connection: duckdb.DuckDBPyConnection,
    capture: Logs,
    wanted: Sequence[Episode],
    prior: FleetPrior,
) -> int:
    """How many attacks are among the best incidents: five, or as many as there are attacks."""
    best = detect(connection, capture.name, fleet=prior).incidents[: max(READ, len(wanted))]
    episodes = capture.labels.episodes if capture.labels is not None else ()
    credited = {one.attack for one in credit(best, episodes)}
    return sum(attack.episode_id in credited for attack in wanted)


def known(capture: Capture, prior: FleetPrior) -> str:
    """How many of the (component, action) that occur the prior knows at all."""
    here, elsewhere = (
        {(fact.component, fact.action) for fact in facts if isinstance(fact, Deed)}
        for facts in (capture, prior.facts)
    )
    return f"{len(here & elsewhere)} of {len(here)}"


def measure(
    connection: duckdb.DuckDBPyConnection, capture: Logs, counted: Capture, prior: FleetPrior
) -> tuple[str, ...]:
    """A row of the table."""
    quiet = list(windows(connection, capture))
    counts = np.zeros((2, 4), dtype=int)
    for stretch in quiet:
        roll_up(connection, *stretch)
        counts += [machinery(connection, capture.name, fleet) for fleet in (NOTHING, prior)]
    hits, owed = np.zeros(2, dtype=int), 0
    for since, until, wanted in attacks(capture, benign(connection, capture)[1]):
        roll_up(connection, since, until)
        owed += len(wanted)
        hits += [found(connection, capture, wanted, fleet) for fleet in (NOTHING, prior)]
    return (
        capture.name,
        known(counted, prior),
        str(len(quiet)),
        *(f"{incidents} ({alerts})" for incidents, alerts in counts[:, :2]),
        *(f"{incidents} ({alerts})" for incidents, alerts in counts[:, 2:]),
        *(f"{n} of {owed}" if owed else "–" for n in hits),
    )


def write(rows: Sequence[tuple[str, ...]]) -> None:
    """Put the table into the page."""
    header = (
        "capture",
        "actions known",
        "stretches",
        "machinery, no prior",
        "machinery, prior",
        "others, no prior",
        "others, prior",
        "attacks found, no prior",
        "attacks found, prior",
    )
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise KubewitnessError("the marks of the first hour are no pair", where=str(PAGE))
    today = datetime.now(UTC).date().isoformat()
    table = markdown(Grid("", header, tuple(rows)))
    block = f"Measured on {today} by `bench/first_hour.py`.\n\n{table}"
    PAGE.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}", encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Count everything first, then judge each capture by what the others show."""
    if len(arguments) < 2:
        sys.exit(__doc__)
    captures = [logs(argument) for argument in arguments]
    with ExitStack() as stack:
        connections = [stack.enter_context(events_of(capture)) for capture in captures]
        counted = [count(*each) for each in zip(connections, captures, strict=True)]
        rows = []
        for place, (connection, capture) in enumerate(zip(connections, captures, strict=True)):
            prior = FleetPrior.count(counted[:place] + counted[place + 1 :])
            rows.append(measure(connection, capture, counted[place], prior))
            print(*rows[-1], sep=" | ", flush=True)
    write(rows)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KubewitnessError as error:
        sys.exit(f"first_hour: {error}")
