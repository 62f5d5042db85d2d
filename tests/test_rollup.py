"""Events become activity, however many there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audit_log import quiet_days
from kubewitness.activity import grouping
from kubewitness.activity.grouping import group, merged
from kubewitness.activity.rollup import finish, found_proxies, rollup, slot_width
from kubewitness.inquiry import opened


def activities(log: Path) -> list[Any]:
    with opened([log]) as (_, connection, _intake):
        bounds = connection.execute("SELECT min(stage_at), max(stage_at) FROM events").fetchone()
        assert bounds is not None
        rollup(connection, width=slot_width(*bounds))
        return connection.execute("SELECT * FROM activities ORDER BY ALL").fetchall()


@pytest.mark.parametrize("stretch", [1, 50, 700])
def test_grouped_in_stretches_or_at_once_activity_is_the_same(
    stretch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(quiet_days())
    at_once = activities(log)
    assert len(at_once) > 100
    monkeypatch.setattr(grouping, "STRETCH", stretch)
    assert activities(log) == at_once


@pytest.mark.parametrize("seed", range(3))
def test_groups_that_come_in_pieces_and_not_in_order_become_the_same_activity(
    seed: int, tmp_path: Path
) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(quiet_days())
    with opened([log]) as (_, connection, _intake):
        bounds = connection.execute("SELECT min(stage_at), max(stage_at) FROM events").fetchone()
        assert bounds is not None
        width = slot_width(*bounds)
        rollup(connection, width=width)
        connection.execute("ALTER VIEW events RENAME TO everything")
        for piece in range(7):
            connection.execute(
                f"CREATE OR REPLACE VIEW events AS FROM everything"
                f" WHERE hash(audit_id, stage, {seed}) % 7 = {piece}"
            )
            group(connection, width=width, into="pieces", answered=["default"])
        connection.execute(f"CREATE TABLE whole AS {merged('pieces')}")
        proxies = found_proxies(connection, "pieces")
        stretches = grouping.stretches(connection, width)
        stretches = [(stretches[0][0].replace(year=2000), stretches[-1][1].replace(year=2100))]
        finish(connection, "whole", "heard", proxies=proxies, stretches=stretches)
        # of more than eight auditIDs the earliest are kept, of which there may be several
        told = "* EXCLUDE (audit_ids, name_samples), len(audit_ids), len(name_samples)"
        ways = [
            connection.execute(f"SELECT {told} FROM {table} ORDER BY ALL").fetchall()
            for table in ("heard", "activities")
        ]
        assert ways[0] == ways[1]
        assert len(ways[0]) > 100
