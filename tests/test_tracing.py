"""What an incident is traced to: its end, who was forbidden the same, certificates, first times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from audit_log import Event, event, write
from evaluate_fixtures import incident
from forensic_log import CONTROLLER, at, rollout
from kubewitness.forensics.causes.graph import Chain
from kubewitness.incidents.model import Incident
from kubewitness.incidents.tracing import traced
from kubewitness.inquiry import opened

HOUR = 3600


def chain_of(events: Sequence[Event], own: Sequence[Event], folder: Path, **told: Any) -> Chain:
    """What an incident of ``own`` among ``events`` is traced to."""
    found = told_of(events, own, folder, **told)
    assert found.cause is not None
    return found.cause


def told_of(events: Sequence[Event], own: Sequence[Event], folder: Path, **told: Any) -> Incident:
    log = write(folder / "audit.log", events)
    with opened([log], bodies=True) as (_, connection, _):
        (cluster,) = connection.execute("SELECT any_value(cluster) FROM events").fetchall()[0]
        known = incident(evidence=tuple(one["auditID"] for one in own))
        (found,) = traced(connection, [replace(known, cluster=cluster, **told)])
    return found


def ids(chain: Chain) -> set[str]:
    return {one.audit_id for one in chain.steps}


def caused(chain: Chain, kind: str) -> set[str]:
    return {chain.steps[one.cause].audit_id for one in chain.links if one.kind == kind}


def test_an_incident_ends_with_the_latest_of_many_alike_requests(tmp_path: Path) -> None:
    """Detection names the earliest of them, and when the latest came."""
    sweep = [event(at(60 * n), "eve", "get", "secrets", name=f"s-{n}") for n in range(20)]
    other = event(at(60 * 19), "ben", "get", "secrets", name="mine")
    chain = chain_of([*sweep, other], sweep[:8], tmp_path, principals=("eve",),
                     updated_at=at(60 * 19))  # fmt: skip
    assert chain.steps[chain.line[-1]].audit_id == sweep[-1]["auditID"]
    assert other["auditID"] not in ids(chain)


def test_an_incident_tells_where_somebody_was_new_hours_before(tmp_path: Path) -> None:
    work = [event(at(HOUR * n), "ada", "get", "deployments", group="apps") for n in range(48)]
    look = event(at(48 * HOUR), "ada", "list", "pods", namespace="bank", name="")
    take = event(at(53 * HOUR), "ada", "get", "secrets", namespace="bank", name="db")
    chain = chain_of([*work, look, take], [take], tmp_path)
    assert caused(chain, "debut") == {look["auditID"]}
    assert ids(chain) == {look["auditID"], take["auditID"]}


def test_an_incident_tells_who_was_forbidden_the_same_and_what_that_began_with(
    tmp_path: Path,
) -> None:
    look = event(at(0), "sam", "list", "pods", namespace="stage", name="")
    tried = event(at(30), "sam", "create", "pods", namespace="stage", name="tool-x7", code=403)
    made = event(at(80), "owen", "create", "pods", namespace="shop", name="tool-x7", code=201)
    chain = chain_of([look, tried, made], [made], tmp_path)
    assert caused(chain, "attempt") == {tried["auditID"]}
    assert look["auditID"] in ids(chain)
    assert chain.origin == "owen"


def test_an_incident_tells_how_a_right_was_just_given(tmp_path: Path) -> None:
    reason = 'RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "dns" to User "x"'
    allowed = {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": reason}

    def role(seconds: float, verb: str) -> Event:
        return event(at(seconds), "ruth", verb, "clusterroles", namespace="", name="dns",
                     group="rbac.authorization.k8s.io")  # fmt: skip

    look, give = role(0, "get"), role(50, "patch")
    used = event(at(600), "dns", "list", "secrets", name="", annotations=allowed)
    chain = chain_of([look, give, used], [used], tmp_path)
    assert {look["auditID"], give["auditID"]} <= ids(chain)


def test_an_incident_goes_back_to_who_had_the_certificate_signed(tmp_path: Path) -> None:
    signing: dict[str, Any] = {"resource": "certificatesigningrequests", "namespace": "",
                               "group": "certificates.k8s.io", "name": "ops"}  # fmt: skip

    def bears(seconds: float, who: str, fingerprint: str) -> Event:
        extra = {"authentication.kubernetes.io/credential-id": [f"X509SHA256={fingerprint}"]}
        user = {"username": who, "groups": [], "extra": extra}
        return event(at(seconds), verb="list", resource="secrets", name="", user=user,
                     source_ips=("192.0.2.9",))  # fmt: skip

    asked = event(at(10), "eve", "create", code=201, **signing)
    approved = event(at(11), "eve", "update", subresource="approval", **signing)
    before, old, new = bears(0, "ben", "a"), bears(60, "ben", "a"), bears(62, "ops", "b")
    log = [before, asked, approved, old, new]
    stolen, usual = chain_of(log, [new], tmp_path), chain_of(log, [old], tmp_path)
    assert {asked["auditID"], approved["auditID"]} <= ids(stolen)
    assert stolen.origin == "eve"
    assert caused(usual, "certificate") == set()


def test_what_controllers_did_is_explained_by_who_had_them_do_it(tmp_path: Path) -> None:
    log = rollout()
    deployed, pod = log[0], log[2]
    asked = told_of(log, [pod], tmp_path)
    assert any("yes, ada did “create deployments.apps” (web in shop)" in one
               for one in asked.considered)  # fmt: skip
    alone = event(at(5), CONTROLLER + "generic-garbage-collector", "delete", "secrets", name="x")
    unknown = told_of([*log, alone], [alone], tmp_path)
    assert any(
        one.startswith("Machinery at its work: cannot be told") for one in unknown.considered
    )
    person = told_of(log, [deployed], tmp_path)
    assert not any("Machinery" in one for one in person.considered)
