"""Lines of text that carry JSON behind a prefix, and text that is plainly something else.

Only prefixes that are known are taken off. Text of the API server's own log may quote what a
client sent, and an event in it would be the client's invention.

- CRI (https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md):
  ``2025-01-01T00:00:00Z stdout F {…}``
- syslog: RFC 5424 ``<134>1 …``, RFC 3164 ``<134>Jan  1 00:00:00 host tag: ``, and as files keep it
- CloudWatch's export to S3, ``kubectl logs --timestamps``: a timestamp and a space
- fluentd's ``out_file``: time TAB tag TAB JSON
- ``oc adm node-logs``, ``kubectl logs --prefix``: a node's name, or ``[pod/name/container]``
"""

from __future__ import annotations

import re

from kubewitness.events.formats.outcome import Broken, Inner, Skipped

_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z| ?[+-]\d\d:?\d\d)?"
_PREFIXES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_TIME} (?:stdout|stderr) [FP] ",
        r"<\d{1,3}>1 (?:\S+ ){5}(?:-|(?:\[(?:[^\]\\]|\\.)*\])+) ?(?:\ufeff)?",
        r"(?:<\d{1,3}>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [^\s:\[]+(?:\[\d+\])?: ",
        rf"(?:<\d{{1,3}}>)?{_TIME} \S+ [^\s:\[]+(?:\[\d+\])?: ",
        rf"{_TIME}\t[^\t]*\t",
        rf"{_TIME}\s+",
        r"\[pod/[^\]\s]+\] ",
        r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?: \|)? +(?=\{)",
    )
)
_KLOG = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ ")
_LOGFMT = re.compile(r'(?:time|ts|level|msg)="?[^\s"]')


def payload(text: str) -> Inner | Skipped | Broken:
    """What stands behind the first known prefix of the line ``text``.

    >>> payload('master-0 {"kind":"Event"}')
    Inner(value='{"kind":"Event"}', cluster='')
    >>> payload("I0101 00:00:00.000000       1 server.go:1] started")
    Skipped(reason='not an audit event: klog text')
    """
    if _KLOG.match(text):
        return Skipped("not an audit event: klog text")
    if _LOGFMT.match(text):
        return Skipped("not an audit event: logfmt text")
    for prefix in _PREFIXES:
        match = prefix.match(text)
        if match and match.end() < len(text):
            return Inner(text[match.end() :])
    return Broken("binary data" if "\0" in text else "not JSON")
