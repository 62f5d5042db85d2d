"""What happened, moment by moment, and what was touched."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from kubewitness.activity.technique import READS
from kubewitness.incidents.ledger import Ledger
from kubewitness.incidents.model import Moment
from kubewitness.incidents.ranking import Case

_MOMENTS = 200
_OBJECTS = 40
_MANY = READS | {"deletecollection"}


def objects(ledger: Ledger, case: Case) -> tuple[str, ...]:
    """``resource namespace/name`` of what was touched, the most telling first, at most forty.

    A request for all objects of a kind names none: ``secrets in shop``.
    """
    found: dict[str, None] = {}
    for line in sorted(case.lines, key=lambda line: -float(ledger.total[line])):
        resource, namespace = ledger.texts["resource"][line], ledger.texts["namespace"][line]
        for name in ledger.texts["name_samples"][line] if resource else ():
            if name:
                found[f"{resource} {namespace}/{name}" if namespace else f"{resource} {name}"] = (
                    None
                )
            else:
                found[f"{resource} in {namespace}" if namespace else resource] = None
    return tuple(found)[:_OBJECTS]


def timeline(ledger: Ledger, case: Case) -> tuple[Moment, ...]:
    """The lines as moments, at most two hundred: the most telling ones, in order of time."""
    telling = {atom.line for atom in case.atoms[:12]}
    kept = sorted(case.lines, key=lambda line: -float(ledger.total[line]))[:_MOMENTS]
    return tuple(moment(ledger.texts, line, line in telling) for line in sorted(kept))


def moment(texts: dict[str, list[Any]], line: int, notable: bool) -> Moment:
    """One activity row as a moment."""
    names = texts["name_samples"][line]
    name = names[0] if len(names) == 1 else texts["template"][line]
    if not name and texts["verb"][line] in _MANY:
        name = "*"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Moment(
        at=texts["first"][line].replace(tzinfo=UTC),
        until=texts["last"][line].replace(tzinfo=UTC),
        principal=texts["principal"][line],
        acting_as=texts["acting_as"][line],
        action=texts["action"][line],
        object=f"{name}{more}" if texts["resource"][line] else "",
        namespace=texts["namespace"][line],
        source_ip=texts["source_ip"][line],
        client=" ".join(part for part in (texts["client"][line], texts["release"][line]) if part),
        outcome=texts["outcome"][line],
        n=int(texts["n"][line]),
        notable=notable,
        audit_ids=tuple(texts["audit_ids"][line]),
    )
