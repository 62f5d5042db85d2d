"""Blind spots: what a log cannot show, why, and what would show it.

Each check looks at what the log of one cluster holds and says what that leaves in the dark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import duckdb

from kubewitness.report.holdings import Holdings, holdings
from kubewitness.report.model import Blind
from kubewitness.report.wording import duration, percent, plural

# A log of fewer requests may lack anything by chance.
PLENTY = 1000
FEW = 100
WEEK = timedelta(days=7)


_FORWARDING = (
    "a proxy or load balancer that hands on the client's address (X-Forwarded-For, PROXY"
    " protocol), and its own log until then"
)

Check = Callable[[Holdings], Blind | None]


def blind_spots(connection: duckdb.DuckDBPyConnection) -> tuple[Blind, ...]:
    """What this log leaves in the dark, then what every audit log does (``ALWAYS``)."""
    clusters = holdings(connection)
    found: dict[Blind, list[str]] = {}
    for log in clusters:
        for check in CHECKS:
            spot = check(log)
            if spot is not None:
                found.setdefault(spot, []).append(log.cluster)
    return (*_named(found, len(clusters)), *ALWAYS)


def _named(found: dict[Blind, list[str]], clusters: int) -> Iterator[Blind]:
    """Each blind spot once, with the clusters that have it where others do not."""
    for spot, names in found.items():
        if len(names) == clusters:
            yield spot
        else:
            shown = ", ".join(names[:3]) + (f", +{len(names) - 3} more" if names[3:] else "")
            where = f"in cluster {shown}" if len(names) == 1 else f"in clusters {shown}"
            yield Blind(f"{spot.what}, {where}", spot.why, spot.remedy)


def _answers(log: Holdings) -> Blind | None:
    if log.answered:
        return None
    return Blind(
        "what was permitted, refused or answered",
        "only the stage RequestReceived is logged, before any answer",
        "an audit policy that does not omit the stages ResponseStarted and ResponseComplete",
    )


def _reads(log: Holdings) -> Blind | None:
    if log.requests < FEW or log.reads:
        return None
    return Blind(
        "who read anything, secrets included",
        "the log has no get, list or watch",
        "on AKS the log category kube-audit instead of kube-audit-admin; elsewhere an audit policy"
        " rule of level Metadata for get, list and watch",
    )


def _secrets(log: Holdings) -> Blind | None:
    if log.requests < PLENTY or not log.reads or log.reads_of_secrets:
        return None
    return Blind(
        "who read secrets",
        "the log has reads, but none of secrets, which every cluster's own components make",
        "an audit policy rule of level Metadata for secrets, before any rule of level None",
    )


def _bodies(log: Holdings) -> Blind | None:
    if log.bodiless < log.events:
        return None
    return Blind(
        "what was written (images, commands and privileges of pods, rules of roles, subjects of"
        " bindings)",
        "every event is of level Metadata, without bodies",
        "audit level Request for create, update and patch, except of secrets and token requests",
    )


def _deployments(log: Holdings) -> Blind | None:
    if not log.bodiless_deployments or log.bodiless == log.events:
        return None
    return Blind(
        "what pods were asked to run (images, commands, privileges, host paths)",
        f"{_share(log.bodiless_deployments, log.deployments)} of pods and workloads are logged"
        " at level Metadata, without bodies",
        "audit level Request for create, update and patch of pods, pods/ephemeralcontainers,"
        " deployments, daemonsets, statefulsets, jobs and cronjobs",
    )


def _permissions(log: Holdings) -> Blind | None:
    if not log.bodiless_permissions or log.bodiless == log.events:
        return None
    return Blind(
        "what permissions were granted, and to whom",
        f"{_share(log.bodiless_permissions, log.permissions)} of roles and bindings are logged"
        " at level Metadata, without bodies",
        "audit level Request for the API group rbac.authorization.k8s.io",
    )


def _openings(log: Holdings) -> Blind | None:
    if log.started or not log.long_running or not log.answered:
        return None
    return Blind(
        "watches, execs and port-forwards that are still open",
        "the stage ResponseStarted is not logged, so they appear only once they end",
        "an audit policy that does not omit the stage ResponseStarted",
    )


def _bindings(log: Holdings) -> Blind | None:
    if log.with_binding or not log.by_users:
        return None
    return Blind(
        "which binding permitted a request",
        "no request names one in its annotation authorization.k8s.io/reason",
        "the RBAC authorizer, and an export that keeps annotations",
    )


def _credentials(log: Holdings) -> Blind | None:
    if log.with_credential or not log.by_users:
        return None
    return Blind(
        "whether somebody else uses a stolen token or certificate",
        "no request says which credential it came with, so that only the address and the client"
        " tell users of one name apart",
        "Kubernetes 1.32 or later, which logs the ids of service account tokens and client"
        " certificates",
    )


def _admission(log: Holdings) -> Blind | None:
    if not log.unguarded:
        return None
    return Blind(
        "what an admission webhook would have changed or refused",
        f"{plural(log.unguarded, 'write')} passed a webhook that did not answer and fails open",
        "failurePolicy Fail, and more than one replica, for webhooks that guard",
    )


def _addresses(log: Holdings) -> Blind | None:
    if not log.requests:
        return None
    where, whose = "where requests came from", "everybody has"
    if not log.addresses:
        return Blind(where, "no event has source addresses", _FORWARDING)
    if log.addresses > 1 or log.principals < 3:
        if log.addresses_of_people > 1 or log.people < 3:
            return None
        where, whose = "where people came from", "all people have"
    if log.forwarded:
        return Blind(
            where,
            f"{whose} the same peer, a proxy; the addresses that it hands on could be anybody's"
            " invention until it is trusted",
            "the address of that proxy among the trusted ones",
        )
    return Blind(
        where,
        f"{whose} the same address, so something stands between them and the API server",
        _FORWARDING,
    )


def _absent(log: Holdings) -> Blind | None:
    if log.requests < PLENTY:
        return None
    counts = (
        ("by nodes", log.of_nodes),
        ("in kube-system", log.in_kube_system),
        ("on secrets", log.on_secrets),
        ("on leases", log.on_leases),
        ("on events", log.on_events),
    )
    # without reads there are few on secrets anyway, and that is said already
    absent = [what for what, n in counts if not n and not (what == "on secrets" and not log.reads)]
    if not absent:
        return None
    return Blind(
        f"requests {', '.join(absent)}",
        "the log has none, though every cluster makes them all the time: an audit policy rule of"
        " level None or a filtered export left them out",
        "audit level Metadata for them, at least for those by people and workloads",
    )


def _habits(log: Holdings) -> Blind | None:
    span = log.end - log.start
    if span >= WEEK:
        return None
    return Blind(
        "what is usual over a week",
        f"the log covers {duration(span)}, so weekly jobs and weekends look new",
        "older log files, or a lake (--lake) that grows with every run",
    )


def _share(part: int, whole: int) -> str:
    return "all writes" if part == whole else f"{percent(part / whole)} of the writes"


CHECKS: tuple[Check, ...] = (
    _answers,
    _reads,
    _secrets,
    _bodies,
    _deployments,
    _permissions,
    _admission,
    _absent,
    _addresses,
    _credentials,
    _bindings,
    _openings,
    _habits,
)

ALWAYS = (
    Blind(
        "what happens in containers, shells and tunnels",
        "that an exec, attach or port-forward began is logged, not what was typed, shown or"
        " carried, nor what processes do",
        "a runtime sensor in the nodes, network flow logs",
    ),
    Blind(
        "requests past the API server, to a kubelet or to etcd",
        "only the API server writes this log",
        "kubelet and etcd closed to all but their certificates, and firewall logs",
    ),
    Blind(
        "how much a request returned, and its headers",
        "audit events have neither",
        "the log of a proxy in front of the API server",
    ),
)
