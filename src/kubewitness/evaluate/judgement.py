"""The crediting rule: which incidents found which attacks, and what that makes in figures.

An incident is credited to at most one episode, the one that owns most of its evidence, when at
least one piece of evidence is the actor's own deed, at least ``PURITY`` of it belongs to the
episode, and it accuses one of the episode's actors or source addresses. So neither one giant
incident nor a shower of single events scores. Attacks are counted, not events.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from kubewitness.evaluate.dataset import ATTACK, Episode
from kubewitness.incidents.model import Incident

PURITY = 0.3
BUDGETS = (3, 5, 10)
FAMILIES_AT = 5
"""The budget at which families and misses are told, unless there are more attacks than that."""
UNEXPLAINED = "unexplained"
_DAY = 86_400.0


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of incidents is worth.

    ``recall`` and ``precision`` by incidents a day; ``r_precision``: attacks found among the K
    best incidents, K being the number of attacks. ``alert…`` and ``false_alerts…`` are at the
    detector's own operating point; ``false_alerts_by_kind`` counts them by what they showed.
    ``seconds_to_detect`` is a median, ``completeness`` the mean share of an attack's own events
    in the incidents that found it; None where nothing was found. ``families`` says how many of
    each attack family were found of how many, at 5 a day or among K if that is more.
    """

    days: float
    incidents: int
    attacks: int
    recall: dict[int, float]
    precision: dict[int, float]
    r_precision: float
    alerts: int
    alert_recall: float
    false_alerts_per_day: float
    false_alerts_by_kind: dict[str, int]
    seconds_to_detect: float | None
    completeness: float | None
    families: dict[str, tuple[int, int]]
    missed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Credited:
    """An incident and the episode it is credited to, if any."""

    incident: Incident
    episode: Episode | None

    @property
    def attack(self) -> str | None:
        """The attack it found."""
        found = self.episode is not None and self.episode.label == ATTACK
        return self.episode.episode_id if self.episode is not None and found else None


def credit(incidents: Iterable[Incident], episodes: Iterable[Episode]) -> list[Credited]:
    """Credit each incident; the order stays."""
    known = {episode.episode_id: episode for episode in episodes if episode.audit_ids}
    owner = {audit_id: e.episode_id for e in known.values() for audit_id in e.related_ids}
    owner |= {audit_id: e.episode_id for e in known.values() for audit_id in e.audit_ids}
    return [Credited(incident, _owner(incident, owner, known)) for incident in incidents]


def _owner(
    incident: Incident, owner: Mapping[str, str], episodes: Mapping[str, Episode]
) -> Episode | None:
    evidence = set(incident.evidence)
    owned = Counter(owner[audit_id] for audit_id in evidence if audit_id in owner)
    for episode_id, n in sorted(owned.items(), key=lambda item: (-item[1], item[0])):
        episode = episodes[episode_id]
        accused = set(incident.principals) & set(episode.actors) or set(incident.source_ips) & set(
            episode.source_ips
        )
        pure = n / len(evidence) >= PURITY
        if pure and accused and evidence.intersection(episode.audit_ids):
            return episode
    return None


def judge(
    incidents: Iterable[Incident],
    episodes: Sequence[Episode],
    since: datetime | None = None,
    until: datetime | None = None,
) -> Judgement:
    """Judge the incidents that opened from ``since`` to ``until``."""
    attacks = {
        episode.episode_id: episode
        for episode in episodes
        if episode.label == ATTACK
        and episode.audit_ids
        and (since is None or episode.end >= since)
        and (until is None or episode.start <= until)
    }
    window = sorted(
        (
            incident
            for incident in incidents
            if (since is None or incident.opened_at >= since)
            and (until is None or incident.opened_at <= until)
        ),
        key=lambda incident: -incident.score,
    )
    times = [i.opened_at for i in window] + [attack.start for attack in attacks.values()]
    begin, end = since or min(times, default=None), until or max(times, default=None)
    days = (end - begin).total_seconds() / _DAY if begin and end else 1.0
    days = max(days, 1 / 24)
    credited = credit(window, episodes)

    def recall(rows: Iterable[Credited]) -> float:
        return len(_found(rows, attacks)) / max(1, len(attacks))

    top = {n: credited[: max(1, round(n * days))] for n in BUDGETS}
    alerts = [row for row in credited if row.incident.alert]
    false = [row for row in alerts if row.attack not in attacks]
    # In a log of hours a budget a day leaves room for one incident, whatever it holds.
    hits = _found(credited[: max(len(top[FAMILIES_AT]), len(attacks))], attacks)
    delay, completeness = _thoroughness(credited, attacks)
    return Judgement(
        days=days,
        incidents=len(window),
        attacks=len(attacks),
        recall={n: recall(rows) for n, rows in top.items()},
        precision={
            n: sum(row.attack in attacks for row in rows) / max(1, len(rows))
            for n, rows in top.items()
        },
        r_precision=recall(credited[: len(attacks)]),
        alerts=len(alerts),
        alert_recall=recall(alerts),
        false_alerts_per_day=len(false) / days,
        false_alerts_by_kind=dict(
            Counter(row.episode.label if row.episode else UNEXPLAINED for row in false)
        ),
        seconds_to_detect=delay,
        completeness=completeness,
        families=_families(hits, attacks),
        missed=tuple(
            sorted(f"{k} {a.family}: {a.title}" for k, a in attacks.items() if k not in hits)
        ),
    )


def _found(rows: Iterable[Credited], attacks: Mapping[str, Episode]) -> set[str]:
    return {row.attack for row in rows if row.attack is not None and row.attack in attacks}


def _thoroughness(
    rows: Iterable[Credited], attacks: Mapping[str, Episode]
) -> tuple[float | None, float | None]:
    """The median seconds from an attack's first event to its first incident, and how much of its
    own events all its incidents together show."""
    opened: dict[str, datetime] = {}
    shown: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.attack is not None and row.attack in attacks:
            at = row.incident.opened_at
            opened[row.attack] = min(opened.get(row.attack, at), at)
            shown[row.attack].update(row.incident.evidence, row.incident.events)
    if not opened:
        return None, None
    delays = [max(0.0, (at - attacks[k].start).total_seconds()) for k, at in opened.items()]
    shares = [
        len(shown[k].intersection(attacks[k].audit_ids)) / len(set(attacks[k].audit_ids))
        for k in opened
    ]
    return statistics.median(delays), statistics.mean(shares)


def _families(hits: set[str], attacks: Mapping[str, Episode]) -> dict[str, tuple[int, int]]:
    families: dict[str, tuple[int, int]] = {}
    for episode_id, attack in sorted(attacks.items(), key=lambda item: item[1].family):
        found, of = families.get(attack.family, (0, 0))
        families[attack.family] = (found + (episode_id in hits), of + 1)
    return families
