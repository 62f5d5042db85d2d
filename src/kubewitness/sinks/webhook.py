"""Any receiver of webhooks: JSON, or what a template makes of it, signed if there is a secret.

Signed as the Standard Webhooks specification says, so that its libraries verify it: HMAC-SHA256
over id, time and body. The time is that of the attempt, so an old request cannot be replayed; the
id is that of the notice, so a repeated one can be told.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kubewitness.config import settings
from kubewitness.report import exports
from kubewitness.sinks.bounds import bounded
from kubewitness.sinks.posting import Message, Poster
from kubewitness.sinks.sink import SLOWLY, DeliveryError, Notice

_PREFIX = "whsec_"
_SHORTEST = 24


def sink(wanted: settings.Sink) -> Poster:
    template = None
    if wanted.template is not None:
        from kubewitness.sinks.template import Template

        template = Template(wanted.template, wanted.name)

    def compose(notice: Notice, now: datetime) -> Message:
        body = template.render(notice) if template else exports.json_bytes(document(notice))
        if wanted.secret_file is None:
            return Message(body)
        return Message(body, signed(body, notice.uid, now, _keys(wanted)))

    return Poster(wanted, compose)


def document(notice: Notice) -> dict[str, Any]:
    """The notice as plain values."""
    return bounded(
        {
            "type": f"incident.{notice.kind}",
            "timestamp": notice.incident.updated_at,
            "revision": notice.revision,
            "data": notice.incident,
        }
    )


def signed(body: bytes, uid: str, now: datetime, keys: Iterable[bytes]) -> dict[str, str]:
    """The headers of a signed body: a signature for each key, so that keys can be changed without
    a gap."""
    seconds = str(int(now.timestamp()))
    content = b".".join((uid.encode(), seconds.encode(), body))
    signatures = (hmac.digest(key, content, hashlib.sha256) for key in keys)
    return {
        "webhook-id": uid,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(s).decode()}" for s in signatures),
    }


def _keys(wanted: settings.Sink) -> list[bytes]:
    """The keys in the secret file, one a line, read anew each time."""
    path = wanted.secret_file
    try:
        lines = path.read_text(encoding="ascii").split() if path else []
        keys = [key(line) for line in lines]
    except (OSError, ValueError) as error:
        raise _unsigned(wanted, getattr(error, "strerror", None) or "not a secret") from None
    if not keys or min(map(len, keys)) < _SHORTEST:
        raise _unsigned(wanted, f"it takes at least {_SHORTEST} bytes")
    return keys


def key(text: str) -> bytes:
    """The key that a secret stands for: ``whsec_`` and base64, or the text itself.

    >>> key("whsec_AAECAw=="), key("correct horse")
    (b'\\x00\\x01\\x02\\x03', b'correct horse')
    """
    if not text.startswith(_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _unsigned(wanted: settings.Sink, why: str) -> DeliveryError:
    return DeliveryError(
        f"no secret to sign with in {wanted.secret_file}: {why}",
        where=f"sink {wanted.name}",
        remedy="make one with: echo whsec_$(openssl rand -base64 32)",
        retry_after=SLOWLY,
    )
