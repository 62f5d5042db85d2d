"""Log shippers and stores that put the event as text into a field of their own record.

- fluent-bit, Docker's json-file: ``{"log":"{…}\\n","stream":…}``; with Merge_Log ``log_processed``
- Logstash, Filebeat, Vector, journald: ``message`` or ``MESSAGE``; ECS also ``event.original``
- Loki: push body and query answer ``streams``, ``logcli -o jsonl`` with ``line``
- Splunk: HEC ``event`` (see ``envelope``), exports ``{"result":{"_raw":…}}``
- VictoriaLogs: ``_msg``, or flattened, see ``flattened``

These are the shippers' documented defaults:
https://docs.fluentbit.io/manual/pipeline/filters/kubernetes, https://grafana.com/docs/loki/latest/reference/loki-http-api/,
https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector,
https://docs.victoriametrics.com/victorialogs/querying/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kubewitness.events.formats.outcome import Broken, Inner, Part

_FIELDS = ("log_processed", "log", "line", "_raw", "_msg", "message", "MESSAGE", "msg")


def unwrap(value: Mapping[str, Any]) -> Iterable[Part] | None:
    streams = _loki_streams(value)
    if streams is not None:
        return _loki(streams)
    result = value.get("result")
    if isinstance(result, Mapping) and ("_raw" in result or "preview" in value):
        return (Inner(result),)
    for name in _FIELDS:
        inner = value.get(name)
        if isinstance(inner, Mapping) or (isinstance(inner, str) and inner.strip()):
            return (Inner(inner, _cluster(value)),)
    return None


def _loki_streams(value: Mapping[str, Any]) -> list[Any] | None:
    data = value.get("data")
    if isinstance(data, Mapping) and data.get("resultType") == "streams":
        streams = data.get("result")
    else:
        streams = value.get("streams")
    return streams if isinstance(streams, list) else None


def _loki(streams: list[Any]) -> Iterator[Part]:
    for stream in streams:
        entries = stream.get("values") if isinstance(stream, Mapping) else None
        if not isinstance(entries, list):
            yield Broken("Loki stream without values")
            continue
        cluster = _cluster({"labels": stream.get("stream")})
        for entry in entries:
            if isinstance(entry, list) and len(entry) > 1:
                yield Inner(entry[1], cluster)
            else:
                yield Broken("Loki entry without line")


def _cluster(record: Mapping[str, Any]) -> str:
    labels = record.get("labels")
    cluster = labels.get("cluster") if isinstance(labels, Mapping) else None
    return cluster if isinstance(cluster, str) else ""
