"""Secrets are taken out before anything is stored, and replaced by a keyed hash.

What counts as secret: the data of Secrets, issued and reviewed tokens, the command line of
``exec`` and ``attach``, JSON Web Tokens and private keys wherever they stand. Equal secrets get
equal hashes within one lake (so that they can be joined), but the hash is an HMAC under the
lake's own random key: a short password cannot be guessed from it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

import msgspec

_SECRET_KEYS = frozenset({"data", "stringData"})
_TOKEN_KEYS = frozenset({"token", "tokenSecret", "password", "clientSecret", "privateKey"})
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?")
_PEM = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.S
)
_QUERY = re.compile(r"(?i)([?&](?:command|token|access_token|id_token|password|secret)=)([^&#]*)")

# Which rows need a look at all: DuckDB evaluates these on columns, Python sees only the matches.
SUSPECT_BODY = (
    "{body} IS NOT NULL AND (resource IN ('secrets', 'tokenreviews') OR subresource = 'token'"
    " OR contains({body}, 'eyJ') OR contains({body}, 'PRIVATE KEY'))"
)
SUSPECT_URI = (
    "regexp_matches(request_uri, '(?i)[?&](command|token|access_token|id_token|password|secret)=')"
    " OR contains(request_uri, 'eyJ')"
)


class Redactor:
    """Replaces secret text by ``redacted:HASH``; ``key`` is 32 random bytes kept with the lake.

    >>> Redactor(b"k" * 32).uri("/api/v1/namespaces/a/pods/p/exec?command=ls&stdin=true")
    '/api/v1/namespaces/a/pods/p/exec?command=redacted:50c44d5d7c4d&stdin=true'
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mark(self, text: str) -> str:
        """The replacement of a secret value; already replaced ones stay as they are."""
        if text.startswith("redacted:"):
            return text
        digest = hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"redacted:{digest.hexdigest()[:12]}"

    def uri(self, uri: str) -> str:
        """A request URI without commands, tokens and passwords in its query."""
        marked = _QUERY.sub(lambda found: found[1] + self.mark(found[2]), uri)
        return self._free_text(marked)

    def body(self, body: str, resource: str | None) -> str:
        """A request or response object (JSON text) without its secrets.

        Text that is no JSON cannot be searched field by field, so all of it is replaced.
        """
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return msgspec.json.encode(self.mark(body)).decode()
        secret = resource in ("secrets", "tokenreviews", "serviceaccounts")
        return msgspec.json.encode(self._walk(value, secret)).decode()

    def _free_text(self, text: str) -> str:
        if "eyJ" in text:
            text = _JWT.sub(lambda found: self.mark(found[0]), text)
        if "PRIVATE KEY" in text:
            text = _PEM.sub(lambda found: self.mark(found[0]), text)
        return text

    def _walk(self, value: Any, secret: bool) -> Any:
        if isinstance(value, str):
            return self._free_text(value)
        if isinstance(value, list):
            return [self._walk(item, secret) for item in value]
        if not isinstance(value, dict):
            return value
        # A JSON patch names the field in "path" and carries the secret in "value".
        patched = secret and isinstance(value.get("path"), str) and "value" in value
        cleaned: dict[str, Any] = {}
        for name, item in value.items():
            if name == _APPLIED and isinstance(item, str):
                cleaned[name] = self.body(item, "secrets" if secret else None)
            elif secret and (
                name in _SECRET_KEYS or name in _TOKEN_KEYS or (patched and name == "value")
            ):
                cleaned[name] = self._blank(item)
            else:
                cleaned[name] = self._walk(item, secret)
        return cleaned

    def _blank(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._blank(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._blank(item) for item in value]
        return value if value is None else self.mark(str(value))
