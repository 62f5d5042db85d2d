"""A misconfiguration in words: who is refused what since when, what is known of it, what to do."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from kubewitness.incidents.misconfiguration.grant import manifest, powers
from kubewitness.incidents.misconfiguration.refusals import Series, Thing
from kubewitness.incidents.misconfiguration.standing import Permitted, Standing
from kubewitness.incidents.model import Failure, Misconfiguration, Refused
from kubewitness.incidents.wording import joined, named, place, sentence, short, some

_TOLD = 3
_KIN = {"human": "among people", "workload": "among workloads"}
_MENDED = ("Nothing, if that was the repair: see that it lasts.",)
_REFUSED, _OBJECTS, _IDS = 40, 8, 40
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def tell(series: Series, standing: Standing, cluster: str) -> Misconfiguration:
    """The finding that a series makes, with what stands beside it."""
    key = _identity(series, cluster)
    mended = _mended(series, standing)
    lacking = series.failure == "permission" and mended is None
    yaml = manifest(series, key[:6]) if lacking else ""
    return Misconfiguration(
        id=key,
        cluster=cluster,
        failure=series.failure,
        principal=series.principal,
        acting_as=series.acting_as,
        client=series.client,
        source_ips=series.source_ips,
        title=_title(series, mended is not None),
        sentences=tuple(_sentences(series, standing)),
        refused=tuple(_refused(thing, standing) for thing in series.things[:_REFUSED]),
        n=series.n,
        first=_utc(series.first),
        last=_utc(series.last),
        mended=_utc(mended) if mended else None,
        every=round(_every(series), 3),
        fix=_MENDED if mended else tuple(_FIX[series.failure](series, standing)),
        manifest=yaml,
        caution=_caution(series) if yaml else "",
        message="",
        audit_ids=_samples(series),
    )


def _identity(series: Series, cluster: str) -> str:
    """Stable while it goes on: its first refusal does not change."""
    parts = (series.failure, series.principal, series.acting_as, series.client, str(series.first))
    text = "|".join((cluster, *parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def _title(series: Series, over: bool) -> str:
    who, there = _who(series), _where(series)
    what = _listed([_deed(thing) for thing in series.things])
    match series.failure:
        case "permission":
            told = f"{who} {'was' if over else 'is'} not permitted to {what} {there}"
        case "admission":
            told = f"Admission {'refused' if over else 'refuses'} what RBAC permits {who}:"
            told += f" to {what} {there}"
        case "credential":
            told = f"{series.client or 'A program'} at {some(series.source_ips, 2)}"
            told += f" {'used' if over else 'uses'} credentials that are not valid"
        case "missing":
            told = f"{who} {'kept' if over else 'keeps'} asking for {_object(series.things[0])},"
            told += f" which {'was' if over else 'is'} not there"
        case "invalid":
            told = f"{who} {'kept' if over else 'keeps'} sending what is not valid to"
            told += f" {what} {there}"
        case "server":
            told = f"The API server {'failed' if over else 'fails'} when {who} tries to {what}"
    return sentence(told)


def _sentences(series: Series, standing: Standing) -> list[str]:
    """The rhythm, what was before, who took it away, who else may, where else it may."""
    told = [
        f"Refused {series.n:,} times {_period(series.first, series.last)},"
        f" every {_span(_every(series))} on average while it went on, always with the same program"
        f" ({series.client or 'no user agent'}) {_origin(series)}."
    ]
    if len(series.things) > 1:
        counts = [f"{_deed(thing)} ({thing.n:,})" for thing in series.things]
        told.append(f"That is {_listed(counts)}.")
    told += _history(series, standing)
    if series.failure == "admission":
        told.append("RBAC allows it: a quota, a limit, a policy or a webhook says no.")
    if series.failure == "credential":
        known = [named(bearer) for bearer in standing.bearers]
        told.append(
            f"Before, {joined(known)} came from there with this program."
            if known
            else "Whose they are cannot be told: the API server names nobody whom it does not know."
        )
    members, binding, mates = standing.others
    if members:
        most = "most " if members > 1 else ""
        which = f", {most}by {_binding(binding)}" if binding else ""
        kin = "of its team" if mates else _KIN.get(series.whose, "of its class")
        others = f"{members} others {kin} are" if members > 1 else f"1 other {kin} is"
        told.append(f"{others} served the same{which}.")
    if standing.elsewhere:
        told.append(f"In {some(standing.elsewhere)} it is served the same.")
    return told


def _history(series: Series, standing: Standing) -> list[str]:
    until = {p.until: p.binding for p in standing.things.values() if p.until is not None}
    told = []
    if until:
        last = max(until)
        which = f" by {_binding(until[last])}" if until[last] else ""
        told.append(f"It was permitted{which} until {_at(last)} UTC.")
    elif series.failure == "permission":
        told.append("It was never permitted before, as far as this log reaches.")
    gone = standing.removal
    if gone is not None:
        what = _object(series.things[0]) if series.failure == "missing" else _binding(gone.what)
        told.append(f"{sentence(named(gone.who))} deleted {what} at {_at(gone.at)} UTC.")
    mended = _mended(series, standing)
    if mended is not None:
        told.append(f"It was served from {_at(mended)} UTC on: mended, as it seems.")
    return told


def _mended(series: Series, standing: Standing) -> datetime | None:
    """When what was refused most was served again."""
    permitted = standing.things.get(series.things[0].key)
    return permitted.again if permitted else None


def _permission(series: Series, standing: Standing) -> list[str]:
    gone, (members, binding, mates) = standing.removal, standing.others
    steps = []
    if gone is not None:
        steps.append(f"Restore {_binding(gone.what)}, or ask {named(gone.who)} why it had to go.")
    if standing.elsewhere:
        steps.append(
            f"See whether {some(_places(series))} is the right namespace: if not, correct it where"
            " it is configured, and grant nothing."
        )
    if members and binding and mates:
        steps.append(f"If it is to have what its team has, add it to {_binding(binding)}.")
    if series.whose == "anonymous":
        steps.append("Give the caller credentials; grant nothing to callers without a name.")
    elif series.whose == "control-plane":
        steps.append("Compare the component's own roles with those of its release.")
    else:
        steps.append("Permit exactly this with the manifest, or stop the program from asking.")
    return steps


def _admission(series: Series, standing: Standing) -> list[str]:
    where = [thing.namespace for thing in series.things if thing.namespace]
    steps = [
        f"Look at its quotas and limits: kubectl -n {shlex.quote(namespace)} describe"
        " resourcequotas,limitranges"
        for namespace in where[:_TOLD]
    ]
    return [*steps, "Else see which policy or webhook refuses it, and what it asks for instead."]


def _credential(series: Series, standing: Standing) -> list[str]:
    where = [namespace for namespace in _places(series) if namespace]
    about = f", and asks about namespace {some(where)}" if where else ""
    whose = f" of {joined([named(one) for one in standing.bearers])}" if standing.bearers else ""
    return [
        f"Find what runs {series.client or 'this program'} at {some(series.source_ips)}{about}:"
        " kubectl get pods -A -o wide shows who has the address now.",
        f"Renew the token or kubeconfig{whose}, or restart it: a mounted token is renewed by"
        " itself, a copied one is not.",
    ]


def _missing(series: Series, standing: Standing) -> list[str]:
    thing = series.things[0]
    name = thing.names[0] if thing.names else ""
    return [
        f"See what is there: kubectl -n {shlex.quote(thing.namespace)} get {thing.resource}",
        f"Create {name or 'it'}, or correct the name or namespace that"
        f" {short(series.principal)} is configured with.",
    ]


def _invalid(series: Series, standing: Standing) -> list[str]:
    return [
        "Try what it sends with --dry-run=server: the answer says which field is wrong.",
        "A program that is older or newer than the cluster sends what the cluster does not know.",
    ]


def _server(series: Series, standing: Standing) -> list[str]:
    return [
        "See which webhooks answer for it, and whether their pods run: kubectl get"
        " validatingwebhookconfigurations,mutatingwebhookconfigurations",
        "A webhook that may fail without harm has failurePolicy: Ignore.",
    ]


_FIX: dict[Failure, Callable[[Series, Standing], list[str]]] = {
    "permission": _permission,
    "admission": _admission,
    "credential": _credential,
    "missing": _missing,
    "invalid": _invalid,
    "server": _server,
}


def _caution(series: Series) -> str:
    """Why the manifest may do harm, or ''."""
    dangerous = powers(series)
    if not dangerous:
        return ""
    who = named(series.acting_as or series.principal)
    return (
        f"Do not grant this before asking: {who} could then {joined(list(dangerous))}. Whoever"
        " holds its credentials could, too."
    )


def _refused(thing: Thing, standing: Standing) -> Refused:
    permitted = standing.things.get(thing.key, Permitted())
    return Refused(
        action=thing.action,
        namespace=thing.namespace,
        objects=tuple(name for name in thing.names if name)[:_OBJECTS],
        n=thing.n,
        first=_utc(thing.first),
        last=_utc(thing.last),
        binding=permitted.binding,
        permitted_until=_utc(permitted.until) if permitted.until else None,
        permitted_again=_utc(permitted.again) if permitted.again else None,
    )


def _samples(series: Series) -> tuple[str, ...]:
    """Requests to look at: some of each thing that was refused."""
    each = max(1, _IDS // len(series.things))
    return tuple(i for thing in series.things for i in thing.audit_ids[:each])[:_IDS]


def _who(series: Series) -> str:
    who = named(series.principal)
    return f"{who} as {short(series.acting_as)}" if series.acting_as else who


def _deed(thing: Thing) -> str:
    """The action without the API group, which no sentence needs."""
    verb, _, rest = thing.action.partition(" ")
    if not thing.resource:
        return f"{verb} {rest}"
    kind = thing.resource.partition(".")[0]
    return f"{verb} {kind}/{thing.subresource}" if "/" in rest else f"{verb} {kind}"


def _object(thing: Thing) -> str:
    kind = thing.resource.partition(".")[0]
    name = "/".join(part for part in (kind, *thing.names[:1]) if part)
    return f"{name} in {place(thing.namespace)}"


def _listed(phrases: Sequence[str]) -> str:
    """
    >>> _listed(["get pods", "list pods"]), _listed(["a", "b", "c", "d"])
    ('get pods and list pods', 'a, b and 2 more')
    """
    return joined(phrases) if len(phrases) <= _TOLD else some(phrases, _TOLD - 1)


def _places(series: Series) -> list[str]:
    return sorted({thing.namespace for thing in series.things})


def _where(series: Series) -> str:
    *everywhere, one = _places(series)
    if not everywhere:
        return f"in {place(one)}" if one else "cluster-wide"
    if "" in everywhere:
        rest = f"in {len(everywhere)} namespaces" if everywhere[1:] else f"in {place(one)}"
        return f"cluster-wide and {rest}"
    return f"in {len(everywhere) + 1} namespaces"


def _binding(binding: str) -> str:
    """
    >>> _binding("view/shop"), _binding("cluster-view")
    ('RoleBinding view in namespace shop', 'ClusterRoleBinding cluster-view')
    """
    name, _, namespace = binding.partition("/")
    return (
        f"RoleBinding {name} in namespace {namespace}"
        if namespace
        else f"ClusterRoleBinding {name}"
    )


def _origin(series: Series) -> str:
    if len(series.source_ips) == 1:
        return f"at {series.source_ips[0]}"
    return f"at {len(series.source_ips)} addresses of {some(series.networks, 2)}"


def _every(series: Series) -> float:
    return series.seconds / max(1, series.n - 1)


def _span(seconds: float) -> str:
    """
    >>> _span(0.77), _span(26), _span(300), _span(7200)
    ('0.8 seconds', '26 seconds', '5 minutes', '2 hours')
    """
    for unit, length in (("days", _DAY), ("hours", _HOUR), ("minutes", _MINUTE)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 10 else f"{seconds:.1f} seconds"


def _at(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"


def _period(first: datetime, last: datetime) -> str:
    """
    >>> _period(datetime(2026, 3, 2, 9), datetime(2026, 3, 2, 10, 30))
    'on 2026-03-02 between 09:00 and 10:30 UTC'
    """
    if first.date() == last.date():
        return f"on {first:%Y-%m-%d} between {first:%H:%M} and {last:%H:%M} UTC"
    return f"from {_at(first)} to {_at(last)} UTC"


def _utc(when: datetime) -> datetime:
    return when.replace(tzinfo=UTC)
