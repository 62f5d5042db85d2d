"""Questions for what the last analysis of the lake found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from pydantic import Field

from kubewitness.assistant.parameters import Rows, Start
from kubewitness.assistant.portion import portion
from kubewitness.assistant.told import Told, refused, told
from kubewitness.assistant.witness import Witness
from kubewitness.incidents.model import SEVERITIES, Severity
from kubewitness.report import kept
from kubewitness.report.exports import plain
from kubewitness.report.headline import ranked

_HEADLINE = (
    *("id", "severity", "alert", "score", "opened_at", "updated_at", "title", "principals"),
    *("source_ips", "tactics"),
)
_BROKEN = ("id", "title", "principal", "failure", "n", "first", "last", "mended", "fix")


class Findings:
    """Tools: see the docstring of each."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def incidents(
        self,
        severity: Annotated[Severity | None, Field(description="At least that severe.")] = None,
        alerts: Annotated[
            bool, Field(description="Only what was worth an alert, without the queue below it.")
        ] = False,
        rows: Rows = 20,
        start: Start = 0,
    ) -> Told:
        """Incidents of the last analysis of this lake, ranked, and what is misconfigured, in short.
        `incident` tells one in full."""
        with refused():
            known = self._witness.analysis()
            found = known.incidents if alerts else ranked(known)
            least = SEVERITIES.index(severity) if severity else 0
            answer = {
                "cluster": known.cluster,
                "mode": known.mode,
                "start": known.summary.start,
                "end": known.summary.end,
                "incidents": [
                    _short(one, _HEADLINE)
                    for one in found
                    if SEVERITIES.index(one.severity) >= least
                ],
                "misconfigurations": [_short(one, _BROKEN) for one in known.misconfigurations],
                "notes": known.notes,
            }
            return told(portion(plain(answer), rows=rows, start=start))

    def incident(
        self,
        identity: Annotated[
            str, Field(max_length=300, description="Its ID, or the beginning of it.")
        ],
        rows: Rows = 30,
        start: Start = 0,
    ) -> Told:
        """One incident of the last analysis in full: the story, the reasons (observed against
        usual), the timeline, cause, blast radius, what would have prevented it, next steps."""
        with refused():
            found = kept.named(self._witness.analysis(), identity, self._witness.kept)
            return told(portion(plain(found), rows=rows, start=start))

    def summary(self, rows: Rows = 20, start: Start = 0) -> Told:
        """Trends and statistics of the last analysis of this lake: volume, denied requests,
        sensitive access, newcomers, and coverage: what this log cannot show."""
        with refused():
            return told(portion(plain(self._witness.analysis().summary), rows=rows, start=start))


def _short(struct: msgspec.Struct, fields: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in fields}
