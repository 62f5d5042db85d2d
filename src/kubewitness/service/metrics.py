"""What the service counts of itself, for Prometheus; docs/serve.md says what each is good for.

In a registry of its own, so that nothing else that is loaded shows up there. A label never names a
user, a namespace or anything else that a log says: its values are listed here, or come from the
configuration. Whatever else is given becomes ``other``, as a series that a sender can multiply
would fill the memory of everything that scrapes it.
"""

from __future__ import annotations

import platform
from typing import Any

import duckdb
import prometheus_client
from prometheus_client import CollectorRegistry, GCCollector, Info, ProcessCollector
from prometheus_client.metrics import disable_created_metrics

from kubewitness import __version__
from kubewitness.incidents.model import SEVERITIES

KNOWN: dict[str, tuple[str, ...]] = {
    "source": ("webhook", "file", "bucket", "kafka", "stdin"),
    "reason": ("broken", "foreign", "oversize"),
    "severity": SEVERITIES,
    "code": ("200", "401", "403", "404", "405", "408", "411", "415", "429", "503"),
    "status": ("delivered", "failed", "given_up"),
    "kind": (
        *("silence", "hole", "api-server", "heartbeat", "level", "request", "stage"),
        *("clock", "late", "backlog"),
    ),
}
"""The values of labels that are no names from the configuration."""

CONFIGURED = ("cluster", "sink")
MOST = 200
"""Different values of a configured label that are told apart."""
OTHER = "other"

REGISTRY = CollectorRegistry()

# When a counter was made is no news: the process has its start time.
disable_created_metrics()  # type: ignore[no-untyped-call]


class _Bounded:
    """A labelled metric whose label values are bounded, whatever the caller says."""

    _labelnames: tuple[str, ...]

    def labels(self, *values: object, **named: object) -> Any:
        """The child with these label values; of an unlisted one, that of ``other``."""
        if values:
            named = dict(zip(self._labelnames, values, strict=True))
        inherited: Any = super()
        return inherited.labels(**{name: self._bounded(name, str(v)) for name, v in named.items()})

    def _bounded(self, name: str, value: str) -> str:
        if name in KNOWN:
            return value if value in KNOWN[name] else OTHER
        seen = _seen.setdefault(name, set())
        if value not in seen and len(seen) >= MOST:
            return OTHER
        seen.add(value)
        return value


_seen: dict[str, set[str]] = {}


class Counter(_Bounded, prometheus_client.Counter):
    pass


class Gauge(_Bounded, prometheus_client.Gauge):
    pass


class Histogram(_Bounded, prometheus_client.Histogram):
    pass


def _counter(name: str, what: str, *labels: str) -> Counter:
    return Counter(f"kubewitness_{name}", what, labels, registry=REGISTRY)


def _gauge(name: str, what: str, *labels: str) -> Gauge:
    return Gauge(f"kubewitness_{name}", what, labels, registry=REGISTRY)


def _histogram(name: str, what: str, *buckets: float) -> Histogram:
    return Histogram(f"kubewitness_{name}", what, buckets=buckets, registry=REGISTRY)


_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

BUILD = Info("kubewitness_build", "Versions of what runs.", registry=REGISTRY)
BUILD.info(
    {
        "version": __version__,
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
    }
)

# What comes in.
EVENTS_INGESTED = _counter("events_ingested", "Events taken in.", "source")
EVENTS_REJECTED = _counter("events_rejected", "Lines that were no audit events.", "reason")
EVENTS_DUPLICATE = _counter("events_duplicate", "Events that were there already.")
EVENTS_LATE = _counter("events_late", "Events of a time that was closed already.")
QUARANTINE_LINES = _counter("quarantine_lines", "Lines kept in the quarantine.")
RECEIVER_REQUEST_DURATION = _histogram(
    "receiver_request_duration_seconds", "From a request's head to its answer.", *_SECONDS
)
RECEIVER_REQUESTS = _counter("receiver_requests", "Requests answered.", "code")
FEED_ERRORS = _counter("feed_errors", "Feeds that could not be read for now.", "source")
INGEST_LAG = _gauge("ingest_lag_seconds", "Age of the newest event when it was stored.")
CLOCK_SKEW = _gauge(
    "clock_skew_seconds",
    "How far a cluster's clock is ahead of ours.",
    "cluster",
)
LAST_EVENT = _gauge("last_event_timestamp_seconds", "When an event last arrived.", "cluster")

# What waits and how fast it goes.
SPOOL_BACKLOG = _gauge("spool_backlog_bytes", "Accepted and not yet in the lake.")
SPOOL_OLDEST = _gauge("spool_oldest_seconds", "How long the oldest of it waits.")
SPOOL_DAMAGED = _counter("spool_damaged_bytes", "Bytes of the spool that could not be read.")
CHUNK_DURATION = _histogram(
    "chunk_duration_seconds", "From reading a chunk to its end in the lake.", *_SECONDS
)
INCIDENT_LATENCY = _histogram(
    "incident_latency_seconds", "From an event accepted to its incident handed out.", *_SECONDS
)
JUDGEMENT_DURATION = _histogram(
    "judgement_duration_seconds", "One judgement of all that is new.", *_SECONDS, 60.0, 120.0, 300.0
)
JUDGEMENT_LAST = _gauge(
    "judgement_last_success_timestamp_seconds", "When the last judgement came to its end."
)
LOOP_LAG = _gauge("event_loop_lag_seconds", "How late the event loop last came to its turn.")

# What is held and what goes out.
LAKE_PARTS = _gauge("lake_parts", "Event files of the lake.")
INCIDENTS_OPEN = _gauge("incidents_open", "Incidents that are not over.", "severity")
SINK_DELIVERIES = _counter("sink_deliveries", "Deliveries by how they ended.", "sink", "status")
SINK_WAITING = _gauge("sink_waiting", "Deliveries in the outbox.", "sink")
GAPS_OPEN = _gauge("gaps_open", "What the log does not show now and used to.", "kind")
GAPS = _counter("gaps", "Gaps that were told.", "kind")

ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)
