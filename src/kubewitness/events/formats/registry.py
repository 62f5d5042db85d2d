"""From any decoded value to audit events: unwraps envelope by envelope, within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubewitness.events.formats import (
    aks,
    audit_event,
    cloudwatch,
    elastic,
    envelope,
    flattened,
    gke,
    lines,
    openshift,
    rancher,
    shippers,
    tables,
)
from kubewitness.events.formats.decoding import (
    LINE_LIMIT,
    TOO_LARGE,
    UndecodableError,
    decode,
    inflate,
    repeats_keys,
)
from kubewitness.events.formats.outcome import Broken, Format, Found, Inner, Outcome, Skipped
from kubewitness.events.formats.splitting import pieces

FORMATS: tuple[Format, ...] = (
    openshift.unwrap,
    audit_event.unwrap,
    rancher.unwrap,
    gke.unwrap,
    aks.unwrap,
    elastic.unwrap,
    cloudwatch.unwrap,
    flattened.unwrap,
    envelope.unwrap,
    shippers.unwrap,
)
"""In this order: what names itself first, what is told by one common field last."""

ENVELOPES = 8
"""Envelopes inside each other; CloudWatch in Kinesis in a Lambda event in a Splunk export is 7."""

REPEATED_KEYS = "duplicate keys: the last of each was read"


def outcomes(value: Any, *, cluster: str = "") -> Iterator[Outcome]:
    """The events in ``value`` and what else is there, in order. Never raises.

    ``value`` is decoded JSON (text is a line or a document, bytes a file). Whatever the envelopes
    claim to contain, no more than ``LINE_LIMIT`` bytes are decompressed.
    """
    return _Unwrapping().inner(Inner(value, cluster), ENVELOPES)


class _Unwrapping:
    def __init__(self) -> None:
        self._room = LINE_LIMIT

    def inner(self, inner: Inner, depth: int) -> Iterator[Outcome]:
        value = inner.value
        if depth < 0:
            yield Broken("envelopes nested too deeply")
        elif isinstance(value, Mapping):
            yield from self._object(value, inner.cluster, depth)
        elif isinstance(value, list):
            for item in value:
                yield from self.inner(Inner(item, inner.cluster), depth - 1)
        elif isinstance(value, str):
            yield from self._text(value, inner.cluster, depth)
        elif isinstance(value, bytes):
            yield from self._file(value, inner.cluster, depth)
        else:
            yield Skipped("not an audit event: JSON scalar")

    def _object(self, value: Mapping[str, Any], cluster: str, depth: int) -> Iterator[Outcome]:
        for unwrap in FORMATS:
            parts = unwrap(value)
            if parts is None:
                continue
            for part in parts:
                if isinstance(part, Inner):
                    yield from self.inner(Inner(part.value, part.cluster or cluster), depth - 1)
                else:
                    yield _within(part, cluster)
            return
        yield Skipped("not an audit event: JSON object")

    def _text(self, text: str, cluster: str, depth: int) -> Iterator[Outcome]:
        stripped = text.strip()
        if stripped[:1] in ("{", "[", '"'):
            content = stripped.encode("utf-8", "replace")
            try:
                value = decode(content)
            except UndecodableError:
                if stripped.startswith("{"):
                    yield from self._file(content, cluster, depth)
                    return
            else:
                noted = repeats_keys(content)
                for outcome in self.inner(Inner(value, cluster), depth - 1):
                    yield repeated(outcome) if noted else outcome
                return
        row = tables.headerless_row(stripped)
        if row is not None:
            yield _within(row, cluster)
            return
        part = lines.payload(stripped)
        if isinstance(part, Inner):
            yield from self.inner(Inner(part.value, cluster), depth - 1)
        else:
            yield part

    def _file(self, content: bytes, cluster: str, depth: int) -> Iterator[Outcome]:
        try:
            content = inflate(content, self._room)
        except UndecodableError as refusal:
            if refusal.reason == TOO_LARGE:
                self._room = 0
            yield Broken(refusal.reason)
            return
        self._room -= len(content)
        for piece in pieces((content,)):
            if isinstance(piece.value, Broken):
                yield piece.value
            elif isinstance(piece.value, str) and piece.value.lstrip().startswith("{"):
                yield Broken("malformed JSON")
            else:
                yield from self.inner(Inner(piece.value, cluster), depth - 1)


def _within(outcome: Outcome, cluster: str) -> Outcome:
    if cluster and isinstance(outcome, Found) and "cluster" not in outcome.event:
        outcome.event["cluster"] = cluster
    return outcome


def repeated(outcome: Outcome) -> Outcome:
    """``outcome`` with a note that its source repeated keys."""
    if isinstance(outcome, Found):
        return Found(outcome.event, (*outcome.notes, REPEATED_KEYS))
    return outcome
