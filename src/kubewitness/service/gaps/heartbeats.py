"""Leases that are renewed every few seconds: who falls silent while others are heard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from kubewitness.incidents.model import Severity
from kubewitness.report.inert import plain
from kubewitness.report.wording import plural
from kubewitness.service.gaps.model import Finding, named
from kubewitness.service.gaps.survey import Mark
from kubewitness.service.gaps.usual import Usual

LEAST = 120.0
"""Seconds without a renewal that are nothing yet: an API server may hold a batch back for 30."""
PLENTY = 20
"""Renewals after which a rhythm is known."""
FORGET = 86_400.0
"""Seconds after which what is missing is taken for gone."""
MOST = 20_000

_BEATS = ("node", "leader", "server", "process")


class Beat(msgspec.Struct, array_like=True):
    """What is known of one that renews: first and last heard of, how often, its usual pauses.

    ``alive``: when it last did anything else; ``noticed``: when the node controller last changed
    it; ``told``: the finding it belongs to, as the time since when that is so, or 0.
    """

    first: float
    last: float
    usual: Usual = msgspec.field(default_factory=Usual)
    n: int = 0
    alive: float = 0.0
    noticed: float = 0.0
    told: float = 0.0


class Heartbeats(msgspec.Struct):
    """All who renew in one cluster, by (what, name)."""

    beats: dict[tuple[str, str], Beat] = {}

    def hear(self, mark: Mark, resumed: float) -> None:
        """Take note of a sign of life. Of the time before ``resumed`` nothing is known."""
        if mark.what == "gone":
            for what in ("node", "leader", "server"):
                self.beats.pop((what, mark.name), None)
        elif mark.what in _BEATS:
            self._beat(mark, resumed)
        elif beat := self.beats.get(("node", mark.name)):
            if mark.what == "alive":
                beat.alive = max(beat.alive, mark.last)
            else:
                beat.noticed = max(beat.noticed, mark.last)

    def _beat(self, mark: Mark, resumed: float) -> None:
        beat = self.beats.get((mark.what, mark.name))
        if beat is None:
            if len(self.beats) >= MOST:
                return
            beat = self.beats[mark.what, mark.name] = Beat(mark.first, mark.first)
        beat.n += mark.n
        pauses = []
        if mark.first > beat.last >= resumed:
            pauses.append(mark.first - beat.last)
        if mark.n > 1:
            pauses.append((mark.last - mark.first) / (mark.n - 1))
        for pause in pauses:
            beat.usual.learn(pause, mark.last, told=beat.told > 0)
        if mark.last > beat.last:
            beat.last, beat.told = mark.last, 0.0

    def judge(self, now: float, resumed: float) -> list[Finding]:
        """Who is missing at ``now``, up to when all that will come has come."""
        for key, beat in [*self.beats.items()]:
            if now - beat.last > FORGET:
                del self.beats[key]
        leases = {key: beat for key, beat in self.beats.items() if key[0] != "process"}
        servers = {key: beat for key, beat in leases.items() if key[0] == "server"}
        if not servers:
            servers = {key: beat for key, beat in self.beats.items() if key[0] == "process"}
        findings = [*self._servers(servers, now, resumed)]
        others = {key: beat for key, beat in leases.items() if key[0] != "server"}
        if len(servers) == 1:  # the log of its only API server is the cluster's
            others |= {key: beat for key, beat in leases.items() if key[0] == "server"}
        return [*findings, *self._leases(others, now, resumed)]

    def _servers(
        self, servers: dict[tuple[str, str], Beat], now: float, resumed: float
    ) -> Iterator[Finding]:
        missing = [key for key in servers if _missing(servers[key], now, resumed)]
        if len(servers) < 2 or len(missing) == len(servers):
            return
        for key in missing:
            beat = servers[key]
            if any(other.first > beat.last - LEAST for other in servers.values()):
                del self.beats[key]  # replaced by another
                continue
            beat.told = beat.last
            rest = plural(len(servers) - len(missing), "other API server")
            yield Finding(
                "api-server",
                key[1],
                "high",
                beat.last,
                f"API server {plain(key[1], 60)} is not heard any more",
                "all that is asked of this API server: about"
                f" one in {len(servers)} of the cluster's requests",
                f"the API server {plain(key[1], 60)} used to write of itself every"
                f" {_pause(beat)}, and writes nothing while {rest}"
                f" {'does' if rest.startswith('1 ') else 'do'}",
                "if it runs, see why its log does not arrive: its audit backend's settings, its"
                " own log for errors of the webhook, the shipper of its node",
                (key[1],),
            )

    def _leases(
        self, leases: dict[tuple[str, str], Beat], now: float, resumed: float
    ) -> Iterator[Finding]:
        known = {key for key, beat in leases.items() if beat.n >= PLENTY}
        missing = [key for key in known if _missing(leases[key], now, resumed)]
        if len(known) < 2:
            return
        groups: dict[float, list[tuple[str, str]]] = defaultdict(list)
        for key in sorted(missing, key=lambda key: (not leases[key].told, leases[key].last)):
            beat = leases[key]
            if not beat.told:
                beat.told = next((told for told in groups if _together(told, beat)), beat.last)
            groups[beat.told].append(key)
        heard = len(known) - len(missing)
        for told, keys in groups.items():
            beats = {key: leases[key] for key in sorted(keys)}
            yield _dropped(told, beats) if not heard else _silent(told, beats, heard)


def _missing(beat: Beat, now: float, resumed: float) -> bool:
    return beat.n >= PLENTY and now - max(beat.last, resumed) > beat.usual.limit(LEAST)


def _together(told: float, beat: Beat) -> bool:
    return abs(told - beat.last) <= 2 * beat.usual.most + LEAST


def _pause(beat: Beat) -> str:
    return f"{beat.usual.most:.0f} s at most"


def _dropped(told: float, beats: dict[tuple[str, str], Beat]) -> Finding:
    return Finding(
        "heartbeat",
        f"{told}",
        "medium",
        told,
        "Lease renewals are no longer logged",
        "whether nodes, API servers and the control plane are heard",
        f"none of {plural(len(beats), 'lease')} that used to be renewed every few seconds is"
        " renewed any more by what the log says, while other events go on",
        "if nobody changed the audit policy, find out who did; an audit policy rule of level"
        " Metadata for leases in kube-system and kube-node-lease brings them back",
        tuple(name for _, name in beats),
    )


def _silent(told: float, beats: dict[tuple[str, str], Beat], heard: int) -> Finding:
    nodes = [name for what, name in beats if what == "node"]
    others = [name for what, name in beats if what != "node"]
    who = " and ".join(
        named(names, noun) for names, noun in ((nodes, "node"), (others, "component")) if names
    )
    severity: Severity = "medium"
    remedy = (
        "see whether it still runs: if it does, it asks an API server whose log does not arrive, or"
        " its requests are filtered"
    )
    if any(beat.alive > beat.last + beat.usual.most for beat in beats.values()):
        title = f"Lease renewals of {who} are no longer logged"
        seen = "while other requests of the same went on"
        remedy = (
            "an audit policy rule, or a filter of the export, leaves them out: if nobody changed"
            " either, find out who did"
        )
    elif any(beat.noticed > beat.last for beat in beats.values()):
        title, severity = f"Nothing is heard of {who}", "low"
        seen = "and the node controller changed the node afterwards, so it noticed, too"
        remedy = "it is down or cut off: see kubectl describe node; the log is not at fault"
    elif len(beats) > 2:
        title, severity = f"Nothing is heard of {who}", "high"
        seen = "of all at once, as when the log of one of several API servers does not arrive"
    else:
        title, seen = f"Nothing is heard of {who}", "and nothing else is heard"
    return Finding(
        "heartbeat",
        f"{told}",
        severity,
        told,
        title,
        f"what {who} {'does' if len(beats) == 1 else 'do'}",
        f"lease renewals that came every {_pause(next(iter(beats.values())))} stopped, {seen};"
        f" {plural(heard, 'other lease')} went on",
        remedy,
        (*nodes, *others),
    )
