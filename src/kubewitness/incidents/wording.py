"""How principals, places and periods are named in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubewitness.activity.table import YOUNG

_ACCOUNT = "system:serviceaccount:"
_NODE = "system:node:"
_NOBODY = {
    "system:anonymous": "an anonymous caller",
    "<unauthenticated>": "a caller without valid credentials",
}


def short(principal: str) -> str:
    """A principal as people say it: ``shop/api`` for a service account.

    >>> short("system:serviceaccount:shop:api"), short("maria@example.org")
    ('shop/api', 'maria@example.org')
    """
    if principal.startswith(_ACCOUNT):
        return principal.removeprefix(_ACCOUNT).replace(":", "/", 1)
    return principal


def named(principal: str) -> str:
    """A principal as somebody who does not know Kubernetes reads it.

    >>> named("system:serviceaccount:shop:api"), named("system:node:w-1"), named("system:anonymous")
    ('service account shop/api', 'node w-1', 'an anonymous caller')
    """
    if principal.startswith(_ACCOUNT):
        return f"service account {short(principal)}"
    if principal.startswith(_NODE):
        return f"node {principal.removeprefix(_NODE)}"
    return _NOBODY.get(principal, principal)


def sentence(text: str) -> str:
    """``text`` as a sentence of its own; a principal's own name keeps its spelling.

    >>> sentence("an anonymous caller read secrets"), sentence("maria read secrets.")
    ('An anonymous caller read secrets', 'maria read secrets.')
    """
    opening = ("service account ", "node ", *_NOBODY.values())
    return text[0].upper() + text[1:] if text.startswith(opening) else text


def joined(phrases: Sequence[str]) -> str:
    """
    >>> joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join((", ".join(phrases[:-1]), phrases[-1])) if len(phrases) > 1 else phrases[0]


def some(names: Sequence[str], most: int = 3) -> str:
    """
    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def place(namespace: str) -> str:
    """
    >>> place("shop"), place(""), place(YOUNG)
    ('namespace shop', 'the cluster scope', 'a namespace that is new in this log')
    """
    if namespace == YOUNG:
        return "a namespace that is new in this log"
    return f"namespace {namespace}" if namespace else "the cluster scope"


def thing(values: dict[str, Any]) -> str:
    """The object of a row: its resource, its name (all of them where none is given), its place.

    >>> thing({"resource": "secrets", "template": "", "place": "shop"})
    'all secrets in namespace shop'
    """
    what = "/".join(part for part in (values["resource"], values["template"]) if part)
    return f"{what if values['template'] else f'all {what}'} in {place(values['place'])}"
