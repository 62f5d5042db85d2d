"""Forward from a principal, a credential, a request or an object: what it touched and caused.

What is caused is told by the same links as the way back, so nothing is glued together by a hub: a
controller that acts for one object is not followed to what it does for others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from kubewitness.activity.owner import OWNED, OWNERS, family
from kubewitness.activity.principal import principal_class
from kubewitness.errors import KubewitnessError
from kubewitness.events.change import READING
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.chain import Drawing
from kubewitness.forensics.causes.deed import INTERACTIVE, Deed, any_in
from kubewitness.forensics.causes.found import AMID, Found
from kubewitness.forensics.causes.grants import RBAC
from kubewitness.forensics.causes.graph import Reach
from kubewitness.forensics.causes.links import causes, doubtful
from kubewitness.forensics.causes.possession import CERTIFIED, ENTRY, habits
from kubewitness.forensics.causes.record import CUT, Near, Record
from kubewitness.forensics.causes.scene import CHANGES, TOKEN_LIFE, Key
from kubewitness.forensics.causes.subject import (
    about,
    is_credential,
    is_object,
    may_be_audit_id,
    named,
    requests,
    timeless,
)
from kubewitness.forensics.causes.touched import Alike, alike, summarised
from kubewitness.forensics.kind import CLUSTER_SCOPED
from kubewitness.forensics.rbac.policy import GROUP
from kubewitness.forensics.rbac.principals import username, usernames
from kubewitness.forensics.target import Target, find, only_cluster

_HELD = "json_extract_string(extra, '$.\"authentication.kubernetes.io/credential-id\"[0]')"
_ENTERED = INTERACTIVE | {"ephemeralcontainers"}
_STEPS = INTERACTIVE | {"ephemeralcontainers", "approval", "eviction", "binding"}
_STEERED = OWNED | OWNERS | {"namespaces", "serviceaccounts"}
_ROUNDS = 6
_FOLLOWED = 60
"""Deeds whose effects are looked for, the gravest first."""
_AT_ONCE = timedelta(minutes=10)
_TOLD = 80
_BODIES = 40


def reach_of(
    record: Record,
    subject: str,
    namespace: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Reach:
    """What came of ``KIND/NAME``, a credential, a request by its auditID, or a principal."""
    if is_credential(subject):
        return reach_of_credential(record, subject, since, until)
    if may_be_audit_id(subject) and (found := requests(record, subject)):
        timeless("a request", since, until)
        return reach_of_deeds(record, f"request {subject}", found)
    if is_object(subject):
        home = namespace or None
        try:
            what = find(record.connection, subject, namespace=home, cluster=record.cluster)
        except KubewitnessError:
            # NAMESPACE/NAME of a service account looks like KIND/NAME.
            if not _is_principal(record, subject):
                raise
        else:
            return reach_of_object(record, what, since, until)
    return reach_of_principal(record, subject, since, until)


def reach_of_principal(
    record: Record, who: str, since: datetime | None = None, until: datetime | None = None
) -> Reach:
    """What a principal did, and what came of it. Raises ``KubewitnessError`` for a stranger, and
    where there are several clusters, in which one name may be different people."""
    if record.cluster is None:
        record.cluster = only_cluster(record.connection)
    name = username(who, usernames(record.connection))
    # Two plain equalities let the engine skip most of a lake, one of two does not.
    wheres = (
        f'"user" = {quoted(name)}',
        f'impersonated_user = {quoted(name)} AND "user" IS DISTINCT FROM {quoted(name)}',
    )
    return _of_many(
        record, name, wheres, lambda one: name in (one.principal, one.acting_as), since, until
    )


def reach_of_credential(
    record: Record, credential: str, since: datetime | None = None, until: datetime | None = None
) -> Reach:
    """What was done with one token or certificate, and what came of it."""
    if record.cluster is None:
        record.cluster = only_cluster(record.connection)
    return _of_many(
        record,
        credential,
        (f"{any_in('extra', [credential])} AND {_HELD} = {quoted(credential)}",),
        lambda one: one.credential == credential,
        since,
        until,
    )


def reach_of_deeds(record: Record, subject: str, seeds: Sequence[Deed]) -> Reach:
    """What came of some requests."""
    told = descendants(record, seeds)
    return drawn_reach(subject, alike(seeds), told, _cut(record))


def _cut(record: Record) -> tuple[str, ...]:
    return (CUT,) if record.cut else ()


def reach_of_object(
    record: Record, what: Target, since: datetime | None = None, until: datetime | None = None
) -> Reach:
    """What came of everything that was done to an object."""
    record.cluster = what.cluster
    seeds = record.changed(
        f"{about(what)} AND (verb NOT IN ('get', 'list', 'watch') OR subresource IN ('exec',"
        " 'attach', 'portforward')) AND subresource IS DISTINCT FROM 'status'",
        since=since,
        until=until,
        latest=True,
        most=500,
    )
    if not seeds:
        raise KubewitnessError(
            f"nothing changed {named(what)}",
            remedy="see 'kubewitness who' for who read it, and the times that you gave",
        )
    return reach_of_deeds(record, named(what), seeds)


def _is_principal(record: Record, text: str) -> bool:
    try:
        return bool(username(text, usernames(record.connection)))
    except KubewitnessError:
        return False


def _of_many(
    record: Record,
    subject: str,
    wheres: Sequence[str],
    own: Callable[[Deed], bool],
    since: datetime | None,
    until: datetime | None,
) -> Reach:
    """What came of all requests for which a SQL condition holds, which are its ``own``."""
    done = [one for where in wheres for one in record.alike(where, since, until)]
    if not done:
        raise KubewitnessError(
            f"the log knows no request of {subject!r}",
            remedy="see the spelling, and the times that you gave",
        )
    leading = [f"{where} AND {_LEADING}" for where in wheres]
    seeds, n = record.gravest(leading, since, until, _FOLLOWED)
    notes = []
    if n > len(seeds):
        notes.append(
            f"What came of {len(seeds)} requests was followed, the gravest and latest of {n:,} that"
            " could have led to something; narrow it with --since and --until."
        )
    if any(principal_class(one.principal) == "control-plane" for one in done):
        notes.append(
            "A controller acts for everybody: what it did is told, not whom it did it for."
        )
    told = descendants(
        record,
        seeds,
        lambda one: (
            own(one) and (since is None or one.at >= since) and (until is None or one.at <= until)
        ),
    )
    return drawn_reach(subject, done, told, [*notes, *_cut(record)])


# What may lead on (``_leads_on``), of what was served.
_LEADING = f"""(NOT {READING} AND coalesce(code, 200) < 400 AND NOT dry_run
    AND stage IS DISTINCT FROM 'RequestReceived' AND subresource IS DISTINCT FROM 'status' AND (
    subresource IN ({", ".join(map(quoted, sorted({*_STEPS, "token"})))})
    OR resource IN ({", ".join(map(quoted, sorted(_STEERED)))})
    OR api_group = {quoted(GROUP)}))"""


def drawn_reach(
    subject: str,
    done: Sequence[Alike],
    caused: Mapping[Key, tuple[Deed, list[Found]]],
    notes: Sequence[str] = (),
) -> Reach:
    """A blast radius of what was ``done`` and what that ``caused``."""
    effects = [one for one, _ in caused.values()]
    everything = [*sorted(done, key=lambda one: one.first), *alike(effects)]
    ranked = sorted(caused, key=lambda key: (-caused[key][0].technique.weight, key[2], key))
    drawn = Drawing({key: caused[key][1] for key in ranked[:_TOLD]},
                    [caused[key][0] for key in ranked[:_TOLD]])  # fmt: skip
    guessed = any(not found.certain for _, links in caused.values() for found in links)
    if guessed and any(one.level == "Metadata" for one in effects):
        notes = (
            *notes,
            "Some of what was caused is inferred from names and times: its bodies are not logged.",
        )
    return Reach(
        subject=subject,
        requests=sum(one.n for one in everything),
        start=min(one.first for one in everything),
        end=max(one.last for one in everything),
        principals=tuple(dict.fromkeys(one.principal for one in everything))[:_TOLD],
        namespaces=tuple(sorted({one.namespace for one in everything} - {""})),
        touched=summarised(done, alike(effects)),
        steps=drawn.steps,
        links=drawn.links,
        more=max(0, len(caused) - _TOLD),
        notes=tuple(notes),
    )


def descendants(
    record: Record, seeds: Sequence[Deed], own: Callable[[Deed], bool] = lambda one: False
) -> dict[Key, tuple[Deed, list[Found]]]:
    """What ``seeds`` led to, directly and further on, each with the links into it; what is ``own``
    was done, not caused."""
    told: dict[Key, tuple[Deed, list[Found]]] = {}
    reached = {one.key for one in seeds}
    frontier = _gravest(seeds)
    asked: list[_Asked] = []
    for _ in range(_ROUNDS):
        if not frontier:
            break
        _fetch_effects(record, frontier, asked)
        scene = record.scene()
        begin = scene.first_after(min(one.at for one in frontier))
        later = [one for one in scene.deeds[begin:] if one.key not in reached and not own(one)]
        record.learn_habits(habits(scene, later))
        record.learn_firsts([one for one in later if one.credential.startswith("X509SHA256=")])
        scene = record.scene()
        fresh: list[Deed] = []
        for effect in later:
            led = causes(scene, effect, sittings=False)
            found = [
                one for one in led if followed(one) and (one.cause.key in reached or own(one.cause))
            ]
            if found:
                reached.add(effect.key)
                told[effect.key] = (effect, found)
                fresh.append(effect)
        frontier = _gravest(fresh)
    return told


def followed(found: Found) -> bool:
    """Whether an effect was caused, and not only near, or what a program does by itself."""
    return found.kind not in AMID | {"attempt"} and not doubtful(found)


def _gravest(deeds: Iterable[Deed]) -> list[Deed]:
    followed = [one for one in deeds if one.served and one.writes and _leads_on(one)]
    return sorted(followed, key=lambda one: (-one.technique.weight, one.turn))[:_FOLLOWED]


def _leads_on(one: Deed) -> bool:
    return (
        bool(one.issued)
        or one.subresource in _STEPS
        or one.resource in _STEERED
        or one.group == GROUP
    )


class _Family(NamedTuple):
    """Objects of one name and what is named after them."""

    namespace: str
    prefix: str


class _Asked(NamedTuple):
    """What was asked already: of changes, or of the ``tokens`` of pods."""

    near: Near
    tokens: bool

    def covers(self, other: _Asked) -> bool:
        own, asked = self.near, other.near
        return (
            (own.namespace, self.tokens) == (asked.namespace, other.tokens)
            and asked.prefix.startswith(own.prefix)
            and own.since <= asked.since
            and asked.until <= own.until
        )


def _fetch_effects(record: Record, frontier: Sequence[Deed], asked: list[_Asked]) -> None:
    """What the frontier may have led to: a question for each family of names, token, binding and
    certificate, however many deeds it has."""
    families: dict[_Family, list[Deed]] = defaultdict(list)
    minted: list[Deed] = []
    allowing: list[Deed] = []
    for one in frontier:
        if one.issued and one.of not in ("node", "control-plane"):
            minted.append(one)
        elif one.resource == "namespaces" and one.verb == "delete":
            record.changed(
                f"namespace = {quoted(one.name)} AND verb IN ('delete', 'deletecollection')",
                since=one.at,
                until=one.at + _AT_ONCE,
                most=1000,
            )
        elif one.group == GROUP and one.name and one.verb in CHANGES:
            allowing.append(one)
        elif one.subresource == "approval":
            _fetch_certified(record, one)
        elif one.resource in OWNED | OWNERS and one.name:
            names = family(one.resource, one.name)
            families[_Family(one.namespace, min(names, key=len))].append(one)
    _fetch_minted(record, minted)
    _fetch_permitted(record, allowing)
    wanted = [_Asked(*one) for what, deeds in families.items() for one in _windows(what, deeds)]
    fresh: list[_Asked] = []
    for one_more in wanted:
        if not any(known.covers(one_more) for known in (*asked, *fresh)):
            fresh.append(one_more)
    asked += fresh
    record.borne([one.near for one in fresh if one.tokens])
    near = record.near([one.near for one in fresh if not one.tokens])
    record.read_bodies(
        [one for one in (*frontier, *near) if one.resource in OWNED | OWNERS and one.served
         and one.verb in CHANGES and one.subresource in ("", "scale")][:_BODIES]
    )  # fmt: skip


def _windows(what: _Family, deeds: Iterable[Deed]) -> Iterator[tuple[Near, bool]]:
    """When something may have come of deeds, and whether it is asked what tokens did; times that
    overlap are one."""
    spans: dict[bool, list[tuple[datetime, datetime]]] = {False: [], True: []}
    for one in sorted(deeds, key=lambda one: one.at):
        spans[False].append((one.at, one.at + _AT_ONCE))
        if one.subresource in _ENTERED or one.verb in CHANGES:
            wait = ENTRY if one.subresource in _ENTERED else _AT_ONCE
            spans[True].append((one.at, one.at + wait))
    for tokens, several in spans.items():
        whole: list[tuple[datetime, datetime]] = []
        for begin, end in several:
            if whole and begin <= whole[-1][1]:
                begin, end = whole[-1][0], max(end, whole.pop()[1])  # noqa: PLW2901
            whole.append((begin, end))
        for begin, end in whole:
            yield Near(*what, begin, end), tokens


def _fetch_minted(record: Record, deeds: Sequence[Deed]) -> None:
    """What was done with tokens, told by their ids."""
    if not deeds:
        return
    accounts = {quoted(f"system:serviceaccount:{one.namespace}:{one.name}") for one in deeds}
    record.spread(
        f'"user" IN ({", ".join(sorted(accounts))})'
        f" AND {any_in('extra', {one.issued for one in deeds})}",
        since=min(one.at for one in deeds),
        until=max(one.at for one in deeds) + TOKEN_LIFE,
    )


def _fetch_permitted(record: Record, deeds: Sequence[Deed]) -> None:
    """What bindings and roles allowed, as the authorizer spells their names in JSON."""
    if not deeds:
        return
    named = {("" if one.resource in CLUSTER_SCOPED else one.namespace, one.name) for one in deeds}
    record.read_bodies(
        [one for one in record.named(named, until=max(one.at for one in deeds))
         if one.resource in RBAC][:_BODIES]
    )  # fmt: skip
    names = {f"{one.name}/{one.namespace}" if one.resource == "rolebindings" else one.name
             for one in deeds}  # fmt: skip
    spelt = " OR ".join(
        f"contains(CAST(annotations AS VARCHAR), {quoted(spelling)})"
        for spelling in sorted(f'\\"{name}\\"' for name in names)
    )
    record.spread(
        f"({spelt}) AND NOT starts_with(\"user\", 'system:node:')",
        since=min(one.at for one in deeds),
        until=max(one.at for one in deeds) + TOKEN_LIFE,
    )


def _fetch_certified(record: Record, one: Deed) -> None:
    """What was done with the certificate of an approved signing request."""
    near = record.changed(
        f"resource = 'certificatesigningrequests' AND name = {quoted(one.name)}",
        since=one.at - _AT_ONCE,
        until=one.at + _AT_ONCE,
    )
    record.read_bodies(near)
    bodies = [told for deed in near if (told := record.bodies.get(deed.key)) is not None]
    prints = {told.fingerprint for told in bodies} - {""}
    bearers = {told.bearer for told in bodies} - {""}
    for fingerprint in sorted(prints):
        record.spread(any_in("extra", [fingerprint]), one.at, None)
    if prints:
        return
    for bearer in sorted(bearers):
        record.spread(
            f"\"user\" = {quoted(bearer)} AND contains(CAST(extra AS VARCHAR), 'X509SHA256=')",
            since=one.at,
            until=one.at + CERTIFIED,
        )
    if not bearers and one.source_ip:
        # Where no body tells which certificate it was: one that is used at the same address, and
        # that was never used before.
        here = f"list_contains(source_ips, {quoted(one.source_ip)})"
        approved = quoted(f"{one.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}")
        record.spread(
            f"{here} AND starts_with({_HELD}, 'X509SHA256=') AND {_HELD} NOT IN"
            f" (SELECT {_HELD} FROM touches WHERE received_at < TIMESTAMP {approved}"
            f" AND {_HELD} IS NOT NULL)",
            since=one.at,
            until=one.at + CERTIFIED,
        )
