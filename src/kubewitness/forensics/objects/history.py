"""Every change of an object: who, from where, with what, allowed by what, and what it changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import duckdb
import msgspec

from kubewitness.activity.principal import UNAUTHENTICATED, principal_class
from kubewitness.forensics.objects.fields import differences
from kubewitness.forensics.objects.knowledge import Unknown, child, fits
from kubewitness.forensics.objects.model import Change, Effect, History, Subject
from kubewitness.forensics.objects.outline import latest, outline
from kubewitness.forensics.objects.record import Record, records
from kubewitness.forensics.objects.replay import State, replayed
from kubewitness.forensics.objects.writing import APPLY, settled, written
from kubewitness.forensics.target import Target

BEGUN_BEFORE = (
    "It was there before this log tells of it: who made it, and what was changed until then, is not"
    " knowable."
)
NO_BODIES = (
    "All writes were logged at level Metadata: who wrote and when is known, what was written is not"
    " knowable at this audit level."
)
SOME_BODIES = "Some writes were logged without bodies: what they changed is not knowable."
UNEXPLAINED = (
    "the answer holds more than this request asked for: admission added to it, or there was"
    " a write that this log does not hold"
)
ONLY_READ = "No write of it is in this log: it was there before, or was only asked for."
LIVES = (
    "{} objects had this name, one after another: what was deleted and made again has another uid."
)


def history(
    connection: duckdb.DuckDBPyConnection,
    target: Target,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
) -> History:
    """All that the view ``changes`` says was done to ``target``, from ``since`` until ``until``;
    with ``limit`` the latest so many requests that wrote it or entered it."""
    seen = outline(connection, target, until) if since or limit else None
    began = latest(seen, limit) if seen and limit else None
    more = began is not None and (since is None or began > since)
    since = began if more else since
    # What the first of them changed is told by what was before it.
    before = since - timedelta.resolution if since else None
    found = records(connection, target, since=before, until=until, seen=seen, sources=not more)
    steps = [step for step in replayed(found, target) if since is None or step[0].at >= since]
    changes = [_change(*step, target) for step in steps if _tells(*step)]
    lives = steps[-1][2].life if steps else 0
    return History(subject(target), folded(changes), lives, _notes(steps), more)


def subject(target: Target) -> Subject:
    return Subject(target.cluster, str(target.kind), target.namespace, target.name)


def folded(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Runs of changes that say nothing new as one: updates of one principal without a change,
    refusals and touches alike. What was known before and after each stays told."""
    result: list[Change] = []
    for change in changes:
        last = result[-1] if result else None
        if last is not None and _alike(last, change):
            result[-1] = msgspec.structs.replace(
                last,
                until=change.at,
                n=last.n + 1,
                audit_ids=(*last.audit_ids, *change.audit_ids),
            )
        else:
            result.append(change)
    return tuple(result)


def _alike(one: Change, other: Change) -> bool:
    return one.effect in ("unchanged", "not knowable", "refused", "touched", "dry run") and all(
        getattr(one, name) == getattr(other, name)
        for name in (
            *("life", "effect", "how", "subresource", "principal", "acting_as", "user_agent"),
            *("outcome", "source_ips", "reason", "fields"),
        )
    )


def _tells(record: Record, before: State, after: State) -> bool:
    """Whether it belongs to the history: reads do not, nor collections that held others only."""
    if record.verb == "get":
        return record.touches
    return record.verb != "deletecollection" or before is not after


def _change(record: Record, before: State, after: State, target: Target) -> Change:
    fresh = after.life != before.life
    compared = () if fresh else differences(before.object, after.object)
    effect = _effect(record, before, after, bool(compared))
    return Change(
        at=record.at,
        until=record.at,
        life=after.life,
        uid=after.uid,
        effect=effect,
        how=_how(record, State() if fresh else before, target),
        subresource=record.subresource,
        principal=record.user or UNAUTHENTICATED,
        acting_as=record.acting_as,
        owner="" if principal_class(record.user) == "human" else owner(after, before),
        source_ips=record.source_ips,
        user_agent=record.user_agent,
        reason=record.reason,
        outcome=record.outcome,
        code=record.code,
        level=record.level,
        fields=compared if effect in ("changed", "not knowable") else (),
        note=_note(record, before, after, target),
        n=1,
        audit_ids=(record.audit_id,),
    )


def _effect(record: Record, before: State, after: State, differ: bool) -> Effect:
    fresh = after.life != before.life
    # A request whose body and answer are both missing changed nobody knows what.
    bare = record.request is None and record.answered is None
    effects: tuple[tuple[Effect, bool], ...] = (
        ("refused", record.outcome != "ok"),
        ("dry run", record.dry_run),
        ("deleted", after.existence == "gone" != before.existence),
        ("terminating", after.existence == "terminating" != before.existence),
        ("touched", record.touches),
        ("created", fresh and after.begun == record.at),
        ("not knowable", bare or (fresh and record.answered is None)),
        ("changed", fresh or differ),
    )
    return next((effect for effect, holds in effects if holds), "unchanged")


def _how(record: Record, before: State, target: Target) -> str:
    if record.verb != "patch":
        return record.verb
    possible = settled(before.object, record, target.kind)
    if possible == (APPLY,):
        return f"{APPLY} by {record.query['fieldManager'][0]}"
    return " or ".join(possible) or "patch"


def owner(*states: State) -> str:
    """The object's controller, as ``Kind/name``."""
    for state in states:
        references = child(state.object, "metadata").get("ownerReferences")
        for one in references if isinstance(references, list) else ():
            if isinstance(one, dict) and one.get("controller"):
                return f"{_text(one.get('kind'))}/{_text(one.get('name'))}"
    return ""


def _text(value: Any) -> str:
    return "?" if value is None or isinstance(value, Unknown) else str(value)


def _note(record: Record, before: State, after: State, target: Target) -> str:
    if after.life > before.life > 0:
        return "another object of the same name"
    if after.life > before.life and after.begun is None:
        return "what was before is not knowable from this log"
    if record.verb == "deletecollection":
        told = ", ".join(
            f"{key}={value}"
            for key, values in record.query.items()
            for value in values
            if key in ("labelSelector", "fieldSelector")
        )
        return (
            f"deleted with all that match {told}" if told else "deleted with all of its kind there"
        )
    if _unexplained(record, before, target):
        return UNEXPLAINED
    added = [note for note in after.notes if note not in before.notes]
    return "; ".join(added)


def _unexplained(record: Record, before: State, target: Target) -> bool:
    """Whether the answer contradicts what the request alone makes of what was known."""
    return (
        record.verb in ("update", "patch")
        and record.outcome == "ok"
        and not record.dry_run
        and record.answered is not None
        and record.request is not None
        and not fits(written(before.object, record, target.kind), record.answered)
    )


def _notes(steps: Sequence[tuple[Record, State, State]]) -> tuple[str, ...]:
    writes = [record for record, _, _ in steps if record.outcome == "ok" and record.verb != "get"]
    bare = [
        one for one in writes if one.request is None and one.verb in ("create", "update", "patch")
    ]
    bodied = [one for one in writes if one.request is not None]
    notes = []
    if not writes:
        notes.append(ONLY_READ)
    if steps and (first := next((s for _, _, s in steps if s.life), None)) and first.begun is None:
        notes.append(BEGUN_BEFORE)
    if bare:
        notes.append(SOME_BODIES if bodied else NO_BODIES)
    if steps and steps[-1][2].life > 1:
        notes.append(LIVES.format(steps[-1][2].life))
    return tuple(notes)
