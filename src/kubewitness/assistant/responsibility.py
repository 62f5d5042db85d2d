"""Questions for who did it, who could have, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import duckdb
from pydantic import Field

from kubewitness.assistant.parameters import (
    Cluster,
    Namespace,
    Reference,
    Rows,
    Start,
    Time,
    instant,
    point,
)
from kubewitness.assistant.portion import portion
from kubewitness.assistant.told import Told, refused, told
from kubewitness.assistant.witness import Witness
from kubewitness.forensics.causes.chain import cause_of
from kubewitness.forensics.causes.reach import reach_of
from kubewitness.forensics.causes.record import Record
from kubewitness.forensics.causes.subject import timeless
from kubewitness.forensics.rbac.access import access
from kubewitness.forensics.rbac.who import who
from kubewitness.forensics.target import last_event
from kubewitness.report.exports import plain


class Responsibility:
    """Tools: see the docstring of each."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def who(
        self,
        reference: Reference,
        namespace: Namespace | None = None,
        since: Time | None = None,
        until: Time | None = None,
        cluster: Cluster | None = None,
        rows: Rows = 30,
        start: Start = 0,
    ) -> Told:
        """Who touched an object (`touched`, the least usual first), whether that is usual, by which
        binding it was allowed, and who could have (`able`), as far as the log shows RBAC."""

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            since_when = point(since)
            return plain(who(connection, reference, namespace=namespace, since=since_when))

        return self._witness.told(asked, cluster, rows, start, until)

    def access(
        self,
        principal: Annotated[
            str,
            Field(
                max_length=1000,
                description="A username, or NAMESPACE/NAME of a service account.",
            ),
        ],
        at: Time | None = None,
        cluster: Cluster | None = None,
        rows: Rows = 30,
        start: Start = 0,
    ) -> Told:
        """What a principal is granted, what of it it used, which dangerous powers it has (those
        never used first), and the least role that covers what it used."""

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            return plain(access(connection, principal))

        return self._witness.told(asked, cluster, rows, start, at)

    def cause(
        self,
        subject: Annotated[
            str,
            Field(
                max_length=1000,
                description="KIND/NAME, the auditID of a request, or the ID of an incident.",
            ),
        ],
        namespace: Namespace | None = None,
        at: Time | None = None,
        cluster: Cluster | None = None,
        rows: Rows = 60,
        start: Start = 0,
    ) -> Told:
        """The causal chain back to who began it. Each link says whether it is certain or inferred,
        with a confidence and a because: say so when you tell of it."""
        incident = self._witness.incident(subject)
        if incident is not None and incident.cause is not None:
            with refused():
                timeless("an incident", at)
            return told(portion(plain(incident.cause), rows=rows, start=start))

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            record = Record(connection, cluster=cluster)
            until = instant(at, record.bounds[1]) if record.bounds else None
            return plain(cause_of(record, subject, namespace or "", until))

        return self._witness.told(asked, None, rows, start)

    def blast_radius(
        self,
        subject: Annotated[
            str,
            Field(
                max_length=1000,
                description="A principal, a credential id (JTI=…, X509SHA256=…), the auditID of a"
                " request, KIND/NAME, or the ID of an incident.",
            ),
        ],
        namespace: Namespace | None = None,
        since: Time | None = None,
        until: Time | None = None,
        cluster: Cluster | None = None,
        rows: Rows = 60,
        start: Start = 0,
    ) -> Told:
        """What a principal, credential, request or change touched, and what came of that."""
        incident = self._witness.incident(subject)
        if incident is not None and incident.reach is not None:
            with refused():
                timeless("an incident", since, until)
            return told(portion(plain(incident.reach), rows=rows, start=start))

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            record = Record(connection, cluster=cluster)
            last = record.bounds[1] if record.bounds else last_event(connection)
            begin, end = instant(since, last), instant(until, last)
            return plain(reach_of(record, subject, namespace or "", begin, end))

        return self._witness.told(asked, None, rows, start)
