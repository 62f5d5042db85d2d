"""Events become activity, however many there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audit_log import quiet_days
from kubewitness.activity import rollup as rolling
from kubewitness.activity.rollup import rollup, slot_width
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
    monkeypatch.setattr(rolling, "STRETCH", stretch)
    assert activities(log) == at_once
