"""How many labelled misconfigurations are told as such, and what else is told.

    python bench/misconfigurations.py DIR...

Prints a row of the table in docs/evaluation.md for each labelled dataset, judged in retrospect.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from kubewitness.activity.table import load, texts
from kubewitness.evaluate.dataset import Trial, read_dataset, trial
from kubewitness.incidents.misconfiguration import find_misconfigurations


def main(folders: list[str]) -> None:
    """A finding shows the episodes whose requests are among its own."""
    if not folders:
        sys.exit(__doc__)
    print("| dataset | found | findings | misconf., attack, benign, unlabelled | attack put down |")
    for folder in folders:
        with trial(read_dataset(Path(folder))) as ready:
            print(_row(ready), flush=True)


def _row(ready: Trial) -> str:
    owner = {i: one for one in ready.episodes for i in (*one.related_ids, *one.audit_ids)}
    wanted = {one.episode_id for one in ready.episodes if one.label == "misconfiguration"}
    load(ready.connection, ready.name)
    found = find_misconfigurations(ready.connection, ready.name, 0)
    shown: set[str] = set()
    kinds: Counter[str] = Counter()
    for finding in found.misconfigurations:
        owners = [owner[audit_id] for audit_id in finding.audit_ids if audit_id in owner]
        shown |= {one.episode_id for one in owners} & wanted
        labels = {one.label for one in owners} or {"unlabelled"}
        kinds[next(k for k in _KINDS if k in labels)] += 1
    excused = texts(ready.connection, found.excused, ("audit_ids",))["audit_ids"]
    hidden = sum(
        audit_id in owner and owner[audit_id].label == "attack"
        for audit_ids in excused
        for audit_id in audit_ids
    )
    told = ", ".join(str(kinds[kind]) for kind in _KINDS)
    return (
        f"| {ready.name} | {len(shown)} of {len(wanted)} | {len(found.misconfigurations)}"
        f" | {told} | {hidden} |"
    )


_KINDS = ("misconfiguration", "attack", "benign_change", "unlabelled")

if __name__ == "__main__":
    main(sys.argv[1:])
