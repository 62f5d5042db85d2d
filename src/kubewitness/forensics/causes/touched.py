"""What was done, summed up: requests alike, by what they could serve and what they were about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from kubewitness.activity.principal import principal_class
from kubewitness.activity.technique import Technique, technique
from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.graph import Touched

MOST_NAMES = 1000
"""Of requests alike so many names of objects are known; of more, only how many there are."""


class Alike(NamedTuple):
    """``n`` requests that differ by their time and the ``objects`` they name only. ``names`` are
    the first of these; ``kind`` is the resource with its API group."""

    principal: str
    verb: str
    kind: str
    subresource: str
    namespace: str
    traits: str
    refused: bool
    dry: bool
    n: int
    objects: int
    names: tuple[str, ...]
    first: datetime
    last: datetime

    @property
    def technique(self) -> Technique:
        """What they could be good for."""
        return technique(self.verb, self.kind, self.subresource, self.namespace, self.traits)


def alike(deeds: Iterable[Deed]) -> list[Alike]:
    """Each of some deeds, by itself."""
    return [
        Alike(
            one.principal,
            one.verb,
            one.kind,
            one.subresource,
            one.namespace,
            one.traits,
            one.refused,
            one.dry,
            1,
            bool(one.name),
            (one.name,) if one.name else (),
            one.at,
            one.at,
        )
        for one in deeds
    ]


def summarised(done: Sequence[Alike], caused: Sequence[Alike]) -> tuple[Touched, ...]:
    """Requests by what they could serve, kind of object and namespace, the grave first."""
    groups: dict[tuple[bool, str, str, str], list[Alike]] = defaultdict(list)
    for is_caused, several in ((False, done), (True, caused)):
        for one in several:
            if one.kind:
                groups[is_caused, one.technique.did, one.kind, one.namespace].append(one)
    touched = [_touched(key, several) for key, several in groups.items()]
    return tuple(sorted(touched, key=lambda one: (-one.weight, one.caused, -one.n, one.first)))


def _touched(key: tuple[bool, str, str, str], several: list[Alike]) -> Touched:
    is_caused, did, kind, namespace = key
    several.sort(key=lambda one: one.first)
    served = [one for one in several if not one.refused and not one.dry]
    names = dict.fromkeys(name for one in served or several for name in one.names)
    weight = max(one.technique.weight for one in several)
    return Touched(
        caused=is_caused,
        did=did,
        resource=kind,
        namespace=namespace,
        principals=tuple(dict.fromkeys(one.principal for one in several))[:8],
        n=sum(one.n for one in several),
        refused=sum(one.n for one in several if one.refused),
        objects=max(len(names), *(one.objects for one in served or several)),
        examples=tuple(names)[:5],
        # What was refused or tried out was not gained, and what machinery does of it is its job.
        weight=round(weight * (1.0 if served else 0.5) * (0.6 if _machinery(several) else 1.0), 2),
        first=min(one.first for one in several),
        last=max(one.last for one in several),
    )


def _machinery(several: Iterable[Alike]) -> bool:
    return all(principal_class(one.principal) in ("control-plane", "node") for one in several)
