"""Which evidence belongs together: a session of one identity, and what leads from it to another.

Links are few and each has a reason that can be told. Hubs (a NAT address, a CI account that many
use) glue nothing: an address links two identities only when hardly anybody else uses it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np

from kubewitness.activity.principal import account_namespace
from kubewitness.activity.table import DAY, MICROSECONDS, Ints
from kubewitness.activity.technique import DEPLOYED
from kubewitness.incidents.issuing import certificates, tokens
from kubewitness.incidents.ledger import ASPECTS, Ledger

# Evidence of one identity from one place belongs to one session while it goes on.
SESSION_GAP = 3 * 3600 * MICROSECONDS
# The same deed again on another day continues the story (slow and low).
CONTINUING = frozenset({"action", "deed", "impersonation", "setting"})
CONTINUES_FROM = 1.5
# … where at least this share of what a session testifies was testified before.
CONTINUES_SHARE = 0.5
# An address used by at most this many identities with evidence can link them.
_RARE_ADDRESS = 2
_LINK_WITHIN = DAY
# What puts somebody in the place of the service account of a pod: getting into it, or making it.
_ENTERED = frozenset({"entered containers", "injected debug containers"})


class _Union:
    """Disjoint sets over 0…n−1 (Tarjan), with the smallest member as representative."""

    def __init__(self, size: int) -> None:
        self._parent = np.arange(size, dtype=np.int64)

    def find(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = int(self._parent[item])
        return item

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.find(one), self.find(other)))
        self._parent[second] = first

    def groups(self) -> list[Ints]:
        members: dict[int, list[int]] = defaultdict(list)
        for item in range(len(self._parent)):
            members[self.find(item)].append(item)
        return [np.array(group, dtype=np.int64) for group in members.values()]


def link(ledger: Ledger, since: int = 0) -> list[Ints]:
    """Groups of ledger lines, each in order of time; every line is in exactly one.

    No group reaches over ``since`` (µs): what began in the history and goes on is told anew.
    """
    union = _Union(len(ledger))

    def join(links: Iterable[tuple[int, int]]) -> None:
        for earlier, later in links:
            if not ledger.first[earlier] < since <= ledger.first[later]:
                union.join(earlier, later)

    join(_sessions(ledger, since))
    join(_continued(ledger, union.groups()))
    for links in (_handed_over(ledger), tokens(ledger), certificates(ledger)):
        join(links)
    return union.groups()


def _sessions(ledger: Ledger, since: int) -> Iterator[tuple[int, int]]:
    """One identity at one address with one program, as long as it shows something new without a
    long pause.

    What only repeats belongs where it was told first, and keeps no session open: otherwise a
    program that is busy all day would be one session with whatever happens next week.
    """
    previous: dict[Hashable, int] = {}
    told: dict[Hashable, dict[Hashable, int]] = defaultdict(dict)
    for line in range(len(ledger)):
        key = (session_key(ledger, line), ledger.first[line] >= since)
        evidence = sorted(
            (float(ledger.weight[aspect][line]), aspect, int(ledger.atom[aspect][line]))
            for aspect in ASPECTS
            if ledger.weight[aspect][line] > 0
        )
        fresh = [atom for atom in evidence if atom[1:] not in told[key]]
        if not fresh:
            yield told[key][evidence[-1][1:]], line
            continue
        before = previous.get(key)
        if before is not None and ledger.first[line] - ledger.last[before] <= SESSION_GAP:
            yield before, line
        previous[key] = line
        told[key].update((atom[1:], line) for atom in fresh)


def session_key(ledger: Ledger, line: int) -> Hashable:
    """What makes one session: an identity at an address with a program (a thief sits elsewhere,
    or brings a program along); for callers without a name the address alone."""
    texts = ledger.texts
    if texts["class"][line] == "anonymous":
        return (texts["cluster"][line], "", texts["source_ip"][line])
    columns = ("cluster", "principal", "source_ip", "client", "platform")
    return tuple(texts[column][line] for column in columns)


def _neighbourhood(ledger: Ledger, line: int) -> Hashable:
    """Where the same deed continues a story: the pods of a workload come and go, each with an
    address of its own."""
    texts = ledger.texts
    where = "network" if texts["class"][line] == "workload" else "source_ip"
    columns = ("cluster", "actor", "bearer", where, "client", "platform")
    return tuple(texts[column][line] for column in columns)


def _continued(ledger: Ledger, sessions: Sequence[Ints]) -> Iterator[tuple[int, int]]:
    """A session that mostly repeats the surprising deeds of an earlier one of the same identity
    in the same place with the same program, or does more of their kind: who takes a few secrets a
    day takes others every day.

    Mostly: a program that is refused the same thing every day would else be one story with
    whatever else is done with its token.
    """
    deeds = _deeds(ledger)
    latest: dict[Hashable, int] = {}
    for session in sorted(sessions, key=lambda lines: int(lines[0])):
        shared: dict[int, float] = defaultdict(float)
        for line in session:
            before = {latest[deed] for deed in deeds.get(int(line), ()) if deed in latest}
            if before:
                shared[max(before)] += float(ledger.total[line])
        if sum(shared.values()) >= CONTINUES_SHARE * float(ledger.total[session].sum()):
            for before_line in shared:
                yield before_line, int(session[0])
        for line in session:
            latest.update(dict.fromkeys(deeds.get(int(line), ()), int(line)))


def _deeds(ledger: Ledger) -> dict[int, list[Hashable]]:
    """For each line the surprising deeds, and their kind, by which a story can be told to go on."""
    line_of = {int(row): line for line, row in enumerate(ledger.rows)}
    deeds: dict[int, list[Hashable]] = defaultdict(list)
    for line in np.flatnonzero(ledger.total >= CONTINUES_FROM).tolist():
        deeds[line].append((_neighbourhood(ledger, line), ledger.techniques[line].did))
    for number, finding in enumerate(ledger.findings):
        if finding.factor.name not in CONTINUING:
            continue
        telling = (finding.weight >= CONTINUES_FROM) & np.isin(finding.rows, ledger.rows)
        for row, atom in zip(finding.rows[telling], finding.atom[telling], strict=True):
            line = line_of[int(row)]
            deeds[line].append((_neighbourhood(ledger, line), number, int(atom)))
    return deeds


def _handed_over(ledger: Ledger) -> Iterator[tuple[int, int]]:
    """From one identity or program to another: an address in a network that this cluster had never
    heard from, behind both; or a pod that was opened for it."""
    identities: dict[Hashable, set[str]] = defaultdict(set)
    for line in range(len(ledger)):
        place = (ledger.texts["cluster"][line], ledger.texts["source_ip"][line])
        identities[place].add(ledger.texts["actor"][line])
    at_address: dict[Hashable, int] = {}
    prepared: dict[Hashable, int] = {}
    for line in range(len(ledger)):
        texts = ledger.texts
        cluster, address = texts["cluster"][line], texts["source_ip"][line]
        if address and ledger.foreign[line] and len(identities[cluster, address]) <= _RARE_ADDRESS:
            before = at_address.get((cluster, address))
            if before is not None and ledger.first[line] - ledger.last[before] <= _LINK_WITHIN:
                yield before, line
            at_address[cluster, address] = line
        home = account_namespace(texts["principal"][line])
        for pod in (texts["pod"][line], texts["bearer"][line].removesuffix("-*")):
            opened = prepared.get((cluster, home, pod)) if pod else None
            if opened is not None and ledger.first[line] - ledger.last[opened] <= _LINK_WITHIN:
                yield opened, line
        if texts["outcome"][line] == "ok" and ledger.total[line] >= CONTINUES_FROM:
            for pod in _opened(ledger, line):
                prepared[cluster, texts["namespace"][line], pod] = line


def _opened(ledger: Ledger, line: int) -> Sequence[str]:
    """The pods that this line leads into: those entered by name, those of a workload that was
    made by its name without what is generated."""
    did = ledger.techniques[line].did
    if did in _ENTERED:
        names: list[str] = ledger.texts["name_samples"][line]
        return names
    if did in DEPLOYED and ledger.texts["verb"][line] == "create":
        return [ledger.texts["template"][line].removesuffix("-*")]
    return ()
