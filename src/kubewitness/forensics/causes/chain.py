"""Back from an object, a request or an incident to who began it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from kubewitness.activity.action import action, outcome
from kubewitness.errors import KubewitnessError
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.found import BESIDE, Found
from kubewitness.forensics.causes.gathering import ancestors
from kubewitness.forensics.causes.graph import Chain, Link, Step
from kubewitness.forensics.causes.links import doubtful
from kubewitness.forensics.causes.record import ACTS, BIRTHS, CUT, Record
from kubewitness.forensics.causes.scene import CHANGES, DELETES, Key, schedules
from kubewitness.forensics.causes.subject import (
    about,
    is_object,
    may_be_audit_id,
    named,
    requests,
    timeless,
)
from kubewitness.forensics.target import Target, find


def cause_of(
    record: Record, subject: str, namespace: str = "", at: datetime | None = None
) -> Chain:
    """What led to ``KIND/NAME`` (as it was ``at`` a time), or to the request with this auditID."""
    if is_object(subject):
        what = find(record.connection, subject, namespace=namespace or None, cluster=record.cluster)
        return cause_of_object(record, what, at)
    timeless("a request", at)
    return cause_of_request(record, subject)


def cause_of_object(record: Record, what: Target, at: datetime | None = None) -> Chain:
    """How an object came to be as it is (or was at ``at``): its creation, its last change, and
    its end if it is gone by then.

    Raises ``KubewitnessError`` for an object that nobody changed.
    """
    record.cluster = what.cluster
    history = _history(record, what, at)
    seeds = [*_turning_points(history), *_swept(record, what, history, at)]
    notes = _history_notes(record, history, seeds)
    return _chain(record, named(what), seeds, history, notes)


def cause_of_request(record: Record, audit_id: str) -> Chain:
    """What led to one request. Raises ``KubewitnessError`` for an unknown auditID."""
    found = requests(record, audit_id)
    if not found:
        hint = "" if may_be_audit_id(audit_id) else "; an object is written KIND/NAME"
        raise KubewitnessError(
            f"no request has the auditID {audit_id!r}",
            remedy=f"take one from 'kubewitness incident ID'{hint}",
        )
    notes = []
    if len({one.key for one in found}) > 1:
        notes.append(
            f"{len(found)} requests carry this auditID, which a client may choose: the last is"
            " meant."
        )
    return _chain(record, f"request {audit_id}", found[-1:], found[-1:], notes)


def _history(record: Record, what: Target, at: datetime | None) -> list[Deed]:
    done = f"{ACTS} AND (subresource IS DISTINCT FROM 'status' OR resource = 'pods')"
    found = record.life(f"{about(what)} AND {done}", at)
    served = [one for one in found if one.served]
    if served:
        return served
    if found:
        raise KubewitnessError(
            f"{named(what)} was never made or changed: all that tried was refused, or a dry run",
            remedy="ask for one of the requests by its auditID",
        )
    when = f" before {at:%Y-%m-%dT%H:%M:%SZ}" if at else ""
    span = record.bounds
    began = f"the log begins at {span[0]:%Y-%m-%dT%H:%M:%SZ}; " if span else ""
    raise KubewitnessError(
        f"nothing changed {named(what)}{when}",
        remedy=f"{began}what was there before and has not changed since leaves no trace in it",
    )


def _swept(
    record: Record, what: Target, history: Sequence[Deed], at: datetime | None
) -> list[Deed]:
    """The deletion of a collection that took the object along, if nothing was done to it by name
    since: one without a selector, or whose answer has the name."""
    written = [one for one in history if one.verb in CHANGES | DELETES and not one.subresource]
    last = written[-1] if written else history[0]
    if last.verb in DELETES:
        return []
    home = f" AND namespace = {quoted(what.namespace)}" if what.namespace else ""
    name = quoted(f'"name":"{what.name}"')
    found = record.changed(
        f"verb = 'deletecollection' AND resource = {quoted(what.kind.resource)} AND api_group ="
        f" {quoted(what.kind.group)}{home} AND subresource IS NULL"
        f" AND (NOT contains(request_uri, 'elector=') OR"
        f" contains(CAST(response_object AS VARCHAR), {name}))",
        since=last.at,
        until=at,
        most=BIRTHS,
    )
    return [one for one in found if one.served and one.at > last.at][:1]


def _turning_points(history: Sequence[Deed]) -> list[Deed]:
    """The creation, the last change and the end of the last object of this name."""
    ends = [n for n, one in enumerate(history) if _ended(one)]
    births = [n for n, one in enumerate(history) if one.creates]
    begin = births[-1] if births else 0
    if not births:
        bound = [n for n, one in enumerate(history) if schedules(one)]
        begin = bound[0] if bound else 0
    own = history[begin:]
    points = [own[0]] if births or schedules(own[0]) else []
    changes = [one for one in own if one.verb in CHANGES and one.subresource in ("", "scale")]
    if own[0].resource != "pods" and changes and changes[-1] not in points:
        points.append(changes[-1])
    last = [history[n] for n in ends if n >= begin]
    if last:
        asked = [one for one in own if _ended(one) and one.at <= last[-1].at]
        points.append(asked[-1])
    return points or list(own[-1:])


def _ended(one: Deed) -> bool:
    return one.verb in DELETES and not one.subresource


def _history_notes(record: Record, history: Sequence[Deed], seeds: Sequence[Deed]) -> list[str]:
    notes = []
    births = [one for one in history if one.creates]
    if len(births) > 1:
        many = f"{len(births)}{' or more' if len(births) >= BIRTHS else ''}"
        notes.append(
            f"{many} objects had this name one after the other; the last is meant"
            " (--at TIME for an earlier one)."
        )
    if not births and not any(schedules(one) for one in history):
        begin = f" ({record.bounds[0]:%Y-%m-%d %H:%M} UTC)" if record.bounds else ""
        notes.append(f"Its creation lies before the log begins{begin}.")
    return notes


def _chain(
    record: Record,
    subject: str,
    seeds: Sequence[Deed],
    history: Sequence[Deed],
    notes: Iterable[str],
) -> Chain:
    told = ancestors(record, seeds)
    line = line_to(seeds[0], told)
    after = _aftermath(record, seeds[0], history)
    notes = [*notes, CUT] if record.cut else notes
    return drawn_chain(subject, line, told, further=seeds, after=after, notes=notes)


def drawn_chain(
    subject: str,
    line: Sequence[Deed],
    told: Mapping[Key, list[Found]],
    *,
    further: Iterable[Deed] = (),
    after: Sequence[Deed] = (),
    notes: Iterable[str] = (),
) -> Chain:
    """A chain of what was found: ``line`` from the first cause on, and what had a part in it."""
    known = {one.key for one in (*line, *further, *after)}
    frontier = set(known)
    while frontier:
        frontier = {found.cause.key for key in frontier for found in told.get(key, ())} - known
        known |= frontier
    drawn = Drawing(
        {key: found for key, found in told.items() if key in known}, [*line, *further, *after]
    )
    origin = line[0]
    person = next((one for one in line if one.of == "human"), None)
    return Chain(
        subject=subject,
        origin=origin.principal,
        person=person.principal if person else "",
        line=tuple(drawn.number[one.key] for one in line),
        after=tuple(drawn.number[one.key] for one in after),
        steps=drawn.steps,
        links=drawn.links,
        notes=(*notes, *_limits(line, drawn, person is not None)),
    )


def line_to(seed: Deed, told: Mapping[Key, list[Found]], most: int | None = None) -> list[Deed]:
    """From the first cause (at ``most`` so far back) to the seed, taking the first cause at each
    turn; a permission allows something, and a sitting surrounds it, but neither does it."""
    line, seen = [seed], {seed.key}
    while True:
        found = [
            one
            for one in told.get(line[-1].key, ())
            if one.kind not in BESIDE and not doubtful(one) and one.cause.key not in seen
        ]
        if not found or (most is not None and len(line) > most):
            return line[::-1]
        line.append(found[0].cause)
        seen.add(found[0].cause.key)


def _aftermath(record: Record, seed: Deed, history: Sequence[Deed]) -> list[Deed]:
    """Scheduler and node: what became of a new pod."""
    if seed.resource != "pods":
        return []
    later = [one for one in history if one.at > seed.at]
    bound = [one for one in later if one.subresource == "binding"][:1]
    status = [one for one in later if one.subresource == "status" and one.of == "node"]
    return [*bound, *status[:1]]


class Drawing:
    """Deeds and what was found about them, as numbered steps and links."""

    def __init__(self, told: Mapping[Key, list[Found]], further: Iterable[Deed]) -> None:
        deeds = {one.key: one for one in further}
        for effect in told.values():
            for found in effect:
                deeds.setdefault(found.cause.key, found.cause)
        ordered = sorted(deeds.values(), key=lambda one: one.turn)
        self.number = {one.key: n for n, one in enumerate(ordered)}
        self.steps = tuple(step(n, one) for n, one in enumerate(ordered))
        self.links = tuple(
            Link(
                cause=self.number[found.cause.key],
                effect=self.number[key],
                kind=found.kind,
                certain=found.certain,
                confidence=found.confidence,
                because=found.because,
            )
            for key, effect in told.items()
            if key in self.number
            for found in effect
        )


def step(number: int, one: Deed) -> Step:
    """A deed as it is shown."""
    return Step(
        id=number,
        at=one.at,
        principal=one.principal,
        kind=one.of,
        acting_as=one.acting_as,
        action=action(one.verb, one.kind, one.subresource, one.path),
        object=f"{one.resource}/{one.name}" if one.name else one.resource,
        namespace=one.namespace,
        source_ip=one.source_ip,
        client=one.client,
        outcome=outcome(one.code, "Response"),
        binding=one.binding,
        audit_id=one.audit_id,
    )


def _limits(line: Sequence[Deed], graph: Drawing, person: bool) -> list[str]:
    notes = []
    guessed = [link for link in graph.links if "bodies" in link.because]
    if guessed or (line[-1].level == "Metadata" and len(line) > 1):
        notes.append(
            "The audit level keeps no bodies of some of these requests: owners and changes are"
            " inferred from names and times."
        )
    first = line[0]
    if not person and first.of in ("control-plane", "node"):
        notes.append(
            f"Nobody is seen before {first.principal}: what made it act is not in the log, or lies"
            " before it."
        )
    elif not person and first.of == "workload":
        notes.append(
            f"It began with the service account {first.principal}: no person is seen behind it"
            " (a program acted by itself, or what steers it leaves no trace in this log)."
        )
    return notes
