"""The settings of the service, as they stand in its configuration file.

Field names are the keys of the file; ``docs/configuration.md`` tells of each. Times are seconds,
sizes are bytes; the file spells them "30d" and "64MiB" (``config.scalar``).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from kubewitness.incidents.model import Severity

_DAY = 86_400.0

# ``written`` is how a value stands in the file; ``config.scalar`` reads it.
Duration = Annotated[float, msgspec.Meta(gt=0, extra={"written": "duration"})]
"""Seconds, written "90s" or "30d"."""
Size = Annotated[int, msgspec.Meta(gt=0, extra={"written": "size"})]
"""Bytes, written "64MiB"."""
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535, extra={"written": "port"})]
"""0 is any port that is free."""
Count = Annotated[int, msgspec.Meta(gt=0)]
Secret = Annotated[str, msgspec.Meta(extra={"written": "secret"})]
"""Text that may hold a secret, which then comes from a file (``KEY_file`` instead of ``KEY``)."""


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``client_ca``: with it, whoever connects needs a certificate that it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where audit batches are received. Limits are of one request body, as it is sent and
    unpacked; ``body_timeout`` is the time it may take to arrive. ``plaintext`` says that an address
    which is not loopback does without ``tls`` on purpose, as something in front has it."""

    address: str = "127.0.0.1"
    port: Port = 8443
    tls: Tls | None = None
    plaintext: bool = False
    body_bytes: Size = 32 << 20
    unpacked_bytes: Size = 128 << 20
    body_timeout: Duration = 30.0
    connections: Count = 512


class Admin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where metrics, health and readiness are served, always without secrets."""

    address: str = "127.0.0.1"
    port: Port = 9443


class Bucket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prefix of an object store that is polled: ``url`` as s3://, gs://, az:// or file://;
    ``options`` are those of obstore (endpoint, region, …)."""

    url: str
    every: Duration = 30.0
    options: dict[str, Secret] = {}


class Kafka(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A topic; ``options`` are librdkafka's."""

    brokers: str
    topic: str
    group: str = "kubewitness"
    options: dict[str, Secret] = {}


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cluster and how its log arrives.

    ``path``: where its API server posts, /audit/NAME unless told otherwise. ``token_file`` holds
    its bearer token, ``client`` is the common name or a DNS name of its client certificate; a
    receiver that is not on loopback takes nothing from a cluster with neither.
    """

    name: str
    path: str = ""
    token_file: Path | None = None
    client: str = ""
    follow: tuple[Path, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    kafka: tuple[Kafka, ...] = ()


def audit_path(cluster: Cluster) -> str:
    """Where the API server of ``cluster`` posts its log."""
    return cluster.path or f"/audit/{cluster.name}"


class Detection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``learn``: how long a cluster without history is only watched; ``history``: how much of the
    past is judged by and held ready; ``every``: the least time between two judgements of all."""

    learn: Duration = _DAY
    history: Duration = 28 * _DAY
    every: Duration = 300.0


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long events and activity are kept; ``spool_bytes``: what may wait on disk to be stored
    before senders are asked to wait."""

    events: Duration = 30 * _DAY
    activity: Duration = 395 * _DAY
    spool_bytes: Size = 4 << 30


class Sink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where incidents are sent. ``url`` or ``path`` is the place, by ``type``; ``url_file`` holds
    a URL that is itself a secret.

    ``secret_file`` signs a webhook, ``token_file`` is sent as a bearer token, ``template`` (Jinja,
    a file) makes a webhook's body; ``min_severity`` and ``alerts_only`` choose what is sent;
    ``per_minute`` is how many requests at most. ``headers`` are added to each request.
    """

    name: str
    type: Literal["falco", "alertmanager", "webhook", "slack", "ocsf", "file", "stdout"]
    url: str = ""
    url_file: Path | None = None
    path: Path | None = None
    format: Literal["json", "falco", "ocsf"] = "json"
    secret_file: Path | None = None
    token_file: Path | None = None
    template: Path | None = None
    headers: dict[str, Secret] = {}
    min_severity: Severity = "low"
    alerts_only: bool = True
    per_minute: Count = 60
    timeout: Duration = 10.0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. ``data`` is the folder of the lake, the spool and, unless ``state`` is the URL of
    a PostgreSQL database, the state."""

    data: Path
    state: Secret = ""
    listen: Listen | None = Listen()
    admin: Admin | None = Admin()
    clusters: tuple[Cluster, ...] = ()
    detection: Detection = Detection()
    retention: Retention = Retention()
    sinks: tuple[Sink, ...] = ()
    logs: Literal["text", "json"] = "text"


@cache
def shape() -> msgspec.inspect.Type:
    """The settings as types that can be walked along."""
    return msgspec.inspect.type_info(Settings)
