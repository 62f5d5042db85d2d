"""Hold the stories of a labelled dataset against its raw events.

    python bench/stories.py DIR

All alerts are read as an auditor would read them, and each claim that can be counted is counted
again, with plain SQL over the events and none of the detector's own counting. The best of eight
attack families and of two kinds of benign change are told one by one. Rewrites the block between
``<!-- stories:begin -->`` and ``<!-- stories:end -->`` in docs/evaluation.md; what does not hold
goes to the terminal, with what was counted.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.dataset import ATTACK, Trial, read_dataset, trial
from kubewitness.evaluate.judgement import credit
from kubewitness.incidents.detection import detect
from kubewitness.incidents.model import Incident, Reason

PAGE = Path(__file__).resolve().parent.parent / "docs" / "evaluation.md"
BEGIN, END = "<!-- stories:begin -->", "<!-- stories:end -->"
ATTACKS, BENIGN = 8, 2
# What is judged becomes usual when it is so old (docs/evaluation.md, "How it is measured").
LEARNT_AFTER = timedelta(days=7)

# One row a request, in the words of Kubernetes; a watch is told as a list.
_RAW = r"""
CREATE OR REPLACE TEMP TABLE raw AS
SELECT audit_id, received_at AS came, CAST(received_at AS DATE) AS day,
    coalesce(nullif("user", ''), '<unauthenticated>') AS who,
    coalesce(impersonated_user, '') AS acting,
    CASE verb WHEN 'watch' THEN 'list' ELSE verb END AS verb,
    coalesce(resource, '') AS kind, coalesce(api_group, '') AS api,
    coalesce(subresource, '') AS sub, coalesce(namespace, '') AS ns, coalesce(name, '') AS name,
    CASE WHEN coalesce(subresource, '') IN ('exec', 'attach', 'portforward')
            THEN subresource || ' ' || resource
        WHEN resource IS NULL
            THEN verb || ' /' || split_part(split_part(request_uri, '?', 1), '/', 2)
        ELSE CASE verb WHEN 'watch' THEN 'list' ELSE verb END || ' ' || resource
            || CASE WHEN coalesce(api_group, '') = '' THEN '' ELSE '.' || api_group END
            || CASE WHEN coalesce(subresource, '') = '' THEN '' ELSE '/' || subresource END
        END AS deed,
    source_ips[-1] AS address, lower(regexp_extract(user_agent, '^[^ /]+')) AS program,
    lower(regexp_extract(user_agent, '\((\w+/\w+)\)', 1)) AS platform,
    CASE WHEN code IS NULL THEN 'unknown' WHEN code < 400 THEN 'ok'
        WHEN code = 401 THEN 'unauthenticated' WHEN code = 403 THEN 'denied'
        WHEN code = 404 THEN 'missing' WHEN code = 409 THEN 'conflict'
        WHEN code = 429 THEN 'throttled' WHEN code < 500 THEN 'invalid' ELSE 'error' END AS answer,
    coalesce(traits, '') AS traits, CAST(extra AS VARCHAR) AS extra,
    CAST(annotations AS VARCHAR) AS annotations,
    CASE WHEN isodow(received_at) < 6 THEN 'workday ' ELSE 'weekend ' END || printf('%02d–%02d UTC',
        hour(received_at) // 3 * 3, hour(received_at) // 3 * 3 + 3) AS hours
FROM events WHERE stage <> 'RequestReceived'
QUALIFY row_number() OVER (PARTITION BY audit_id, "user" ORDER BY stage_at DESC) = 1"""

_READS = "verb IN ('get', 'list')"
_WRITES = "verb IN ('create', 'update', 'patch')"
_DELETES = "verb IN ('delete', 'deletecollection')"
_CHANGES = f"({_WRITES} OR {_DELETES})"
_RUNS = (
    "kind IN ('pods', 'deployments', 'statefulsets', 'replicasets', 'daemonsets', 'jobs',"
    " 'cronjobs', 'replicationcontrollers', 'podtemplates')"
)


class Deed(NamedTuple):
    """``did`` and ``tried`` as a title says it; ``wanted``: the requests that it speaks of."""

    did: str
    tried: str
    wanted: str
    grave: bool = True


_LOOKING = Deed("looked around", "look around", f"kind <> '' AND {_READS}", grave=False)
_DEEDS = (
    Deed("read the system's secrets", "read the system's secrets",
         f"kind = 'secrets' AND {_READS} AND ns LIKE 'kube-%'"),
    Deed("read secrets", "read secrets", f"kind = 'secrets' AND {_READS}"),
    Deed("changed secrets", "change secrets", f"kind = 'secrets' AND {_CHANGES}"),
    Deed("changed permissions", "change permissions",
         f"api = 'rbac.authorization.k8s.io' AND {_CHANGES}"),
    Deed("read permissions", "read permissions",
         f"api = 'rbac.authorization.k8s.io' AND {_READS}", grave=False),
    Deed("changed admission control", "change admission control",
         f"api = 'admissionregistration.k8s.io' AND {_CHANGES}"),
    Deed("entered containers", "enter containers", "sub IN ('exec', 'attach')"),
    Deed("opened tunnels into pods", "open tunnels into pods", "sub = 'portforward'"),
    Deed("injected debug containers", "inject debug containers", "sub = 'ephemeralcontainers'"),
    Deed("minted service account tokens", "mint service account tokens", "sub = 'token'"),
    Deed("reached through the API server's proxy", "reach through the API server's proxy",
         "sub = 'proxy'"),
    Deed("handled certificate requests", "handle certificate requests",
         f"kind = 'certificatesigningrequests' AND {_CHANGES}"),
    Deed("approved client certificates", "approve client certificates",
         "kind = 'certificatesigningrequests' AND sub = 'approval'"),
    Deed("asked what is permitted", "ask what is permitted", "kind LIKE '%reviews'", grave=False),
    Deed("deployed workloads that can take over their node",
         "deploy workloads that can take over their node",
         f"{_RUNS} AND {_WRITES} AND regexp_matches(traits, 'privileged|host|capabilities')"),
    Deed("deployed workloads into the system", "deploy workloads into the system",
         f"{_RUNS} AND {_WRITES} AND ns LIKE 'kube-%'"),
    Deed("deployed recurring workloads", "deploy recurring workloads",
         f"kind IN ('cronjobs', 'daemonsets') AND {_WRITES}"),
    Deed("deployed workloads", "deploy workloads", f"{_RUNS} AND {_WRITES}"),
    Deed("deleted workloads", "delete workloads", f"{_RUNS} AND {_DELETES}"),
    Deed("removed agents from all nodes", "remove agents from all nodes",
         f"kind = 'daemonsets' AND {_DELETES}"),
    Deed("deleted namespaces or storage", "delete namespaces or storage",
         f"kind IN ('namespaces', 'persistentvolumes', 'persistentvolumeclaims') AND {_DELETES}"),
    Deed("deleted the cluster's events", "delete the cluster's events",
         f"kind = 'events' AND {_DELETES}"),
    Deed("changed service accounts", "change service accounts",
         f"kind = 'serviceaccounts' AND {_CHANGES}"),
    Deed("changed configuration", "change configuration",
         f"kind = 'configmaps' AND {_CHANGES}", grave=False),
    Deed("read configuration", "read configuration",
         f"kind = 'configmaps' AND {_READS}", grave=False),
    Deed("changed objects", "change objects", f"kind <> '' AND {_CHANGES}", grave=False),
    Deed("deleted objects", "delete objects", f"kind <> '' AND {_DELETES}", grave=False),
    _LOOKING,
)  # fmt: skip
_GRAVE = " OR ".join(f"({deed.wanted})" for deed in _DEEDS if deed.grave)
# What is the same in the past (h) as in the event (e) that a reason names.
_SAME = {
    "action": "h.deed = e.deed",
    "namespace": "h.ns = e.ns",
    "deed": "h.deed = e.deed AND h.ns = e.ns",
    "setting": "h.traits = e.traits",
    "impersonation": "h.acting = e.acting",
    "client": "h.program = e.program",
    "platform": "h.program = e.program AND h.platform = e.platform",
    "refusal": "h.deed = e.deed AND h.answer = e.answer",
    "hour": "h.hours = e.hours",
    "network": "h.address IN (SELECT unnest($near::VARCHAR[]))",
}
# Which of the past days count where being active at all is not enough.
_AMONG = {
    "setting": "h.traits <> ''",
    "impersonation": "h.acting <> ''",
    "platform": "h.program = e.program",
    "refusal": "h.answer NOT IN ('ok', 'unknown', 'conflict', 'throttled')",
}


class Claim(NamedTuple):
    """What a story says and whether the events say so, too."""

    words: str
    holds: bool


class Witness:
    """The raw events of a log whose history ends at ``since``."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, since: datetime) -> None:
        self._connection = connection
        self._since = _plain(since)
        connection.execute(_RAW)

    def claims(self, incident: Incident) -> list[Claim]:
        """All that is said in an incident and can be counted again."""
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE own AS"
            " FROM raw WHERE audit_id IN (SELECT unnest(?::VARCHAR[]))",
            [[audit_id for moment in incident.timeline for audit_id in moment.audit_ids]],
        )
        return [
            *self._people(incident),
            *self._extent(incident),
            *self._deeds(incident),
            *self._circumstance(incident),
            *self._tokens(incident),
            *self._severity(incident),
            *(
                claim
                for reason in incident.reasons
                for claim in self._reason(reason, _plain(incident.timeline[0].at))
            ),
        ]

    def _row(self, query: str, values: Any = ()) -> Any:
        return self._connection.execute(query, values or None).fetchall()[0]

    def _people(self, incident: Incident) -> Iterator[Claim]:
        for who in incident.principals:
            (n,) = self._row("SELECT count(*) FROM own WHERE who = ? OR acting = ?", [who, who])
            yield Claim(f"{who} took part", n > 0)
        for address in incident.source_ips:
            (n,) = self._row("SELECT count(*) FROM own WHERE address = ?", [address])
            yield Claim(f"requests came from {address}", n > 0)

    def _extent(self, incident: Incident) -> Iterator[Claim]:
        """When it began and ended, how many requests, how many refused."""
        said = re.search(r"These are ([\d,]+) unusual requests", incident.summary)
        n = _number(said[1]) if said else 1
        if sum(moment.n for moment in incident.timeline) < n:
            return  # the timeline shows the most telling moments only
        self._connection.execute("CREATE OR REPLACE TEMP TABLE told AS FROM raw LIMIT 0")
        for moment in incident.timeline:
            self._connection.execute(
                """INSERT INTO told FROM raw WHERE who = ? AND acting = ? AND deed = ? AND ns = ?
                AND address = ? AND program = ? AND answer = ?
                AND came BETWEEN ?::TIMESTAMP AND ?::TIMESTAMP
                AND (? IN ('', '*') AND (name = '' OR kind = '') OR name LIKE ?)""",
                [moment.principal, moment.acting_as, moment.action, moment.namespace,
                 moment.source_ip, moment.client.split(" ")[0], moment.outcome,
                 _plain(moment.at), _plain(moment.until), moment.object,
                 moment.object.split(" and ")[0].replace("*", "%")],
            )  # fmt: skip
        counted, refused, first, last = self._row(
            """SELECT count(DISTINCT audit_id),
                count(DISTINCT audit_id) FILTER (answer IN ('denied', 'unauthenticated')),
                strftime(min(came), '%H:%M'), strftime(max(came), '%H:%M') FROM told"""
        )
        yield Claim(f"{n} unusual requests (counted: {counted})", counted == n)
        some = re.search(r", (?:([\d,]+) of them|all of them|which was) refused", incident.summary)
        m = (_number(some[1]) if some[1] else n) if some else 0
        yield Claim(f"{m} of them refused (counted: {refused})", refused == m)
        clocks = re.findall(r"\d\d:\d\d", incident.summary.partition(" UTC")[0])
        yield Claim(f"from {clocks[0]} (counted: {first})", first == clocks[0])
        yield Claim(f"to {clocks[-1]} (counted: {last})", last == clocks[-1])

    def _deeds(self, incident: Incident) -> Iterator[Claim]:
        """What the title says was done was served, what was in vain was refused."""
        done, _, vain = incident.title.partition("tried in vain to ")
        for deed in _DEEDS:
            served, refused = self._row(
                "SELECT count(*) FILTER (answer = 'ok'),"
                " count(*) FILTER (answer IN ('denied', 'unauthenticated'))"
                f" FROM own WHERE who = ? AND {deed.wanted}",
                [incident.principals[0]],
            )
            if re.search(rf"{deed.did}(?! that| into)", done):
                yield Claim(f"“{deed.did}”: {served} served", served > 0)
            if re.search(rf"{deed.tried}(?! that| into)", vain):
                # Who is refused nearly all of it did not look around.
                in_vain = refused > (served if deed == _LOOKING else 0)
                in_vain &= deed == _LOOKING or not served
                yield Claim(f"“… {deed.tried}”: {served} served, {refused} refused", in_vain)

    def _circumstance(self, incident: Incident) -> Iterator[Claim]:
        """The place, program or platform of the title is new or rare of the one accused."""
        who, title = incident.principals[0], incident.title
        for column in ("address", "program", "platform"):
            if not (named := re.search(rf"{column} \(([^)]+)\)", title)):
                continue
            days, active = self._row(
                f"SELECT count(DISTINCT day) FILTER ({column} = ?), count(DISTINCT day)"
                " FROM raw WHERE who = ? AND came < ?",
                [named[1], who, _plain(incident.timeline[0].at)],
            )
            outside = "new outside" in title
            rare = days == 0 if outside else days * 2 <= active
            yield Claim(f"{column} {named[1]} was odd (seen on {days} of {active} days)", rare)
            if outside:
                yield Claim(f"{named[1]} is outside", _outside(named[1]))

    def _tokens(self, incident: Incident) -> Iterator[Claim]:
        for token, maker in re.findall(
            r"used a token \((\S+)\) issued by ([^.,]+)\.", incident.summary
        ):
            (made,) = self._row(
                "SELECT count(*) FROM raw WHERE sub = 'token' AND who = ? AND answer = 'ok'"
                " AND contains(annotations, ?)",
                [maker, token],
            )
            (used,) = self._row("SELECT count(*) FROM own WHERE contains(extra, ?)", [token])
            yield Claim(f"token {token} was issued by {maker}", made > 0)
            yield Claim(f"token {token} was used", used > 0)

    def _severity(self, incident: Incident) -> Iterator[Claim]:
        """Something grave was served, and what makes it critical is there."""
        if incident.severity not in ("high", "critical"):
            return
        (gained,) = self._row(f"SELECT count(*) FROM own WHERE answer = 'ok' AND ({_GRAVE})")
        yield Claim(f"{incident.severity}: something grave was served", gained > 0)
        if incident.severity == "critical":
            wide = len(incident.tactics) >= 4
            outside = any(_outside(address) for address in incident.source_ips)
            yield Claim("critical: from outside, or of four tactics", wide or outside)

    def _reason(self, reason: Reason, began: datetime) -> Iterator[Claim]:
        """The days of a reason, and that “never before DATE” means no request before it."""
        told = reason.sentence
        same = _SAME.get(reason.factor)
        if same is None or "new in this log" in told:
            return
        event = reason.evidence[0]
        (came,) = self._row("SELECT came FROM raw WHERE audit_id = ?", [event])
        today = came.replace(hour=0, minute=0, second=0, microsecond=0)
        said = re.search(r"before (\d{4}-\d\d-\d\d)", told)
        until = datetime.fromisoformat(said[1]) if said else began
        values: dict[str, Any] = {"event": event, "until": until}
        values["learnt"] = max(self._since, today - LEARNT_AFTER)
        among = _AMONG.get(reason.factor, "true")
        if reason.factor == "network":
            values["near"] = self._near(reason.observed)
        own, everybody, earlier, active = self._row(
            f"""SELECT count(DISTINCT h.day) FILTER (h.who = e.who AND h.came < $learnt AND {same}),
                count(DISTINCT h.day) FILTER (h.came < $learnt AND {same}),
                count(*) FILTER (h.who = e.who AND h.came < $until AND {same}),
                count(DISTINCT h.day) FILTER (h.who = e.who AND h.came < $learnt AND {among})
            FROM raw AS h, (FROM raw WHERE audit_id = $event LIMIT 1) AS e""",
            values,
        )
        yield Claim(f"{told} days_self: {reason.days_self} ({own})", own == reason.days_self)
        yield Claim(
            f"{told} days_cluster: {reason.days_cluster} ({everybody})",
            everybody == reason.days_cluster,
        )
        if re.search(r"(in|of) \d+ (active )?days?\b", told):
            days = reason.days_active
            yield Claim(f"{told} days_active: {days} ({active})", active == days)
            if among != "true":
                yield Claim(f"{told} are days where {among}", " active " not in told)
        if " never " in told or " as no node did " in told:
            yield Claim(f"{told} never: {earlier} requests before", not earlier)

    def _near(self, block: str) -> list[str]:
        """The addresses of a network."""
        network = ipaddress.ip_network(block)
        return [
            address
            for (address,) in self._connection.execute(
                "SELECT DISTINCT address FROM raw WHERE address IS NOT NULL"
            ).fetchall()
            if ipaddress.ip_address(address) in network
        ]


def _plain(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _outside(address: str) -> bool:
    return not ipaddress.ip_address(address).is_private


def _held(claims: list[Claim]) -> str:
    return f"{sum(claim.holds for claim in claims)} of {len(claims)}"


def alerts(ready: Trial) -> Iterator[tuple[str, Incident]]:
    """All alerts, best first; the best of ten kinds with the name of what they show."""
    found = detect(ready.connection, ready.name, since=ready.since)
    left = {ATTACK: ATTACKS, "benign_change": BENIGN}
    told: set[str] = set()
    for row in credit([one for one in found.incidents if one.alert], ready.episodes):
        label = row.episode.label if row.episode else ""
        family = row.episode.family.replace("_", " ") if row.episode else ""
        if not left.get(label) or family in told:
            yield "", row.incident
            continue
        told.add(family)
        left[label] -= 1
        yield family if row.attack else f"{family} (benign)", row.incident


def main(folders: list[str]) -> None:
    """Write the table and print what does not hold."""
    if len(folders) != 1:
        sys.exit(__doc__)
    rows: list[str] = []
    shown: list[Claim] = []
    every: list[Claim] = []
    with trial(read_dataset(Path(folders[0]))) as ready:
        found = list(alerts(ready))
        witness = Witness(ready.connection, ready.since or ready.first)
        for family, incident in found:
            claims = witness.claims(incident)
            every += claims
            if family:
                shown += claims
                right = sum(claim.holds for claim in claims)
                rows.append(f"| {family} | {incident.title} | {len(claims)} | {right} |")
            print(f"{family or 'another'}: {_held(claims)}: {incident.title}", flush=True)
            for claim in claims:
                if not claim.holds:
                    print(f"  wrong: {claim.words}")
        name = ready.name
    block = "\n".join(
        (
            f"Measured on {datetime.now(UTC):%Y-%m-%d} by `bench/stories.py` on {name}:"
            f" {_held(shown)} claims of these {len(rows)} stories hold, {_held(every)} of all"
            f" {len(found)} alerts.",
            "",
            "| family | title as told | claims checked | claims that hold |",
            "| --- | --- | ---: | ---: |",
            *rows,
        )
    )
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{PAGE.name}: no marks {BEGIN} and {END}")
    PAGE.write_text(f"{before}{begin}\n{block}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KubewitnessError as error:
        sys.exit(f"stories: {error}")
