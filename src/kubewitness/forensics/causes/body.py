"""What the bodies of a deed tell about causes: uids, owners, replicas, the template, targets.

Only what a causal link needs is decoded; where the audit level hides bodies there is nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, NamedTuple

import msgspec


class Owner(msgspec.Struct, frozen=True):
    """An entry of ``metadata.ownerReferences``; ``controller`` marks the one that manages."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Application(NamedTuple):
    """A GitOps object as labels name it; ``namespace`` is '' where they do not say."""

    group: str
    namespace: str
    name: str


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """``template`` is a digest of the pod template (or of the whole spec without ``replicas``),
    ``unobserved`` whether its controller had not yet seen it as it is then, ``patched`` whether the
    request was for nothing but parts of the object, the template among them,
    ``target`` the ``kind name`` an autoscaler scales, ``applications`` the GitOps objects that the
    object says it is managed by, ``grants`` a digest of what a role or binding grants to whom,
    ``fingerprint`` of the certificate in a signing request, and
    ``bearer`` the name that it was requested for, under which its holder acts."""

    uid: str = ""
    owners: tuple[Owner, ...] = ()
    replicas: int | None = None
    template: str = ""
    unobserved: bool | None = None
    patched: bool = False
    target: str = ""
    applications: tuple[Application, ...] = ()
    grants: str = ""
    fingerprint: str = ""
    bearer: str = ""
    deleting: bool = False

    @property
    def owner(self) -> Owner | None:
        """The managing owner, or the only one."""
        managing = [one for one in self.owners if one.controller] or list(self.owners)
        return managing[0] if managing else None


class _Meta(msgspec.Struct):
    uid: str | None = None
    generation: int | None = None
    ownerReferences: list[Owner] | None = None  # noqa: N815 (as Kubernetes spells it)
    labels: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    deletionTimestamp: str | None = None  # noqa: N815


class _Object(msgspec.Struct):
    metadata: _Meta | None = None
    spec: dict[str, Any] | None = None
    status: Any = None
    rules: Any = None
    subjects: Any = None
    roleRef: Any = None  # noqa: N815
    aggregationRule: Any = None  # noqa: N815


_TRACKING, _INSTANCE = "argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance"
# Labels GROUP/name and GROUP/namespace name an object of that API group.
_FLUX = ("kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io")
# "-----BEGIN", by which no other kind of object is taken for one.
_REQUEST = "LS0tLS1CRUdJTi"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


def body(request: str | None, response: str | None) -> Body | None:
    """What an answer tells, or the request where the answer is no object; ``None`` if neither."""
    patched = _patched(request)
    for text in (response, request):
        found = _decoded(text)
        if found is not None and found.metadata is not None and found.metadata.uid is not None:
            return _told(found, found.metadata, patched)
    found = _decoded(request)
    if found is None or found.metadata is None:
        return Body(patched=True) if patched else None
    return _told(found, found.metadata, patched)


def _decoded(text: str | None) -> _Object | None:
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=_Object)
    except msgspec.MsgspecError:  # a JSON patch is a list, and any field may have any type
        return None


class _Patch(msgspec.Struct):
    kind: Any = None
    spec: dict[str, Any] | None = None


class _Operation(msgspec.Struct):
    path: str = ""


def _patched(request: str | None) -> bool:
    """Whether a request is a patch (of RFC 6902, RFC 7386 or Kubernetes' own kind) of a template.
    What is applied or replaced is told whole, with its kind."""
    if not request or "emplate" not in request:
        return False
    try:
        patch = msgspec.json.decode(request, type=_Patch | list[_Operation])
    except msgspec.MsgspecError:
        return False
    if isinstance(patch, list):
        return any(one.path.startswith(("/spec/template", "/spec/jobTemplate")) for one in patch)
    return not patch.kind and not {"template", "jobTemplate"}.isdisjoint(patch.spec or ())


def _told(found: _Object, meta: _Meta, patched: bool) -> Body:
    spec = found.spec or {}
    status = found.status if isinstance(found.status, dict) else {}
    replicas = spec.get("replicas")
    observed = status.get("observedGeneration")
    target = spec.get("scaleTargetRef")
    return Body(
        uid=meta.uid or "",
        owners=tuple(meta.ownerReferences or ()),
        replicas=replicas if isinstance(replicas, int) else None,
        template=_digest(spec),
        unobserved=(meta.generation or 0) > observed if isinstance(observed, int) else None,
        patched=patched,
        target=f"{target.get('kind')} {target.get('name')}" if isinstance(target, dict) else "",
        applications=tuple(_applications(meta)),
        grants=_grants(found),
        fingerprint=_fingerprint(status.get("certificate")),
        bearer=_bearer(spec.get("request")),
        deleting=bool(meta.deletionTimestamp),
    )


def _grants(found: _Object) -> str:
    told = [found.rules, found.subjects, found.roleRef, found.aggregationRule]
    return _hashed(told) if any(part is not None for part in told) else ""


def _hashed(told: list[Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()[:16]


def _digest(spec: dict[str, Any]) -> str:
    job = spec.get("jobTemplate")
    template = spec.get("template") or job
    if template is None:
        return ""
    # A CronJob's schedule makes its pods as much as its template does.
    return _hashed([template, spec.get("schedule"), spec.get("suspend")])


def _applications(meta: _Meta) -> list[Application]:
    """The GitOps objects that labels or annotations name.

    Where Argo CD watches several namespaces it writes ``NAMESPACE_NAME``.
    """
    labels, notes = meta.labels or {}, meta.annotations or {}
    found = [
        Application(group, str(labels.get(f"{group}/namespace", "")), str(labels[f"{group}/name"]))
        for group in _FLUX
        if f"{group}/name" in labels
    ]
    tracking = str(notes.get(_TRACKING, "")).partition(":")[0]
    for said in filter(None, (str(labels.get(_INSTANCE, "")), tracking)):
        home, _, name = said.rpartition("_")
        found.append(Application("argoproj.io", home, name))
    return found


def _fingerprint(certificate: Any) -> str:
    """SHA-256 of the DER form, as ``X509SHA256=`` spells it in ``user.extra``."""
    if not isinstance(certificate, str):
        return ""
    try:
        found = _PEM.search(base64.b64decode(certificate, validate=True))
        der = base64.b64decode(found[1]) if found else b""
    except ValueError:
        return ""
    return f"X509SHA256={hashlib.sha256(der).hexdigest()}" if der else ""


def _bearer(request: Any) -> str:
    """The common name in a PKCS #10 request in PEM in base64, which the API server takes for the
    username."""
    if not isinstance(request, str) or not request.startswith(_REQUEST):
        return ""
    from cryptography import x509

    try:
        asked = x509.load_pem_x509_csr(base64.b64decode(request, validate=True))
        names = asked.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except (ValueError, x509.InvalidVersion):
        return ""
    return str(names[0].value) if len(names) == 1 else ""
