"""A rehearsal: attacks that never happened, woven into a copy of a real log, with the truth about
them. ``kubewitness evaluate`` then says which would have been noticed.

Nothing comes from elsewhere than the log itself, but the script: a request is an example of the
same kind of request of this cluster, made by somebody else. What controllers would have done in
reaction is not told.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.dataset import ATTACK, read_dataset
from kubewitness.evaluate.rehearsal.casting import Casting
from kubewitness.evaluate.rehearsal.family import Family, families
from kubewitness.evaluate.rehearsal.forging import Forge
from kubewitness.evaluate.rehearsal.performing import Episode, Stage
from kubewitness.evaluate.rehearsal.playwright import Playwright
from kubewitness.evaluate.rehearsal.script import Script
from kubewitness.evaluate.rehearsal.survey import Survey
from kubewitness.evaluate.rehearsal.weaving import Log, weave
from kubewitness.sources.tally import Tally
from kubewitness.times import Moment

TRUTH, TEST_FROM = "truth.jsonl", "test_from.txt"
_JUDGED = 1 / 3
"""The last part of a log, where nobody says which."""
_LONGEST = 0.8
"""Of the judged part, an attack of days lasts at most so much."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What was written: a dataset in ``folder``, of which ``since`` on is judged.

    ``families`` are those of the attacks, in order of time; ``removed`` is how many labelled
    attacks were taken out, ``kept`` how many other episodes were kept.
    """

    folder: Path
    since: datetime
    families: tuple[str, ...]
    lines: int
    removed: int
    kept: int
    tally: Tally


def rehearse(
    paths: Sequence[str | Path],
    folder: Path,
    *,
    seed: int = 0,
    attacks: int = 20,
    since: Moment | None = None,
    poison: bool = False,
    only: Sequence[Family] = (),
    progress: Callable[[str], None] = lambda what: None,
) -> Rehearsed:
    """Copy the logs at ``paths`` into the new ``folder``, with ``attacks`` from ``since`` on.

    A path may be a labelled dataset: its attacks are taken out, its other episodes stay in the
    truth, and ``since`` is where its history ends, if not given. ``poison``: each attack was done
    once before, in the history, and nobody labelled it. ``only``: these families instead of all.
    The same seed gives the same bytes. Raises ``KubewitnessError``.
    """
    _require_new(folder)
    rng = random.Random(seed)
    files, known = _sources(paths)
    log = Log(files)
    survey = Survey(random.Random(rng.getrandbits(64)))
    progress("looking at the log")
    test_starts: datetime | None = None
    for source, line in log.lines(known.attack_ids):
        at = survey.see(line)
        if source == known.test_file:
            test_starts = min(test_starts or at, at)
    if survey.first is None or survey.last is None:
        raise KubewitnessError("no events in it", where=", ".join(map(str, paths)))
    begins = known.test_from or test_starts
    if since is not None:
        begins = since.at(survey.last)
    if begins is None:
        begins = survey.last - (survey.last - survey.first) * _JUDGED
    if not survey.first < begins < survey.last:
        raise KubewitnessError(
            f"the log has nothing before or nothing after {begins:%Y-%m-%dT%H:%M:%SZ}",
            remedy="give a time within the log with --from",
        )
    progress("writing the attacks")
    troupe = _Troupe(survey, begins, rng)
    played = [
        troupe.play(family, n, attacks) for n, family in enumerate(_chosen(only, attacks, rng))
    ]
    events = [event for episode, _ in played for event in episode.events]
    if poison:
        events += [event for _, script in played for event in troupe.before(script).events]
    progress("copying the log")
    _make(folder)
    lines = weave(log.lines(known.attack_ids), sorted(events), folder)
    played.sort(key=lambda one: one[0].start)
    _write_truth(folder, played, known.others)
    (folder / TEST_FROM).write_text(f"{_text(begins)}\n", encoding="utf-8")
    return Rehearsed(
        folder,
        begins,
        tuple(script.family.name for _, script in played),
        lines,
        known.removed,
        len(known.others),
        log.tally,
    )


class _Troupe:
    """Everybody that it takes: who casts, who writes, who performs."""

    def __init__(self, survey: Survey, since: datetime, rng: random.Random) -> None:
        assert survey.first is not None
        assert survey.last is not None
        self._rng = rng
        self._first, self._since, self._until = survey.first, since, survey.last
        casting = Casting(survey, since, rng)
        self._playwright = Playwright(casting, rng)
        forge = Forge(casting, rng)
        self._stage = Stage(forge, survey, since, survey.last, rng)
        self._history = Stage(forge, survey, survey.first, since, rng)

    def play(self, family: Family, place: int, of: int) -> tuple[Episode, Script]:
        """The attack at this place of so many, evenly spread over the judged part."""
        span = self._until - self._since
        around = self._since + span * ((place + self._rng.random()) / of)
        script = self._playwright.write(family, around, span * _LONGEST)
        return self._stage.perform(script, self._stage.moment(script, around)), script

    def before(self, script: Script) -> Episode:
        """The same attack in the later half of the history."""
        span = self._since - self._first
        around = self._since - span * self._rng.uniform(0.1, 0.5)
        return self._history.perform(script, self._history.moment(script, around))


@dataclass(frozen=True, slots=True)
class _Known:
    """What a labelled source says: whose events to leave out, which episodes (JSON) to keep."""

    attack_ids: frozenset[str] = frozenset()
    others: tuple[bytes, ...] = ()
    removed: int = 0
    test_from: datetime | None = None
    test_file: str | None = None


def _sources(paths: Sequence[str | Path]) -> tuple[list[str | Path], _Known]:
    files: list[str | Path] = []
    known = _Known()
    for path in paths:
        if not (Path(path) / TRUTH).is_file():
            files.append(path)
            continue
        dataset = read_dataset(Path(path))
        files += dataset.files
        attacks = [episode for episode in dataset.episodes if episode.label == ATTACK]
        lines = (Path(path) / TRUTH).read_bytes().splitlines()
        known = _Known(
            known.attack_ids.union(*((*e.audit_ids, *e.related_ids) for e in attacks)),
            known.others + tuple(line for line in lines if line.strip() and not _is_attack(line)),
            known.removed + len(attacks),
            dataset.test_from or known.test_from,
            str(dataset.test_file) if dataset.test_file is not None else known.test_file,
        )
    return files, known


def _is_attack(line: bytes) -> bool:
    return bool(msgspec.json.decode(line).get("label") == ATTACK)


def _chosen(only: Sequence[Family], attacks: int, rng: random.Random) -> list[Family]:
    """As many families, each as often as any other."""
    chosen: list[Family] = []
    while len(chosen) < attacks:
        pool = list(only or families())
        rng.shuffle(pool)
        chosen += pool
    return chosen[:attacks]


def _require_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KubewitnessError(
            "is there already, and not empty", where=str(folder), remedy="give a new folder"
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KubewitnessError(
            f"cannot be made: {error.strerror or error}", where=str(folder)
        ) from error


def _write_truth(
    folder: Path, played: Sequence[tuple[Episode, Script]], others: Sequence[bytes]
) -> None:
    name = folder.resolve().name
    lines = [
        msgspec.json.encode(_told(name, number, episode, script))
        for number, (episode, script) in enumerate(played, 1)
    ]
    (folder / TRUTH).write_bytes(b"".join(line + b"\n" for line in (*lines, *others)))


def _told(name: str, number: int, episode: Episode, script: Script) -> dict[str, Any]:
    actor = script.players["actor"]
    return {
        "episode_id": f"rehearsed-{number:03}",
        "cluster": name,
        "label": ATTACK,
        "family": script.family.name,
        "title": script.title,
        "mitre": script.family.mitre,
        "start": _text(episode.start),
        "end": _text(episode.end),
        "variant": {"from": actor.place, "with": actor.tool},
        "actors": episode.actors,
        "source_ips": episode.source_ips,
        "audit_ids": episode.audit_ids,
        "difficulty": script.difficulty,
    }


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
