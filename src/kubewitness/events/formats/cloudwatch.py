"""EKS: the control-plane log group ``/aws/eks/<cluster>/cluster`` of CloudWatch Logs.

The audit event is the ``message`` of a log event in a stream ``kube-apiserver-audit-<hex>``; the
group holds other streams too (authenticator, scheduler, …), which are skipped. Ways out of
CloudWatch, all told apart here:

- subscription filter, Firehose: ``{"messageType":"DATA_MESSAGE","logGroup":…,"logEvents":[…]}``
  (``CONTROL_MESSAGE`` is a reachability check); the same as gzip in base64 in a Lambda event
  ``{"awslogs":{"data":…}}``, in Kinesis ``{"Records":[{"kinesis":{"data":…}}]}`` and through
  Firehose's HTTP endpoint ``{"records":[{"data":…}]}``
- ``aws logs filter-log-events``, ``get-log-events``: ``{"events":[{"message":…}]}``
- ``aws logs get-query-results``: ``{"results":[[{"field":"@message","value":…}]]}``

https://docs.aws.amazon.com/eks/latest/userguide/control-plane-logs.html,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kubewitness.events.formats.decoding import unbase64
from kubewitness.events.formats.outcome import Broken, Inner, Part, Skipped

_GROUP = re.compile(r"/aws/eks/([^/]+)/cluster")
_OTHER_STREAM = Skipped("not the audit stream of CloudWatch")


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    log_events = value.get("logEvents")
    if isinstance(log_events, list) and "messageType" in value:
        if value["messageType"] != "DATA_MESSAGE":
            return (Skipped("CloudWatch control message"),)
        return _messages(log_events, value.get("logStream"), _cluster(value.get("logGroup")))
    events = value.get("events")
    if isinstance(events, list) and all(isinstance(e, Mapping) and "message" in e for e in events):
        return _messages(events, value.get("logStreamName"), _cluster(value.get("logGroupName")))
    results = value.get("results")
    if isinstance(results, list) and all(isinstance(row, list) for row in results):
        return map(_query_row, results)
    awslogs = value.get("awslogs")
    if isinstance(awslogs, Mapping):
        return (_packed(awslogs.get("data")),)
    return _records(value)


def _records(value: Mapping[str, Any]) -> Iterable[Part] | None:
    kinesis = value.get("kinesis")
    if isinstance(kinesis, Mapping):
        return (_packed(kinesis.get("data")),)
    data = value.get("data")
    if isinstance(data, str) and value.keys() <= {
        "data",
        "recordId",
        "approximateArrivalTimestamp",
        "kinesisRecordMetadata",
    }:
        return (_packed(data),)
    # Azure's batches are spelled the same; each record says by its own fields whose it is.
    for name in ("records", "Records"):
        records = value.get(name)
        if isinstance(records, list):
            return map(Inner, records)
    return None


def _messages(events: list[Any], stream: Any, cluster: str) -> Iterator[Part]:
    for event in events:
        if not isinstance(event, Mapping):
            yield Broken("CloudWatch log event without message")
            continue
        yield _message(event.get("message"), event.get("logStreamName") or stream, cluster)


def _message(message: Any, stream: Any, cluster: str) -> Part:
    if isinstance(stream, str) and not is_audit_stream(stream):
        return _OTHER_STREAM
    if message is None:
        return Broken("CloudWatch log event without message")
    return Inner(message, cluster)


def is_audit_stream(name: str) -> bool:
    """Streams of EKS have telling names; whatever else somebody called theirs may hold events.

    >>> is_audit_stream("kube-apiserver-audit-0e"), is_audit_stream("authenticator-0e")
    (True, False)
    """
    return "audit" in name or not name.startswith(
        (
            "authenticator-",
            "cloud-controller-manager-",
            "kube-apiserver-",
            "kube-controller-manager-",
            "kube-scheduler-",
        )
    )


def _query_row(row: Any) -> Part:
    """One result of Logs Insights: a list of ``{"field":…,"value":…}``."""
    fields = {
        cell["field"]: cell.get("value")
        for cell in row
        if isinstance(cell, Mapping) and isinstance(cell.get("field"), str)
    }
    log = fields.get("@log")
    return _message(fields.get("@message"), fields.get("@logStream"), _cluster(log))


def _packed(data: Any) -> Part:
    content = unbase64(data) if isinstance(data, str) else None
    return Broken("malformed base64") if content is None else Inner(content)


def _cluster(log_group: Any) -> str:
    match = _GROUP.search(log_group) if isinstance(log_group, str) else None
    return match[1] if match else ""
