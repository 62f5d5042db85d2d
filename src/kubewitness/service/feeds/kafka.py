"""Consumes a Kafka topic. An offset is committed once what lies before it is durable, so a consumer
that dies or loses its partitions leaves the rest to the next, which may read a little again.

Needs the extra ``kafka`` (confluent-kafka), which is loaded when a topic is configured. Whatever
librdkafka offers (TLS, SASL, a choice of fetch sizes) is an option of the settings.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from kubewitness.config.settings import Kafka
from kubewitness.errors import SourceError
from kubewitness.events.formats.decoding import UndecodableError, decode
from kubewitness.events.formats.plain import is_plain
from kubewitness.report.inert import plain
from kubewitness.service import metrics
from kubewitness.service.feeds.feed import Inlet, Intake, Positions, Spool, delays, in_thread
from kubewitness.service.feeds.lines import BODY

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

logger = logging.getLogger(__name__)

_WAIT = 0.5
_GATHER = 0.05
_MOST = 5000
_PATIENCE = 2.0
_REPEAT = 60.0
_UNKNOWN = -1


class Partition(NamedTuple):
    topic: str
    number: int


class KafkaFeed:
    """Consumes ``settings.topic`` for a cluster. Its positions are the group's offsets, in Kafka.

    Raises ``SourceError`` where confluent-kafka is not installed.
    """

    def __init__(
        self, cluster: str, settings: Kafka, intake: Intake, spool: Spool, positions: Positions
    ) -> None:
        try:
            self._kafka: Any = import_module("confluent_kafka")
        except ImportError as error:
            raise SourceError(
                "needs confluent-kafka, which is not installed",
                where=f"Kafka topic {settings.topic}",
                remedy="pip install 'kubewitness[kafka]'",
            ) from error
        self.name = f"kafka/{cluster}/{settings.topic}"
        self.behind = 0
        """Messages that are there, as far as known, and were not taken yet."""
        self.expired = 0
        """Messages that Kafka had deleted before they were taken."""
        self._settings = settings
        self._inlet = Inlet(intake, spool, positions)
        self._durable: dict[Partition, int] = {}  # next offsets, until they are committed
        self._assigned: list[TopicPartition] = []  # until they are inspected
        self._ahead: list[Message] = []  # came while others were waited for
        self._told: dict[str, float] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        for delay in delays(1.0, 60.0):
            try:
                consumer = await in_thread(self._opened)
            except self._kafka.KafkaException as error:
                self._warn(error.args[0])
            else:
                try:
                    await self._consume(consumer)
                except self._kafka.KafkaException as error:
                    self._warn(error.args[0])
                finally:
                    await in_thread(consumer.close)
                    self._durable.clear()
                    self._ahead.clear()
            await asyncio.sleep(delay.seconds)

    def _opened(self) -> Consumer:
        consumer: Consumer = self._kafka.Consumer(
            {
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 16 << 10,
                "log_level": 2,  # whatever goes wrong comes to error_cb, too
                **self._settings.options,
                "bootstrap.servers": self._settings.brokers,
                "group.id": self._settings.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "error_cb": self._warn,
                "on_commit": self._on_commit,
            },
            logger=logger,
        )
        consumer.subscribe(
            [self._settings.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        return consumer

    async def _consume(self, consumer: Consumer) -> None:
        while True:
            messages = await in_thread(self._gathered, consumer)
            if not messages:
                continue
            taking = asyncio.ensure_future(self._take(messages))
            try:
                paused = False
                while not (await asyncio.wait([taking], timeout=_PATIENCE))[0]:
                    await in_thread(self._stay, consumer)
                    paused = True
            finally:
                taking.cancel()
            await taking
            await in_thread(self._commit, consumer, messages, resume=paused)

    # In a thread: librdkafka blocks, and calls back from within these. ---------------------------

    def _gathered(self, consumer: Consumer) -> list[Message]:
        """Messages that wait, about as many as make a body; none after half a second without."""
        if self._assigned:
            self._inspect(consumer)
        messages, self._ahead = self._ahead, []
        size = sum(map(len, messages))
        end = time.monotonic() + (_GATHER if messages else _WAIT)
        while size < BODY and len(messages) < _MOST:
            message = consumer.poll(max(0.0, end - time.monotonic()))
            if message is None:
                break
            if self._sound(message):
                if not messages:
                    end = time.monotonic() + _GATHER
                messages.append(message)
                size += len(message)
        return messages

    def _stay(self, consumer: Consumer) -> None:
        """Takes part in the group while the spool is full; without a sign of life for minutes, the
        partitions would go to another."""
        consumer.pause(consumer.assignment())
        message = consumer.poll(0)
        if message is not None and self._sound(message):
            self._ahead.append(message)

    def _commit(self, consumer: Consumer, messages: list[Message], *, resume: bool) -> None:
        """Everything up to ``messages`` is durable."""
        assignment = consumer.assignment()
        if resume:
            consumer.resume(assignment)
        # What went to another consumer meanwhile is for that one to commit.
        ours = {Partition(one.topic, one.partition) for one in assignment}
        for message in messages:
            if _partition(message) in ours:
                self._durable[_partition(message)] = _offset(message) + 1
        self._commit_durable(consumer)
        self.behind = sum(_behind(consumer, one) for one in consumer.position(assignment))

    def _commit_durable(self, consumer: Consumer) -> None:
        # Not waited for: what fails, as _on_commit hears, goes with the next.
        if self._durable:
            make = self._kafka.TopicPartition
            offsets = [make(*partition, offset) for partition, offset in self._durable.items()]
            consumer.commit(offsets=offsets, asynchronous=True)

    def _inspect(self, consumer: Consumer) -> None:
        """Tells of what was deleted between the last commit and now."""
        assigned, self._assigned = self._assigned, []
        try:
            for one in consumer.committed(assigned, timeout=10):
                oldest, _ = consumer.get_watermark_offsets(one, timeout=10) or (_UNKNOWN, 0)
                if 0 <= one.offset < oldest:
                    self.expired += oldest - one.offset
                    logger.error(
                        "%s: partition %d: %d messages expired before they were read",
                        *(plain(self.name), one.partition, oldest - one.offset),
                    )
        except self._kafka.KafkaException as error:
            self._warn(error.args[0])

    def _sound(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal():
            raise self._kafka.KafkaException(error)
        if error.code() != self._kafka.KafkaError._PARTITION_EOF:
            self._warn(error)
        return False

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned += partitions

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit_durable(consumer)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._durable.pop(Partition(one.topic, one.partition), None)
        self._assigned = [one for one in self._assigned if one not in partitions]

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None:
            self._warn(error)
        for one in partitions:
            partition = Partition(one.topic, one.partition)
            if error is None and one.error is None and self._durable.get(partition) == one.offset:
                del self._durable[partition]

    def _warn(self, error: KafkaError) -> None:
        """librdkafka says the same every second for as long as it is so: we, every minute."""
        metrics.FEED_ERRORS.labels(source="kafka").inc()
        now = time.monotonic()
        if now - self._told.get(error.name(), -inf) >= _REPEAT:
            self._told[error.name()] = now
            logger.warning("%s: %s", plain(self.name), plain(error.str()))

    # --------------------------------------------------------------------------------------------

    async def _take(self, messages: list[Message]) -> None:
        for source, body in bodies(messages):
            await self._inlet.take(source, body)


def bodies(messages: Iterable[Message]) -> Iterator[tuple[str, bytes]]:
    """Messages put together where each is one JSON value; what is broken stands alone, so that it
    takes nothing with it."""
    together: dict[Partition, list[bytes]] = {}
    for message in messages:
        value = message.value()
        partition = _partition(message)
        source = f"kafka:{partition.topic}/{partition.number}"
        if not value:  # a tombstone
            continue
        if _is_json(value):
            together.setdefault(partition, []).append(value)
        else:
            yield f"{source}@{_offset(message)}", value
    for partition, values in together.items():
        yield f"kafka:{partition.topic}/{partition.number}", b"\n".join(values)


def _is_json(value: bytes) -> bool:
    if is_plain(value):
        return True
    try:
        decode(value)
    except UndecodableError:
        return False
    return True


def _partition(message: Message) -> Partition:
    return Partition(message.topic() or "", message.partition() or 0)


def _offset(message: Message) -> int:
    return message.offset() or 0


def _behind(consumer: Consumer, position: TopicPartition) -> int:
    _, newest = consumer.get_watermark_offsets(position, cached=True) or (0, _UNKNOWN)
    return max(0, newest - position.offset) if position.offset >= 0 else 0
