"""Questions about objects and workloads over time."""

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
)
from kubewitness.assistant.told import Told
from kubewitness.assistant.witness import Witness
from kubewitness.forensics.objects import condition as conditions
from kubewitness.forensics.objects import history as changes
from kubewitness.forensics.objects import inventory as workloads
from kubewitness.forensics.objects.state import difference, snapshot
from kubewitness.forensics.target import find, last_event
from kubewitness.report.exports import plain


class Objects:
    """Tools: see the docstring of each."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def history(
        self,
        reference: Reference,
        namespace: Namespace | None = None,
        since: Time | None = None,
        until: Time | None = None,
        cluster: Cluster | None = None,
        rows: Rows = 30,
        start: Start = 0,
    ) -> Told:
        """Every change of an object in order: who really, from where, with which program, allowed
        by which binding, and the fields that changed. Reads are left out: see `who`."""

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            last = last_event(connection)
            target = find(connection, reference, namespace=namespace, cluster=cluster)
            begin, end = instant(since, last), instant(until, last)
            return plain(changes.history(connection, target, since=begin, until=end))

        return self._witness.told(asked, cluster, rows, start)

    def state(
        self,
        reference: Reference,
        namespace: Namespace | None = None,
        at: Time | None = None,
        cluster: Cluster | None = None,
        rows: Rows = 50,
        start: Start = 0,
    ) -> Told:
        """An object as it was at a time (default: at the end of the log), as far as the audit level
        lets anybody know. `gaps` are the places that cannot be known: never guess them."""

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            last = last_event(connection)
            target = find(connection, reference, namespace=namespace, cluster=cluster)
            return plain(snapshot(connection, target, instant(at, last) or last))

        return self._witness.told(asked, cluster, rows, start)

    def diff(
        self,
        reference: Reference,
        begin: Time,
        end: Time | None = None,
        namespace: Namespace | None = None,
        cluster: Cluster | None = None,
        rows: Rows = 50,
        start: Start = 0,
    ) -> Told:
        """What changed about an object between two times, field by field."""

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            last = last_event(connection)
            target = find(connection, reference, namespace=namespace, cluster=cluster)
            earlier, later = instant(begin, last) or last, instant(end, last) or last
            return plain(difference(connection, target, earlier, later))

        return self._witness.told(asked, cluster, rows, start)

    def inventory(
        self,
        at: Time | None = None,
        where: Annotated[
            str,
            Field(max_length=2000, description="Only such workloads: image ~ postgres"),
        ] = "",
        namespace: Namespace | None = None,
        cluster: Cluster | None = None,
        rows: Rows = 30,
        start: Start = 0,
    ) -> Told:
        """Pods and workload controllers that ran at a time (default: at the end of the log), with
        images, service account, secrets, config maps and node. With `where` and no time: when
        which workload was like that.

        `where` is a filter like that of `query`, over kind, namespace, name, image, secret,
        configmap, serviceaccount, node and cluster.
        """

        def asked(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Any]:
            last = last_event(connection)
            condition = conditions.where(where)
            if where and at is None:
                return plain(
                    workloads.holdings(connection, condition, cluster=cluster, namespace=namespace)
                )
            return plain(
                workloads.inventory(
                    connection,
                    instant(at, last) or last,
                    condition=condition,
                    cluster=cluster,
                    namespace=namespace,
                )
            )

        return self._witness.told(asked, cluster, rows, start)
