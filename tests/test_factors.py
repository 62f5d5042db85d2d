"""The contract of a factor, held against every one that is registered.

``check_factor`` is what a further factor has to pass; see docs/factors.md.
"""

from __future__ import annotations

import copy
import pickle
import random
import string
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import FrozenInstanceError, fields
from datetime import datetime, timedelta
from typing import Any, get_args

import duckdb
import numpy as np
import pytest

from activities import (
    CLUSTER,
    DAY,
    HOUR,
    NODES,
    OUTSIDE,
    START,
    Row,
    account,
    connected,
    loaded,
    put,
)
from activities import row as activity
from kubewitness.activity.table import ID_COLUMNS, ActivityTable, follow, load, texts
from kubewitness.baseline.horizon import Horizon, guard_for, prequential, retrospective
from kubewitness.incidents.explaining import explain, shown
from kubewitness.incidents.ledger import ASPECTS, enter
from kubewitness.incidents.linking import link
from kubewitness.incidents.ranking import weigh
from kubewitness.surprise.factor import Aspect, Factor, Surprise
from kubewitness.surprise.novelty import Novelty
from kubewitness.surprise.provenance import OVERLAP, Concurrency
from kubewitness.surprise.registry import FACTORS
from kubewitness.surprise.scoring import find

DAYS = 12
SINCE = 6
ARRAYS = tuple(one.name for one in fields(Surprise))


def some_rows(days: int, seed: int = 3) -> list[Row]:
    """A busy cluster in which every factor has something to ask about, then a bad day."""
    chance = random.Random(seed)
    addresses = {"ada": "10.8.0.1", "ben": "10.8.0.2", "system:anonymous": "10.0.0.9"}
    addresses |= {f"system:node:{node}": address for node, address in NODES.items()}
    workloads = [account(name) for name in ("shop/api", "shop/web", "ci/deployer")]
    addresses |= {name: f"10.244.0.{number}" for number, name in enumerate(workloads)}
    controller = account("kube-system/job-controller")
    addresses[controller] = "10.0.0.5"
    rows = []
    for number in range(72 * days):
        at = START + timedelta(minutes=number * 20, seconds=chance.randrange(60))
        who = chance.choice(["ada", "ben", *addresses])
        person = who in ("ada", "ben")
        if person and not 8 <= at.hour < 20:
            continue
        resource, sub = chance.choice(
            [("pods", ""), ("pods", ""), ("configmaps", ""), ("secrets", ""), ("pods", "exec")]
        )
        token: Row = held(who, at) if who in workloads else {}
        if who == controller:
            token = {"credential": f"JTI={at.day}", "scheme": "JTI"}
        rows.append(
            activity(
                at,
                who,
                chance.choice(["get", "list", "create"]),
                resource,
                subresource=sub,
                namespace=chance.choice(
                    ["shop", "ci", f"team-{chance.randrange(number // 200 + 1)}"]
                ),
                names=(chance.choice(["app", "db"]),),
                source_ip=addresses[who],
                client="kubectl" if person else "client-go",
                outcome=chance.choice(["ok"] * 9 + ["denied"]),
                traits=chance.choice(["", "", "privileged"]),
                origins=chance.choice(["", "registry.example/team"]),
                bearer="app-*" if who in workloads else "",
                acting_as=chance.choice(["", "", "viewer"]) if person else "",
                **token,
            )
        )
    node = f"system:node:{next(iter(NODES))}"
    rows += [
        activity(START + day * DAY, node, "create", "serviceaccounts", subresource="token",
                 names=(who,), source_ip=addresses[node], client="client-go",
                 issued=held(who, START + day * DAY)["credential"])
        for day in range(days) for who in workloads
    ]  # fmt: skip
    return sorted([*rows, *bad_day(days - 2, addresses)], key=lambda line: line["first"])


def held(who: str, at: datetime) -> Row:
    """The token that the pod of a workload has on that day."""
    return {
        "pod_uid": f"uid-{who}-{at.day // 3}",
        "node": next(iter(NODES)),
        "credential": f"JTI={who}-{at.day}",
        "scheme": "JTI",
    }


def bad_day(day: int, addresses: dict[str, str]) -> list[Row]:
    """One thing after the other that nobody did before."""
    at = START + day * DAY + 9 * HOUR
    robot, node = account("shop/api"), f"system:node:{next(iter(NODES))}"
    own: dict[str, Any] = {"source_ip": addresses["ada"], "namespace": "shop"}
    its = {**own, "source_ip": addresses[robot], "client": "client-go"}
    minted: Row = {"bearer": "app-*", "credential": "JTI=minted", "scheme": "JTI"}
    minutes = [at + timedelta(minutes=5 * number) for number in range(20)]
    return [
        activity(minutes[0], "ada", "get", "pods", **own),
        activity(minutes[1], "ada", "get", "pods", namespace="shop", source_ip=OUTSIDE),
        activity(minutes[2], "ada", "get", "pods", **own),
        activity(minutes[3], "ada", "delete", "nodes", **own),
        activity(minutes[4], "ada", "get", "pods", client="curl", **own),
        activity(minutes[5], "ada", "get", "pods", platform="darwin/arm64", **own),
        activity(minutes[6], "ada", "get", "pods", acting_as="system:admin", **own),
        activity(minutes[7], "ada", "create", "pods", traits="hostPath, privileged", **own),
        activity(minutes[8], "ada", "delete", "pods", outcome="denied", **own),
        activity(minutes[9], "ada", "create", "pods", **own | {"namespace": "kube-system"}),
        activity(minutes[10], robot, "get", "secrets", names=("stripe",), **its),
        activity(minutes[8], "ada", "create", "pods", origins="docker.io/library", **own),
        activity(minutes[9], robot, "get", "pods", bearer="", **its),
        activity(minutes[11], robot, "list", "pods", **its | {"source_ip": addresses["ada"]},
                 **held(robot, at)),
        activity(minutes[11], "ada", "get", "pods", scheme="X509SHA256", **own),
        activity(minutes[12], "ada", "create", "serviceaccounts", subresource="token",
                 names=("api",), issued="JTI=minted", **own),
        activity(minutes[13], robot, "get", "pods", **its, **minted),
        activity(minutes[14], robot, "get", "pods", **its | {"source_ip": OUTSIDE}, **minted),
        activity(minutes[15], robot, "get", "pods", **its, **minted),
        activity(minutes[16], node, "get", "pods", namespace="shop", source_ip="10.0.0.99"),
        activity(at - 7 * HOUR, "ada", "get", "pods", **own),
    ]  # fmt: skip


HORIZONS: dict[str, Callable[[ActivityTable], Horizon]] = {
    "prequential": lambda table: prequential(table, SINCE, 7),
    "retrospective": lambda table: retrospective(table, guard_for(table)),
}
HORIZON = pytest.mark.parametrize("horizon", HORIZONS.values(), ids=HORIZONS)
FACTOR = pytest.mark.parametrize("factor", FACTORS, ids=[factor.name for factor in FACTORS])


@pytest.fixture(scope="module")
def table() -> ActivityTable:
    return loaded(some_rows(DAYS))


def same(one: Surprise, other: Surprise) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)


def check_factor(factor: Factor, table: ActivityTable) -> None:
    """Everything that holds for one factor by itself, under both horizons."""
    check_description(factor)
    check_copies(factor, table)
    for of in HORIZONS.values():
        check_answers(factor, table, of)
    check_small_tables(factor)


def check_description(factor: Factor) -> None:
    """Its words: a question, columns that exist, a format over exactly those columns."""
    assert factor.name
    assert factor.name == factor.name.strip().lower()
    assert factor.question.endswith("?")
    assert factor.aspect in get_args(Aspect)
    assert factor.aspect in ASPECTS, "an aspect that the ledger does not add up is lost"
    assert factor.context
    assert factor.columns
    assert {*factor.context, *factor.columns} <= set(ID_COLUMNS)
    named = {name for _, name, _, _ in string.Formatter().parse(factor.shown) if name}
    assert named == set(factor.columns)
    for values in ({c: f"<{c}>" for c in factor.columns}, dict.fromkeys(factor.columns, "")):
        text = shown(factor, values)
        assert text.strip()
        assert all(value in text for value in values.values())
    assert (factor.learn.__doc__ or "").strip()


def check_copies(factor: Factor, table: ActivityTable) -> None:
    """Frozen, equal to its copies and to what comes out of a pickle, in every use."""
    for one in (copy.copy(factor), copy.deepcopy(factor), pickle.loads(pickle.dumps(factor))):
        assert one == factor
        assert hash(one) == hash(factor)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        factor.name = "another"  # type: ignore[misc]
    horizon = HORIZONS["prequential"](table)
    thawed = pickle.loads(pickle.dumps(factor))
    assert same(
        thawed.learn(table, horizon).answer(table), factor.learn(table, horizon).answer(table)
    )


def check_answers(
    factor: Factor, table: ActivityTable, of: Callable[[ActivityTable], Horizon]
) -> None:
    """One entry a row, nats finite and ≥ 0, counts that fit; deterministic, without traces."""
    horizon = of(table)
    arrays = [*table.ids.values(), table.first, table.last, table.slice, table.requests]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    answer = factor.learn(table, horizon).answer(table)
    for array in arrays:
        array.flags.writeable = True
    assert all(np.array_equal(one, other) for one, other in zip(before, arrays, strict=True))
    assert same(answer, factor.learn(table, horizon).answer(table))
    for name in ARRAYS:
        assert getattr(answer, name).shape == (len(table),)
    assert np.isfinite(answer.nats).all()
    assert (answer.nats >= 0).all()
    assert answer.atom.dtype == np.uint64
    for count in (answer.seen, answer.active, answer.peers, answer.members):
        assert (count >= 0).all()
    assert (answer.seen <= answer.active).all()
    assert (answer.peers <= answer.members).all()


def check_small_tables(factor: Factor) -> None:
    """Nothing, and one row."""
    for rows in ([], [activity(START, "ada", "get", "pods", namespace="shop")]):
        small = loaded(rows)
        for horizon in (*(of(small) for of in HORIZONS.values()), prequential(small, None, 0)):
            answer = factor.learn(small, horizon).answer(small)
            assert len(answer.nats) == len(rows)
            assert np.isfinite(answer.nats).all()


@FACTOR
def test_a_factor_keeps_the_contract(factor: Factor, table: ActivityTable) -> None:
    check_factor(factor, table)


@pytest.fixture(scope="module", params=[7 * 24, 9 * 24 + 10], ids=["a slice", "half a slice"])
def parted(request: pytest.FixtureRequest) -> Iterator[tuple[ActivityTable, ActivityTable]]:
    """The table up to an instant, and the rows that came later."""
    instant = START + request.param * HOUR
    rows = some_rows(DAYS)
    with connected([line for line in rows if line["first"] < instant]) as connection:
        begun = load(connection, CLUSTER)
        put(connection, [line for line in rows if line["first"] >= instant], "arrivals")
        yield begun, follow(connection, CLUSTER, begun, DAYS)


@FACTOR
def test_rows_that_come_later_are_answered_as_if_they_had_been_learnt(
    factor: Factor, table: ActivityTable, parted: tuple[ActivityTable, ActivityTable]
) -> None:
    """But for what only hindsight tells: an address becomes odd when another is used again."""
    begun, further = parted
    complete = factor.learn(table, prequential(table, SINCE, 7)).answer(table)
    answer = factor.learn(begun, prequential(begun, SINCE, 7, ahead=DAYS)).answer(further)
    assert further.offset == len(begun) == len(table) - len(further)
    same_rows = slice(further.offset, None)
    if factor.name not in ("concurrency", "replay"):
        assert np.array_equal(answer.nats, complete.nats[same_rows])
    odd = answer.nats > 0
    assert odd.any()
    for name in ("atom", "seen", "active", "peers", "members"):
        assert np.array_equal(getattr(answer, name)[odd], getattr(complete, name)[same_rows][odd])


def test_names_are_unique_and_tell_atoms_apart() -> None:
    names = [factor.name for factor in FACTORS]
    assert len(set(names)) == len(names)
    # The id of an atom carries the first eight letters of the factor's name.
    assert len({name[:8] for name in names}) == len(names)
    assert len(set(FACTORS)) == len(FACTORS)


# When a factor has nothing to ask of a row, whatever else is odd about it.
_SILENT: dict[str, dict[str, object]] = {
    "namespace": {"class": "control-plane"},
    "deed": {"class": "node"},
    "setting": {"traits": ""},
    "image": {"origins": ""},
    "bearer": {"class": "human"},
    "impersonation": {"acting_as": ""},
    "refusal": {"outcome": "ok"},
    "scheme": {"class": "node"},
    "issuer": {"credential": ""},
    "token": {"pod_uid": ""},
    "confinement": {"node": ""},
    "kubelet": {"class": "workload"},
    "replay": {"credential": ""},
    "concurrency": {"class": "workload"},
    "hour": {"class": "workload"},
}


@FACTOR
def test_nothing_is_surprising_where_the_question_does_not_arise(factor: Factor) -> None:
    rows = [{**line, **_SILENT.get(factor.name, {})} for line in some_rows(DAYS)]
    silent = loaded(rows)
    for of in HORIZONS.values():
        nats = factor.learn(silent, of(silent)).answer(silent).nats
        assert (nats == 0).all() == (factor.name in _SILENT)


@FACTOR
def test_every_factor_is_surprised_by_something(factor: Factor, table: ActivityTable) -> None:
    """Otherwise the other tests hold for want of anything to test."""
    for of in HORIZONS.values():
        assert (factor.learn(table, of(table)).answer(table).nats > 0.7).any()


def _by_audit_id(rows: list[Row], factor: Factor, horizon: str) -> dict[str, tuple[float, ...]]:
    with connected(rows) as connection:
        table = load(connection, CLUSTER)
        answer = factor.learn(table, HORIZONS[horizon](table)).answer(table)
        names = texts(connection, np.arange(len(table)), ("audit_ids",))["audit_ids"]
    columns = [getattr(answer, name).tolist() for name in ARRAYS if name != "atom"]
    return {name[0]: tuple(values) for name, *values in zip(names, *columns, strict=True)}


# That somebody alternates between two addresses is known when the first is used again.
_HINDSIGHT = dict.fromkeys(("concurrency", "replay"), timedelta(microseconds=OVERLAP))


@FACTOR
def test_a_score_does_not_depend_on_the_future(factor: Factor) -> None:
    """The log as it was at some instants, in the midst of the bad day, too."""
    rows = some_rows(DAYS)
    late = _by_audit_id(rows, factor, "prequential")
    nine = START + (DAYS - 2) * DAY + 9 * HOUR
    for now in (START + 6.6 * DAY, *(nine + minutes * timedelta(minutes=5) for minutes in (2, 7))):
        past = [line for line in rows if line["first"] < now]
        early = _by_audit_id(past, factor, "prequential")
        settled = now - _HINDSIGHT.get(factor.name, timedelta())
        names = [line["audit_ids"][0] for line in past if line["first"] < settled]
        assert names
        assert {name: early[name] for name in names} == {name: late[name] for name in names}


@FACTOR
@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_order_in_which_rows_arrive_does_not_matter(factor: Factor, horizon: str) -> None:
    """Many rows at the same instants, delivered in two orders."""
    rows = [
        {**line, "first": line["first"].replace(minute=0, second=0), "last": line["last"]}
        for line in some_rows(DAYS)
    ]
    shuffled = rows.copy()
    random.Random(5).shuffle(shuffled)
    assert _by_audit_id(rows, factor, horizon) == _by_audit_id(shuffled, factor, horizon)


@FACTOR
def test_an_atom_is_a_principal_and_a_value(factor: Factor, table: ActivityTable) -> None:
    """Equal for equal (whose habit, context, value), different otherwise, and no other factor's."""
    answer = factor.learn(table, HORIZONS["prequential"](table)).answer(table)
    asked = np.flatnonzero(answer.nats > 0)
    who = table.ids["pod_uid" if factor.context == ("pod_uid",) else "actor"][asked]
    # who is in two places is odd anew on every day
    daily = isinstance(factor, Concurrency)
    when = table.slice[asked] if daily else np.zeros(len(asked), np.int64)
    value = table.key(*factor.context, *factor.columns)[asked]
    atoms: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    keys: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for atom, *key in zip(
        answer.atom[asked].tolist(), who.tolist(), value.tolist(), when.tolist(), strict=True
    ):
        atoms[atom].add(tuple(key))
        keys[tuple(key)].add(atom)
    assert all(len(meanings) == 1 for meanings in atoms.values())
    assert all(len(ids) == 1 for ids in keys.values())
    others = {
        int(atom)
        for other in FACTORS
        if other is not factor
        for atom in other.learn(table, HORIZONS["prequential"](table)).answer(table).atom
    } - {0}
    assert not others & set(atoms)


@FACTOR
def test_nobody_is_their_own_peer(factor: Factor) -> None:
    """In a cluster of one principal there is nobody to compare it with."""
    who = account("shop/api") if factor.name in ("bearer", "issuer") else "ada"
    rows = some_rows(DAYS)
    itself = next(line for line in rows if line["principal"] == who)
    # whoever issued its tokens is nobody else either
    alone = loaded(
        {**line, **{column: itself[column] for column in ("principal", "class", "team")}}
        for line in rows
        if line["principal"] == who or line["issued"]
    )
    if isinstance(factor, Novelty):
        assert all(len(np.unique(alone.ids[column])) > 1 for column in factor.columns)
    for of in HORIZONS.values():
        answer = factor.learn(alone, of(alone)).answer(alone)
        assert not answer.members.any()
        assert not answer.peers.any()


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with connected(some_rows(DAYS)) as connection:
        yield connection


@pytest.mark.parametrize(
    "factor",
    [pytest.param(factor, id=factor.name) for factor in FACTORS if isinstance(factor, Novelty)],
)
def test_counts_of_slices_and_of_peers_are_true(
    factor: Novelty, database: duckdb.DuckDBPyConnection
) -> None:
    """What a reason tells (seen on so many days, known of so many peers) by brute force."""
    table = load(database, CLUSTER)
    for of in HORIZONS.values():
        _count_again(factor, table, of(table), database)


def _count_again(
    factor: Novelty, table: ActivityTable, bounds: Horizon, database: duckdb.DuckDBPyConnection
) -> None:
    answer = factor.learn(table, bounds).answer(table)
    columns = [*dict.fromkeys((*factor.context, *factor.columns, *_WHO, "namespace", "slice"))]
    log = [
        dict(zip(columns, values, strict=True))
        for values in zip(*texts(database, np.arange(len(table)), columns).values(), strict=True)
    ]
    asked = np.flatnonzero(factor.asks(table))
    for at in asked[table.slice[asked] >= DAYS - 2]:
        row = log[at]
        past = [
            log[other]
            for other in asked
            if log[other]["slice"] < bounds.lower[row["slice"]]
            or log[other]["slice"] > bounds.upper[row["slice"]]
        ]
        own = [line for line in past if all(line[c] == row[c] for c in factor.context)]
        named = [*factor.context[1:], *factor.columns]
        assert answer.active[at] == len({line["slice"] for line in own})
        assert answer.seen[at] == len({line["slice"] for line in own if _like(line, row, named)})
        others = [
            line
            for line in past
            if (line["class"], line["team"]) == (row["class"], row["team"])
            and line["actor"] != row["actor"]
        ]
        assert answer.members[at] == len({line["actor"] for line in others})
        sharing = {line["actor"] for line in others if _like(line, row, named)}
        assert answer.peers[at] == len(sharing)


_WHO = ("actor", "class", "team")


def _like(line: dict[str, Any], row: dict[str, Any], columns: Sequence[str]) -> bool:
    """Equal values; what is now the place was the namespace while it was young."""
    return all(
        line[column] == row[column] or (column == "place" and line["namespace"] == row["place"])
        for column in columns
    )


@HORIZON
@FACTOR
def test_an_explanation_points_to_what_is_there(
    factor: Factor,
    horizon: Callable[[ActivityTable], Horizon],
    database: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """auditIDs exist; observed and expected values are the log's; expected ones lie in the past."""
    monkeypatch.setattr("kubewitness.incidents.ledger.MINIMUM_ROW", 0.0)
    table = load(database, CLUSTER)
    bounds = horizon(table)
    everything = np.ones(len(table), dtype=bool)
    ledger = enter(table, find(table, bounds, everything, [factor]), bounds, database)
    cases = [weigh(ledger, lines) for lines in link(ledger)]
    told = explain(cases, ledger, table, bounds, database)
    assert cases, "the example holds something odd for every factor"
    asked = (*factor.context, *factor.columns, "slice", "audit_ids", "class", "actor")
    columns = [*dict.fromkeys(asked)]
    log = [
        dict(zip(columns, values, strict=True))
        for values in zip(*texts(database, np.arange(len(table)), columns).values(), strict=True)
    ]
    by_audit_id = {line["audit_ids"][0]: line for line in log}
    for case, reasons in zip(cases, told, strict=True):
        assert reasons
        assert sum(reason.share for reason in reasons) == pytest.approx(1.0)
        for reason in reasons:
            assert reason.factor == factor.name
            assert reason.evidence
            assert 0 < reason.p <= 1
            row = by_audit_id[reason.evidence[0]]
            assert reason.observed == shown(factor, row)
            own = [
                line
                for line in log
                if all(line[column] == row[column] for column in factor.context)
                and (
                    line["slice"] < bounds.lower[row["slice"]]
                    or line["slice"] > bounds.upper[row["slice"]]
                )
            ]
            days: dict[str, set[int]] = defaultdict(set)
            for line in own:
                days[shown(factor, line)].add(line["slice"])
            active = len({line["slice"] for line in own})
            assert len({one.value for one in reason.expected}) == len(reason.expected)
            for one in reason.expected:
                assert one.share == pytest.approx(len(days[one.value]) / active)
            assert bool(reason.expected) == bool(own)
            if row["class"] == "node" and factor.context[0] == "habit":
                mine = [line for line in own if line["actor"] == row["actor"]]
                assert reason.days_active == len({line["slice"] for line in mine})
                same = [line for line in mine if shown(factor, line) == reason.observed]
                assert reason.days_self == len({line["slice"] for line in same})
            assert [one.share for one in reason.expected] == sorted(
                (one.share for one in reason.expected), reverse=True
            )
        assert {int(line) for line in case.lines} <= set(range(len(ledger)))


def test_hours_are_asked_only_in_a_log_of_days() -> None:
    hour = next(factor for factor in FACTORS if factor.name == "hour")
    short = loaded([line for line in some_rows(1) if line["first"] < START + 6 * HOUR])
    assert not hour.learn(short, HORIZONS["retrospective"](short)).answer(short).nats.any()
    assert short.slice_width < DAY / timedelta(microseconds=1)
