"""What made a request permitted: the bindings and roles that the authorizer names."""

from __future__ import annotations

from collections.abc import Iterator

from kubewitness.forensics.causes.deed import Deed
from kubewitness.forensics.causes.found import EVEN, Found
from kubewitness.forensics.causes.scene import (
    CHANGES,
    Scene,
    Thing,
)

_RBAC = {"ClusterRoleBinding": "clusterrolebindings", "RoleBinding": "rolebindings",
         "ClusterRole": "clusterroles", "Role": "roles"}  # fmt: skip
RBAC = frozenset(_RBAC.values())


def rbac(reference: str) -> Thing | None:
    """The object behind ``Kind name`` as the authorizer spells it: ``RoleBinding name/namespace``.

    >>> rbac("RoleBinding team-edit/shop")
    ('rolebindings', 'shop', 'team-edit')
    """
    kind, _, name = reference.partition(" ")
    if kind not in _RBAC:
        return None
    if kind == "RoleBinding":
        name, _, namespace = name.partition("/")
        return (_RBAC[kind], namespace, name)
    return (_RBAC[kind], "", name)


def role_of(effect: Deed) -> Thing | None:
    """The role that allowed a deed; a Role lives where its binding does."""
    role, binding = rbac(effect.role), rbac(effect.binding)
    if role is None or role[0] != "roles":
        return role
    return (role[0], binding[1] if binding else "", role[2])


def permission(scene: Scene, effect: Deed) -> Iterator[Found]:
    """Who made what the authorizer names, and who changed last what it grants."""
    for what, reference in ((rbac(effect.binding), effect.binding), (role_of(effect), effect.role)):
        if what is None:
            continue
        because = f"the authorizer names {reference}"
        changes = [deed for deed in scene.before(what, effect.at) if deed.verb in CHANGES]
        known = False
        for deed, before in zip(changes, [*changes[1:], None], strict=False):
            granted = deed.creates or _regranted(scene, deed, before)
            if deed.of != "control-plane" and (
                deed.creates or (granted is not False and not known)
            ):
                known = True
                doubt = "" if granted else "; no bodies show whether this changed what it grants"
                sure = 1.0 if granted else EVEN
                yield Found(deed, "permission", bool(granted), sure, because + doubt)
            if deed.creates:
                break


def _regranted(scene: Scene, deed: Deed, before: Deed | None) -> bool | None:
    """Whether a change of a role or binding changed what it grants, ``None`` where bodies do not
    tell."""
    now = scene.body(deed)
    then = scene.body(before) if before is not None else None
    if now is None or then is None or not now.grants or not then.grants:
        return None
    return now.grants != then.grants
