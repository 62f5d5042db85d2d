"""A test alert: an incident that never happened, and says so, as complete as a real one."""

from __future__ import annotations

from datetime import datetime, timedelta

from kubewitness.incidents.model import Expected, Incident, Moment, Reason
from kubewitness.sinks.sink import Notice

_WHO = "system:serviceaccount:example:backup"
_ADDRESS = "203.0.113.10"  # for documentation, nobody's


def trial(now: datetime, cluster: str) -> Notice:
    """The notice of an incident that seems to have ended just now."""
    began = now.replace(microsecond=0) - timedelta(minutes=4)
    deeds = (
        ("create selfsubjectrulesreviews", "", "", "ok", 0),
        ("list secrets", "*", "kube-system", "denied", 20),
        ("get secrets", "example-credentials", "example", "ok", 55),
        ("exec pods", "example-0", "example", "ok", 180),
    )
    timeline = tuple(
        Moment(
            at=began + timedelta(seconds=after),
            until=began + timedelta(seconds=after + 2),
            principal=_WHO,
            acting_as="",
            action=action,
            object=name,
            namespace=namespace,
            source_ip=_ADDRESS,
            client="curl 8.5",
            outcome=outcome,
            n=1,
            notable=True,
            audit_ids=(f"00000000-0000-4000-8000-{n:012}",),
        )
        for n, (action, name, namespace, outcome, after) in enumerate(deeds, 1)
    )
    audit_ids = tuple(moment.audit_ids[0] for moment in timeline)
    return Notice(
        kind="test",
        revision=1,
        incident=Incident(
            id=f"test-{now:%Y%m%d%H%M%S}",
            cluster=cluster,
            score=31.0,
            severity="high",
            alert=True,
            opened_at=began,
            updated_at=timeline[-1].until,
            principals=(_WHO,),
            source_ips=(_ADDRESS,),
            title="kubewitness can reach you; nothing of this happened",
            summary="This is a test, asked for with 'kubewitness sinks test'. A real alert says in"
            " this place who did what, from where, and what was unusual about it.",
            tactics=("Discovery", "Credential Access", "Execution"),
            techniques=("T1613", "T1552.007", "T1609"),
            objects=("secrets in kube-system", "secrets example/example-credentials"),
            reasons=_reasons(audit_ids),
            timeline=timeline,
            considered=("An attack: rejected, this is a test.",),
            next_steps=("Nothing: this is a test.",),
            evidence=audit_ids,
            events=(),
        ),
    )


def _reasons(audit_ids: tuple[str, ...]) -> tuple[Reason, ...]:
    return (
        Reason(
            factor="network",
            question="Does this principal come from this network?",
            sentence=f"In this test, the account came from {_ADDRESS} for the first time.",
            observed="203.0.113.0/24",
            expected=(Expected("10.0.0.0/24", 1.0),),
            days_self=0,
            days_peers=0,
            days_cluster=0,
            days_active=14,
            unit="day",
            peers="service accounts of example",
            p=0.0001,
            share=0.7,
            evidence=audit_ids,
        ),
        Reason(
            factor="action",
            question="Does this principal do this?",
            sentence="In this test, the account opened a shell for the first time.",
            observed="exec pods",
            expected=(Expected("list pods", 0.9), Expected("get configmaps", 0.1)),
            days_self=0,
            days_peers=0,
            days_cluster=3,
            days_active=14,
            unit="day",
            peers="service accounts of example",
            p=0.002,
            share=0.3,
            evidence=audit_ids[-1:],
        ),
    )
