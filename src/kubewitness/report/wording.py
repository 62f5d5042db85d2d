"""Numbers and times as words: the same in the terminal and on the page."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from kubewitness.incidents.model import Moment, Reason
from kubewitness.times import periods

_BUILT_IN = re.compile(
    r"(?<![\w.-])(?:([a-z]+)\.(?:admissionregistration|apiextensions|apiregistration"
    r"|authentication|rbac\.authorization|authorization|certificates|coordination|discovery"
    r"|events|flowcontrol\.apiserver|networking|node|scheduling|storage)\.k8s\.io"
    r"|(deployments|daemonsets|statefulsets|replicasets|controllerrevisions)\.apps"
    r"|(jobs|cronjobs)\.batch|(horizontalpodautoscalers)\.autoscaling"
    r"|(poddisruptionbudgets)\.policy)(?![\w.-])"
)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def plural(n: float, noun: str) -> str:
    """
    >>> plural(1, "request"), plural(1200, "activity")
    ('1 request', '1,200 activities')
    """
    if n != 1:
        noun = noun[:-1] + "ies" if noun.endswith("ty") else noun + "s"
    return f"{n:,} {noun}"


def compact(n: float) -> str:
    """
    >>> compact(999), compact(12_345), compact(4_200_000)
    ('999', '12.3k', '4.2M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.1f}".removesuffix(".0") + letter
    return f"{n:.1f}".removesuffix(".0")


def percent(share: float) -> str:
    """
    >>> percent(0.413), percent(0.004), percent(0), percent(0.9999)
    ('41%', '<1%', '0%', '>99%')
    """
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


def chance(p: float) -> str:
    """How often something at least as surprising happens on a normal day.

    >>> chance(0.00031), chance(0.4), chance(1e-14)
    ('1 in 3,200', '1 in 2.5', 'under 1 in a million')
    """
    if p < 1e-6:
        return "under 1 in a million"
    odds = 1 / p
    if odds < 10:
        return f"1 in {odds:.1f}".removesuffix(".0")
    digits = 10 ** (len(str(int(odds))) - 2)
    return f"1 in {round(odds / digits) * digits:,.0f}"


def utc(at: datetime) -> datetime:
    """``at`` in UTC; a time without a zone is UTC already, as everywhere in kubewitness."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def rfc3339(at: datetime) -> str:
    """
    >>> rfc3339(datetime(2026, 3, 14, 2, 11, 9))
    '2026-03-14T02:11:09Z'
    """
    return utc(at).isoformat().replace("+00:00", "Z")


def moment(at: datetime) -> str:
    """
    >>> moment(datetime(2026, 3, 14, 2, 11))
    'Sat 14 Mar 02:11'
    """
    return f"{utc(at):%a} {utc(at).day} {utc(at):%b %H:%M}"


def period(start: datetime, end: datetime) -> str:
    """
    >>> period(datetime(2026, 3, 9), datetime(2026, 3, 16))
    'Mon 9 Mar 00:00 – Mon 16 Mar 2026 00:00 UTC'
    >>> period(datetime(2026, 3, 14, 2, 11), datetime(2026, 3, 14, 3, 40))
    'Sat 14 Mar 2026 02:11 – 03:40 UTC'
    """
    start, end = utc(start), utc(end)
    if start.date() == end.date():
        until = "" if f"{start:%H:%M}" == f"{end:%H:%M}" else f" – {end:%H:%M}"
        return f"{start:%a} {start.day} {start:%b %Y %H:%M}{until} UTC"
    return f"{moment(start)} – {end:%a} {end.day} {end:%b %Y %H:%M} UTC"


def duration(span: timedelta) -> str:
    """The two largest units that matter.

    >>> duration(timedelta(days=7)), duration(timedelta(minutes=89)), duration(timedelta(seconds=8))
    ('7 days', '1 h 29 min', '8 s')
    """
    seconds = max(round(span.total_seconds()), 0)
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < 2 * _DAY:
        hours, minutes = divmod(seconds // _MINUTE, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / _HOUR), 24)
    return f"{days} days {hours} h" if hours and days < 7 else f"{days} days"


def age(span: timedelta) -> str:
    """kubectl's AGE.

    >>> age(timedelta(seconds=42)), age(timedelta(hours=5, minutes=7)), age(timedelta(days=12))
    ('42s', '5h7m', '12d')
    """
    seconds = max(int(span.total_seconds()), 0)
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    minutes, hours, days = seconds // _MINUTE, seconds // _HOUR, seconds // _DAY
    if minutes < 120:
        return f"{minutes}m"
    if hours < 10:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def principal(name: str) -> str:
    """A principal's name where room is short: the fixed prefix of service accounts as ``sa:``.

    >>> principal("system:serviceaccount:ci:deployer"), principal("ada@example.com")
    ('sa:ci:deployer', 'ada@example.com')
    """
    account = name.removeprefix("system:serviceaccount:")
    return name if account == name else f"sa:{account}"


def brief(text: str) -> str:
    """``text`` without the API groups that Kubernetes itself brings; those of others stay.

    >>> brief("create roles.rbac.authorization.k8s.io"), brief("list pods.metrics.k8s.io")
    ('create roles', 'list pods.metrics.k8s.io')
    """
    return _BUILT_IN.sub(r"\1\2\3\4\5", text)


def deed(event: Moment) -> tuple[str, str]:
    """What was done, and to what by name: the resource, which both may carry, said once, and
    no name where it was all of them."""
    if event.object == "*":
        return event.action, ""
    resource = event.action.partition(" ")[2].partition("/")[0]
    kind, _, name = event.object.partition("/")
    if not resource:
        return event.action, event.object
    return event.action, name if kind == resource else event.object


def unremarkable(outcome: str) -> bool:
    """Whether an outcome need not be mentioned: the request was served."""
    return outcome in {"", "ok", "allowed"}


def history(reason: Reason) -> tuple[tuple[str, str], ...]:
    """In how many time slices the observed thing was seen before: by itself, its peers, anybody."""
    own = f"{reason.days_self} of {reason.days_active}" if reason.days_active else "no history"
    return (
        ("itself", own),
        ("peers", f"{reason.days_peers:,}"),
        ("anyone", f"{reason.days_cluster:,}"),
    )


def slices(unit: str) -> str:
    """The unit of a history, in the plural.

    >>> slices("day"), slices("5 minutes")
    ('days', 'periods of 5 minutes')
    """
    return periods(2, unit).removeprefix("2 ")


def usual(reason: Reason, limit: int = 3) -> str:
    """The expected values with their shares, the rest counted."""
    if not reason.expected:
        return "nothing of the kind"
    shown = ", ".join(f"{e.value} {percent(e.share)}" for e in reason.expected[:limit])
    rest = len(reason.expected) - limit
    return f"{shown}, +{rest} more" if rest > 0 else shown
