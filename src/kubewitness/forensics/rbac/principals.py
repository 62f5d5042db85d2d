"""Everybody in a log: who they are, which groups they showed, and how people call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from difflib import get_close_matches
from typing import NamedTuple

import duckdb

from kubewitness.errors import KubewitnessError
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.rbac.policy import groups_of

_SERVICE_ACCOUNT = "system:serviceaccount:"


class Principal(NamedTuple):
    """``groups`` are those of the ``last`` day (UTC)."""

    name: str
    groups: frozenset[str]
    last: date


def principals(connection: duckdb.DuckDBPyConnection) -> dict[str, Principal]:
    """Everybody who acted, or was acted as, in the view ``events``.

    Groups are lists, slow to read of every event: they are looked up on each one's last day.
    """
    found: dict[str, Principal] = {}
    for user, groups in (("impersonated_user", "impersonated_groups"), ("user", "groups")):
        days: dict[date, list[str]] = {}
        for name, day in connection.execute(
            f"""SELECT "{user}", max(date) FROM events WHERE "{user}" <> '' GROUP BY 1"""
        ).fetchall():
            days.setdefault(day, []).append(name)
        for day, names in days.items():
            rows = connection.execute(
                f"""SELECT "{user}", any_value("{groups}") FROM events
                WHERE date = DATE {quoted(str(day))}
                    AND "{user}" IN ({", ".join(map(quoted, names))}) GROUP BY 1"""
            ).fetchall()
            for name, shown in rows:
                found[name] = Principal(name, groups_of(name, filter(None, shown or ())), day)
    return found


def usernames(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The names of everybody who acted, or was acted as, in the view ``events``."""
    rows = connection.execute(
        'SELECT DISTINCT "user" FROM events UNION SELECT DISTINCT impersonated_user FROM events'
    ).fetchall()
    return {name for (name,) in rows if name}


def username(text: str, known: Iterable[str]) -> str:
    """The username that ``text`` stands for: a username, or ``sa/NAMESPACE/NAME``,
    ``NAMESPACE/NAME`` or just ``NAME`` of a service account.

    Raises ``KubewitnessError``, with what was perhaps meant, where nobody or several are.

    >>> username("ci/deployer", ["maria", "system:serviceaccount:ci:deployer"])
    'system:serviceaccount:ci:deployer'
    """
    users = set(known)
    if text in users:
        return text
    accounts = {
        user: user.removeprefix(_SERVICE_ACCOUNT).replace(":", "/", 1)
        for user in users
        if user.startswith(_SERVICE_ACCOUNT)
    }
    wanted = text.removeprefix("sa/").removeprefix("sa:").replace(":", "/")
    found = sorted(
        user for user, short in accounts.items() if wanted in (short, short.partition("/")[2])
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise KubewitnessError(
            f"{text!r} is the name of {len(found)} service accounts",
            remedy=f"say which: {_several([accounts[user] for user in found])}",
        )
    like = _like(wanted, {user: accounts.get(user, user) for user in users})
    raise KubewitnessError(
        f"nobody called {text!r} in this log, nor in its bindings",
        remedy=f"did you mean {_several(like)}?"
        if like
        else "write a username as the log has it, or NAMESPACE/NAME of a service account",
    )


def _like(wanted: str, names: Mapping[str, str]) -> list[str]:
    """What people call those whose names are like ``wanted``: as a whole, in what stands behind
    the namespace, or because they contain it."""
    shown = sorted(names.values())
    whole = {name.lower(): name for name in shown}
    close = [whole[name] for name in get_close_matches(wanted.lower(), whole, n=4, cutoff=0.6)]
    last = {name: name.rpartition("/")[2].lower() for name in shown}
    like = get_close_matches(wanted.rpartition("/")[2].lower(), {*last.values()}, n=4, cutoff=0.75)
    close += [name for name in shown if last[name] in like]
    inside = [name for name in shown if wanted.lower() in name.lower()]
    return list(dict.fromkeys((*close, *inside)))[:6]


def _several(names: list[str]) -> str:
    rest = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + rest
