"""The factors, in the order in which their reasons are told.

A further factor is one more module and one more line here; ``tests/test_factors.py`` finds it.
"""

from __future__ import annotations

from kubewitness.activity.table import DAY, ActivityTable, Mask
from kubewitness.surprise.audience import Audience
from kubewitness.surprise.factor import Factor
from kubewitness.surprise.novelty import Novelty
from kubewitness.surprise.provenance import (
    Concurrency,
    Confinement,
    Displacement,
    bound,
    nodes,
    people,
    unbound,
)


def _with_traits(table: ActivityTable) -> Mask:
    return ~table.are("traits", ("",))


def _impersonating(table: ActivityTable) -> Mask:
    return ~table.are("acting_as", ("",))


def _refused(table: ActivityTable) -> Mask:
    return table.are(
        "outcome", ("denied", "unauthenticated", "missing", "invalid", "error", "panic")
    )


def _own_choice(table: ActivityTable) -> Mask:
    """Where kubelets and controllers act was decided by others: the scheduler, an author."""
    return table.are("class", ("human", "workload", "anonymous"))


def _dangerous_choice(table: ActivityTable) -> Mask:
    return _with_traits(table) & _own_choice(table)


def _with_image(table: ActivityTable) -> Mask:
    return ~table.are("origins", ("",)) & _own_choice(table)


def _workloads(table: ActivityTable) -> Mask:
    return table.are("class", ("workload",))


def _authenticated(table: ActivityTable) -> Mask:
    """A node changes the way once, when it joins."""
    return table.are("class", ("human", "workload"))


def _of_known_issue(table: ActivityTable) -> Mask:
    return _workloads(table) & ~table.are("issuer", ("",))


def _people(table: ActivityTable) -> Mask:
    """Hours are a habit only where there are days."""
    return table.are("class", ("human",)) & (table.slice_width == DAY)


FACTORS: tuple[Factor, ...] = (
    Novelty(
        "action",
        "what",
        "Is this action usual for this principal?",
        ("habit",),
        ("action",),
        "{action}",
        "did “{action}”",
    ),
    Novelty(
        "namespace",
        "what",
        "Does this principal work in this namespace?",
        ("habit",),
        ("place",),
        "{place}",
        "worked in {where}",
        _own_choice,
    ),
    Novelty(
        "deed",
        "what",
        "Does this principal do this in this namespace?",
        ("habit",),
        ("action", "place"),
        "{action} in {place}",
        "did “{action}” in {where}",
        _own_choice,
    ),
    Audience(),
    Novelty(
        "setting",
        "what",
        "Does this principal write such dangerous settings?",
        ("habit",),
        ("traits",),
        "{traits}",
        "wrote settings of this kind ({traits})",
        _dangerous_choice,
        among="with dangerous settings",
    ),
    Novelty(
        "image",
        "what",
        "Does this principal deploy images from there?",
        ("habit",),
        ("origins",),
        "images from {origins}",
        "deployed images from {origins}",
        _with_image,
        among="with images",
    ),
    Novelty(
        "impersonation",
        "whose",
        "Does this principal act as this other identity?",
        ("habit",),
        ("acting_as",),
        "as {acting_as}",
        "acted as {acting_as}",
        _impersonating,
        among="as somebody else",
    ),
    Displacement(
        "token",
        "Is this token used where its pod is?",
        ("pod_uid",),
        "used the token of pod {pod} from {source_ip}, which is not that pod's address",
        "pods ever did before",
        bound,
    ),
    Confinement(),
    Displacement(
        "kubelet",
        "Is this node where it is?",
        ("actor",),
        "came from {source_ip}, which is not that node's address",
        "nodes ever did before",
        nodes,
    ),
    Concurrency(
        "concurrency",
        "Is this person in one place at a time?",
        ("actor",),
        "worked from {source_ip} and another address at the same time",
        "people ever did before",
        people,
    ),
    Concurrency(
        "replay",
        "Is this credential in one place at a time?",
        ("credential",),
        "used one credential from {source_ip} and another address at the same time",
        "such credentials ever were before",
        unbound,
    ),
    Novelty(
        "scheme",
        "where from",
        "Does this principal authenticate with this kind of credential?",
        ("actor",),
        ("scheme",),
        "by {scheme}",
        "authenticated by {scheme}",
        _authenticated,
    ),
    Novelty(
        "issuer",
        "where from",
        "Was this token issued by who usually issues those of this account?",
        ("habit",),
        ("issuer",),
        "issued by {issuer}",
        "used a token issued by {issuer}",
        _of_known_issue,
        among="with tokens of known issuers",
    ),
    Novelty(
        "network",
        "where from",
        "Does this principal come from this network?",
        ("actor",),
        ("network",),
        "{network}",
        "came from {network}",
    ),
    Novelty(
        "client",
        "where from",
        "Does this principal use this program?",
        ("habit",),
        ("client",),
        "{client}",
        "used {client}",
    ),
    Novelty(
        "platform",
        "where from",
        "Does this principal's program run on this platform?",
        ("habit", "client"),
        ("platform",),
        "{platform}",
        "ran {client} on {platform}",
        among="with that program",
    ),
    Novelty(
        "refusal",
        "answer",
        "Is this principal refused this, usually?",
        ("habit",),
        ("action", "outcome"),
        "{action}: {outcome}",
        "got “{outcome}” for “{action}”",
        _refused,
        among="with refusals",
    ),
    Novelty(
        "bearer",
        "where from",
        "Is this token held by the program that usually holds it?",
        ("habit",),
        ("bearer",),
        "token of pod {bearer}",
        "used a token of pod {bearer}",
        _workloads,
    ),
    Novelty(
        "hour",
        "when",
        "Does this person work at this time of the week?",
        ("actor",),
        ("hours",),
        "{hours}",
        "worked at this time of the week ({hours})",
        _people,
    ),
)
