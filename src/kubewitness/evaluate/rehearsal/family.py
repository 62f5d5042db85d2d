"""Attack families as data: who does what, from where, in which order.

A family is written in YAML (``families/*.yaml``) in the words of the audit log, and names nothing
of any cluster: principals, namespaces and objects are chosen for it among those that a log holds.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

import msgspec

Kind = Literal["human", "workload", "deployer", "silent", "node", "newcomer", "anonymous"]
Place = Literal["home", "office", "outside", "pod", "same"]
Tool = Literal["own", "other", "script", "same"]
Where = Literal["target", "each", "own", "system", "cluster", "account"]
Pick = Literal["seen", "new", "last", "none"]
Range = tuple[Annotated[float, msgspec.Meta(ge=0)], Annotated[float, msgspec.Meta(ge=0)]]

# Objects of these belong to no namespace (kubectl api-resources --namespaced=false).
CLUSTER_SCOPED = frozenset(
    [
        "nodes",
        "namespaces",
        "persistentvolumes",
        "clusterroles.rbac.authorization.k8s.io",
        "clusterrolebindings.rbac.authorization.k8s.io",
        "apiservices.apiregistration.k8s.io",
        "certificatesigningrequests.certificates.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
        "priorityclasses.scheduling.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "storageclasses.storage.k8s.io",
        "selfsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
        "subjectaccessreviews.authorization.k8s.io",
        "selfsubjectreviews.authentication.k8s.io",
        "tokenreviews.authentication.k8s.io",
    ]
)


class Role(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"from_": "from", "with_": "with", "is_": "is"},
):
    """Somebody in an attack.

    ``is``: a human; a workload (service account) that acts; a deployer (one that writes workloads
    in several namespaces); a silent account, whose pods never called the API; a node; a newcomer
    called ``named``, whom the log never saw; or anonymous. ``from`` and ``with`` are the places and
    programs to choose from: ``home`` and ``own`` are the principal's own, ``office`` is where
    other people sit, ``pod`` where other workloads run, ``outside`` an address never seen.
    ``minted``: acts with a token that was made for it a step before.
    """

    is_: Kind
    from_: tuple[Place, ...] = ("home",)
    with_: tuple[Tool, ...] = ("own",)
    named: str = ""
    groups: tuple[str, ...] = ()
    minted: bool = False


class Step(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"in_": "in", "as_": "as"},
):
    """One kind of request, ``times`` in a row, each after a ``pause`` (seconds).

    ``do`` is ``VERB RESOURCE[.GROUP][/SUBRESOURCE]`` or ``VERB /PATH``. ``in`` is the namespace:
    the ``target`` of the episode (one that is not the actor's own, if it can be), ``each`` time
    another, the actor's ``own``, ``system``, the whole ``cluster``, or that of the role
    ``account``. ``object`` is a ``seen`` one, a ``new`` one called ``named``, the ``last`` one of
    its kind, or ``none``. ``must``: it works, so whoever is cast has the right to do it;
    ``granted``: it works, because of what was done a step before; other steps are answered as the
    rights seen in the log have it, or with ``code``. ``body`` is what is asked for,
    ``query`` what stands in the URI, ``acting_as`` the impersonated user and groups.
    """

    do: str
    in_: Where = "target"
    object: Pick | None = None
    named: tuple[str, ...] = ()
    as_: str = "actor"
    times: tuple[int, int] = (1, 1)
    pause: Range | None = None
    must: bool = False
    granted: bool = False
    code: int = 0
    query: str = ""
    body: dict[str, Any] | None = None
    acting_as: tuple[str, ...] = ()

    @property
    def verb(self) -> str:
        return self.do.partition(" ")[0]

    @property
    def path(self) -> str:
        """The path of a request that names no resource, else ''."""
        target = self.do.partition(" ")[2]
        return target if target.startswith("/") else ""

    @property
    def resource(self) -> str:
        """``resource[.group]``, '' for a path."""
        return "" if self.path else self.do.partition(" ")[2].partition("/")[0]

    @property
    def subresource(self) -> str:
        return "" if self.path else self.do.partition(" ")[2].partition("/")[2]

    @property
    def right(self) -> tuple[str, str, str]:
        """What has to be permitted: (verb, resource, subresource)."""
        return self.verb, self.resource or self.path, self.subresource

    @property
    def pick(self) -> Pick:
        """Which object, where the step does not say."""
        if self.object is not None:
            return self.object
        if self.named:
            return "new"
        if (
            self.verb in ("list", "watch", "deletecollection")
            or not self.resource
            or "review" in self.resource
        ):
            return "none"
        return "new" if self.verb == "create" and not self.subresource else "seen"


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attack: ``cast`` has a role ``actor`` at least.

    ``difficulty`` is a guess for its loudest form; ``pace`` the pause of steps that have none.
    ``working``: every step in the hours in which the actor works.
    """

    name: str
    title: str
    mitre: tuple[str, ...]
    cast: dict[str, Role]
    steps: tuple[Step, ...]
    difficulty: Literal["easy", "medium", "hard"] = "medium"
    pace: Range = (5, 90)
    working: bool = False


@cache
def families() -> tuple[Family, ...]:
    """Every family that there is, by name."""
    folder = resources.files("kubewitness.evaluate.rehearsal") / "families"
    found = [
        family
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
        for family in msgspec.yaml.decode(file.read_bytes(), type=list[Family])
    ]
    return tuple(sorted(found, key=lambda family: family.name))
