"""Questions for single events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import duckdb
from pydantic import Field

from kubewitness.assistant.parameters import Cluster, Expression, Rows, Start, Time, point
from kubewitness.assistant.told import Told
from kubewitness.assistant.witness import Witness
from kubewitness.errors import KubewitnessError
from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.forensics import search
from kubewitness.query.expression import narrowed, same
from kubewitness.query.fields import SORTABLE
from kubewitness.query.grammar import parse
from kubewitness.report.exports import plain

_NOTHING: tuple[object, ...] = (None, "", [], {})


class Events:
    """Tools: see the docstring of each."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def query(
        self,
        expression: Expression,
        show: Literal["events", "facets", "histogram"] = "events",
        since: Time | None = None,
        until: Time | None = None,
        sort_by: Annotated[str, Field(max_length=100)] = "",
        bodies: Annotated[
            bool, Field(description="With request and response bodies; best with few rows.")
        ] = False,
        cluster: Cluster | None = None,
        rows: Rows = 20,
        start: Start = 0,
    ) -> Told:
        """Find audit events by a filter; the newest come first. Or count the commonest values
        (facets), or the events over time (histogram), which is a good first question.

        The filter: `verb in (get, list) and resource = secrets and code >= 400`. Operators: = != <
        <= > >= ~ (regular expression) !~ in, not in, like (with *), exists, not exists; and, or,
        not, parentheses. Values with blanks or commas need quotes. Fields: {fields}.
        """

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            wanted = narrowed(parse(expression), since=point(since), until=point(until))
            if show == "facets":
                return {"facets": [plain(one) for one in search.facets(connection, wanted)]}
            if show == "histogram":
                return plain(search.histogram(connection, wanted))
            if sort_by and sort_by not in SORTABLE:
                known = ", ".join(SORTABLE)
                raise KubewitnessError(
                    f"events cannot be sorted by {sort_by!r}", remedy=f"by one of {known}"
                )
            found = search.search(
                connection,
                wanted,
                limit=start + rows,
                sort_by=sort_by,
                columns=tuple(EVENT_COLUMNS) if bodies else search.COLUMNS,
            )
            return {"events": [_said(event) for event in found.events], "more": found.more}

        # As many buckets and values as there are belong together.
        few = show == "events"
        return self._witness.told(asked, cluster, rows if few else 500, start if few else 0)

    def around(
        self,
        audit_id: Annotated[str, Field(max_length=300, description="The auditID of an event.")],
        expression: Expression = "",
        within: Annotated[str, Field(max_length=40, description="A duration: 5m, 2h.")] = "5m",
        cluster: Cluster | None = None,
        rows: Rows = 40,
    ) -> Told:
        """What the principals and the object of one event did and met around it, in the order of
        time. `relation` says how an event belongs to it: match is the event itself."""

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            span = point(within)
            if span is None or span.before is None:
                raise KubewitnessError(f"{within!r} is no duration", remedy="write one like 5m")
            centre = search.search(connection, same("audit_id", audit_id))
            if not centre.events:
                raise KubewitnessError(f"there is no event with the auditID {audit_id!r}")
            near = search.around(
                connection,
                centre.events,
                within=span.before,
                limit=rows,
                among=parse(expression),
            )
            found = [{"relation": one.relation, **_said(one.event)} for one in near.neighbours]
            return {"events": found, "more": near.more}

        return self._witness.told(asked, cluster, rows + 1)


def _said(event: search.Event) -> dict[str, Any]:
    """An event without what it does not say."""
    return {name: value for name, value in plain(event).items() if value not in _NOTHING}
