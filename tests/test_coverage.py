"""What a log can and cannot show: gaps in time and blind spots, on logs made for each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from kubewitness.report.blind import ALWAYS, FEW, PLENTY
from kubewitness.report.coverage import cover
from kubewitness.report.model import Blind, Count, Coverage, Gap
from summary_fixtures import BINDING, MONDAY, RBAC, Seen, every_kind, opened

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
JOB = "system:serviceaccount:shop:job"


def covered(*log: Seen) -> Coverage:
    with opened(*log) as connection:
        return cover(connection)


def utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)


def spots(*log: Seen) -> list[Blind]:
    """The blind spots that not every log has."""
    blind = covered(*log).blind
    assert blind[len(blind) - len(ALWAYS) :] == ALWAYS
    return list(blind[: len(blind) - len(ALWAYS)])


def dark(*log: Seen) -> list[str]:
    """What is in the dark, but for what is new to a week."""
    return [s.what for s in spots(*log) if s.what != "what is usual over a week"]


FULL = (
    *every_kind(2000),
    Seen(times=20, credential="JTI=1", reason=BINDING, source_ips=("10.0.0.9",)),
)
"""Half a day of a log that lacks nothing."""


def test_no_events_are_only_blind_to_what_every_log_is() -> None:
    assert covered() == Coverage(levels=(), stages=(), gaps=(), blind=ALWAYS, clusters=())


def test_levels_stages_and_clusters_are_counted_in_events() -> None:
    coverage = covered(
        Seen(times=3),
        Seen(times=2, stage="RequestReceived", level="Request"),
        Seen(cluster="second", stage="ResponseStarted"),
    )
    assert coverage.levels == (Count("Metadata", 4), Count("Request", 2))
    assert coverage.stages == (
        Count("ResponseComplete", 3),
        Count("RequestReceived", 2),
        Count("ResponseStarted", 1),
    )
    assert coverage.clusters == (Count("main", 5), Count("second", 1))


def test_a_steady_log_has_no_gap() -> None:
    assert covered(Seen(times=600)).gaps == ()


def test_a_hole_in_a_steady_log_is_a_gap() -> None:
    after = MONDAY + 100 * MINUTE + 20 * MINUTE
    assert covered(Seen(times=101), Seen(at=after, times=100)).gaps == (
        Gap(utc(MONDAY + 100 * MINUTE), utc(after)),
    )


def test_minutes_of_silence_are_no_gap() -> None:
    after = MONDAY + 100 * MINUTE + 5 * MINUTE
    assert covered(Seen(times=101), Seen(at=after, times=100)).gaps == ()


def test_nights_are_no_gaps_but_a_lost_day_is() -> None:
    days = [Seen(at=MONDAY + day * DAY + 8 * HOUR, times=600) for day in range(14)]
    assert covered(*days).gaps == ()
    lost = covered(*days[:5], *days[8:]).gaps
    evening = MONDAY + 4 * DAY + 8 * HOUR + 599 * MINUTE
    assert lost == (Gap(utc(evening), utc(MONDAY + 8 * DAY + 8 * HOUR)),)


def test_a_sparse_log_is_not_all_gaps() -> None:
    assert covered(Seen(times=100, every=HOUR)).gaps == ()


@pytest.mark.parametrize("events", [1, 2, 20])
def test_a_few_events_cannot_tell_what_silence_is_usual(events: int) -> None:
    assert covered(Seen(times=events), Seen(at=MONDAY + 9 * HOUR)).gaps == ()


def test_the_longest_gaps_come_first() -> None:
    starts = (0, 300, 500)
    gaps = covered(*(Seen(at=MONDAY + start * MINUTE, times=100) for start in starts)).gaps
    assert [(gap.end - gap.start) // MINUTE for gap in gaps] == [201, 101]


def test_gaps_are_of_each_cluster_and_at_its_ends() -> None:
    coverage = covered(
        Seen(times=600),
        Seen(at=MONDAY + 200 * MINUTE, cluster="second", times=100),
        Seen(at=MONDAY + 400 * MINUTE, cluster="second", times=200),
    )
    assert [((g.start - utc(MONDAY)) // MINUTE, (g.end - utc(MONDAY)) // MINUTE)
            for g in coverage.gaps] == [(0, 200), (299, 400)]  # fmt: skip
    assert coverage.blind[0] == Blind(
        "cluster second during 2 gaps",
        "its log says nothing then; the longest, 3 h 20 min, is Mon 2 Mar 2026 00:00 – 03:20 UTC",
        "the missing log files, or the API server's own logs if it was down",
    )


def test_a_full_log_is_only_short() -> None:
    full = (*FULL, Seen(verb="create", level="Request", name="x", times=9))
    assert [spot.what for spot in spots(*full)] == ["what is usual over a week"]


def test_a_week_is_enough_to_know_a_week() -> None:
    def short(span: timedelta) -> bool:
        log = (Seen(), Seen(at=MONDAY + span))
        return any(spot.what == "what is usual over a week" for spot in spots(*log))

    assert short(6 * DAY)
    assert not short(7 * DAY)


def test_a_log_of_level_metadata_hides_all_bodies() -> None:
    (spot,) = [s for s in spots(*FULL) if s.what.startswith("what was written")]
    assert spot.why == "every event is of level Metadata, without bodies"


def test_bodies_are_missed_where_they_are_missing() -> None:
    def written(level: str, times: int, resource: str, group: str, code: int = 201) -> Seen:
        return Seen(verb="create", level=level, times=times, resource=resource, group=group,
                    code=code, reason=BINDING, credential="JTI=1")  # fmt: skip

    partly = (
        *FULL,
        written("Request", 3, "deployments", "apps"),
        written("Metadata", 1, "pods", ""),
        written("Metadata", 9, "pods", "", code=403),
        written("Metadata", 2, "rolebindings", RBAC),
    )
    found = {spot.what.split()[1]: spot.why for spot in spots(*partly)}
    assert found["pods"].startswith("25% of the writes of pods and workloads are logged at level")
    assert found["permissions"].startswith("all writes of roles and bindings are logged at level")
    whole = (*FULL, written("Request", 3, "deployments", "apps"))
    assert dark(*whole) == []


def test_a_log_without_reads() -> None:
    admin = [Seen(verb="create", times=FEW, credential="JTI=1", reason=BINDING, level="Request")]
    assert dark(*admin) == ["who read anything, secrets included"]
    assert dark(*(msgspec.structs.replace(seen, times=FEW - 1) for seen in admin)) == []


def test_what_every_cluster_does_all_the_time_is_missed() -> None:
    body = Seen(verb="create", level="Request", name="x", reason=BINDING, credential="JTI=1")
    kinds = [*every_kind(2000), body]
    nodes, leases, events, system = range(4)

    def without(*kind: int) -> list[str]:
        return dark(*(seen for i, seen in enumerate(kinds) if i not in kind),
                    Seen(times=PLENTY, source_ips=("10.1.1.1",)))  # fmt: skip

    assert without() == []
    assert without(events) == ["requests on events"]
    assert without(leases) == ["requests on leases"]
    assert without(system) == ["requests in kube-system"]
    assert without(nodes) == ["who read secrets", "requests on secrets"]
    assert without(nodes, leases) == [
        "who read secrets",
        "requests by nodes, on secrets, on leases",
    ]
    assert dark(*every_kind(PLENTY - 100), body) == []


def test_stages_left_out() -> None:
    received = Seen(stage="RequestReceived", code=None, level="Request")
    assert dark(received) == ["what was permitted, refused or answered"]
    watch = Seen(verb="watch", level="Request", reason=BINDING, credential="JTI=1")
    open_ones = ["watches, execs and port-forwards that are still open"]
    assert dark(watch) == open_ones
    assert dark(msgspec.structs.replace(watch, verb="get", subresource="exec")) == open_ones
    assert dark(watch, msgspec.structs.replace(watch, stage="ResponseStarted")) == []


def test_credentials_and_bindings_are_those_of_people_and_workloads() -> None:
    both = [
        "whether somebody else uses a stolen token or certificate",
        "which binding permitted a request",
    ]
    plain = Seen(level="Request")
    assert dark(plain) == both
    assert dark(plain, Seen(user="system:node:a", credential="X509SHA256=1")) == both
    assert dark(plain, Seen(user=JOB, credential="JTI=1")) == both[1:]
    assert dark(plain, Seen(reason="RBAC: nobody knows")) == both
    assert dark(plain, Seen(reason=BINDING)) == both[:1]
    assert dark(Seen(level="Request", user="system:anonymous", code=403)) == []


@pytest.mark.parametrize(
    ("addresses", "users", "what", "why"),
    [
        ([()], ("a", "b"), "where requests came from", "no event has source addresses"),
        ([("10.0.0.1",)], ("a", "b", JOB), "where requests came from", "everybody has the same"),
        ([("192.0.2.1", "10.0.0.1")], ("a", "b", "c"), "where requests came from", "everybody has"),
        ([("10.0.0.1",)], ("a", "b"), "", ""),
        ([("10.0.0.1",), ("10.0.0.2",)], ("a", "b", "c"), "", ""),
    ],
)
def test_addresses(
    addresses: list[tuple[str, ...]], users: tuple[str, ...], what: str, why: str
) -> None:
    log = (
        Seen(user=user, source_ips=addresses[i % len(addresses)], level="Request")
        for i, user in enumerate(users)
    )
    found = [spot for spot in spots(*log) if spot.what.startswith("where")]
    assert [spot.what for spot in found] == ([what] if what else [])
    assert all(spot.why.startswith(why) for spot in found)


def test_people_behind_one_address() -> None:
    people = [Seen(user=user, source_ips=("10.0.0.1",)) for user in ("a", "b", "c")]
    pod = Seen(user=JOB, source_ips=("10.42.0.1",))
    assert "where people came from" in dark(*people, pod)
    assert "where people came from" not in dark(*people[:2], pod)


def test_an_untrusted_proxy_is_told_from_one_that_hides_addresses() -> None:
    """A proxy is learnt only if nearly everybody comes through it; here, three of six do."""
    through = [Seen(user=u, source_ips=(f"192.0.2.{u}", "10.0.0.1")) for u in ("1", "2", "3")]
    beside = [Seen(user=user, source_ips=("10.0.0.1",)) for user in ("a", "b", "c")]
    (spot,) = [s for s in spots(*through, *beside) if s.what == "where requests came from"]
    assert spot.remedy == "the address of that proxy among the trusted ones"
    hidden = [Seen(user=user, source_ips=("192.0.2.9", "10.0.0.1")) for user in ("a", "b", "c")]
    (spot,) = [s for s in spots(*hidden) if s.what == "where requests came from"]
    assert spot.remedy.startswith("a proxy or load balancer that hands on")


def test_what_only_some_clusters_hide_names_them() -> None:
    def log(cluster: str, level: str) -> Seen:
        return Seen(cluster=cluster, level=level, reason=BINDING, credential="JTI=1")

    found = dark(log("a", "Metadata"), log("b", "Request"), log("c", "Metadata"))
    assert len(found) == 1
    assert found[0].endswith(", in clusters a, c")
    everywhere = dark(log("a", "Metadata"), log("b", "Metadata"))
    assert len(everywhere) == 1
    assert "cluster" not in everywhere[0]


def test_words_fit_the_page() -> None:
    """Both reports cut longer ones off (report/templates/period.html.j2)."""
    for spot in (*covered(Seen(verb="watch", source_ips=())).blind, *ALWAYS):
        assert len(spot.what) <= 160
        assert len(spot.why) <= 300 >= len(spot.remedy)
        assert not spot.why.endswith(".")
        assert not spot.remedy.endswith(".")
