"""What an incident is traced to: its end, who was forbidden the same, certificates, first times."""

from __future__ import annotations

import base64
import hashlib
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


def chain_of(events: Sequence[Event], own: Sequence[Event], folder: Path, /, **told: Any) -> Chain:
    """What an incident of ``own`` among ``events`` is traced to."""
    found = told_of(events, own, folder, **told)
    assert found.cause is not None
    return found.cause


def told_of(
    events: Sequence[Event], own: Sequence[Event], folder: Path, /, **told: Any
) -> Incident:
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


def bears(seconds: float, who: str, fingerprint: str, **fields: Any) -> Event:
    extra = {"authentication.kubernetes.io/credential-id": [f"X509SHA256={fingerprint}"]}
    user = {"username": who, "groups": [], "extra": extra}
    done: dict[str, Any] = {"verb": "list", "resource": "secrets", "name": "",
                            "source_ips": ("192.0.2.9",)}  # fmt: skip
    return event(at(seconds), user=user, **{**done, **fields})


def signed(seconds: float, name: str, who: str = "", *bearers: tuple[str, str]) -> list[Event]:
    """A certificate is requested, and approved a second later, by ``who`` or these bearers of
    certificates."""
    signing: dict[str, Any] = {"resource": "certificatesigningrequests", "namespace": "",
                               "group": "certificates.k8s.io", "name": name}  # fmt: skip
    asks: dict[str, Any] = {"verb": "create", "code": 201, **signing}
    approves: dict[str, Any] = {"verb": "update", "subresource": "approval", **signing}
    if not bearers:
        return [event(at(seconds), who, **asks), event(at(seconds + 1), who, **approves)]
    first, last = bearers[0], bearers[-1]
    return [bears(seconds, *first, **asks), bears(seconds + 1, *last, **approves)]


def test_who_approves_with_a_certificate_of_old_did_not_get_it_by_another(tmp_path: Path) -> None:
    """carol approved what bob had requested, a little before admin approved one of her own."""
    usual = [bears(600 * n, "admin", "old") for n in range(40)]
    others = signed(24000, "b1", "", ("bob", "bb"), ("carol", "cc"))
    own = signed(24100, "ops", "", ("admin", "old"))
    stolen = bears(24200, "ops", "new")
    chain = chain_of([*usual, *others, *own, stolen], [stolen], tmp_path)
    assert (chain.origin, chain.person) == ("admin", "admin")
    assert not ids(chain) & {one["auditID"] for one in others}


def test_that_an_approval_came_before_is_not_enough_for_the_line(tmp_path: Path) -> None:
    """zoe was there before, and her certificate is new: it may have been renewed elsewhere."""
    approved = signed(600, "b1", "bob")
    renewed = bears(700, "zoe", "new")
    chain = chain_of([bears(0, "zoe", "old"), *approved, renewed], [renewed], tmp_path)
    assert caused(chain, "certificate") == {one["auditID"] for one in approved}
    assert chain.origin == "zoe"


def test_an_approval_is_found_among_many_and_what_was_not_read_is_said(tmp_path: Path) -> None:
    """Machinery, what is not approved and what another bearer had signed take no place of it."""
    kubelets = "system:serviceaccount:kube-system:certificate-controller"
    own = signed(10, "ops", "eve")
    machinery = [one for n in range(60) for one in signed(20 + n, f"csr-{n}", kubelets)]
    asked = [signed(20 + n, f"r-{n}", "mia")[0] for n in range(120)]
    refused = [{**one, "auditID": f"r-{n}", "responseStatus": {"code": 403}}
               for n in range(120) for one in signed(150 + n, f"r-{n}", "mia")[1:]]  # fmt: skip
    stolen = bears(300, "ops", "new")
    later = [one for n in range(101) for one in signed(310 + n, f"later-{n}", "ben")]
    other = bears(500, "ivy", "newer")
    log = [*own, *machinery, *asked, *refused, stolen, *later, other]
    alone, both = chain_of(log, [stolen], tmp_path), chain_of(log, [stolen, other], tmp_path)
    assert alone.origin == both.origin == "eve"
    assert {one["auditID"] for one in own} <= ids(alone)
    assert not any("were read" in note for note in alone.notes)
    assert any("the latest 100 were read" in note for note in both.notes)


def test_what_a_signer_answers_says_which_certificate_it_was(tmp_path: Path) -> None:
    """The approval of the one that was borne is not the latest."""
    body = b"a certificate"
    pem = "-----BEGIN CERTIFICATE-----\n" + base64.b64encode(body).decode()
    pem += "\n-----END CERTIFICATE-----\n"
    answer = {"kind": "CertificateSigningRequest", "metadata": {"name": "ops", "uid": "u"},
              "status": {"certificate": base64.b64encode(pem.encode()).decode()}}  # fmt: skip
    issued = event(at(12), "system:serviceaccount:kube-system:certificate-controller", "update",
                   "certificatesigningrequests", subresource="status", name="ops", namespace="",
                   group="certificates.k8s.io", level="RequestResponse",
                   responseObject=answer)  # fmt: skip
    own, other = signed(10, "ops", "eve"), signed(30, "tea", "ben")
    stolen = bears(60, "ops", hashlib.sha256(body).hexdigest())
    chain = chain_of([*own, issued, *other, stolen], [stolen], tmp_path)
    assert chain.origin == "eve"
    assert all(one.certain for one in chain.links if one.kind == "certificate")


def test_an_incident_is_asked_about_where_its_evidence_ends(tmp_path: Path) -> None:
    """What is only near it, by somebody else, is not what it ends with."""
    work = [event(at(HOUR * n), "ada", "get", "deployments", group="apps") for n in range(48)]
    early = event(at(47 * HOUR + 1), "ben", "get", "secrets", namespace="bank", name="z")
    look = event(at(48 * HOUR), "ada", "list", "pods", namespace="bank", name="")
    take = event(at(53 * HOUR), "ada", "get", "secrets", namespace="bank", name="db")
    later = event(at(53 * HOUR + 50), "ben", "get", "pods", name="q")
    chain = chain_of([*work, early, look, take, later], [early, take], tmp_path,
                     events=(later["auditID"],), updated_at=at(53 * HOUR))  # fmt: skip
    assert look["auditID"] in caused(chain, "debut")


def test_each_cluster_has_a_log_that_begins_at_a_time_of_its_own(tmp_path: Path) -> None:
    """What is new in a log that is three hours old may be older than that."""
    lake = tmp_path / "lake"
    long = [event(at(HOUR * n), "zed") for n in range(60)]
    look = event(at(48 * HOUR), "ada", "list", "pods", namespace="bank", name="")
    take = event(at(50 * HOUR), "ada", "get", "secrets", namespace="bank", name="db")
    short = [event(at(47 * HOUR), "ada", "get", "configmaps"), look, take]
    for cluster, events in (("long", long), ("short", short)):
        log = write(tmp_path / f"{cluster}.log", events)
        with opened([log], lake=lake, cluster=cluster):
            pass
    with opened([], lake=lake) as (_, connection, _):
        known = replace(incident(evidence=(take["auditID"],)), cluster="short")
        (found,) = traced(connection, [known])
    assert found.cause is not None
    assert caused(found.cause, "debut") == set()


def test_an_incident_goes_back_to_who_had_the_certificate_signed(tmp_path: Path) -> None:
    asked, approved = signed(10, "ops", "eve")
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
