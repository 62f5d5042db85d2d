"""A deed: one audited request as forensics sees it, with who, what, and what it proves.

A deed is slim. What only its bodies tell (owners, uids, templates) is read for the few deeds that
matter, see ``bodies``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from kubewitness.activity.client import client
from kubewitness.activity.network import learn_proxies, peer_address
from kubewitness.activity.principal import PrincipalClass, principal_class
from kubewitness.activity.technique import Technique
from kubewitness.activity.technique import technique as technique_of
from kubewitness.events.normalisation import quoted

if TYPE_CHECKING:
    import duckdb

_SAMPLE = 20_000
COLUMNS = (
    "cluster, audit_id, stage_at, coalesce(received_at, stage_at) AS received_at, verb,"
    " coalesce(nullif(\"user\", ''), '<unauthenticated>') AS principal,"
    " coalesce(impersonated_user, '') AS acting_as, extra, source_ips, user_agent,"
    " coalesce(resource, '') AS resource, coalesce(api_group, '') AS api_group,"
    " coalesce(subresource, '') AS subresource, coalesce(namespace, '') AS namespace,"
    " coalesce(name, '') AS name, coalesce(object_uid, '') AS uid, code, annotations, request_uri,"
    " coalesce(level, '') AS level, coalesce(traits, '') AS traits"
)
"""SQL: what a deed is made of, in the order ``deed`` takes it."""

CREATES = "((verb = 'create' OR coalesce(code = 201, false)) AND subresource IS NULL)"
"""SQL: whether it made an object, if it was served; applying what is not there makes it, too."""


def literal(at: datetime) -> str:
    """SQL: a time."""
    return f"TIMESTAMP {quoted(at.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f'))}"


READS = frozenset({"get", "list", "watch"})
INTERACTIVE = frozenset({"exec", "attach", "portforward"})
_AUTH = "authentication.kubernetes.io"
_REASON = re.compile(
    r'(ClusterRoleBinding|RoleBinding) "([^"]+)" of (ClusterRole|Role) "([^"]+)"', re.S
)


# The same few texts stand in thousands of events.
_class = cache(principal_class)


@lru_cache(4096)
def program(user_agent: str) -> str:
    """The program with its release, as ``Deed.client`` has it.

    >>> program("kubectl/v1.33.4 (darwin/arm64) kubernetes/74cdb42")
    'kubectl 1.33'
    """
    product, release, _ = client(user_agent)
    return " ".join(part for part in (product, release) if part)


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One request. ``at`` is when it was received: a controller may react before it is answered.

    ``dry``: it changes nothing, whatever the answer.

    ``resource`` carries no API group (``group`` does); ``binding`` and ``role`` are
    ``Kind [namespace/]name`` of what allowed it; ``issued`` the id of the credential it minted.
    """

    cluster: str
    audit_id: str
    at: datetime
    answered: datetime
    verb: str
    principal: str
    acting_as: str = ""
    resource: str = ""
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    code: int | None = None
    source_ip: str = ""
    client: str = ""
    credential: str = ""
    pod: str = ""
    pod_uid: str = ""
    node: str = ""
    binding: str = ""
    role: str = ""
    issued: str = ""
    path: str = ""
    level: str = ""
    traits: str = ""
    dry: bool = False

    @property
    def key(self) -> tuple[str, str, datetime]:
        """What makes a request one: clients choose auditIDs."""
        return (self.audit_id, self.principal, self.at)

    @property
    def turn(self) -> tuple[datetime, datetime, str, str]:
        """Its place in the order of time, the same however the log was read."""
        return (self.at, self.answered, self.audit_id, self.principal)

    @property
    def of(self) -> PrincipalClass:
        """The class of the principal."""
        return _class(self.principal)

    @property
    def served(self) -> bool:
        """Whether the API server did what was asked (a watch or exec answers with 101); of a dry
        run it only said what it would do."""
        return not self.refused and not self.dry

    @property
    def refused(self) -> bool:
        return self.code is not None and self.code >= 400

    @property
    def creates(self) -> bool:
        """Whether it made an object, if it was served: see ``CREATES``."""
        return (self.verb == "create" or self.code == 201) and not self.subresource

    @property
    def writes(self) -> bool:
        """Whether it changed something, or got into something."""
        return self.verb not in READS or self.subresource in INTERACTIVE

    @property
    def kind(self) -> str:
        """The resource with its API group, as activity spells it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @property
    def technique(self) -> Technique:
        """What it could be good for."""
        return technique_of(self.verb, self.kind, self.subresource, self.namespace, self.traits)

    @property
    def controller(self) -> str:
        """The name of the controller behind a control-plane identity, else ''.

        All controllers of a kube-controller-manager may share one identity.
        """
        if self.of != "control-plane":
            return ""
        return self.principal.rpartition(":")[2]


def deed(row: tuple[Any, ...], proxies: Collection[str] = ()) -> Deed:
    """One row of ``COLUMNS``."""
    (cluster, audit_id, stage_at, received_at, verb, principal, acting_as, extra, source_ips,
     user_agent, resource, group, subresource, namespace, name, uid, code, annotations, uri,
     level, traits) = row  # fmt: skip
    claims = _mapping(extra)
    notes = _mapping(annotations)
    reason = _REASON.search(str(notes.get("authorization.k8s.io/reason") or ""))
    return Deed(
        cluster=cluster,
        audit_id=audit_id,
        at=received_at.replace(tzinfo=UTC),
        answered=stage_at.replace(tzinfo=UTC),
        verb=verb,
        principal=principal,
        acting_as=acting_as,
        resource=resource,
        group=group,
        subresource=subresource,
        namespace=namespace,
        name=name,
        uid=uid,
        code=code,
        source_ip=peer_address(source_ips or (), proxies),
        client=program(user_agent or ""),
        credential=_claim(claims, f"{_AUTH}/credential-id") or _claim(claims, "accessKeyId"),
        pod=_claim(claims, f"{_AUTH}/pod-name"),
        pod_uid=_claim(claims, f"{_AUTH}/pod-uid"),
        node=_claim(claims, f"{_AUTH}/node-name"),
        binding=f"{reason[1]} {reason[2]}" if reason else "",
        role=f"{reason[3]} {reason[4]}" if reason else "",
        issued=str(notes.get(f"{_AUTH}/issued-credential-id") or ""),
        path="" if resource else uri.partition("?")[0],
        level=level,
        traits=traits,
        dry="dryRun" in parse_qs(uri.partition("?")[2]),
    )


def listed(texts: Iterable[str]) -> str:
    """SQL: texts for IN."""
    return ", ".join(quoted(text) for text in sorted(set(texts)))


def any_in(column: str, ids: Iterable[str]) -> str:
    """SQL: whether one of the texts stands, as a whole, in a column of JSON."""
    json = f"CAST({column} AS VARCHAR)"
    found = (f"contains({json}, {quoted(chr(34) + text + chr(34))})" for text in sorted(ids))
    return f"({' OR '.join(found)})"


def learnt_proxies(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Addresses that stand last for nearly everyone in a part of the view ``events``."""
    rows = connection.execute(
        f"""SELECT DISTINCT source_ips, "user" FROM (SELECT source_ips, "user" FROM events
        LIMIT {_SAMPLE}) WHERE source_ips IS NOT NULL AND "user" IS NOT NULL"""
    ).fetchall()
    return learn_proxies(rows)


def deeds_at(
    connection: duckdb.DuckDBPyConnection, answered: Collection[datetime], proxies: Collection[str]
) -> list[Deed]:
    """What was answered at these very times, of whatever cluster, in the order of time."""
    if not answered:
        return []
    times = ", ".join(literal(at) for at in sorted(answered))
    rows = connection.execute(f"SELECT {COLUMNS} FROM events WHERE stage_at IN ({times})")
    return sorted((deed(row, proxies) for row in rows.fetchall()), key=lambda one: one.turn)


@lru_cache(4096)
def _mapping(text: str | None) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text, type=dict[str, Any]) if text else {}
    except msgspec.MsgspecError:
        return {}
    return found


def _claim(claims: dict[str, Any], name: str) -> str:
    values = claims.get(name)
    return str(values[0]) if isinstance(values, list) and values else ""
