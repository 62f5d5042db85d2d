"""What would have prevented an incident: smaller grants, settings, fewer ways in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from kubewitness.activity.network import network
from kubewitness.activity.technique import GRAVE
from kubewitness.forensics.causes.deed import INTERACTIVE, Deed
from kubewitness.forensics.causes.scene import CHANGES, DELETES


def prevention(own: Iterable[Deed], person: str = "") -> tuple[str, ...]:
    """What would have stopped the gravest of this, with the names of what to change."""
    served = [one for one in own if one.served]
    if not served:
        return (
            "Nothing: the API server refused all of it, but for dry runs."
            if any(one.dry for one in own)
            else "Nothing: the API server refused all of it.",
        )
    said = [*_grants(served), *_settings(served), *_reachable(served)]
    said += [advice for applies, advice in _ADVICE if any(applies(one) for one in served)]
    if not said and person:
        said.append(f"The log shows no grant to take away: see what {person} is a member of.")
    return tuple(said)


def _grants(served: Sequence[Deed]) -> Iterator[str]:
    """The bindings that allowed the gravest of it."""
    bindings: dict[str, dict[str, None]] = defaultdict(dict)
    for one in sorted(served, key=lambda one: (-one.technique.weight, one.turn)):
        name = one.binding.partition(" ")[2]
        if name and one.technique.weight >= 1.0 and not name.startswith("system:"):
            part = f"/{one.subresource}" if one.subresource else ""
            bindings[f"{one.binding} (of {one.role})"][f"{one.verb} {one.resource}{part}"] = None
    for binding, deeds in list(bindings.items())[:2]:
        yield (
            f"{binding} allowed {', '.join(list(deeds)[:3])}: grant less, or to fewer;"
            " 'kubewitness access' shows what else allows it."
        )


# What of events.trait the Pod Security Standard “baseline” forbids.
_NOT_BASELINE = frozenset(
    {"privileged", "hostPath", "hostNetwork", "hostPID", "hostIPC", "capabilities"}
)


def _settings(served: Sequence[Deed]) -> Iterator[str]:
    places = sorted(
        {one.namespace for one in served if _NOT_BASELINE & set(one.traits.split(", "))}
    )
    if any(places):
        yield (
            f"Pod Security “baseline” enforced in {', '.join(filter(None, places[:3]))} (label"
            " pod-security.kubernetes.io/enforce) refuses privileged and host settings."
        )


def _reachable(served: Sequence[Deed]) -> Iterator[str]:
    outside = [one for one in served if network(one.source_ip).scope == "public"]
    if outside:
        addresses = ", ".join(sorted({one.source_ip for one in outside})[:3])
        yield (
            "Reaching the API server only from known networks (a firewall, a private endpoint)"
            f" would have kept {addresses} out."
        )
    if any(one.of == "workload" for one in outside):
        yield (
            "Tokens bound to their pod and short-lived (projected, minutes to an hour) are of"
            " little use elsewhere; no long-lived token secrets."
        )


_ADVICE: tuple[tuple[Callable[[Deed], bool], str], ...] = (
    (
        lambda one: one.subresource == "token" and one.verb == "create",
        "create on serviceaccounts/token is the right to be that account: grant it by resourceNames"
        " only, or to nobody.",
    ),
    (
        lambda one: one.subresource in INTERACTIVE or one.subresource == "ephemeralcontainers",
        "exec, attach and debug containers in production by time-bound grants only, with an"
        " admission policy that refuses the rest.",
    ),
    (
        lambda one: bool(one.acting_as),
        "impersonate granted for named users only (resourceNames), never for all.",
    ),
    (
        lambda one: one.of == "anonymous" and bool(one.resource),
        "--anonymous-auth=false, or no binding of system:anonymous and system:unauthenticated.",
    ),
    (
        lambda one: one.verb in DELETES and one.technique.weight >= GRAVE,
        "An admission policy that refuses to delete what is labelled as protected, and backups out"
        " of the cluster's reach.",
    ),
    (
        lambda one: one.group == "admissionregistration.k8s.io" and one.verb in CHANGES,
        "Webhook configurations changed only by the pipeline that owns them: they see all that is"
        " written.",
    ),
)
