"""What a policy hides from detection: questions about requests, asked of the policy itself.

A question is something that detection or forensics has to see. It is asked for everybody who could
do it, as rules may leave out some people's requests and not those of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import msgspec

from kubewitness.policy.policy import Decision, Level, Policy, Request

_READS = ("get", "list", "watch")
_WRITES = ("create", "update", "patch")
_DELETES = ("delete", "deletecollection")
_CHANGES = (*_WRITES, *_DELETES)

# Who, as (user, groups).
_PRINCIPALS: dict[str, tuple[str, tuple[str, ...]]] = {
    "people": ("jane", ("developers", "system:authenticated")),
    "administrators": ("kubernetes-admin", ("system:masters", "system:authenticated")),
    "workloads": (
        "system:serviceaccount:shop:checkout",
        ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"),
    ),
    "workloads of kube-system": (
        "system:serviceaccount:kube-system:addon",
        ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"),
    ),
    "nodes": ("system:node:worker-1", ("system:nodes", "system:authenticated")),
    "the controller manager": ("system:kube-controller-manager", ("system:authenticated",)),
    "anybody without credentials": ("system:anonymous", ("system:unauthenticated",)),
}
_NAMESPACES = ("shop", "kube-system")


class Question(NamedTuple):
    """What is to be seen (``what``) of which ``verbs`` on which ``resources``
    (GROUP/RESOURCE[/SUBRESOURCE]), at which ``level`` at least."""

    what: str
    verbs: tuple[str, ...]
    resources: tuple[str, ...]
    level: Level = "Metadata"
    asked_of: tuple[str, ...] = (
        "people",
        "administrators",
        "workloads",
        "workloads of kube-system",
    )


_ALL = tuple(_PRINCIPALS)
_HUMAN = ("people", "administrators", "workloads")
QUESTIONS = (
    Question("who read secrets", _READS, ("/secrets",), asked_of=_ALL),
    Question("who changed secrets", _CHANGES, ("/secrets",), asked_of=_ALL),
    Question("who read configuration", _READS, ("/configmaps",)),
    Question("who changed configuration", _CHANGES, ("/configmaps",), asked_of=_ALL),
    Question("who issued tokens, and for which account", ("create",), ("/serviceaccounts/token",),
             asked_of=_ALL),
    Question("who entered containers", ("get", "create"), ("/pods/exec", "/pods/attach"),
             asked_of=_ALL),
    Question("who opened tunnels", ("get", "create"), ("/pods/portforward", "/pods/proxy",
             "/services/proxy", "/nodes/proxy"), asked_of=_ALL),
    Question("what debug containers run", ("update", "patch"), ("/pods/ephemeralcontainers",),
             "Request"),
    Question("who read logs of containers", ("get",), ("/pods/log",)),
    Question("which permissions were given, and to whom", _WRITES,
             tuple(f"rbac.authorization.k8s.io/{kind}" for kind in
                   ("roles", "clusterroles", "rolebindings", "clusterrolebindings")), "Request",
             _ALL),
    Question("who took permissions away", _DELETES,
             ("rbac.authorization.k8s.io/rolebindings",
              "rbac.authorization.k8s.io/clusterrolebindings"), asked_of=_ALL),
    Question("who asked for his permissions", ("create",),
             ("authorization.k8s.io/selfsubjectrulesreviews",
              "authorization.k8s.io/selfsubjectaccessreviews")),
    Question("what was to run: images, privileges, mounts, accounts", _WRITES,
             ("/pods", "apps/deployments", "apps/daemonsets", "apps/statefulsets", "batch/jobs",
              "batch/cronjobs", "apps/replicasets"), "Request", _HUMAN),
    Question("which pods controllers made, by name", ("create",), ("/pods",), "RequestResponse",
             ("workloads of kube-system",)),
    Question("who deleted workloads", _DELETES,
             ("/pods", "apps/deployments", "apps/daemonsets", "apps/statefulsets", "batch/jobs",
              "batch/cronjobs")),
    Question("who deleted namespaces or storage", _DELETES,
             ("/namespaces", "/persistentvolumes", "/persistentvolumeclaims")),
    Question("who relaxed pod security", _WRITES, ("/namespaces",), "Request"),
    Question("what admission was changed to", _WRITES,
             tuple(f"admissionregistration.k8s.io/{kind}" for kind in
                   ("mutatingwebhookconfigurations", "validatingwebhookconfigurations",
                    "validatingadmissionpolicies", "validatingadmissionpolicybindings",
                    "mutatingadmissionpolicies", "mutatingadmissionpolicybindings")), "Request"),
    Question("who removed admission control", _DELETES,
             ("admissionregistration.k8s.io/validatingwebhookconfigurations",
              "admissionregistration.k8s.io/validatingadmissionpolicies",
              "admissionregistration.k8s.io/validatingadmissionpolicybindings")),
    Question("who changed API aggregation or API types", _CHANGES,
             ("apiregistration.k8s.io/apiservices",
              "apiextensions.k8s.io/customresourcedefinitions")),
    Question("which client certificates were asked for", ("create",),
             ("certificates.k8s.io/certificatesigningrequests",), "Request", _ALL),
    Question("who approved client certificates", ("update", "patch"),
             ("certificates.k8s.io/certificatesigningrequests/approval",), asked_of=_ALL),
    Question("where services lead", _WRITES,
             ("/services", "/services/status", "/endpoints", "discovery.k8s.io/endpointslices"),
             "Request", _HUMAN),
    Question("who changed network policies", _CHANGES, ("networking.k8s.io/networkpolicies",)),
    Question("which volumes of nodes were made", ("create",), ("/persistentvolumes",), "Request",
             _HUMAN),
    Question("who copied volumes", ("create",), ("snapshot.storage.k8s.io/volumesnapshots",)),
    Question("who changed nodes", _CHANGES, ("/nodes",)),
    Question("who changed service accounts", _CHANGES, ("/serviceaccounts",)),
    Question("who deleted the cluster's events", _DELETES,
             ("/events", "events.k8s.io/events"), asked_of=_ALL),
    Question("who looked around", ("list", "get"),
             ("/pods", "/nodes", "/namespaces", "/services", "/serviceaccounts",
              "apps/deployments", "rbac.authorization.k8s.io/clusterroles",
              "rbac.authorization.k8s.io/clusterrolebindings"), asked_of=_HUMAN),
    Question("who looked around with a node's credential", ("list",),
             ("/pods", "/nodes", "/secrets", "/namespaces"), asked_of=("nodes",)),
    Question("what happens to custom resources", _CHANGES, ("example.org/widgets",)),
)  # fmt: skip
PATHS = ("/version", "/api", "/apis", "/openapi/v2")

# Bodies that must not be logged: (what, from which level on, verbs, resource).
_LEAKS: tuple[tuple[str, Level, tuple[str, ...], str], ...] = (
    ("secrets that are written", "Request", _WRITES, "/secrets"),
    ("secrets that are read", "RequestResponse", ("get", "list"), "/secrets"),
    ("tokens that are issued", "RequestResponse", ("create",), "/serviceaccounts/token"),
    ("tokens that are checked", "Request", ("create",), "authentication.k8s.io/tokenreviews"),
    ("configuration, which often has secrets", "Request", _WRITES, "/configmaps"),
    (
        "configuration, which often has secrets",
        "RequestResponse",
        ("get", "list"),
        "/configmaps",
    ),
)


class Finding(msgspec.Struct, frozen=True):
    """``kind``: blind (nobody will know ``what``), leak (the log will hold ``what``) or idle (a
    rule that does nothing). ``verbs``, ``resources`` and ``whose`` say of which requests, ``line``
    is that of the rule which decides (0: none does)."""

    kind: str
    what: str
    why: str
    line: int = 0
    whose: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


def findings(policy: Policy) -> tuple[Finding, ...]:
    """Everything that is wrong with a policy: what is blind first, then leaks, then idle rules."""
    return (
        *_merged(_blind(policy)),
        *_unanswered(policy),
        *_merged(_leaks(policy)),
        *_idle(policy),
    )


def _blind(policy: Policy) -> Iterator[Finding]:
    for question in QUESTIONS:
        for whose, verb, resource, decision in _asked(policy, question):
            if not decision.has(question.level):
                yield Finding(
                    "blind",
                    question.what,
                    _shortfall(decision),
                    policy.line(decision),
                    (whose,),
                    (verb,),
                    (resource.partition("/")[2],),
                )
    for path, (whose, (user, groups)) in product(PATHS, _PRINCIPALS.items()):
        decision = policy.decide(Request(user, groups, "get", path=path))
        if whose != "nodes" and not decision.has("Metadata"):
            yield Finding(
                "blind",
                "who walked the API's own paths",
                "left out",
                policy.line(decision),
                (whose,),
                ("get",),
                (path,),
            )


def _shortfall(decision: Decision) -> str:
    if not decision.logs():
        return "left out"
    missing = "bodies" if decision.level == "Metadata" else "the answer"
    return f"at level {decision.level}, without {missing}"


def _asked(policy: Policy, question: Question) -> Iterator[tuple[str, str, str, Decision]]:
    for whose, verb, resource, namespace in product(
        question.asked_of, question.verbs, question.resources, _NAMESPACES
    ):
        yield whose, verb, resource, policy.decide(_request(whose, verb, resource, namespace))


def _request(whose: str, verb: str, resource: str, namespace: str) -> Request:
    user, groups = _PRINCIPALS[whose]
    group, kind, subresource = (*resource.split("/"), "")[:3]
    name = "" if verb in ("list", "watch", "create", "deletecollection") else "any"
    return Request(user, groups, verb, group, kind, subresource, namespace, name)


def _unanswered(policy: Policy) -> Iterator[Finding]:
    """Stages that are left out everywhere, as far as exec and secrets tell."""
    entered = policy.decide(_request("people", "create", "/pods/exec", "shop"))
    read = policy.decide(_request("people", "get", "/secrets", "shop"))
    if entered.logs() and "ResponseStarted" in entered.omitted:
        yield Finding(
            "blind",
            "who is in a container or a tunnel right now",
            "left out until they end, as ResponseStarted is omitted",
            policy.line(entered),
        )
    if read.logs() and "ResponseComplete" in read.omitted:
        yield Finding(
            "blind",
            "how requests ended",
            "left out, as ResponseComplete is omitted",
            policy.line(read),
        )


def _leaks(policy: Policy) -> Iterator[Finding]:
    for what, level, verbs, resource in _LEAKS:
        for whose, verb in product(_PRINCIPALS, verbs):
            decision = policy.decide(_request(whose, verb, resource, "shop"))
            if decision.has(level):
                yield Finding(
                    "leak",
                    what,
                    f"at level {decision.level}, where Metadata would do",
                    policy.line(decision),
                    (whose,),
                    (verb,),
                    (resource.partition("/")[2],),
                )


def _merged(found: Iterator[Finding]) -> Iterator[Finding]:
    """One finding for all that one rule does to one question."""
    together: dict[tuple[str, str, str, int], list[Finding]] = {}
    for one in found:
        together.setdefault((one.kind, one.what, one.why, one.line), []).append(one)
    for same in together.values():
        yield msgspec.structs.replace(
            same[0],
            whose=tuple(dict.fromkeys(name for one in same for name in one.whose)),
            verbs=tuple(dict.fromkeys(verb for one in same for verb in one.verbs)),
            resources=tuple(dict.fromkeys(name for one in same for name in one.resources)),
        )


def _idle(policy: Policy) -> Iterator[Finding]:
    """Rules that can never match, or are never reached."""
    for n, rule in enumerate(policy.rules):
        line = policy.lines[n] if policy.lines else 0
        for field, values in (
            ("verbs", rule.verbs),
            ("users", rule.users),
            ("userGroups", rule.user_groups),
            ("namespaces", rule.namespaces),
        ):
            stars = [value for value in values if "*" in value]
            if stars:
                yield Finding(
                    "idle",
                    f"{field}: {', '.join(stars)}",
                    "compared letter by letter; leave the field away to match everything",
                    line,
                )
        everything = not (
            rule.users or rule.user_groups or rule.verbs or rule.resources or rule.namespaces
            or rule.non_resource_urls
        )  # fmt: skip
        if everything and n + 1 < len(policy.rules):
            yield Finding(
                "idle",
                "all rules behind it",
                "it matches every request, and the first rule that matches decides",
                line,
            )
            return
