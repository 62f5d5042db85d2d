"""Who may own an object, by name: what controllers append to the names of what they make.

A Deployment ``web`` makes the ReplicaSet ``web-7d9c5b6f4d``, which makes ``web-7d9c5b6f4d-x2x4z``
(k8s.io/apimachinery/pkg/util/rand). A name proves little, but it is all that a log without bodies
has.
"""

from __future__ import annotations

import re

_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX = re.compile(rf"-[{_SAFE}]{{5}}$")
_HASH = re.compile(rf"-[{_SAFE}]{{6,10}}$")
_TIME = re.compile(r"-\d{6,}$")
_ORDINAL = re.compile(r"-\d{1,4}$")

# The controller that makes an object, and what owns it then.
_MADE_BY = {
    "replicaset-controller": ("replicasets",),
    "replication-controller": ("replicationcontrollers",),
    "job-controller": ("jobs",),
    "daemon-set-controller": ("daemonsets",),
    "statefulset-controller": ("statefulsets",),
    "deployment-controller": ("deployments",),
    "cronjob-controller": ("cronjobs",),
}
OWNED = frozenset({"pods", "replicasets", "jobs", "controllerrevisions"})
OWNERS = frozenset(kind for kinds in _MADE_BY.values() for kind in kinds)


def candidates(resource: str, name: str, controller: str = "") -> list[tuple[str, str]]:
    """``(resource, name)`` of what may own the object, the likeliest first; ``controller`` is
    the one that made it, where it has an identity of its own.

    >>> candidates("pods", "web-7d9c5b6f4d-x2x4z", "replicaset-controller")
    [('replicasets', 'web-7d9c5b6f4d')]
    >>> candidates("jobs", "nightly-29561820")
    [('cronjobs', 'nightly')]
    >>> candidates("pods", "db-0")
    [('statefulsets', 'db')]
    """
    found = []
    if resource == "pods":
        base = _SUFFIX.sub("", name)
        if base != name:
            if _HASH.search(base):
                found.append(("replicasets", base))
            if _TIME.search(base):
                found.append(("jobs", base))
            found += [("daemonsets", base), ("jobs", base), ("replicasets", base)]
        if _ORDINAL.search(name):
            found.append(("statefulsets", _ORDINAL.sub("", name)))
    elif resource == "replicasets" and _HASH.search(name):
        found.append(("deployments", _HASH.sub("", name)))
    elif resource == "jobs" and _TIME.search(name):
        found.append(("cronjobs", _TIME.sub("", name)))
    elif resource == "controllerrevisions":
        base = _HASH.sub("", name)
        found += [("daemonsets", base), ("statefulsets", base)]
    kinds = _MADE_BY.get(controller)
    if kinds:
        found = [one for one in found if one[0] in kinds]
    return list(dict.fromkeys(found))


def family(resource: str, name: str) -> list[str]:
    """The object's own name and those of everything that may own it, however far up.

    >>> family("pods", "web-7d9c5b6f4d-x2x4z")
    ['web-7d9c5b6f4d-x2x4z', 'web-7d9c5b6f4d', 'web']
    """
    names, todo = [name], [(resource, name)]
    while todo:
        for kind, owner in candidates(*todo.pop()):
            if owner not in names:
                names.append(owner)
            todo.append((kind, owner))
    return names
