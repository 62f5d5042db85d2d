"""Every incident's cause chain, blast radius, and what would have prevented it.

All incidents are asked about at once: a few scans of the log fetch what they did, and what minted,
made or allowed what they used. So it costs a small part of an analysis, and goes less far back than
``kubewitness cause`` does, which asks about one thing only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb
import msgspec
import numpy as np

from kubewitness.activity.action import action
from kubewitness.activity.owner import OWNED, OWNERS, family
from kubewitness.activity.principal import account_namespace
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.attempt import ATTEMPT, attempted
from kubewitness.forensics.causes.bodies import rehearsed
from kubewitness.forensics.causes.chain import drawn_chain, line_to
from kubewitness.forensics.causes.deed import COLUMNS, Deed, any_in, deed, learnt_proxies
from kubewitness.forensics.causes.found import Found
from kubewitness.forensics.causes.grants import rbac, role_of
from kubewitness.forensics.causes.habit import Habit, counted
from kubewitness.forensics.causes.links import causes, doubtful
from kubewitness.forensics.causes.possession import habits
from kubewitness.forensics.causes.reach import drawn_reach, followed
from kubewitness.forensics.causes.scene import TOKEN_LIFE, Key, Scene, forbidden
from kubewitness.forensics.causes.touched import alike
from kubewitness.forensics.target import bounds
from kubewitness.incidents.beginnings import Amid, amid, beginnings, turns
from kubewitness.incidents.model import Incident
from kubewitness.incidents.prevention import prevention
from kubewitness.incidents.wording import named

# Of each incident: what it is proven by, and as much of what surrounds it.
_EVIDENCE, _RELATED = 80, 20
_BEFORE = timedelta(days=2)
_AFTER = timedelta(hours=1)
_MOST = 6000
_KINDS = (
    OWNED
    | OWNERS
    | frozenset(
        [
            "serviceaccounts",
            "roles",
            "clusterroles",
            "rolebindings",
            "clusterrolebindings",
            "certificatesigningrequests",
            "namespaces",
        ]
    )
)
_LINE = 8


def traced(connection: duckdb.DuckDBPyConnection, incidents: Sequence[Incident]) -> list[Incident]:
    """The incidents with ``cause``, ``reach`` and ``prevention``, read from the view ``events``."""
    if not incidents:
        return []
    proxies = learnt_proxies(connection)
    own = _own(connection, incidents, proxies)
    around = _around(connection, [one for deeds in own.values() for one in deeds], proxies)
    starts = {
        cluster: span[0]
        for cluster in {one.cluster for one in incidents}
        if (span := bounds(connection, cluster))
    }
    known: dict[Habit, int] = {}
    asked: set[Habit] = set()
    scenes = {number: _scene(deeds, around, known, starts) for number, deeds in own.items()}
    for scene in scenes.values():
        asked |= habits(scene, scene.deeds)
    known |= counted(connection, asked)
    links = {
        number: {one.key: causes(scene, one, sittings=False) for one in scene.deeds}
        for number, scene in scenes.items()
    }
    turning: dict[int, list[Deed]] = {}
    for number, deeds in own.items():
        last = _last(incidents[number], deeds)
        line = _line(deeds, last, links[number])
        turning[number] = turns(deeds, last, line, links[number])
    asked_of = [one for some in turning.values() for one in some]
    around.amid = amid(connection, asked_of, proxies, starts)
    for number, some in turning.items():
        scene = _scene(own[number], around, known, starts)
        links[number] |= beginnings(scene, some, links[number])
    return [
        _told(
            one,
            own[number],
            scenes[number],
            links[number],
            (*around.notes, *around.amid.notes(turning[number])),
        )
        if number in own
        else one
        for number, one in enumerate(incidents)
    ]


def _own(
    connection: duckdb.DuckDBPyConnection, incidents: Sequence[Incident], proxies: frozenset[str]
) -> dict[int, list[Deed]]:
    """The requests of each incident, in the order of time."""
    pairs = [
        (number, audit_id)
        for number, one in enumerate(incidents)
        for audit_id in (*one.evidence[:_EVIDENCE], *one.events[:_RELATED])
    ]
    asked: dict[str, Any] = {  # noqa: F841 (DuckDB finds it by its name)
        "number": np.array([number for number, _ in pairs], dtype=np.int64),
        "wanted": np.array([audit_id for _, audit_id in pairs], dtype=object),
    }
    # Of many alike requests an incident names the earliest; its end is that of the latest.
    ends: dict[str, Any] = {  # noqa: F841
        "number": np.array([n for n, one in enumerate(incidents) for _ in one.principals], int),
        "until": np.array(
            [one.updated_at.replace(tzinfo=None) for one in incidents for _ in one.principals],
            dtype="datetime64[us]",
        ),
        "who": np.array([who for one in incidents for who in one.principals], dtype=object),
    }
    rows = connection.execute(
        f"SELECT number, {COLUMNS} FROM events JOIN asked ON audit_id = wanted"
        f" WHERE stage <> 'RequestReceived' OR code IS NULL UNION ALL"
        f" SELECT number, {COLUMNS} FROM events JOIN ends ON received_at = until AND"
        f" coalesce(nullif(\"user\", ''), '<unauthenticated>') = who"
    ).fetchall()
    found: dict[int, dict[Key, Deed]] = defaultdict(dict)
    deeds = rehearsed(connection, [deed(tuple(row), proxies) for _, *row in rows])
    for (number, *_), one in zip(rows, deeds, strict=True):
        if one.cluster == incidents[number].cluster:
            known = found[number].get(one.key)
            if known is None or known.code is None:
                found[number][one.key] = one
    return {
        number: sorted(deeds.values(), key=lambda one: one.turn) for number, deeds in found.items()
    }


class _Around(msgspec.Struct):
    """What may have led to the incidents' requests or come of them, by cluster and name."""

    named: dict[tuple[str, str, str], list[Deed]]
    forbidden: dict[tuple[str, str, str], list[Deed]]
    used: dict[tuple[str, str], list[Deed]]
    notes: tuple[str, ...] = ()
    amid: Amid = Amid({}, {}, [], {}, frozenset())


def _around(
    connection: duckdb.DuckDBPyConnection, deeds: Sequence[Deed], proxies: frozenset[str]
) -> _Around:
    """In one scan: what was done to the pods behind the tokens, their owners, the accounts, the
    bindings, and to what the incidents made; and who used the tokens that they minted."""
    names = {name for one in deeds for _, name in _interesting(one)}
    issued = sorted({one.issued for one in deeds if one.issued})
    nothing = _Around({}, {}, {})
    if not names and not issued:
        return nothing
    asked: dict[str, Any] = {  # noqa: F841 (DuckDB finds it by its name)
        "wanted": np.array(sorted(names) or [""], dtype=object)
    }
    accounts = sorted({f"system:serviceaccount:{one.namespace}:{one.name}"
                       for one in deeds if one.issued})  # fmt: skip
    begin = min(one.at for one in deeds) - _BEFORE
    end = max(one.at for one in deeds) + TOKEN_LIFE
    done = (
        "name IN (SELECT wanted FROM asked) AND (verb IN ('create', 'update',"
        " 'patch', 'delete') OR subresource IN ('exec', 'attach')) AND (subresource IS NULL OR"
        " subresource NOT IN ('status', 'eviction', 'scale')) AND (subresource IS NULL OR"
        " subresource <> 'token' OR NOT (starts_with(\"user\", 'system:node:') OR \"user\" ="
        " 'system:kube-controller-manager')) AND resource IN"
        f" ({', '.join(quoted(kind) for kind in sorted(_KINDS))})"
    )
    parameters: list[Any] = [begin.replace(tzinfo=None), end.replace(tzinfo=None)]
    if accounts:
        done = f'({done}) OR ("user" IN (SELECT unnest(?)) AND {any_in("extra", issued)})'
        parameters.append(accounts)
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM events WHERE stage_at >= ? AND received_at <= ? AND ({done})"
        f" ORDER BY received_at DESC, audit_id LIMIT {_MOST}",
        parameters,
    ).fetchall()
    around = _Around(defaultdict(list), defaultdict(list), defaultdict(list))
    if len(rows) == _MOST:
        around.notes = (
            f"Of what surrounds the incidents the latest {_MOST:,} requests were read:"
            " 'kubewitness cause AUDITID' may know of earlier causes.",
        )
    tokens = set(issued)
    found = rehearsed(connection, [deed(row, proxies) for row in rows])
    for one in sorted(found, key=lambda one: one.turn):
        if one.credential in tokens:
            around.used[one.cluster, one.credential].append(one)
        elif one.name in names:
            around.named[one.cluster, one.namespace, one.name].append(one)
            if forbidden(one):
                around.forbidden[one.cluster, one.resource, one.name].append(one)
    return around


def _interesting(one: Deed) -> list[tuple[str, str]]:
    """``(namespace, name)`` of what may have to do with a request."""
    home = account_namespace(one.principal)
    names = []
    if one.pod:
        names += [(home, name) for name in family("pods", one.pod)]
    if home and one.credential.startswith("JTI="):
        names.append((home, one.principal.rpartition(":")[2]))
    names += [
        (place, name)
        for _, place, name in filter(None, (rbac(one.binding), role_of(one)))
        if not name.startswith("system:")
    ]
    if attempted(one):
        names.append((one.namespace, one.name))
    if one.resource in OWNED | OWNERS and one.writes and one.served and one.name:
        names += [(one.namespace, name) for name in family(one.resource, one.name)]
    return names


def _scene(
    own: Sequence[Deed],
    around: _Around,
    habits: Mapping[Habit, int],
    starts: Mapping[str, datetime],
) -> Scene:
    """The requests of an incident with what may have led to them or come of them."""
    cluster = own[0].cluster
    further: dict[Key, Deed] = {}
    end = own[-1].at + _AFTER
    for place, name in {what for one in own for what in _interesting(one)}:
        for other in around.named.get((cluster, place, name), ()):
            if other.at <= end:
                further[other.key] = other
    for one in own:
        for other in around.used.get((cluster, one.issued), ()) if one.issued else ():
            further[other.key] = other
        for other in around.forbidden.get((cluster, one.resource, one.name), ()):
            if attempted(one) and timedelta(0) <= one.at - other.at <= ATTEMPT:
                further[other.key] = other
    further |= {one.key: one for one in around.amid.signed if one.cluster == cluster}
    everything = list((further | {one.key: one for one in own}).values())
    told = around.amid
    return Scene(everything, told.bodies, habits, starts.get(cluster), told.firsts, told.sittings)


def _last(incident: Incident, own: Sequence[Deed]) -> Deed:
    """The last request that proves an incident: what is only near it may come later."""
    proven, until = set(incident.evidence), (incident.updated_at, incident.principals)
    return next(
        (
            one
            for one in reversed(own)
            if one.audit_id in proven or (one.at == until[0] and one.principal in until[1])
        ),
        own[-1],
    )


def _told(
    incident: Incident,
    own: Sequence[Deed],
    scene: Scene,
    told: dict[Key, list[Found]],
    notes: Sequence[str],
) -> Incident:
    line = _line(own, _last(incident, own), told)
    chain = drawn_chain(f"incident {incident.id}", line, told, notes=notes)
    reached = _descendants(own, scene, told)
    reach = drawn_reach(f"incident {incident.id}", alike(own), reached, notes)
    return msgspec.structs.replace(
        incident,
        cause=chain,
        reach=reach,
        prevention=prevention(own, chain.person),
        considered=(*incident.considered, *_machinery(own, line)),
    )


def _machinery(own: Sequence[Deed], line: Sequence[Deed]) -> tuple[str, ...]:
    """For what only controllers and kubelets did: whether somebody is known who had them do it."""
    if any(one.of not in ("control-plane", "node") for one in own):
        return ()
    began = line[0]
    if began.of in ("control-plane", "node"):
        return ("Machinery at its work: cannot be told; nobody is seen who had it do this.",)
    what = action(began.verb, began.kind, began.subresource, began.path)
    where = f" in {began.namespace}" if began.namespace else ""
    return (
        f"Machinery at its work: yes, {named(began.principal)} did “{what}” ({began.name}{where})"
        " before, which had it do this; whether that was to be is the question.",
    )


def _line(own: Sequence[Deed], last: Deed, told: dict[Key, list[Found]]) -> list[Deed]:
    """Back from the first request to who is behind it, and on to the last one over what led from
    one identity to the next."""
    first = own[0]
    line = line_to(first, told, most=_LINE)
    handed = {found.cause.key for one in own for found in told.get(one.key, ())
              if found.kind in ("token", "entry", "pod", "certificate", "permission")
              and not doubtful(found)}  # fmt: skip
    turns = [one for one in own if one.key in handed]
    grave = sorted(
        (one for one in own if one.served), key=lambda one: (-one.technique.weight, one.turn)
    )
    chosen = [*turns[:4], *grave[:3], last]
    for one in sorted({one.key: one for one in chosen}.values(), key=lambda one: one.turn):
        if one.key not in {known.key for known in line} and one.at >= first.at:
            line.append(one)
    return line


def _descendants(
    own: Sequence[Deed], scene: Scene, told: dict[Key, list[Found]]
) -> dict[Key, tuple[Deed, list[Found]]]:
    """What was caused by the incident's requests, in the order of time."""
    reached = {one.key for one in own}
    found: dict[Key, tuple[Deed, list[Found]]] = {}
    for one in scene.deeds:
        by = [
            link
            for link in told[one.key]
            if followed(link) and link.kind != "permission" and link.cause.key in reached
        ]
        if by and one.key not in reached:
            reached.add(one.key)
            found[one.key] = (one, by)
    return found
