"""What a question is about: an object, a request, a principal, a credential or an incident."""

from __future__ import annotations

import re

import msgspec

from kubewitness.errors import KubewitnessError
from kubewitness.forensics.kind import CLUSTER_SCOPED, plural

_AUDIT_ID = re.compile(r"[0-9a-fA-F-]{20,}")


class ObjectName(msgspec.Struct, frozen=True):
    """An object by name: plural ``resource``, API ``group`` where one was given, ``namespace``
    where it is in one or one was given."""

    resource: str
    name: str
    namespace: str = ""
    group: str = ""

    def __str__(self) -> str:
        place = f" in {self.namespace}" if self.namespace else ""
        return f"{self.resource}/{self.name}{place}"


def object_name(text: str, namespace: str = "") -> ObjectName:
    """``KIND[.GROUP]/NAME`` with an optional namespace.

    >>> object_name("deploy/web", "shop")
    ObjectName(resource='deployments', name='web', namespace='shop', group='')
    >>> object_name("applications.argoproj.io/web", "argocd").group
    'argoproj.io'
    """
    kind, slash, name = text.partition("/")
    if not slash or not kind or not name:
        raise KubewitnessError(
            f"{text!r} names no object", remedy="write KIND/NAME, such as pod/web-0 or deploy/web"
        )
    word, _, group = kind.partition(".")
    resource = plural(word)
    home = "" if resource in CLUSTER_SCOPED else namespace
    return ObjectName(resource, name, home, group)


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
