"""What is no cause, and how sure a cause is: where two explanations compete, the log decides."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from audit_log import Event, event, write
from forensic_log import CONTROLLER, at
from kubewitness.forensics.causes.chain import cause_of
from kubewitness.forensics.causes.graph import Chain, Link, Reach
from kubewitness.forensics.causes.reach import reach_of
from kubewitness.forensics.causes.record import Record
from kubewitness.inquiry import opened

ACCOUNT = "system:serviceaccount:shop:api"


@contextmanager
def record_of(events: Sequence[Event], folder: Path) -> Iterator[Record]:
    log = write(folder / "audit.log", events)
    with opened([log], bodies=True) as (_, connection, _):
        yield Record(connection)


def from_pod(seconds: float, verb: str = "list", resource: str = "configmaps", pod: str = "api-0",
             uid: str = "p-1", **fields: Any) -> Event:  # fmt: skip
    """What a pod's service account does with the token of that pod."""
    extra = {"authentication.kubernetes.io/pod-name": [pod],
             "authentication.kubernetes.io/pod-uid": [uid]}  # fmt: skip
    user = {"username": ACCOUNT, "groups": [], "extra": extra}
    return event(at(seconds), verb=verb, resource=resource, user=user, client="api/v1",
                 source_ips=("10.1.1.1",), **{"name": "", **fields})  # fmt: skip


def entered(seconds: float, who: str = "eve", pod: str = "api-0") -> Event:
    return event(at(seconds), who, "create", "pods", subresource="exec", name=pod, code=101)


def links(found: Chain | Reach, kind: str) -> list[Link]:
    return [one for one in found.links if one.kind == kind]


ROUTINE = [from_pod(60 * n) for n in range(300)]
ENTRY = entered(60 * 290 + 30)


def test_what_a_pod_does_each_minute_is_not_blamed_on_who_got_in(tmp_path: Path) -> None:
    with record_of([*ROUTINE, ENTRY], tmp_path) as record:
        (usual,) = links(cause_of(record, ROUTINE[295]["auditID"]), "entry")
        reach = reach_of(Record(record._connection), ENTRY["auditID"])
    assert "seen 291 times before" in usual.because
    assert usual.confidence < 0.1
    assert all("seen 291 times before" in one.because for one in links(reach, "entry"))
    assert sum(one.n for one in reach.touched if one.caused) <= 1


def test_what_a_pod_never_did_before_is_blamed_on_who_got_in(tmp_path: Path) -> None:
    new = from_pod(60 * 290 + 45, "get", "secrets", name="db")
    with record_of([*ROUTINE, ENTRY, new], tmp_path) as record:
        (unusual,) = links(cause_of(record, new["auditID"]), "entry")
        reach = reach_of(Record(record._connection), ENTRY["auditID"])
    assert "never seen from this pod before" in unusual.because
    assert unusual.confidence > 0.9
    assert (True, "secrets") in {(one.caused, one.resource) for one in reach.touched}


def test_another_pod_of_a_longer_name_is_no_habit(tmp_path: Path) -> None:
    others = [from_pod(60 * n, pod="api-01") for n in range(100)]
    own = from_pod(60 * 100)
    with record_of([*others, entered(60 * 99 + 30), own], tmp_path) as record:
        (link,) = links(cause_of(record, own["auditID"]), "entry")
    assert "never seen from this pod before" in link.because
