"""Follow one event of the example log from its line to its incident.

    python bench/walk.py

Runs the pipeline step by step and rewrites the blocks between ``<!-- walk:NAME -->`` and
``<!-- /walk -->`` in docs/architecture.md. ``tests/test_docs.py`` fails while they differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from kubewitness.activity.rollup import ACTIVITY_COLUMNS, rollup, slot_width
from kubewitness.activity.table import load, texts
from kubewitness.incidents.detection import detect, plan
from kubewitness.incidents.ledger import ASPECTS, enter
from kubewitness.incidents.linking import link
from kubewitness.inquiry import opened
from kubewitness.surprise.scoring import find

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "examples" / "audit.jsonl.zst"
PAGE = ROOT / "docs" / "architecture.md"
# A stolen service account token lists the secrets of a namespace that is not its own.
USER, VERB, RESOURCE, PLACE, PEER = (
    "system:serviceaccount:velero:velero",
    "list",
    "secrets",
    "payments-prod",
    "198.51.100.140",
)


def walk() -> dict[str, str]:
    """The blocks by their names, in Markdown."""
    line = _line()
    event = json.loads(line)
    with opened([LOG], cluster="demo") as (_, connection, _intake):
        last = connection.execute("SELECT max(stage_at) FROM events").fetchone()
        first = connection.execute("SELECT min(stage_at) FROM events").fetchone()
        assert first is not None
        assert last is not None
        columns = _row(connection, "events", "audit_id", event["auditID"])
        rollup(connection, width=slot_width(first[0], last[0]))
        activity = _row(connection, "activities", "audit_ids", event["auditID"])
        since = last[0].replace(tzinfo=UTC) - timedelta(minutes=30)
        return {
            "line": f"```json\n{json.dumps(event, indent=1)}\n```",
            "event": _table(("column", "value"), [(k, v) for k, v in columns.items() if v]),
            "activity": _table(
                ("column", "value"),
                [(k, activity[k]) for k in ACTIVITY_COLUMNS if activity[k] not in ("", [], [""])],
            ),
            **_judged(connection, event["auditID"], since),
        }


def _judged(connection: Any, audit_id: str, begin: datetime) -> dict[str, str]:
    table = load(connection, "demo")
    start, horizon, reference, _ = plan(table, begin)
    findings = find(table, horizon, reference)
    samples = texts(connection, np.arange(len(table)), ("audit_ids",))["audit_ids"]
    row = next(number for number, ids in enumerate(samples) if audit_id in ids)
    surprises = [
        (
            finding.factor.name,
            finding.factor.question,
            f"{finding.seen[at]} of {finding.active[at]}",
            f"{finding.peers[at]} of {finding.members[at]}",
            f"{finding.chance[at]:.2g}",
            f"{finding.weight[at]:.2f}",
        )
        for finding in findings
        for at in np.flatnonzero(finding.rows == row)
    ]
    ledger = enter(table, findings, horizon, connection)
    line = int(np.flatnonzero(ledger.rows == row)[0])
    told = [
        (aspect, findings[int(ledger.finding[aspect][line])].factor.name,
         f"{ledger.weight[aspect][line]:.2f}")
        for aspect in ASPECTS
        if ledger.weight[aspect][line] > 0
    ]  # fmt: skip
    group = next(lines for lines in link(ledger, start) if line in lines)
    who = sorted({ledger.texts["principal"][at] for at in group})
    incidents = detect(connection, "demo", since=begin).incidents
    incident = next(one for one in incidents if audit_id in (*one.evidence, *one.events))
    rank = incidents.index(incident) + 1
    facts = (
        ("lines of evidence linked", len(group)),
        ("identities", ", ".join(who)),
        ("score, rank", f"{incident.score:.1f}, {rank} of {len(incidents)}"),
        ("severity, alert", f"{incident.severity}, {str(incident.alert).lower()}"),
        ("title", incident.title),
        ("summary", incident.summary),
        ("tactics", ", ".join(incident.tactics)),
    )
    heads = ("factor", "question", "own past", "peers", "p", "evidence")
    return {
        "surprise": _table(heads, surprises),
        "ledger": _table(("aspect", "strongest factor", "weighed evidence"), told),
        "incident": _table(("", ""), facts),
    }


def rewritten(page: str, blocks: dict[str, str]) -> str:
    """``page`` with these blocks between their marks."""
    for name, block in blocks.items():
        page, n = re.subn(
            rf"(<!-- walk:{name} -->\n).*?(\n<!-- /walk -->)",
            lambda found, block=block: f"{found[1]}{block}{found[2]}",  # type: ignore[misc]
            page,
            flags=re.DOTALL,
        )
        assert n == 1, f"docs/architecture.md has {n} places for {name}"
    return page


def _line() -> str:
    with zstandard.open(LOG, "rt", encoding="utf-8") as log:
        lines: Iterator[str] = iter(log)
        for line in lines:
            if USER not in line or PEER not in line:
                continue
            event = json.loads(line)
            place = event.get("objectRef", {})
            if (event["verb"], place.get("resource"), place.get("namespace")) == (
                VERB,
                RESOURCE,
                PLACE,
            ):
                return line
    raise LookupError("the example log does not hold the event")


def _row(connection: Any, table: str, column: str, audit_id: str) -> dict[str, Any]:
    condition = f"list_contains({column}, ?)" if column == "audit_ids" else f"{column} = ?"
    found = connection.execute(f"SELECT * FROM {table} WHERE {condition}", [audit_id])
    names = [description[0] for description in found.description]
    return dict(zip(names, found.fetchone(), strict=True))


def _table(heads: tuple[str, ...], rows: Any) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace(str(ROOT) + "/", "").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), walk()), encoding="utf-8")
