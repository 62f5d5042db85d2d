"""A realistic week of a cluster, written by hand: what every report test shows."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import msgspec

from kubewitness.incidents.model import (
    Expected,
    Incident,
    Misconfiguration,
    Moment,
    Reason,
    Refused,
)
from kubewitness.report.model import (
    Access,
    Analysis,
    Blind,
    Count,
    Coverage,
    Denied,
    Gap,
    Intake,
    Mover,
    Newcomer,
    Rejected,
    Series,
    Summary,
)

START = datetime(2026, 3, 9, tzinfo=UTC)
END = START + timedelta(days=7)

ESCAPE = "\x1b[2J\x1b]0;owned\x07"
SCRIPT = "<script>alert(1)</script>"
BIDI = "\u202egpj.exe\u2066"
FORMULA = "=cmd|' /C calc'!A0"
MARKUP = "[red]fine[/red] [link=http://evil.example]x[/link]"
HOSTILE = (ESCAPE, SCRIPT, BIDI, FORMULA, MARKUP)

CHECKOUT = "system:serviceaccount:payments:checkout-api"
DEPLOYER = "system:serviceaccount:ci:deployer"


def at(day: int, clock: str) -> datetime:
    """A time in the week: day of March 2026 and ``HH:MM`` or ``HH:MM:SS``."""
    return datetime.fromisoformat(f"2026-03-{day:02}T{clock}+00:00")


def moment(
    when: datetime,
    principal: str,
    verb: str,
    object_: str,
    namespace: str,
    source_ip: str,
    client: str,
    *,
    outcome: str = "ok",
    n: int = 1,
    lasts: int = 0,
    notable: bool = True,
    acting_as: str = "",
) -> Moment:
    return Moment(
        at=when,
        until=when + timedelta(seconds=lasts),
        principal=principal,
        acting_as=acting_as,
        action=f"{verb} {object_.partition('/')[0]}",
        object=object_,
        namespace=namespace,
        source_ip=source_ip,
        client=client,
        outcome=outcome,
        n=n,
        notable=notable,
        audit_ids=tuple(f"{abs(hash_(verb, when)):08x}-{i:04}" for i in range(min(n, 5))),
    )


def hash_(text: str, when: datetime) -> int:
    """A hash that is the same in every run."""
    return int(when.timestamp()) * 31 + sum(ord(c) * i for i, c in enumerate(text, 1))


def reason(
    factor: str,
    question: str,
    sentence: str,
    observed: str,
    expected: tuple[tuple[str, float], ...],
    days: tuple[int, int, int],
    peers: str,
    p: float,
    share: float,
    evidence: tuple[str, ...] = (),
) -> Reason:
    return Reason(
        factor=factor,
        question=question,
        sentence=sentence,
        observed=observed,
        expected=tuple(Expected(value, part) for value, part in expected),
        days_self=days[0],
        days_peers=days[1],
        days_cluster=days[2],
        days_active=7,
        unit="day",
        peers=peers,
        p=p,
        share=share,
        evidence=evidence,
    )


def stolen_token() -> Incident:
    out, curl = "203.0.113.44", "curl/8"
    timeline = (
        moment(
            at(14, "01:52:10"),
            CHECKOUT,
            "get",
            "configmaps/checkout-flags",
            "payments",
            "10.244.3.17",
            "checkout-api/2",
            n=6,
            lasts=500,
            notable=False,
        ),
        moment(at(14, "02:11:09"), CHECKOUT, "create", "selfsubjectrulesreviews", "", out, curl),
        moment(
            at(14, "02:11:31"),
            CHECKOUT,
            "list",
            "secrets",
            "kube-system",
            out,
            curl,
            outcome="denied",
            n=2,
            lasts=3,
        ),
        moment(at(14, "02:12:02"), CHECKOUT, "list", "secrets", "payments", out, curl),
        moment(
            at(14, "02:12:40"),
            CHECKOUT,
            "get",
            "secrets/stripe-live-key",
            "payments",
            out,
            curl,
            n=3,
            lasts=40,
        ),
        moment(
            at(14, "02:15:00"),
            CHECKOUT,
            "get",
            "configmaps/checkout-flags",
            "payments",
            "10.244.3.17",
            "checkout-api/2",
            n=12,
            lasts=3600,
            notable=False,
        ),
        moment(at(14, "02:31:18"), CHECKOUT, "create", "pods/debug-x7k2p", "payments", out, curl),
        moment(
            at(14, "02:33:47"),
            CHECKOUT,
            "exec",
            "pods/debug-x7k2p",
            "payments",
            out,
            "kubectl/1.31",
            n=2,
            lasts=1500,
        ),
        moment(
            at(14, "03:02:05"),
            "system:serviceaccount:payments:debug",
            "list",
            "nodes",
            "",
            "10.244.3.88",
            "curl/8",
            notable=True,
        ),
        moment(at(14, "03:40:12"), CHECKOUT, "delete", "pods/debug-x7k2p", "payments", out, curl),
    )
    ids = tuple(i for m in timeline if m.notable for i in m.audit_ids)
    return Incident(
        id="7f3a91c2",
        cluster="prod-eu-1",
        score=41.2,
        severity="critical",
        alert=True,
        opened_at=at(14, "02:11:09"),
        updated_at=at(14, "03:40:12"),
        principals=(CHECKOUT, "system:serviceaccount:payments:debug"),
        source_ips=(out, "10.244.3.88"),
        title="A service-account token was used from outside the cluster",
        summary="The token of checkout-api, which only ever spoke from pod addresses, read three "
        "secrets, started a pod and opened a shell in it from 203.0.113.44 with curl, while the "
        "real workload kept running at its usual address.",
        tactics=(
            "discovery",
            "credential-access",
            "execution",
            "lateral-movement",
            "defense-evasion",
        ),
        techniques=("T1528", "T1552.007", "T1609", "T1610", "T1070"),
        objects=(
            "secrets/payments/stripe-live-key",
            "secrets/payments",
            "pods/payments/debug-x7k2p",
            "nodes",
        ),
        reasons=(
            reason(
                "network",
                "Is this network usual for this principal?",
                "It came from 203.0.113.44, outside the cluster; this token was only ever used "
                "from pod addresses.",
                "203.0.113.44 (outside)",
                (("10.244.3.0/24 (pods)", 0.93), ("10.244.7.0/24 (pods)", 0.07)),
                (0, 0, 0),
                "workloads of payments",
                0.00008,
                0.38,
                ids[:4],
            ),
            reason(
                "credential",
                "Is one credential used from two places at once?",
                "The same token was in use at 10.244.3.17 and 203.0.113.44 within two minutes.",
                "2 networks, 2 clients in overlap",
                (("1 network, 1 client", 1.0),),
                (0, 0, 0),
                "workloads of payments",
                0.0002,
                0.24,
                ids[:2],
            ),
            reason(
                "client",
                "Is this client usual for this principal?",
                "curl was never used with this account.",
                "curl/8",
                (("checkout-api/2", 1.0),),
                (0, 0, 2),
                "workloads of payments",
                0.0011,
                0.14,
            ),
            reason(
                "action",
                "Is this action usual for this principal?",
                "It opened a shell; it only reads configmaps and endpoints.",
                "exec pods",
                (
                    ("get configmaps", 0.71),
                    ("watch endpoints", 0.22),
                    ("get leases", 0.05),
                    ("patch events", 0.02),
                ),
                (0, 0, 5),
                "workloads of payments",
                0.004,
                0.12,
            ),
            reason(
                "sensitive object",
                "Who reads this object?",
                "stripe-live-key is read by its two operators only.",
                "stripe-live-key",
                (("external-secrets", 0.8), ("payments-operator", 0.2)),
                (0, 1, 7),
                "workloads of payments",
                0.02,
                0.08,
            ),
            reason(
                "hour",
                "Is this hour usual for this principal?",
                "Nothing else runs on a Saturday at two.",
                "Sat 02:00",
                (("any hour", 1.0),),
                (6, 7, 7),
                "workloads of payments",
                0.4,
                0.04,
            ),
        ),
        timeline=timeline,
        considered=(
            "Node NAT: rejected, 203.0.113.44 is not a node and 10.244.3.17 stayed active.",
            "A new release of checkout-api: rejected, its image did not change this week.",
            "Debugging by its owner: unlikely, no person of team payments was active that night.",
        ),
        next_steps=(
            "Delete the pod that mounts the token, or rotate it, and check who can read it.",
            "Rotate stripe-live-key: it was read three times from outside.",
            "Ask team payments whether anyone works from 203.0.113.44.",
        ),
        evidence=ids,
        events=tuple(i for m in timeline if not m.notable for i in m.audit_ids),
    )


def night_reader() -> Incident:
    who, ip, client = "nadia.roth@example.com", "10.8.4.19", "kubectl/1.31"
    names = ("grafana-admin", "postgres-root", "tls-wildcard", "registry-pull", "backup-s3")
    timeline = tuple(
        moment(
            at(12, f"03:{4 + i:02}:{i * 7 % 60:02}"),
            who,
            "get",
            f"secrets/{name}",
            ns,
            ip,
            client,
            n=1 + i % 3,
            lasts=i,
        )
        for i, (ns, name) in enumerate(
            (ns, name) for ns in ("platform", "payments", "data", "search") for name in names
        )
    )
    ids = tuple(i for m in timeline for i in m.audit_ids)
    return Incident(
        id="c04be7d9",
        cluster="prod-eu-1",
        score=23.7,
        severity="high",
        alert=True,
        opened_at=timeline[0].at,
        updated_at=timeline[-1].until,
        principals=(who,),
        source_ips=(ip,),
        title="Twenty secrets in four namespaces read by one person at night",
        summary="nadia.roth@example.com read 20 secrets in 20 minutes on Thursday night; in the "
        "days before she read two, both in search, during the day.",
        tactics=("Credential Access", "Collection"),
        techniques=("T1552.007",),
        objects=tuple(f"secrets/{m.namespace}/{m.object.partition('/')[2]}" for m in timeline),
        reasons=(
            reason(
                "breadth",
                "How many new objects did this principal touch at once?",
                "20 secrets that she never read before, within 20 minutes.",
                "20 new secrets",
                (("0–2 new secrets", 1.0),),
                (0, 0, 1),
                "team search",
                0.0004,
                0.46,
            ),
            reason(
                "namespace",
                "Is this namespace usual for this principal?",
                "payments, data and platform belong to other teams.",
                "payments, data, platform",
                (("search", 1.0),),
                (0, 1, 7),
                "team search",
                0.003,
                0.33,
            ),
            reason(
                "hour",
                "Is this hour usual for this principal?",
                "She works 08:00 to 18:00.",
                "Thu 03:00",
                (("08:00–18:00", 0.98), ("18:00–20:00", 0.02)),
                (0, 1, 7),
                "team search",
                0.01,
                0.21,
            ),
        ),
        timeline=timeline,
        considered=("On call: rejected, no incident channel and no deployment that night.",),
        next_steps=("Ask nadia.roth@example.com or her manager.", "Rotate what was read."),
        evidence=ids,
        events=(),
    )


def escalation() -> Incident:
    ip, client = "10.244.9.5", "kubectl/1.29"
    timeline = (
        moment(
            at(11, "16:20:41"),
            DEPLOYER,
            "create",
            "clusterrolebindings/ci-debug",
            "",
            ip,
            client,
            outcome="denied",
        ),
        moment(at(11, "16:22:10"), DEPLOYER, "patch", "clusterroles/ci-helper", "", ip, client),
        moment(
            at(11, "16:22:58"), DEPLOYER, "create", "clusterrolebindings/ci-debug", "", ip, client
        ),
        moment(
            at(11, "16:25:00"),
            DEPLOYER,
            "list",
            "secrets",
            "*",
            ip,
            client,
            acting_as="system:admin",
            n=4,
            lasts=60,
        ),
    )
    return Incident(
        id="19d2e0aa",
        cluster="prod-eu-1",
        score=18.05,
        severity="high",
        alert=True,
        opened_at=timeline[0].at,
        updated_at=timeline[-1].until,
        principals=(DEPLOYER, "system:admin"),
        source_ips=(ip,),
        title="The CI deployer granted itself cluster-admin",
        summary="After one refusal it changed the cluster role ci-helper to allow escalate and "
        "bind, bound itself to cluster-admin and listed secrets everywhere as system:admin.",
        tactics=("TA0004", "TA0003", "TA0006"),
        techniques=("T1098.006",),
        objects=("clusterrolebindings/ci-debug", "clusterroles/ci-helper", "secrets"),
        reasons=(
            reason(
                "action",
                "Is this action usual for this principal?",
                "It never changed RBAC.",
                "create clusterrolebindings",
                (("patch deployments", 0.64), ("get pods", 0.31), ("create jobs", 0.05)),
                (0, 0, 3),
                "CI accounts",
                0.0006,
                0.62,
            ),
            reason(
                "impersonation",
                "Does this principal act as others?",
                "It never impersonated anyone.",
                "as system:admin",
                (),
                (0, 0, 0),
                "CI accounts",
                0.0009,
                0.38,
            ),
        ),
        timeline=timeline,
        considered=(
            "Authorised by an administrator: rejected, the grant was made by its own beneficiary.",
        ),
        next_steps=("Remove clusterrolebindings/ci-debug.", "Find who changed the pipeline."),
        evidence=tuple(i for m in timeline for i in m.audit_ids),
        events=(),
    )


def slow_reads() -> Incident:
    who, ip, client = "tomas.lind@example.com", "10.8.2.77", "Go-http-client/2.0"
    timeline = tuple(
        moment(
            at(10 + day, f"{9 + 2 * part:02}:{14 + 11 * part + day}:00"),
            who,
            "get",
            f"secrets/{name}-{day}",
            "data",
            ip,
            client,
            n=1 + part,
        )
        for day in range(5)
        for part, name in enumerate(("warehouse", "ledger", "export"))
    )
    return Incident(
        id="5b88f013",
        cluster="prod-eu-1",
        score=9.4,
        severity="medium",
        alert=False,
        opened_at=timeline[0].at,
        updated_at=timeline[-1].until,
        principals=(who,),
        source_ips=(ip,),
        title="Three new secrets a day, five days in a row",
        summary="tomas.lind@example.com reads a few secrets of data every day that he never read "
        "before; no single day stands out, the five together do.",
        tactics=("credential_access",),
        techniques=("T1552.007",),
        objects=tuple(f"secrets/data/{m.object.partition('/')[2]}" for m in timeline),
        reasons=(
            reason(
                "accumulation",
                "How much new did this principal touch over days?",
                "15 new secrets over five days.",
                "15 new secrets",
                (("1 new secret", 0.9),),
                (0, 0, 0),
                "data engineers",
                0.002,
                0.7,
            ),
            reason(
                "client",
                "Is this client usual for this principal?",
                "A program instead of kubectl.",
                "Go-http-client/2.0",
                (("kubectl/1.31", 1.0),),
                (0, 2, 7),
                "data engineers",
                0.03,
                0.3,
            ),
        ),
        timeline=timeline,
        considered=("A new task of his: possible, ask before treating it as theft.",),
        next_steps=("Ask his team whether a migration is under way.",),
        evidence=tuple(i for m in timeline for i in m.audit_ids),
        events=(),
    )


def hostile() -> Incident:
    """Everything an attacker writes into a log, in every field that shows it."""
    name = f"eve{ESCAPE}{SCRIPT}"
    base = escalation()
    return msgspec.structs.replace(
        base,
        id="666",
        cluster=f"prod{BIDI}",
        severity="low",
        alert=False,
        score=1.0,
        principals=(name, FORMULA),
        source_ips=(MARKUP, ESCAPE),
        title=f"{FORMULA} {SCRIPT}{ESCAPE}",
        summary=f"{MARKUP} {BIDI} {ESCAPE} {SCRIPT}",
        tactics=(SCRIPT, "impact"),
        techniques=(SCRIPT,),
        objects=(f"secrets/{SCRIPT}", BIDI, FORMULA, MARKUP),
        reasons=(
            reason(
                f"client{ESCAPE}",
                SCRIPT,
                f"{MARKUP}{BIDI}",
                f"{FORMULA}{SCRIPT}",
                ((f"{MARKUP}{ESCAPE}", 0.5), (BIDI, 0.5)),
                (0, 0, 0),
                f"{SCRIPT}{ESCAPE}",
                0.001,
                1.0,
                (SCRIPT, ESCAPE),
            ),
        ),
        timeline=(
            moment(
                at(11, "16:20:41"),
                name,
                f"get{ESCAPE}",
                f"secrets/{SCRIPT}",
                BIDI,
                MARKUP,
                FORMULA,
                outcome=SCRIPT,
                acting_as=f"{MARKUP}{ESCAPE}",
            ),
        ),
        considered=(f"{SCRIPT}{ESCAPE}{BIDI}{MARKUP}",),
        next_steps=(f"{FORMULA}{SCRIPT}{ESCAPE}{MARKUP}",),
        evidence=(SCRIPT, ESCAPE),
        events=(BIDI,),
    )


def giant() -> Incident:
    """200 rows of timeline, 40 reasons, thousands of auditIDs: shown bounded, exported whole."""
    base = stolen_token()
    timeline = tuple(
        moment(
            at(10, "00:00:00") + timedelta(minutes=17 * i),
            f"robot-{i % 23}",
            "get",
            f"secrets/key-{i}",
            f"team-{i % 11}",
            f"198.51.100.{i % 250}",
            "python-requests/2",
            n=1 + i % 9,
            notable=i % 3 == 0,
        )
        for i in range(200)
    )
    reasons = tuple(
        reason(
            "object",
            "Is this object usual?",
            f"key-{i} is new.",
            f"secrets/key-{i}",
            tuple((f"key-{j}", 0.01) for j in range(60)),
            (0, 0, 0),
            "robots",
            0.001,
            1 / 40,
        )
        for i in range(40)
    )
    return msgspec.structs.replace(
        base,
        id="91a47000",
        severity="medium",
        score=8.0,
        alert=False,
        opened_at=timeline[0].at,
        updated_at=timeline[-1].until,
        title="Two hundred secrets read by twenty-three accounts",
        summary="A long campaign. " * 60,
        principals=tuple(f"robot-{i}" for i in range(23)),
        source_ips=tuple(f"198.51.100.{i}" for i in range(200)),
        objects=tuple(f"secrets/team-{i % 11}/key-{i}" for i in range(300)),
        reasons=reasons,
        timeline=timeline,
        considered=tuple(f"Explanation {i}: rejected." for i in range(40)),
        next_steps=tuple(f"Step {i}." for i in range(40)),
        evidence=tuple(f"{i:08x}-audit" for i in range(5000)),
        events=tuple(f"{i:08x}-event" for i in range(5000)),
    )


def summary() -> Summary:
    slots = tuple(START + timedelta(hours=h) for h in range(168))

    def day_curve(low: int, high: int, *, weekend: float = 1.0) -> tuple[int, ...]:
        return tuple(
            round(
                (low + (high - low) * max(0.0, math.sin((s.hour - 6) / 24 * 2 * math.pi)) ** 2)
                * (weekend if s.weekday() >= 5 else 1)
                * (1 + 0.07 * math.sin(i * 1.7))
            )
            for i, s in enumerate(slots)
        )

    denied = [
        2 + (i * 7) % 5 + (140 if i == 122 else 0) + (60 if i == 64 else 0) for i in range(168)
    ]
    quiet = [0 if 96 <= i <= 99 else 1 for i in range(168)]
    volume = tuple(
        Series(label, tuple(n * on for n, on in zip(curve, quiet, strict=True)))
        for label, curve in (
            ("workload", day_curve(1500, 1800)),
            ("node", day_curve(620, 640)),
            ("control-plane", day_curve(280, 310)),
            ("human", day_curve(4, 160, weekend=0.2)),
            ("anonymous", day_curve(3, 5)),
        )
    )
    classes = tuple(Count(s.label, sum(s.n)) for s in volume)
    requests = sum(c.n for c in classes)
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    return Summary(
        start=START,
        end=END,
        requests=requests,
        principals=214,
        namespaces=31,
        slots=slots,
        volume=volume,
        denied_volume=Series("denied", tuple(denied)),
        classes=classes,
        verbs=(
            Count("get", 171_204),
            Count("watch", 93_310),
            Count("update", 81_022),
            Count("list", 40_881),
            Count("patch", 22_017),
            Count("create", 17_340),
            Count("delete", 2_204),
            Count("exec", 61),
        ),
        resources=(
            Count("leases", 120_882),
            Count("configmaps", 71_220),
            Count("pods", 61_402),
            Count("endpointslices", 32_119),
            Count("nodes/status", 30_870),
            Count("events", 21_006),
            Count("secrets", 8_114),
            Count("deployments.apps", 5_120),
        ),
        outcomes=(
            Count("ok", 409_871),
            Count("missing", 12_208),
            Count("conflict", 4_001),
            Count("denied", 842),
            Count("unauthenticated", 31),
            Count("error", 12),
        ),
        hours=tuple(
            Series(
                day,
                tuple(
                    sum(s.n[24 * i + h] for s in volume if s.label == "human") for h in range(24)
                ),
            )
            for i, day in enumerate(days)
        ),
        movers=(
            Mover("system:serviceaccount:search:indexer", 1_204.0, 9_870.5, "requests a day"),
            Mover("system:serviceaccount:ci:deployer", 2_010.0, 411.0, "requests a day"),
            Mover("tomas.lind@example.com", 12.0, 44.5, "requests a day"),
        ),
        newcomers=(
            Newcomer(
                "network",
                "203.0.113.0/24",
                at(14, "02:11:09"),
                11,
                "create selfsubjectrulesreviews by checkout-api",
            ),
            Newcomer(
                "principal",
                "system:serviceaccount:payments:debug",
                at(14, "03:02:05"),
                4,
                "list nodes",
            ),
            Newcomer(
                "client",
                "Go-http-client/2.0",
                at(10, "09:14"),
                31,
                "get secrets by tomas.lind@example.com",
            ),
        ),
        denied=(
            Denied("system:anonymous", "get /readyz", "", 504, START, END),
            Denied(
                CHECKOUT, "list secrets", "kube-system", 2, at(14, "02:11:31"), at(14, "02:11:34")
            ),
            Denied(
                DEPLOYER,
                "create clusterrolebindings",
                "",
                1,
                at(11, "16:20:41"),
                at(11, "16:20:41"),
            ),
        ),
        sensitive=(
            Access(
                "system:serviceaccount:external-secrets:operator",
                "get secrets",
                "*",
                91,
                6_240,
                END,
            ),
            Access("nadia.roth@example.com", "get secrets", "payments", 5, 9, at(12, "03:13")),
            Access(CHECKOUT, "exec pods", "payments", 1, 2, at(14, "02:33:47")),
            Access(DEPLOYER, "create clusterrolebindings", "", 1, 2, at(11, "16:22:58")),
        ),
        coverage=Coverage(
            levels=(
                Count("Metadata", 398_002),
                Count("Request", 21_440),
                Count("RequestResponse", 8_597),
            ),
            stages=(Count("ResponseComplete", 426_000), Count("ResponseStarted", 2_039)),
            gaps=(Gap(at(13, "00:02"), at(13, "03:58")),),
            blind=(
                Blind(
                    "what pods were asked to run",
                    "pods are logged at level Metadata, without bodies",
                    "audit level Request for create, update and patch of pods and workloads",
                ),
                Blind(
                    "what happened inside a shell",
                    "an exec's input and output never reach the audit log",
                    "a runtime sensor",
                ),
            ),
            clusters=(Count("prod-eu-1", requests),),
        ),
    )


def intake() -> Intake:
    return Intake(
        sources=7,
        lines=430_114,
        events=428_039,
        added=426_907,
        duplicates=1_132,
        skipped=(
            Rejected(
                "audit-2026-03-12.log",
                "not an audit event (kind: Status)",
                2_072,
                ("audit-2026-03-12.log:1", "audit-2026-03-12.log:88"),
            ),
        ),
        broken=(
            Rejected(
                "audit-2026-03-13.log",
                "not JSON: cut off",
                3,
                (
                    "audit-2026-03-13.log:60211",
                    "audit-2026-03-13.log:60212",
                    "audit-2026-03-13.log:60213",
                ),
            ),
        ),
        quarantine=".kubewitness/quarantine",
        warnings=("audit-2026-03-13.log is 4 hours shorter than its neighbours",),
    )


def clean_intake() -> Intake:
    return Intake(
        sources=1,
        lines=428_039,
        events=428_039,
        added=428_039,
        duplicates=0,
        skipped=(),
        broken=(),
        quarantine="",
        warnings=(),
    )


def lost_binding() -> Misconfiguration:
    """An exporter whose binding somebody deleted, and that nobody restored yet."""
    began = START + timedelta(days=3, hours=9)
    ended = began + timedelta(hours=2)
    return Misconfiguration(
        id="5b0c7d21aa",
        cluster="prod-eu-1",
        failure="permission",
        principal="system:serviceaccount:billing:cost-exporter",
        acting_as="",
        client="python-requests",
        source_ips=("10.42.8.17",),
        title="Service account billing/cost-exporter is not permitted to list pods cluster-wide",
        sentences=(
            "Refused 361 times on 2026-03-12 between 09:00 and 11:00 UTC, every 20 seconds on"
            " average while it went on, always with the same program (python-requests) at"
            " 10.42.8.17.",
            "It was permitted by ClusterRoleBinding cost-exporter until 2026-03-12 08:51 UTC.",
            "maria@example.com deleted ClusterRoleBinding cost-exporter at 2026-03-12 08:59 UTC.",
        ),
        refused=(
            Refused(
                action="list pods",
                namespace="",
                objects=(),
                n=361,
                first=began,
                last=ended,
                binding="cost-exporter",
                permitted_until=began - timedelta(minutes=9),
                permitted_again=None,
            ),
        ),
        n=361,
        first=began,
        last=ended,
        mended=None,
        every=20.0,
        fix=(
            "Restore ClusterRoleBinding cost-exporter, or ask maria@example.com why it had to go.",
            "Permit exactly this with the manifest, or stop the program from asking.",
        ),
        manifest="""apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: allow-cost-exporter-5b0c7d
rules:
- apiGroups: ['']
  resources: [pods]
  verbs: [list]
""",
        caution="",
        message="pods is forbidden: User cannot list resource pods",
        audit_ids=("5d0f0b2e-0001",),
    )


def spent_quota() -> Misconfiguration:
    """A quota that was raised in the end."""
    return msgspec.structs.replace(
        lost_binding(),
        id="77aa00b1c2",
        failure="admission",
        principal="system:serviceaccount:kube-system:replicaset-controller",
        title="Admission refused what RBAC permits service account"
        " kube-system/replicaset-controller: to create pods in namespace ml",
        mended=START + timedelta(days=4),
        fix=("Nothing, if that was the repair: see that it lasts.",),
        manifest="",
        message='pods "train-0" is forbidden: exceeded quota: default',
    )


def analysis(*incidents: Incident, queue: tuple[Incident, ...] = ()) -> Analysis:
    return Analysis(
        mode="retrospective",
        cluster="prod-eu-1",
        since=None,
        incidents=incidents,
        queue=queue,
        summary=summary(),
        intake=intake(),
        notes=("Seven days are little history: a weekly job looks new on its first run.",),
    )


def week() -> Analysis:
    told = analysis(stolen_token(), night_reader(), escalation(), queue=(slow_reads(),))
    return msgspec.structs.replace(told, misconfigurations=(lost_binding(), spent_quota()))


def silence() -> Analysis:
    """No incidents, and a clean log."""
    return msgspec.structs.replace(analysis(), intake=clean_intake(), notes=())


def emptiness(lines: int = 0) -> Analysis:
    """A log without a single event."""
    base = silence()
    coverage = msgspec.structs.replace(base.summary.coverage, levels=(), stages=(), clusters=())
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    summary = msgspec.structs.replace(
        base.summary, start=epoch, end=epoch, requests=0, principals=0, slots=(), coverage=coverage
    )
    intake = msgspec.structs.replace(base.intake, lines=lines, events=0, added=0)
    return msgspec.structs.replace(base, cluster="", summary=summary, intake=intake)


def attack_on_the_report() -> Analysis:
    """Hostile text in every field a log can fill."""
    base = analysis(hostile(), queue=(msgspec.structs.replace(hostile(), id="667"),))
    everything = "".join(HOSTILE)
    count = (Count(everything, 3),)
    series = (Series(everything, base.summary.denied_volume.n),)
    return msgspec.structs.replace(
        base,
        mode=everything,
        cluster=everything,
        notes=(everything,),
        misconfigurations=(
            msgspec.structs.replace(
                lost_binding(),
                id=everything,
                cluster=everything,
                principal=everything,
                client=everything,
                source_ips=(everything,),
                title=everything,
                sentences=(everything,),
                refused=(
                    msgspec.structs.replace(
                        lost_binding().refused[0],
                        action=everything,
                        namespace=everything,
                        binding=everything,
                    ),
                ),
                fix=(everything,),
                manifest=everything,
                caution=everything,
                message=everything,
                audit_ids=(everything,),
            ),
        ),
        summary=msgspec.structs.replace(
            base.summary,
            volume=series,
            hours=series,
            classes=count,
            verbs=count,
            resources=count,
            outcomes=count,
            movers=(Mover(everything, 1.0, 2.0, everything),),
            newcomers=(Newcomer(everything, everything, START, 1, everything),),
            denied=(Denied(everything, everything, everything, 1, START, END),),
            sensitive=(Access(everything, everything, everything, 1, 1, END),),
            coverage=Coverage(
                levels=count,
                stages=count,
                gaps=(),
                blind=(Blind(everything, everything, everything),),
                clusters=count,
            ),
        ),
        intake=msgspec.structs.replace(
            base.intake,
            skipped=(Rejected(everything, everything, 1, (everything,)),),
            broken=(Rejected(everything, everything, 1, (everything,)),),
            quarantine=everything,
            warnings=(everything,),
        ),
    )
