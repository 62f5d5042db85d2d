"""Why the API server allowed a request, as its RBAC authorizer writes it into the audit log.

    RBAC: allowed by RoleBinding "team/shop" of ClusterRole "edit" to Group "developers"

A RoleBinding is written with its namespace behind its name, a service account, too. The words stay
even where bodies are not logged, so they tell of bindings at every audit level
(``authorization.k8s.io/reason``; allowed by the Node authorizer or as ``system:masters`` it is '').
"""

from __future__ import annotations

import re

import msgspec

from kubewitness.forensics.rbac.policy import Binding, Key, Subject

SQL = """coalesce(json_extract_string(annotations, '$."authorization.k8s.io/reason"'), '')"""
DECISION = SQL.replace("reason", "decision")

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_ALLOWED = re.compile(
    rf"RBAC: allowed by (ClusterRoleBinding|RoleBinding) {_QUOTED}"
    rf" of (ClusterRole|Role) {_QUOTED} to (User|Group|ServiceAccount) {_QUOTED}"
)


def granted(reason: str) -> Binding | None:
    """The binding that allowed a request, with the one subject for which it did; ``None`` where
    the reason is another.

    >>> found = granted('RBAC: allowed by RoleBinding "team/shop" of Role "edit" to User "maria"')
    >>> found.key, found.role
    (Key(kind='RoleBinding', namespace='shop', name='team'), Key(kind='Role', namespace='shop', \
name='edit'))
    >>> granted('RBAC: clusterrole.rbac.authorization.k8s.io "x" not found') is None
    True
    """
    found = _ALLOWED.fullmatch(reason)
    if found is None:
        return None
    kind, name, role_kind, role, subject_kind, subject = (
        _unquoted(text) if number % 2 else text for number, text in enumerate(found.groups())
    )
    namespace = ""
    if kind == "RoleBinding":
        name, _, namespace = name.rpartition("/")
    account, _, home = subject.rpartition("/")
    return Binding(
        Key(kind, namespace, name),
        Key(role_kind, namespace if role_kind == "Role" else "", role),
        (
            Subject(subject_kind, account, home)
            if subject_kind == "ServiceAccount"
            else Subject(subject_kind, subject),
        ),
    )


def _unquoted(text: str) -> str:
    """What Go's ``%q`` made of a name; its escapes are JSON's, but for a few that no name needs."""
    if "\\" not in text:
        return text
    try:
        return msgspec.json.decode(f'"{text}"', type=str)
    except msgspec.MsgspecError:
        return text
