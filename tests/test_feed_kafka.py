"""Kafka, spoken with librdkafka's own mock cluster: real consumers, a real producer, no Java."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from feeding import Positions, Spool, intake, running, until
from kubewitness.config.settings import Kafka
from kubewitness.errors import SourceError
from kubewitness.service.feeds.kafka import KafkaFeed

confluent_kafka = pytest.importorskip("confluent_kafka")

PARTITIONS = 4  # of every topic of a mock cluster

# A mock cluster does not hear that a consumer leaves: it waits until there is no sign of life.
QUICK = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "500"}


class Cluster:
    """A mock cluster, which lives in a producer; kept by whoever uses it."""

    def __init__(self) -> None:
        self.producer = confluent_kafka.Producer(
            {"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 2}
        )
        brokers = self.producer.list_topics(timeout=10).brokers.values()
        self.brokers = ",".join(f"{one.host}:{one.port}" for one in brokers)

    def send(self, topic: str, *values: bytes | None) -> None:
        for n, value in enumerate(values):
            self.producer.produce(topic, value, partition=n % PARTITIONS)
        assert self.producer.flush(10) == 0

    def committed(self, topic: str) -> int:
        """Messages that the group will not be given again."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": topic})
        partitions = [confluent_kafka.TopicPartition(topic, n) for n in range(PARTITIONS)]
        offsets = [one.offset for one in consumer.committed(partitions, timeout=10)]
        consumer.close()
        return sum(offset for offset in offsets if offset > 0)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def topic() -> str:
    return f"audit-{time.time_ns()}"


def numbered(n: int, first: int = 0) -> list[bytes]:
    return [b'{"number":%d}' % k for k in range(first, first + n)]


def feed(cluster: Cluster, topic: str, spool: Spool, **options: str) -> KafkaFeed:
    settings = Kafka(
        brokers=cluster.brokers, topic=topic, group=topic, options={**QUICK, **options}
    )
    return KafkaFeed("here", settings, intake, spool, Positions())


def test_messages_arrive_and_are_not_read_again(cluster: Cluster, topic: str) -> None:
    spool, messages = Spool(), numbered(100)
    cluster.send(topic, *messages)

    async def first() -> None:
        await until(lambda: len(spool.lines) >= 100)
        await until(lambda: cluster.committed(topic) == 100)

    asyncio.run(running(feed(cluster, topic, spool).run(), first()))
    assert sorted(spool.lines) == sorted(messages)
    assert {batch.source for batch in spool.batches} == {f"kafka:{topic}/{n}" for n in range(4)}
    more = numbered(10, 100)
    cluster.send(topic, *more)
    asyncio.run(running(feed(cluster, topic, spool).run(), until(lambda: len(spool.lines) >= 110)))
    assert sorted(spool.lines) == sorted([*messages, *more])


def test_nothing_is_committed_that_is_not_durable(cluster: Cluster, topic: str) -> None:
    spool, messages = Spool(full=True), numbered(20)
    cluster.send(topic, *messages)
    kafka = feed(cluster, topic, spool)

    async def then() -> None:
        await until(lambda: spool.refused > 0)
        await asyncio.sleep(3)  # long enough to have paused
        assert cluster.committed(topic) == 0
        cluster.send(topic, *numbered(20, 20))
        spool.full = False
        await until(lambda: len(spool.lines) >= 40)
        await until(lambda: cluster.committed(topic) == 40)
        await until(lambda: kafka.behind == 0)

    asyncio.run(running(kafka.run(), then()))
    assert sorted(spool.lines) == sorted(numbered(40))


def test_a_consumer_that_stops_while_the_spool_is_full_has_read_nothing(
    cluster: Cluster, topic: str
) -> None:
    spool, messages = Spool(full=True), numbered(20)
    cluster.send(topic, *messages)
    asyncio.run(running(feed(cluster, topic, spool).run(), until(lambda: spool.refused > 0)))
    spool.full = False
    asyncio.run(running(feed(cluster, topic, spool).run(), until(lambda: len(spool.lines) >= 20)))
    assert sorted(spool.lines) == sorted(messages)


def test_partitions_move_between_consumers_without_loss(cluster: Cluster, topic: str) -> None:
    spool = Spool()
    sent: list[bytes] = []

    def send(n: int) -> None:
        messages = numbered(n, len(sent))
        cluster.send(topic, *messages)
        sent.extend(messages)

    async def stay() -> None:
        send(100)
        await until(lambda: len(set(spool.lines)) == len(sent))

        async def leave() -> None:
            end = time.monotonic() + 6
            while time.monotonic() < end:
                send(20)
                await asyncio.sleep(0.05)

        await running(feed(cluster, topic, spool).run(), leave())
        send(20)
        await until(lambda: set(sent) <= set(spool.lines))

    asyncio.run(running(feed(cluster, topic, spool).run(), stay()))
    assert set(spool.lines) == set(sent)


def test_what_is_broken_takes_nothing_with_it(cluster: Cluster, topic: str) -> None:
    spool = Spool()
    values = [
        *(b'{"number":1}', b'{"cut":', b"\xff\xfe", b"", None, b"["),
        *(b'{"pretty":\n1}', b'"text"', b'{"number":2}'),
    ]
    cluster.send(topic, *values)

    async def then() -> None:
        await until(lambda: len(spool.lines) >= 8)
        await until(lambda: cluster.committed(topic) == len(values))

    asyncio.run(running(feed(cluster, topic, spool).run(), then()))
    alone = {batch.source: batch.lines for batch in spool.batches if "@" in batch.source}
    assert alone == {
        f"kafka:{topic}/1@0": (b'{"cut":',),
        f"kafka:{topic}/2@0": (b"\xff\xfe",),
        f"kafka:{topic}/1@1": (b"[",),
    }


def test_large_messages_are_read(cluster: Cluster, topic: str) -> None:
    spool = Spool()
    large = b'{"pad":"' + b"x" * 900_000 + b'"}'
    cluster.send(topic, *[large] * 8)
    asyncio.run(running(feed(cluster, topic, spool).run(), until(lambda: len(spool.lines) == 8)))
    assert set(spool.lines) == {large}


_PROGRAM = """
import asyncio, sys
from pathlib import Path
from feeding import intake, Positions
from kubewitness.config.settings import Kafka
from kubewitness.service.feeds.kafka import KafkaFeed

brokers, topic, out = sys.argv[1:]

class Spool:
    async def append(self, batch, /):
        await asyncio.sleep(0.01)
        with open(out, "ab") as file:
            file.write(b"".join(line + b"\\n" for line in batch.lines))

options = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "500"}
settings = Kafka(brokers=brokers, topic=topic, group=topic, options=options)
asyncio.run(KafkaFeed("here", settings, intake, Spool(), Positions()).run())
"""


def test_nothing_is_lost_to_kill_9(cluster: Cluster, topic: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.touch()
    command = [sys.executable, "-c", _PROGRAM, cluster.brokers, topic, str(out)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    sent: list[bytes] = []

    def read() -> set[bytes]:
        return set(out.read_bytes().split(b"\n"))

    def send() -> None:
        messages = numbered(40, len(sent))
        cluster.send(topic, *messages)
        sent.extend(messages)

    for _ in range(2):
        before = len(read())
        with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}) as process:
            deadline = time.monotonic() + 30
            while len(read()) < before + 200 and time.monotonic() < deadline:
                send()
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        assert len(read()) >= before + 200
        send()
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}) as process:
        deadline = time.monotonic() + 30
        while not set(sent) <= read() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.kill()
    assert set(sent) <= read()


def test_messages_that_expired_are_counted_and_told(
    cluster: Cluster, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a mock cluster cannot do: delete the oldest messages of a partition."""

    real = confluent_kafka.Consumer({"bootstrap.servers": cluster.brokers, "group.id": topic})

    def oldest_and_newest(partition: Any, **rest: Any) -> tuple[int, int]:
        oldest, newest = real.get_watermark_offsets(partition, **rest)
        return (oldest + 7 if partition.partition == 2 else oldest), newest

    expired: Any = SimpleNamespace(
        committed=real.committed, get_watermark_offsets=oldest_and_newest
    )
    kafka = feed(cluster, topic, Spool())
    cluster.send(topic, *numbered(40))
    partitions = [confluent_kafka.TopicPartition(topic, n, 3) for n in range(PARTITIONS)]
    real.commit(offsets=partitions, asynchronous=False)
    kafka._on_assign(expired, partitions)
    kafka._inspect(expired)
    real.close()
    assert kafka.expired == 4
    assert "partition 2: 4 messages expired before they were read" in caplog.text


def test_brokers_that_are_not_there_are_waited_for(
    topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Cluster()
    brokers, spool = gone.brokers, Spool()
    del gone
    settings = Kafka(brokers=brokers, topic=topic)
    kafka = KafkaFeed("here", settings, intake, spool, Positions())

    async def then() -> None:
        await until(lambda: "refused" in caplog.text)
        await asyncio.sleep(1)

    begun = time.monotonic()
    asyncio.run(running(kafka.run(), then()))
    assert time.monotonic() - begun < 15
    assert len(caplog.records) <= 3  # not every second


def test_an_unknown_option_is_named(
    cluster: Cluster, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = feed(cluster, topic, Spool(), **{"fetch.maximum": "1"})
    asyncio.run(running(kafka.run(), until(lambda: "fetch.maximum" in caplog.text)))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(SourceError, match="pip install 'kubewitness\\[kafka\\]'"):
        KafkaFeed("here", Kafka(brokers="b", topic="audit"), intake, Spool(), Positions())
