"""What a principal may do, what of it it does, and the least that would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import duckdb

from kubewitness.activity.action import action
from kubewitness.activity.principal import principal_class
from kubewitness.forensics.rbac.ability import UNASKED
from kubewitness.forensics.rbac.answer import Access, Danger, Grant, Origin
from kubewitness.forensics.rbac.danger import EVERYTHING, Power, powers, serves
from kubewitness.forensics.rbac.grants import Grants, defaults, grants
from kubewitness.forensics.rbac.least import least
from kubewitness.forensics.rbac.policy import (
    MASTERS,
    Attributes,
    Binding,
    Policy,
    Role,
    Rule,
    groups_of,
)
from kubewitness.forensics.rbac.principals import principals, username
from kubewitness.forensics.rbac.usage import Deed, deeds, impersonations
from kubewitness.forensics.target import one_log


def access(
    connection: duckdb.DuckDBPyConnection, text: str, *, snapshot: Path | None = None
) -> Access:
    """What is granted to the principal that ``text`` means, at the end of the view ``events`` (of
    one cluster), and what it used since its beginning.

    Raises ``KubewitnessError`` where nobody, or several, are meant.
    """
    cluster, first, last = one_log(connection)
    known = principals(connection)
    held = grants(connection, snapshot=snapshot)
    bound = {one.user for b in held.policy.bindings.values() for one in b.subjects} - {""}
    user = username(text, {*known, *bound})
    groups = known[user].groups if user in known else groups_of(user)
    done = deeds(connection, user, held.policy.restricted)
    acted = impersonations(connection, user)
    return Access(
        cluster,
        user,
        principal_class(user),
        tuple(sorted(groups)),
        first,
        last,
        sum(deed.requests for deed in done),
        0 if MASTERS in groups else sum(deed.requests for deed in done if deed.binding is None),
        {_whom(deed): deed.requests for deed in acted if deed.asked.resource != "groups"},
        tuple(sorted(_grants(held, user, groups, done), key=_by_use)),
        tuple(sorted(_dangers(held, user, groups, [*done, *acted]), key=_by_danger)),
        tuple(least(user, (deed.asked for deed in (*done, *acted) if not _everybodys(deed.asked)))),
        held.knowledge,
        tuple(_notes(user, groups, done)),
    )


def _grants(
    held: Grants, user: str, groups: frozenset[str], done: Sequence[Deed]
) -> Iterator[Grant]:
    if MASTERS in groups:
        own = [deed for deed in done if deed.binding is None]
        yield _grant(UNASKED, f"Group {MASTERS}", "group", "", None, own)
    current = list(held.policy.of(user, groups))
    removed = {deed.binding.key: deed.binding for deed in done if deed.binding is not None}
    for binding in current:
        removed.pop(binding.key, None)
        rules = held.policy.rules(binding.role)
        yield _of(binding, user, groups, held.source[binding.key], rules, done)
    for binding in removed.values():
        rules = held.policy.rules(binding.role)
        yield _of(binding, user, groups, "removed", rules, done)


def _of(
    binding: Binding,
    user: str,
    groups: frozenset[str],
    origin: Origin,
    rules: tuple[Rule, ...] | None,
    done: Sequence[Deed],
) -> Grant:
    own = [deed for deed in done if deed.binding is not None and deed.binding.key == binding.key]
    subjects = [one.told for one in binding.subjects if one.is_one(user, groups)]
    return _grant(binding.told, ", ".join(subjects), origin, binding.key.namespace, rules, own)


def _grant(
    binding: str,
    subject: str,
    origin: Origin,
    namespace: str,
    rules: tuple[Rule, ...] | None,
    own: Sequence[Deed],
) -> Grant:
    actions: Counter[str] = Counter()
    for deed in own:
        actions[_told(deed.asked)] += deed.requests
    return Grant(
        binding,
        subject,
        origin,
        namespace,
        None if rules is None else tuple(rule.told for rule in rules),
        tuple(
            rule.told for rule in rules or () if not any(rule.allows(deed.asked) for deed in own)
        ),
        sum(deed.requests for deed in own),
        sum(deed.by_others for deed in own),
        max((deed.last for deed in own), default=None),
        dict(actions.most_common()),
    )


def _dangers(
    held: Grants, user: str, groups: frozenset[str], done: Sequence[Deed]
) -> Iterator[Danger]:
    if MASTERS in groups:
        yield _danger(EVERYTHING, UNASKED, "", (), done)
    for binding in held.policy.of(user, groups):
        rules = held.policy.rules(binding.role) or ()
        place = binding.key.namespace
        for power, names in powers(rules, namespaced=bool(place)):
            own = [d for d in done if d.binding is None or d.binding.key == binding.key]
            yield _danger(power, binding.told, place, names, own)


def _danger(
    power: Power, binding: str, namespace: str, names: tuple[str, ...], done: Sequence[Deed]
) -> Danger:
    own = [
        deed
        for deed in done
        if serves(power, deed.asked) and namespace in ("", deed.asked.namespace)
    ]
    return Danger(
        power.name,
        power.weight,
        binding,
        namespace,
        names,
        sum(deed.requests for deed in own),
        max((deed.last for deed in own), default=None),
    )


def _by_use(grant: Grant) -> tuple[bool, int, str]:
    """What everybody has comes last."""
    return (grant.subject == "Group system:authenticated", -grant.requests, grant.binding)


def _by_danger(danger: Danger) -> tuple[bool, bool, bool, float, bool, str, str]:
    """What includes all else first, then unused before used, what is wider and heavier first.

    Nobody uses all of a power to do anything.
    """
    return (
        danger.power != EVERYTHING.name and danger.requests > 0,
        danger.power != EVERYTHING.name,
        bool(danger.names),
        -danger.weight,
        danger.namespace != "",
        danger.power,
        danger.binding,
    )


def _everybodys(asked: Attributes) -> bool:
    """Whether the API server by default lets everybody do this who is authenticated."""
    return any(rule.allows(asked) for rule in _rules_of_everybody())


@cache
def _rules_of_everybody() -> tuple[Rule, ...]:
    stock = defaults()
    policy = Policy(
        (one for one in stock if isinstance(one, Role)),
        (one for one in stock if isinstance(one, Binding)),
    )
    bound = policy.of("", ("system:authenticated",))
    return tuple(rule for one in bound for rule in policy.rules(one.role) or ())


def _told(asked: Attributes) -> str:
    kind = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    where = f" in {asked.namespace}" if asked.namespace else ""
    return action(asked.verb, kind, asked.subresource, asked.path) + where


def _whom(deed: Deed) -> str:
    asked = deed.asked
    return f"{asked.namespace}/{asked.name}" if asked.namespace else asked.name


def _notes(user: str, groups: frozenset[str], done: Sequence[Deed]) -> Iterator[str]:
    if "system:nodes" in groups:
        yield (
            "A kubelet is permitted by the Node authorizer what the pods on its node need; a role"
            " cannot stand in for it."
        )
    others = sum(deed.by_others for deed in done)
    if others:
        yield f"{others:,} of the requests were made by others who acted as it."
    if not done:
        yield "It did nothing in this log, so that no role follows from its use."
