"""What a question is about: an object, a request, a principal, a credential or an incident."""

from __future__ import annotations

import re

from kubewitness.errors import MisuseError
from kubewitness.events.normalisation import quoted
from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.record import Record
from kubewitness.forensics.target import Target, several

_AUDIT_ID = re.compile(r"[0-9a-fA-F-]{20,}")


def about(what: Target) -> str:
    """SQL: what was done to this very object."""
    where = (
        f"resource = {quoted(what.kind.resource)} AND api_group = {quoted(what.kind.group)}"
        f" AND name = {quoted(what.name)}"
    )
    # objectRef.namespace of a Namespace is its own name.
    home = f" AND namespace = {quoted(what.namespace)}" if what.namespace else ""
    return where + home


def named(what: Target) -> str:
    """The object in words.

    >>> from kubewitness.forensics.kind import of
    >>> named(Target("", of("deployments", "apps"), "shop", "web"))
    'deployments/web in shop'
    """
    kind = str(what.kind) if what.kind.custom else what.kind.resource
    return f"{kind}/{what.name}" + (f" in {what.namespace}" if what.namespace else "")


def timeless(what: str, *times: object) -> None:
    """Raises ``MisuseError`` where times are given for what was at one time only."""
    if any(time is not None for time in times):
        raise MisuseError(
            f"{what} was when it was: it takes no time",
            remedy="--at is for objects, --since and --until are for objects, principals and"
            " credentials",
        )


def requests(record: Record, audit_id: str) -> list[Deed]:
    """The requests with this auditID, of one cluster: from here on the record is about that."""
    found = record.find(f"audit_id = {quoted(audit_id)}")
    clusters = sorted({one.cluster for one in found})
    if len(clusters) > 1:
        raise several(clusters)
    if clusters:
        record.cluster = clusters[0]
    return found


def is_object(text: str) -> bool:
    """Whether ``text`` is ``KIND/NAME``; a path has a dot, or begins with a slash.

    >>> is_object("pod/web"), is_object("5f2c…"), is_object("JTI=a/b")
    (True, False, False)
    """
    kind, slash, name = text.partition("/")
    return bool(slash and name) and re.fullmatch(r"[A-Za-z][A-Za-z0-9.-]*", kind) is not None


def is_credential(text: str) -> bool:
    """Whether ``text`` is a credential id as ``user.extra`` spells it."""
    return text.startswith(("JTI=", "X509SHA256="))


def may_be_audit_id(text: str) -> bool:
    """Whether ``text`` looks like the ids that API servers give requests."""
    return _AUDIT_ID.fullmatch(text) is not None
