"""Causes and reach: every link is borne out by the log, whatever the audit level hides."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from audit_log import Event, event, quiet_days, stolen_credential, write
from conftest import Command
from forensic_log import POD, RS, at, certified, collected, rollout, stolen_token
from kubewitness.activity.owner import candidates, family
from kubewitness.analysis import analyze
from kubewitness.errors import KubewitnessError
from kubewitness.forensics.causes.body import body
from kubewitness.forensics.causes.chain import cause_of
from kubewitness.forensics.causes.graph import Chain, Reach
from kubewitness.forensics.causes.reach import reach_of
from kubewitness.forensics.causes.record import Record
from kubewitness.inquiry import opened


@contextmanager
def record_of(events: Sequence[Event], folder: Path) -> Iterator[Record]:
    log = write(folder / "audit.log", events)
    with opened([log], bodies=True) as (_, connection, _):
        yield Record(connection)


def line(chain: Chain) -> list[tuple[str, str]]:
    """Who and what, from the first cause on."""
    steps = (chain.steps[number] for number in chain.line)
    return [(step.principal.rpartition(":")[2], step.object) for step in steps]


EXPECTED = [
    ("ada", "deployments/web"),
    ("deployment-controller", f"replicasets/{RS}"),
    ("replicaset-controller", f"pods/{POD}"),
]


def test_a_pod_goes_back_to_the_person_who_deployed_it(tmp_path: Path) -> None:
    with record_of(rollout(), tmp_path) as record:
        chain = cause_of(record, f"pod/{POD}", "shop")
    assert line(chain) == EXPECTED
    assert chain.person == "ada"
    on_line = set(zip(chain.line, chain.line[1:], strict=False))
    assert all(one.certain for one in chain.links if (one.cause, one.effect) in on_line)
    assert [chain.steps[number].principal for number in chain.after] == [
        "system:kube-scheduler",
        "system:node:node-1",
    ]


def test_without_bodies_names_and_times_tell_the_same_and_it_is_said(tmp_path: Path) -> None:
    with record_of(rollout(bodies=False), tmp_path) as record:
        chain = cause_of(record, f"pod/{POD}", "shop")
    assert line(chain)[:3] == EXPECTED
    assert not any(one.certain for one in chain.links if one.kind in ("owner", "placement"))
    assert any("bodies" in note for note in chain.notes)


def test_a_change_of_nothing_is_no_cause(tmp_path: Path) -> None:
    """ben's patch changed neither template nor replicas."""
    later = event(at(901), "system:serviceaccount:kube-system:deployment-controller", "update",
                  "replicasets", group="apps", name=RS)  # fmt: skip
    with record_of([*rollout(), later], tmp_path) as record:
        chain = cause_of(record, later["auditID"])
    assert line(chain)[0] == ("ada", "deployments/web")


def test_what_the_garbage_collector_deletes_goes_back_to_who_deleted_its_owner(
    tmp_path: Path,
) -> None:
    events = collected()
    with record_of(events, tmp_path) as record:
        chain = cause_of(record, events[-1]["auditID"])
    assert line(chain) == [("mia", f"replicasets/{RS}"),
                           ("generic-garbage-collector", f"pods/{POD}")]  # fmt: skip
    assert chain.links[0].certain


def test_a_minted_token_leads_from_one_identity_to_another(tmp_path: Path) -> None:
    events = stolen_token()
    with record_of(events, tmp_path) as record:
        chain = cause_of(record, events[-1]["auditID"])
    assert [who for who, _ in line(chain)] == ["eve", "backup"]
    assert {one.kind for one in chain.links if one.certain} == {"token", "permission"}


def touched(reach: Reach) -> set[tuple[bool, str]]:
    return {(one.caused, one.resource) for one in reach.touched}


def test_the_blast_radius_of_a_person_reaches_through_the_token(tmp_path: Path) -> None:
    with record_of(stolen_token(), tmp_path) as record:
        reach = reach_of(record, "eve")
    assert (True, "secrets") in touched(reach)
    assert (False, "serviceaccounts") in touched(reach)
    assert reach.touched[0].weight == max(one.weight for one in reach.touched)


def test_the_blast_radius_reaches_through_a_certificate_that_was_new_at_that_address(
    tmp_path: Path,
) -> None:
    with record_of(certified(), tmp_path) as record:
        reach = reach_of(record, "eve")
    assert (True, "secrets") in touched(reach)
    assert set(reach.namespaces) == {"payments"}, "not what others do with certificates of theirs"


def requested_for(name: str) -> str:
    """A signing request as it stands in the body of a CertificateSigningRequest."""
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "dev"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
        ]
    )
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = asked.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


def test_a_certificate_leads_to_whom_it_was_requested_for(tmp_path: Path) -> None:
    """Wherever it is used, and not to others who come with a new one."""
    held = {"kind": "CertificateSigningRequest", "metadata": {"name": "ops", "uid": "c-1"},
            "spec": {"request": requested_for("zoe")}}  # fmt: skip
    bodies = {"requestObject": held, "responseObject": held, "level": "RequestResponse"}
    events = [{**one, **bodies} if one["objectRef"].get("name") == "ops" else one
              for one in certified()]  # fmt: skip
    with record_of(events, tmp_path) as record:
        reach = reach_of(record, "eve")
        back = cause_of(record, events[-1]["auditID"])
    assert reach.namespaces == ("zoo",)
    (link,) = (one for one in reach.links if reach.steps[one.effect].principal == "zoe")
    assert (link.kind, link.certain, link.confidence) == ("certificate", False, 0.9)
    assert line(back)[0][0] == "eve"


@given(st.binary(max_size=200) | st.just(b"-----BEGIN CERTIFICATE REQUEST-----"))
def test_a_signing_request_may_be_anything(raw: bytes) -> None:
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.b64encode(raw) + b"\n"
    pem += b"-----END CERTIFICATE REQUEST-----\n"
    for asked in (pem, raw):
        spec = {"request": base64.b64encode(asked).decode()}
        told = body(json.dumps({"metadata": {"name": "x"}, "spec": spec}), None)
        assert told is not None
        assert told.bearer == ""


def test_a_controller_glues_nothing_together(tmp_path: Path) -> None:
    other = event(at(0.15), "system:serviceaccount:kube-system:deployment-controller", "create",
                  "replicasets", group="apps", name="api-55c8d7b6f9", namespace="bank")  # fmt: skip
    with record_of([*rollout(), other], tmp_path) as record:
        reach = reach_of(record, "ada")
    assert (True, "pods") in touched(reach)
    assert "bank" not in reach.namespaces


@pytest.mark.parametrize(
    ("subject", "says"),
    [("pod/nobody", "no pods/nobody"), ("deadbeef" * 4, "no request"), ("pod/", "no request")],
)
def test_what_the_log_does_not_know_is_said(subject: str, says: str, tmp_path: Path) -> None:
    with record_of(rollout(), tmp_path) as record, pytest.raises(KubewitnessError) as error:
        cause_of(record, subject)
    assert says in str(error.value)
    assert error.value.remedy


def test_an_ambiguous_name_asks_for_the_namespace(tmp_path: Path) -> None:
    events = [event(at(n), "ada", "create", "configmaps", namespace=place, name="web", code=201)
              for n, place in enumerate(("shop", "bank"))]  # fmt: skip
    with record_of(events, tmp_path) as record, pytest.raises(KubewitnessError, match="2 names"):
        cause_of(record, "cm/web")


def test_of_a_reused_name_the_last_is_meant_and_the_first_can_be_asked_for(tmp_path: Path) -> None:
    events = [
        event(at(0), "ada", "create", "configmaps", name="web", code=201),
        event(at(60), "ada", "delete", "configmaps", name="web"),
        event(at(120), "ben", "create", "configmaps", name="web", code=201),
    ]
    with record_of(events, tmp_path) as record:
        assert cause_of(record, "cm/web", "shop").person == "ben"
        assert "2 objects had this name" in cause_of(record, "cm/web", "shop").notes[0]
        assert cause_of(Record(record.connection), "cm/web", "shop", at(30)).person == "ada"


def test_history_before_the_log_is_owned_up_to(tmp_path: Path) -> None:
    events = [event(at(0), "ben", "patch", "deployments", group="apps", name="old")]
    with record_of(events, tmp_path) as record:
        chain = cause_of(record, "deploy/old", "shop")
    assert any("before the log begins" in note for note in chain.notes)


def test_an_incident_tells_its_cause_its_reach_and_what_would_have_prevented_it(
    tmp_path: Path,
) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(quiet_days() + stolen_credential())
    found = analyze([log])
    told = [one for one in (*found.incidents, *found.queue) if one.cause is not None]
    assert told
    for one in told:
        assert one.reach is not None
        assert one.prevention


@given(st.from_regex(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True))
def test_an_owner_has_a_shorter_name(name: str) -> None:
    for resource in ("pods", "replicasets", "jobs"):
        assert all(name.startswith(owner) and len(owner) < len(name)
                   for _, owner in candidates(resource, name))  # fmt: skip
        assert family(resource, name)[0] == name


def test_the_commands_write_data_and_a_page_without_script(
    kubewitness: Command, tmp_path: Path
) -> None:
    log = write(tmp_path / "audit.log", [*rollout(), *stolen_token()])
    page = tmp_path / "cause.html"
    done = kubewitness("cause", f"pod/{POD}", log, "-n", "shop", "-o", "json", "--report", page)
    assert done.code == 0, done.talk
    document = json.loads(done.text)
    assert document["kind"] == "CauseChain"
    assert document["person"] == "ada"
    assert "<script" not in page.read_text()
    assert "<svg" in page.read_text()
    done = kubewitness("blast-radius", "eve", log, "--report", tmp_path / "reach.html")
    assert "caused" in done.text
    assert "<svg" in (tmp_path / "reach.html").read_text()
    assert kubewitness("cause", "pod/nobody", log).code == 1


def test_what_a_log_calls_things_does_nothing_on_the_page(
    kubewitness: Command, tmp_path: Path
) -> None:
    name = "x<script>alert(1)</script>\x1b[2J"
    log = write(
        tmp_path / "audit.log", [event(at(0), name, "create", "pods", name="web", code=201)]
    )
    page = tmp_path / "cause.html"
    done = kubewitness("cause", "pod/web", log, "-n", "shop", "--report", page)
    assert done.code == 0
    assert b"\x1b" not in done.out
    assert "<script" not in page.read_text()
