"""Secrets taken out of a line of audit JSON before it is stored anywhere, a spool included.

The lake redacts column by column while it reads a line (``events.normalisation``). Where a line has
to wait on disk before that, it is redacted as a whole, by the same signs in the same fields: the
row that the lake makes of the redacted line is the row it would have made of the raw one.

Hardly any line holds a secret. ``suspect`` looks for all signs at once, some microseconds a line,
and errs to one side only; what it does not suspect may be stored as it stands.
"""

# The fields have the names that Kubernetes gives them.
# ruff: noqa: N815

from __future__ import annotations

from typing import Any

import msgspec
import re2
from msgspec import UNSET, Raw, Struct, UnsetType

from kubewitness.events.formats.plain import PlainEvent
from kubewitness.events.redaction import (
    BODY_SIGNS,
    HIDING_SIGN,
    SECRET_RESOURCES,
    SECRET_SUBRESOURCES,
    TEXT_SIGNS,
    URI_SIGN,
    Redactor,
)
from kubewitness.events.trait import images


def _any_sign(*signs: str) -> str:
    return "|".join(f"(?:{sign})" for sign in signs)


_TEXT = re2.compile(_any_sign(*TEXT_SIGNS))
_BODY = re2.compile(_any_sign(*BODY_SIGNS))
_URI = re2.compile(URI_SIGN)
_HIDING = re2.compile(HIDING_SIGN)
# The same in the bytes of a line, where "&" is an escape. An escape where none is needed may hide
# anything, of a slash, too; and RE2 takes two letters outside of ASCII for k and s.
_ANYWHERE = re2.compile(
    _any_sign(
        *BODY_SIGNS,
        URI_SIGN.replace("[?&]", r"(?:[?&]|\\u0026)").replace("[^=&]", '[^=&"]'),
        "\\\\/|\xe2\x84\xaa|\xc5\xbf|\\\\u212[aA]|\\\\u017[fF]",
    ).encode("latin-1")
)


class _User(Struct, omit_defaults=True):
    username: str | None = None
    uid: str | None = None
    groups: list[str] | None = None
    extra: Raw | UnsetType = UNSET


class _ImpersonatedUser(Struct, omit_defaults=True):
    username: str | None = None
    groups: list[str] | None = None


class _ObjectRef(Struct, omit_defaults=True):
    resource: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    apiGroup: str | None = None
    apiVersion: str | None = None
    resourceVersion: str | None = None
    subresource: str | None = None


class _Status(Struct, omit_defaults=True):
    status: str | None = None
    reason: str | None = None
    message: str | None = None
    code: int | None = None


class _Line(Struct, omit_defaults=True):
    """What the lake reads of a line, and nothing else that may stand in it."""

    kind: str | None = None
    apiVersion: str | None = None
    cluster: str | None = None
    level: str | None = None
    auditID: str | None = None
    stage: str | None = None
    requestURI: str | None = None
    verb: str | None = None
    user: _User = msgspec.field(default_factory=_User)
    impersonatedUser: _ImpersonatedUser | None = None
    sourceIPs: list[str] | None = None
    userAgent: str | None = None
    objectRef: _ObjectRef | None = None
    responseStatus: _Status | None = None
    requestObject: Raw | UnsetType = UNSET
    responseObject: Raw | UnsetType = UNSET
    requestReceivedTimestamp: str | None = None
    stageTimestamp: str | None = None
    annotations: Raw | UnsetType = UNSET


class _Metadata(Struct):
    name: Any = None


class _Object(Struct):
    metadata: _Metadata | None = None


_decode = msgspec.json.Decoder(_Line).decode
_decode_object = msgspec.json.Decoder(_Object).decode


def suspect(line: bytes, event: PlainEvent) -> bool:
    """Whether ``line``, which is the plain ``event``, may hold a secret."""
    if _ANYWHERE.search(line):
        return True
    resource = event.objectRef.resource if event.objectRef else ""
    subresource = event.objectRef.subresource if event.objectRef else ""
    if event.requestObject or event.responseObject:
        return _is_confidential(resource, subresource)
    return resource == "secrets" and b"patch" in line


def redacted(line: bytes, redactor: Redactor) -> bytes:
    """The canonical event ``line`` without secrets and without fields that the lake does not read.

    Raises ``msgspec.MsgspecError`` where it is no canonical event.
    """
    event = _decode(line)
    reference = event.objectRef or _ObjectRef()
    resource = reference.resource
    name = reference.name or _given_name(event) or reference.name
    annotations, extra = _text(event.annotations), _text(event.user.extra)
    written = _text(event.requestObject)
    if written and _HIDING.search(written):
        written = redactor.body(written, resource)
    spoken = (
        event.requestURI or "",
        event.user.username,
        event.impersonatedUser.username if event.impersonatedUser else None,
        event.userAgent,
        name,
        event.responseStatus.message if event.responseStatus else None,
        images(event.verb, resource, written),
        annotations,
        extra,
    )
    secretive = bool(_TEXT.search(" ".join(text for text in spoken if text is not None)))
    if event.requestURI and (secretive or _URI.search(event.requestURI)):
        event.requestURI = redactor.uri(event.requestURI)
    if annotations and (secretive or (resource == "secrets" and "patch" in annotations)):
        event.annotations = _walked(annotations, resource, redactor)
    if secretive:
        for part, field in (
            (event.user, "username"),
            (event.impersonatedUser, "username"),
            (event, "userAgent"),
            (event.responseStatus, "message"),
        ):
            if text := getattr(part, field, None):
                setattr(part, field, redactor.text(text))
        if name:
            reference.name = redactor.text(name)
            event.objectRef = reference
        if extra:
            event.user.extra = _walked(extra, resource, redactor)
    confidential = _is_confidential(resource, reference.subresource)
    for field in ("requestObject", "responseObject"):
        raw = getattr(event, field)
        body = _text(raw)
        if body and (confidential or _BODY.search(body) or _BODY.search(bytes(raw).decode())):
            setattr(event, field, _walked(body, resource, redactor))
    return msgspec.json.encode(event)


def _is_confidential(resource: str | None, subresource: str | None) -> bool:
    return (
        not resource or resource in SECRET_RESOURCES or (subresource or "") in SECRET_SUBRESOURCES
    )


def _given_name(event: _Line) -> str | None:
    """Of what was created without a name: the one that stands in the answer."""
    if event.verb != "create":
        return None
    for body in (event.responseObject, event.requestObject):
        if body is UNSET:
            continue
        try:
            metadata = _decode_object(body).metadata
        except msgspec.MsgspecError:
            continue
        if metadata and metadata.name is not None:
            name = metadata.name
            return name if isinstance(name, str) else msgspec.json.encode(name).decode()
    return None


def _text(raw: Raw | UnsetType) -> str | None:
    """A JSON value as DuckDB keeps it: compact, without needless escapes; ``None`` for null."""
    if raw is UNSET or bytes(raw) == b"null":
        return None
    try:
        return msgspec.json.encode(msgspec.json.decode(raw)).decode()
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return bytes(raw).decode()


def _walked(body: str, resource: str | None, redactor: Redactor) -> Raw:
    return Raw(redactor.body(body, resource).encode())
