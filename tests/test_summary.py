"""A period in numbers: small logs with known answers, and no log at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from kubewitness.report import exports
from kubewitness.report.access import MACHINERY, MOST_DENIED, MOST_SENSITIVE
from kubewitness.report.change import MOST_NEWCOMERS
from kubewitness.report.model import Count, Denied, Mover, Newcomer, Summary
from kubewitness.report.summary import (
    MOST_SLOTS,
    MOST_VALUES,
    NON_RESOURCE,
    OTHERS,
    chart_width,
    summarise,
)
from kubewitness.report.terminal import analysis as terminal
from summary_fixtures import MONDAY, RBAC, Seen, opened

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JOB = "system:serviceaccount:shop:job"


def told(*log: Seen) -> Summary:
    with opened(*log) as connection:
        return summarise(connection)


def utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)


def read(summary: Summary) -> str:
    """What a terminal shows, which must work for every summary."""
    out = StringIO()
    terminal.summary_report(summary, None, Console(file=out, width=120))
    return out.getvalue()


def test_no_events() -> None:
    summary = told()
    assert summary.requests == summary.principals == summary.namespaces == 0
    assert not any((summary.slots, summary.volume, summary.denied_volume.n, summary.hours))
    assert not any((summary.classes, summary.verbs, summary.resources, summary.outcomes))
    assert not any((summary.movers, summary.newcomers, summary.denied, summary.sensitive))
    assert "no events" in read(summary)


def test_one_event() -> None:
    summary = told(Seen(at=MONDAY + 61 * timedelta(minutes=1)))
    assert summary.start == summary.end == utc(MONDAY + timedelta(minutes=61))
    assert (summary.requests, summary.principals, summary.namespaces) == (1, 1, 1)
    assert summary.slots == (utc(MONDAY + HOUR),)
    assert [(s.label, s.n) for s in summary.volume] == [("human", (1,))]
    assert summary.verbs == (Count("get", 1),)
    assert summary.resources == (Count("pods", 1),)
    assert summary.outcomes == (Count("ok", 1),)
    assert [(s.label, s.n[1], sum(s.n)) for s in summary.hours] == [("Mon", 1, 1)]
    assert "1 request" in read(summary)


def test_slots_have_no_holes_and_name_the_class() -> None:
    summary = told(
        Seen(times=4, every=timedelta(seconds=10)),
        Seen(at=MONDAY + timedelta(minutes=20), user="system:node:a", times=2),
        Seen(at=MONDAY + timedelta(minutes=20), user="system:anonymous", code=403, times=3),
    )
    assert summary.slots == tuple(utc(MONDAY + timedelta(minutes=5 * i)) for i in range(5))
    assert {s.label: s.n for s in summary.volume} == {
        "human": (4, 0, 0, 0, 0),
        "node": (0, 0, 0, 0, 2),
        "anonymous": (0, 0, 0, 0, 3),
    }
    assert summary.denied_volume.n == (0, 0, 0, 0, 3)
    assert summary.classes == (Count("human", 4), Count("anonymous", 3), Count("node", 2))


@pytest.mark.parametrize(
    ("span", "width"),
    [
        (timedelta(0), timedelta(minutes=5)),
        (HOUR, timedelta(minutes=5)),
        (DAY, timedelta(minutes=15)),
        (2 * DAY, timedelta(minutes=15)),
        (2 * DAY + HOUR, HOUR),
        (7 * DAY, HOUR),
        (21 * DAY, timedelta(hours=3)),
        (40 * DAY, timedelta(hours=6)),
        (100 * DAY, DAY),
        (3 * 365 * DAY, 7 * DAY),
        (180 * 365 * DAY, 364 * DAY),
    ],
)
def test_a_chart_has_at_most_200_slots(span: timedelta, width: timedelta) -> None:
    assert chart_width(MONDAY, MONDAY + span) == width
    assert span // width + 2 <= MOST_SLOTS


def test_verbs_say_exec_and_watch_and_resources_their_subresource() -> None:
    summary = told(
        Seen(verb="get", subresource="exec", times=3, code=101),
        Seen(verb="watch", resource="deployments", group="apps", times=2),
        Seen(verb="get", resource=None, namespace=None, uri="/readyz?verbose"),
    )
    assert summary.verbs == (Count("exec", 3), Count("watch", 2), Count("get", 1))
    assert summary.resources == (
        Count("pods/exec", 3),
        Count("deployments.apps", 2),
        Count(NON_RESOURCE, 1),
    )


def test_invented_resources_are_summed() -> None:
    invented = (Seen(resource=f"made-up-{i}", code=404) for i in range(MOST_VALUES + 5))
    summary = told(Seen(times=3), *invented)
    assert len(summary.resources) == MOST_VALUES + 1
    assert summary.resources[0] == Count("pods", 3)
    assert summary.resources[-1] == Count(OTHERS, 6)


def test_hours_are_of_people_where_there_are_any() -> None:
    night = MONDAY + 5 * DAY + timedelta(hours=23)
    with_people = told(Seen(at=night, times=2), Seen(user=JOB, at=MONDAY, times=9))
    assert [(s.label, sum(s.n)) for s in with_people.hours] == [("Mon", 0), ("Sat", 2)]
    assert with_people.hours[1].n[23] == 2
    without = told(Seen(user=JOB, at=MONDAY, times=9))
    assert [(s.label, s.n[0]) for s in without.hours] == [("Mon", 9)]


def test_movers_are_those_who_changed_beyond_chance() -> None:
    def halves(user: str, before: int, after: int) -> tuple[Seen, ...]:
        late = MONDAY + 5 * DAY + HOUR
        return tuple(
            Seen(at=at, user=user, times=n, every=4 * DAY / n)
            for at, n in ((MONDAY, before), (late, after))
            if n
        )

    summary = told(
        *halves("steady", 1000, 1100),
        *halves("grew", 1000, 4000),
        *halves("faded", 4000, 200),
        *halves("tiny", 2, 40),
        *halves("system:node:a", 500, 10),
        *halves("system:node:b", 10, 500),
        Seen(at=MONDAY + 10 * DAY, user="last"),
    )
    assert [mover.principal for mover in summary.movers] == ["faded", "grew"]
    assert summary.movers[1] == Mover("grew", 200.0, 800.0, "requests a day")


def test_a_short_log_moves_by_the_hour_and_minutes_do_not_move() -> None:
    day = told(Seen(times=100), Seen(at=MONDAY + 3 * HOUR, times=400), Seen(at=MONDAY + 20 * HOUR))
    assert day.movers == (Mover("maria", 50.0, 0.1, "requests an hour"),)
    assert told(Seen(times=900, every=timedelta(seconds=1))).movers == ()


def test_newcomers_are_of_the_last_third() -> None:
    late = MONDAY + 8 * DAY
    summary = told(
        Seen(times=10, every=DAY),
        Seen(user=JOB, times=10, every=DAY),
        Seen(user="early", at=MONDAY + 5 * DAY),
        Seen(user="olga", at=late, times=3, verb="list", resource="secrets", agent="curl/8.1"),
        Seen(user=JOB, at=late + HOUR, source_ips=("203.0.113.9",), verb="delete"),
    )
    assert summary.newcomers == (
        Newcomer("principal", "olga", utc(late), 3, "list secrets in shop"),
        Newcomer("client", "curl", utc(late), 3, "list secrets by olga"),
        Newcomer("network", "203.0.113.0/24", utc(late + HOUR), 1, "delete pods by sa:shop:job"),
    )


def test_a_log_too_short_for_a_whole_day_before_has_no_newcomers() -> None:
    assert told(Seen(), Seen(user="olga", at=MONDAY + 35 * HOUR)).newcomers == ()


def test_generated_names_are_no_news_and_do_not_flood() -> None:
    late = MONDAY + 8 * DAY
    summary = told(
        Seen(times=10, every=DAY),
        Seen(user="system:node:worker-1"),
        Seen(user="system:node:worker-2", at=late),
        *(Seen(user=f"system:serviceaccount:ci:run-{i}x7p", at=late) for i in range(24, 30)),
        Seen(user="system:serviceaccount:ci:build-1", at=late),
    )
    assert [one.value for one in summary.newcomers] == [
        "system:serviceaccount:ci:build-1",
        "system:serviceaccount:ci:run-*",
    ]
    assert summary.newcomers[1].n == 6


def test_the_clients_and_networks_of_scanners_come_last_and_are_few() -> None:
    late = MONDAY + 8 * DAY
    scanners = (
        Seen(user="", at=late, source_ips=(f"198.51.{i}.1",), agent=f"scan{chr(97 + i)}", code=401)
        for i in range(26)
    )
    summary = told(
        Seen(times=10, every=DAY), Seen(user="zoe", at=late, source_ips=("192.0.2.1",)), *scanners
    )
    assert len(summary.newcomers) == MOST_NEWCOMERS
    assert [one.value for one in summary.newcomers[:2]] == ["zoe", "192.0.2.0/24"]


def test_a_cluster_that_joined_late_is_not_all_news() -> None:
    late = MONDAY + 9 * DAY
    summary = told(
        Seen(times=12, every=DAY),
        Seen(cluster="second", user="otto", at=late, times=4, every=DAY),
        Seen(cluster="second", user="pia", at=late + 3 * DAY - HOUR),
    )
    assert [one.value for one in summary.newcomers] == ["pia"]
    assert summary.newcomers[0].example == "get pods in shop (second)"
    assert summary.movers == ()


def test_denied_requests_are_told_by_who_and_what() -> None:
    summary = told(
        Seen(),
        *(Seen(verb="list", resource="secrets", namespace=ns, code=403) for ns in ("a", "b")),
        Seen(user=JOB, verb="list", resource="secrets", namespace=None, code=403, times=5),
        Seen(user=JOB, verb="delete", resource="nodes", namespace=None, code=403, times=4),
        *(Seen(user=f"system:node:{i}", code=403, namespace=f"ns-{i}") for i in range(3)),
        *(
            Seen(user="system:anonymous", resource=r, source_ips=(ip,), code=403, times=n)
            for ip, r, n in (("192.0.2.1", "pods", 7), ("192.0.2.1", "services", 1),
                             ("192.0.2.2", "pods", 1))
        ),
        Seen(user="", source_ips=("192.0.2.1",), code=401),
    )  # fmt: skip
    start = utc(MONDAY)

    def row(who: str, action: str, namespace: str, n: int) -> Denied:
        return Denied(who, action, namespace, n, start, start + (n - 1) * timedelta(minutes=1))

    assert summary.denied[:4] == (
        Denied("system:anonymous from 192.0.2.1", "get pods, +1 more", "shop", 8,
               start, start + timedelta(minutes=6)),
        row(JOB, "list secrets", "*", 5),
        row(JOB, "delete nodes", "", 4),
        Denied("system:nodes", "get pods", "3 namespaces", 3, start, start),
    )  # fmt: skip
    assert {(one.principal, one.action, one.namespace) for one in summary.denied[4:]} == {
        ("maria", "list secrets", "a, b"),
        ("system:anonymous from 192.0.2.2", "get pods", "shop"),
        ("<unauthenticated> from 192.0.2.1", "get pods", "shop"),
    }


def test_only_the_most_denied_are_told() -> None:
    summary = told(*(Seen(user=f"u{i:02}", code=403, times=i + 1) for i in range(30)))
    assert [one.n for one in summary.denied] == list(range(30, 30 - MOST_DENIED, -1))


def test_sensitive_access_is_told_by_who_and_kind() -> None:
    summary = told(
        Seen(resource="secrets", name="db", times=3),
        Seen(resource="secrets", name="db", namespace="other"),
        Seen(resource="secrets", name="tls"),
        Seen(user=JOB, verb="list", resource="secrets", namespace=None, times=40),
        Seen(resource="clusterroles", group=RBAC, verb="create", namespace=None, name="all"),
        Seen(resource="pods", subresource="exec", name="web-0", code=101),
        Seen(resource="configmaps"),
        Seen(verb="create", resource="deployments", group="apps", name="web"),
        Seen(user="otto", resource="secrets", name="db", code=403),
        Seen(user="otto", resource="secrets", name="gone", code=404),
        Seen(user="system:node:a", resource="secrets", name="db", times=6),
        Seen(user="system:kube-scheduler", resource="pods", subresource="exec", name="x"),
        Seen(user="otto", acting_as="root"),
    )
    assert [(a.principal, a.namespace, a.objects, a.n) for a in summary.sensitive] == [
        ("otto", "shop", 1, 1),
        ("maria", "", 1, 1),
        ("maria", "shop", 1, 1),
        ("maria", "other, shop", 3, 5),
        (JOB, "*", 0, 40),
        (MACHINERY, "*", 0, 7),
    ]
    actions = [a.action for a in summary.sensitive]
    assert actions[1:5] == [
        "changed permissions", "entered containers", "read secrets", "read secrets",
    ]  # fmt: skip
    assert "db" not in read(summary)


def test_more_names_than_samples_are_counted() -> None:
    names = (Seen(resource="secrets", name=f"token-{i:04}") for i in range(30))
    (access,) = told(*names).sensitive
    assert (access.objects, access.n) == (30, 30)


def test_no_kind_of_sensitive_access_hides_another() -> None:
    summary = told(
        *(
            Seen(user=f"u{i:02}", resource="roles", group=RBAC, verb="create", times=i + 1)
            for i in range(40)
        ),
        Seen(user="reader", resource="secrets", name="db"),
        Seen(user="system:node:a", resource="secrets", name="db"),
    )
    assert len(summary.sensitive) == MOST_SENSITIVE
    assert [a.principal for a in summary.sensitive[:3]] == ["u39", "reader", "u38"]
    assert summary.sensitive[-1].principal == MACHINERY


def test_requests_without_an_answer_have_an_unknown_outcome() -> None:
    summary = told(Seen(stage="RequestReceived", code=None, resource="secrets", times=3))
    assert (summary.start, summary.end) == (utc(MONDAY), utc(MONDAY + timedelta(minutes=2)))
    assert summary.outcomes == (Count("unknown", 3),)
    assert [(one.action, one.n) for one in summary.sensitive] == [("read secrets", 3)]


_LOG = st.lists(
    st.builds(
        Seen,
        at=st.datetimes(MONDAY, MONDAY + 30 * DAY),
        times=st.integers(1, 5),
        every=st.timedeltas(timedelta(0), 2 * DAY),
        cluster=st.sampled_from(("main", "second")),
        user=st.sampled_from(("", "maria", JOB, "system:node:a", "system:kube-scheduler", "'; --")),
        verb=st.sampled_from(("get", "list", "watch", "create", "delete", "odd\nverb")),
        resource=st.sampled_from((None, "pods", "secrets", "it's")),
        subresource=st.sampled_from((None, "exec", "status")),
        namespace=st.sampled_from((None, "shop", "kube-system")),
        name=st.sampled_from((None, "db")),
        source_ips=st.sampled_from(((), ("10.0.0.7",), ("192.0.2.1", "10.0.0.7"), ("junk",))),
        agent=st.sampled_from(("kubectl/v1.33", "")),
        code=st.sampled_from((None, 200, 401, 403, 404, 500)),
        stage=st.sampled_from(("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")),
        level=st.sampled_from(("Metadata", "RequestResponse")),
        acting_as=st.sampled_from((None, "root")),
    ),
    max_size=12,
)


@settings(max_examples=20)
@given(log=_LOG)
def test_every_breakdown_adds_up(log: list[Seen]) -> None:
    with opened(*log) as connection:
        summary = summarise(connection)
        assert summarise(connection) == summary
    for counts in (summary.classes, summary.verbs, summary.resources, summary.outcomes):
        assert sum(count.n for count in counts) == summary.requests
        assert list(counts) == sorted(counts, key=lambda count: -count.n)
    assert sum(sum(series.n) for series in summary.volume) == summary.requests
    assert all(len(series.n) == len(summary.slots) for series in summary.volume)
    assert len(summary.slots) <= MOST_SLOTS
    refused = sum(c.n for c in summary.outcomes if c.value in {"denied", "unauthenticated"})
    assert sum(summary.denied_volume.n) == refused == sum(one.n for one in summary.denied)
    people = {c.value: c.n for c in summary.classes}.get("human", summary.requests)
    assert sum(sum(series.n) for series in summary.hours) == people
    assert all(len(series.n) == 24 for series in summary.hours)
    events = sum(seen.times for seen in log)
    for counts in (summary.coverage.levels, summary.coverage.stages, summary.coverage.clusters):
        assert sum(count.n for count in counts) == events
    assert all(gap.start < gap.end for gap in summary.coverage.gaps)
    read(summary)
    exports.write(summary, "json", BytesIO())
