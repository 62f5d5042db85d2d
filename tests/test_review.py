"""What follows from a judgement of everything, of a service as a process: stories that are one, and
what is broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities import DAY, HOUR, START, Row, account, row, theft
from audit_log import events_of, lines, quiet_days
from conftest import Command
from kubewitness.analysis import analyze
from kubewitness.incidents.model import Incident
from kubewitness.state.database import State
from serving import CLUSTER, Service
from test_witness import received

SINCE = START + 3 * DAY
MINUTE = timedelta(minutes=1)


def of(rows: Iterable[Row]) -> list[bytes]:
    return lines(events_of(rows)).splitlines()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """With three quiet days behind it."""
    log = tmp_path / "audit.log"
    log.write_bytes(b"\n".join(one for one in quiet_days().splitlines() if received(one) < SINCE))
    analyze([log], lake=tmp_path / "history", cluster=CLUSTER)
    found = Service(tmp_path)
    shutil.copytree(tmp_path / "history", found.data / "lake")
    return found


def known(service: Service, *, merged: bool = False) -> list[Incident]:
    with State(service.data / "state.sqlite") as state:
        return state.incidents(CLUSTER, merged=merged)


def told_of(service: Service, who: str) -> bool:
    return any(who in one["principals"] for one in service.notices())


def test_two_thefts_become_one_and_a_loop_is_found_broken(
    service: Service, kubewitness: Command
) -> None:
    who = account("shop/exporter")
    place: dict[str, Any] = {"namespace": "shop", "source_ip": "10.244.1.9", "client": "exporter"}
    loop = [
        row(SINCE + at * MINUTE, who, "list", "services", names=(), outcome="denied", **place)
        for at in range(0, 240, 5)
    ]
    quiet = [one for one in quiet_days().splitlines() if received(one) >= SINCE]
    with service.running():
        service.until(lambda: service.metric("judgement_duration_seconds_count") > 0, "no judge")
        assert service.post([*quiet, *of(loop)]) == 200
        assert service.post(of(theft(SINCE + 2 * HOUR + 20 * MINUTE, who="ben"))) == 200
        service.until(lambda: told_of(service, "ben"), "nobody is told")
        # From the same address, before that: but it comes late.
        assert service.post(of(theft(SINCE + 2 * HOUR, who="ada"))) == 200
        service.until(lambda: len(known(service, merged=True)) > len(known(service)), "no merger")
        service.until(lambda: service.told.read_bytes().count(b"incident.resolved"), "not told")
        assert service.stop() == 0

    (part,) = (one for one in known(service, merged=True) if one.merged_into)
    (whole,) = (one for one in known(service) if one.id == part.merged_into)
    assert part.principals == ("ben",)
    assert set(whole.principals) == {"ada", "ben"}
    assert f"incident {part.id} is part of {whole.id}" in service.log.read_text()
    last = service.notices()[-1]
    assert (last["id"], last["merged_into"]) == (part.id, whole.id)

    broken = kubewitness("misconfigurations", "--data", service.data).text
    assert "shop/exporter is not permitted to list services" in " ".join(broken.split())
