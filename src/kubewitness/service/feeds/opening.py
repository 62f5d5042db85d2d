"""The feeds that the settings of a cluster ask for."""

from __future__ import annotations

import sys

from kubewitness.config.settings import Cluster
from kubewitness.service.feeds.feed import Feed, Intake, Positions, Spool
from kubewitness.service.feeds.follow import FollowFeed
from kubewitness.service.feeds.standard_input import StandardInputFeed
from kubewitness.sources.files import STDIN


def feeds(cluster: Cluster, intake: Intake, spool: Spool, positions: Positions) -> list[Feed]:
    """All of them but the webhook, not running yet; ``-`` to follow is standard input.

    Raises ``SourceError`` where what one of them needs is not installed.
    """
    found: list[Feed] = []
    name = cluster.name
    for path in cluster.follow:
        if str(path) == STDIN:
            stdin = sys.stdin.fileno()
            found.append(StandardInputFeed(name, stdin, intake, spool, positions))
        else:
            found.append(FollowFeed(name, path, intake, spool, positions))
    for bucket in cluster.buckets:
        from kubewitness.service.feeds.bucket import BucketFeed

        found.append(BucketFeed(name, bucket, intake, spool, positions))
    for topic in cluster.kafka:
        from kubewitness.service.feeds.kafka import KafkaFeed

        found.append(KafkaFeed(name, topic, intake, spool, positions))
    return found
