"""Checks of how logs arrive: nobody but an API server may write the log of its cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kubewitness.config import material
from kubewitness.config.inquiry import doubtful, loopback, repeated, token_doubts, url_of
from kubewitness.config.origin import Origins
from kubewitness.config.problem import Problem
from kubewitness.config.settings import Cluster, Listen, Settings, audit_path

_PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
_BUCKETS = ("s3", "gs", "az", "file")


def encryption(settings: Settings, origins: Origins) -> Iterator[Problem]:
    """Nobody on the way reads a log, or the token that lets one write it."""
    listen = settings.listen
    if listen is None or listen.tls is not None:
        return
    if not loopback(listen.address) and not listen.plaintext:
        yield Problem(
            origins.of("listen.address"),
            "listen.tls",
            f"is missing, though everybody on the network reaches {listen.address}",
            "give certificate and key, or say plaintext: true where something in front of it has"
            " TLS",
        )
    for n, cluster in enumerate(settings.clusters):
        if cluster.token_file and not listen.plaintext:
            yield Problem(
                origins.of(f"clusters[{n}].token_file"),
                f"clusters[{n}].token_file",
                "an API server sends its token over https only, and listen.tls is missing",
                "give listen.tls, or say listen.plaintext: true where something in front of it has"
                " TLS",
                warning=True,
            )


def certificates(settings: Settings, origins: Origins) -> Iterator[Problem]:
    """Certificate, key and CA are there, and fit."""
    if settings.listen is None or settings.listen.tls is None:
        return
    tls = settings.listen.tls

    def pair(path: Path) -> Iterator[material.Doubt]:
        yield from material.certificate(path, tls.key)
        yield from material.exposed(tls.key)

    yield from doubtful(origins, "listen.tls.certificate", tls.certificate, pair)
    if tls.client_ca is not None:
        yield from doubtful(origins, "listen.tls.client_ca", tls.client_ca, material.authority)


def clusters(settings: Settings, origins: Origins) -> Iterator[Problem]:
    """Each cluster has a way in, of its own, and none that is open to everybody."""
    if not settings.clusters:
        yield Problem(
            origins.of("clusters"),
            "clusters",
            "there is none, so nothing will arrive",
            "name at least one, with how its log arrives",
        )
    for n, cluster in enumerate(settings.clusters):
        key = f"clusters[{n}]"
        fed = bool(cluster.follow or cluster.buckets or cluster.kafka)
        if cluster.path and not _PATH.fullmatch(cluster.path):
            yield Problem(
                origins.of(f"{key}.path"),
                f"{key}.path",
                f"{cluster.path[:60]!r} is no path of a URL",
                "write /audit/NAME, without query or special characters",
            )
        if settings.listen is None:
            yield from _unfed(cluster, origins, key, fed)
        else:
            yield from _credentials(cluster, settings.listen, origins, key, fed)
    paths = {f"clusters[{n}].path": audit_path(one) for n, one in enumerate(settings.clusters)}
    yield from repeated(origins, paths)


def _unfed(cluster: Cluster, origins: Origins, key: str, fed: bool) -> Iterator[Problem]:
    if not fed:
        yield Problem(
            origins.of(key),
            key,
            "nothing arrives from it, as listen is off",
            "give follow, buckets or kafka, or let listen be",
        )
    for name in ("token_file", "client"):
        if getattr(cluster, name):
            yield Problem(
                origins.of(f"{key}.{name}"),
                f"{key}.{name}",
                "is of no use, as listen is off",
                "leave it away",
            )


def _credentials(
    cluster: Cluster, listen: Listen, origins: Origins, key: str, fed: bool
) -> Iterator[Problem]:
    if cluster.client and (listen.tls is None or listen.tls.client_ca is None):
        yield Problem(
            origins.of(f"{key}.client"),
            f"{key}.client",
            "needs listen.tls.client_ca, which signed its certificate",
            "give listen.tls.client_ca, or token_file instead",
        )
    if not (cluster.client or cluster.token_file or fed or loopback(listen.address)):
        yield Problem(
            origins.of(key),
            key,
            f"has neither token_file nor client, so anybody who reaches {listen.address} could"
            " write its log",
            "'kubewitness init webhook --generate' makes a token and the API server's kubeconfig",
        )
    if cluster.token_file:
        yield from doubtful(origins, f"{key}.token_file", cluster.token_file, token_doubts)


def feeds(settings: Settings, origins: Origins) -> Iterator[Problem]:
    """What is read is told apart, and is what can be read."""
    places: dict[str, str] = {}
    for n, cluster in enumerate(settings.clusters):
        for m, bucket in enumerate(cluster.buckets):
            key = f"clusters[{n}].buckets[{m}].url"
            parts = url_of(bucket.url)
            if parts.scheme not in _BUCKETS or not (parts.netloc or parts.path.strip("/")):
                yield Problem(
                    origins.of(key),
                    key,
                    f"{bucket.url[:60]!r} is no place of objects",
                    f"write {', '.join(f'{scheme}://' for scheme in _BUCKETS)} and what follows",
                )
            places[key] = bucket.url
        for m, path in enumerate(cluster.follow):
            places[f"clusters[{n}].follow[{m}]"] = str(path)
        for m, topic in enumerate(cluster.kafka):
            places[f"clusters[{n}].kafka[{m}].topic"] = f"{topic.topic} of {topic.brokers}"
    yield from repeated(origins, places)
