"""Secrets are taken out before anything is stored, and replaced by a keyed hash.

What counts as secret: the data of Secrets, issued and reviewed tokens, the command line of
``exec`` and ``attach``, values whose name says so (the environment of containers, ConfigMaps,
flags, query parameters), and wherever they stand: JSON Web Tokens, private keys, passwords in
URLs, ``Authorization`` headers. Equal secrets get equal hashes within one lake (so that they can be
joined), but the hash is an HMAC under the lake's own random key: a short password cannot be guessed
from it.

DuckDB looks for signs of a secret in every row; Python sees only the rows that have one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Any
from urllib.parse import unquote_plus

import msgspec

# Kinds whose fields of these names are secret, whatever the values look like.
_SECRET_KINDS = frozenset({"secrets", "tokenreviews", "serviceaccounts"})
_SECRET_OBJECTS = frozenset({"Secret", "SecretList", "TokenRequest", "TokenReview"})
_SECRET_FIELDS = frozenset(
    {
        *("data", "stringData", "token", "tokenSecret", "password", "clientSecret", "privateKey"),
        "objectset.rio.cattle.io/applied",  # the whole object, gzipped
    }
)
_COMMANDS = frozenset({"PodExecOptions", "PodAttachOptions"})
_MARK = re.compile(r"redacted:[0-9a-f]{12}")
_WORDS = r"pass(?:word|wd|phrase)|secret|token|credentials?"
_KEYS = r"(?:api|access|private|secret|encryption|signing)[_.-]?key"
_FIELD = re.compile(rf"(?i)(?:{_WORDS}|{_KEYS}|authorization)$")
_VARIABLE = re.compile(rf"(?i){_WORDS}|pwd|{_KEYS}|(?:^|[_.-])key$|authorization|cookie")
_FLAG = re.compile(rf"(?i)--?[\w.-]*(?:{_WORDS}|pwd|{_KEYS})")
_PARAMETER = re.compile(rf"(?i)^(?:command|code|sig)$|{_WORDS}|pwd|key|signature|auth")
# The API server writes "&" as an escape; a name without "?" keeps "????…" from taking all day.
_QUERY = re.compile(r"([?&]|\\u0026)([^=&#?\\]*)=((?:[^&#\\]|\\(?!u0026))*)")

# Each finds a secret in free text; what stands before and after the group "secret" stays.
_PATTERNS = tuple(
    re.compile(pattern, re.S)
    for pattern in (
        r"(?P<secret>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))",
        # the same in base64, as kubeconfigs have it: "-----BEGIN " and RSA, PRIVATE, EC, …
        r"(?P<secret>LS0tLS1CRUdJTi(?:BSU0EgU|BQUklWQ|BFQyBQ|BPUEVOU1|BFTkNSW|BEU0EgU)[\w+/=-]*)",
        r"://[^\s/:@\"']*:(?P<secret>[^\s/@\"']+)@",
        r"(?i)\bbearer\s+(?P<secret>[\w.~+/=-]{12,})",
        r"(?i)authorization[\"']?\s*[:=]\s*[\"'\[]*(?:\w+\s+)?"
        r"(?P<secret>[\w.~+/=:-]{6,})",
        rf"(?i)(?:{_WORDS}|{_KEYS}|signature)=[\"']?(?P<secret>[^\s\"'&,;]+)",
        # as YAML; of Kubernetes' own "secret:" and "token:" the value is a name
        r"(?i)\w[_-]?(?:secret|token)[\"']?:[ \t]*[\"']?(?P<secret>[^\s\"'&,;{\[]{8,})",
        rf"(?i)(?:pass(?:word|wd|phrase)|{_KEYS})[\"']?:\s*[\"']?(?P<secret>[^\s\"'&,;]+)",
    )
)

# What was put in the place of a secret may show another one: to look again until there is nothing
# keeps a text that was redacted before as it is. Hostile text may go on so for long.
_LOOKS = 4

# A JSON Web Token is a part of a run of these: to look for its beginning only within a run that was
# found keeps "eyJeyJeyJ…" from taking all day.
_RUN = re.compile(r"[A-Za-z0-9_.-]{20,}+")

# In a line that is broken nobody can tell where a body ends.
_BODY = re.compile(
    r"(?i)(?<![\\\"])[\\\"]+(?:(?:request|response)object|data|stringdata|patch)[\\\"]+\s*:"
    r"|(?<![\\\"])[\\\"]+(?:request|response)[\\\"]+\s*:\s*[\\\"]*[{\[]"
)
_MEMBER = re.compile(
    rf"(?i)(?<![\\\"])[\\\"]+[\w.-]*(?:{_WORDS}|{_KEYS}|authorization)[\\\"]+\s*:\s*"
    r"[\[\\\"]+(?P<secret>[^\\\"]+)"
)

# What DuckDB looks for. A pattern that begins with a literal of one case costs a tenth of an
# alternative of words, and all of them are tried on all that clients say (bench/README.md).
TEXT_SIGNS = (
    r"eyJ[A-Za-z0-9_-]{8,}[.]",
    r"PRIVATE KEY[-]",
    r'://[^/:@" ]*:[^/@" ]+@',
    r"earer [A-Za-z0-9]",
    r'uthorization[:=" \\]',
    r'assw(or)?d["\\=: ]',
    r'ASSW(OR)?D["\\=: ]',
)
_NAME = r"[^\\\"]*(?i:pass|pwd|secret|token|credential|key|auth|cookie)[^\\\"]*"
# Quotes inside a text (last-applied-configuration) have backslashes before them.
_QUOTE, _COLON, _COMMA = r"[\\\"]+", r"[\\\"]+\s*:\s*[\\\"]+", r"[\\\"]+\s*,\s*[\\\"]+"
_GIVEN = rf"(=|: |{_COLON}[^\\\"])"
# An escape where none is needed may hide anything.
HIDING_SIGN = r"\\u00(2[^6]|3[^ceCE]|[4-7])"
BODY_SIGNS = (
    *TEXT_SIGNS,
    r"LS0tLS1CRUdJTi(BSU0|BQUkl|BFQy|BPUE|BFTk|BEU0)",
    rf"name{_COLON}{_NAME}{_COMMA}value{_COLON}",
    rf"value{_COLON}[^\"]*{_COMMA}name{_COLON}{_NAME}{_QUOTE}",
    rf"ind{_COLON}Secret",
    rf"\"--?[A-Za-z._-]*(?i:token|secret|pass|pwd|key|cred)[A-Za-z._-]*{_COMMA}",
    rf"oken{_GIVEN}",
    rf"ecret{_GIVEN}",
    rf"TOKEN{_GIVEN}",
    rf"SECRET{_GIVEN}",
    rf"_KEY{_GIVEN}",
    rf"PWD{_GIVEN}",
    "ignature=",
    HIDING_SIGN,
)
_NAMES = "pass|pwd|secret|token|credential|key|signature|auth|%"
URI_SIGN = rf"(?i)[?&]([^=&]*({_NAMES})[^=&]*|command|code|sig)="
SECRET_RESOURCES = ("secrets", "tokenreviews")
SECRET_SUBRESOURCES = ("token", "exec", "attach")


def _any_sign(text: str, signs: tuple[str, ...]) -> str:
    quotes = "'"
    return " OR ".join(
        f"regexp_matches({text}, '{sign.replace(quotes, quotes * 2)}')" for sign in signs
    )


def suspect_body(body: str) -> str:
    """SQL: whether the JSON text ``body`` of a ``resource``/``subresource`` may hold a secret."""
    return (
        f"(resource IS NULL OR resource IN {SECRET_RESOURCES}"
        f" OR subresource IN {SECRET_SUBRESOURCES} OR {_any_sign(body, BODY_SIGNS)})"
    )


def suspect_text(text: str) -> str:
    """SQL: whether some free text may hold a secret."""
    return f"({_any_sign(text, TEXT_SIGNS)})"


SUSPECT_URI = _any_sign("request_uri", (URI_SIGN,))

HIDDEN = _any_sign("CAST(request_object AS VARCHAR)", (HIDING_SIGN,))
"""SQL: whether the request body has to be decoded before one may search it."""


class Redactor:
    """Replaces secret text by ``redacted:HASH``; ``key`` is 32 random bytes kept with the lake.

    >>> Redactor(b"k" * 32).uri("/api/v1/namespaces/a/pods/p/exec?command=ls&stdin=true")
    '/api/v1/namespaces/a/pods/p/exec?command=redacted:07a64fa44506&stdin=true'
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mark(self, text: str) -> str:
        """The replacement of a secret value; already replaced ones stay as they are."""
        if _MARK.fullmatch(text):
            return text
        digest = hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"redacted:{digest.hexdigest()[:12]}"

    def uri(self, uri: str) -> str:
        """A request URI without commands, tokens and passwords in its query."""
        return self.text(_QUERY.sub(self._parameter, uri))

    def text(self, text: str) -> str:
        """Free text without what looks like a secret."""
        for _ in range(_LOOKS):
            before = text
            text = _RUN.sub(self._token, text)
            for pattern in _PATTERNS:
                text = pattern.sub(self._found, text)
            if text == before:
                break
        return text

    def line(self, line: bytes) -> bytes:
        """A line that could not be understood, without bodies and what looks like a secret.

        One that has nothing to hide comes back as it is; of others only the text is left.
        """
        text = line.replace(b"\0", b"").decode("latin-1")
        body = _BODY.search(text)
        shown = text[: body.end()] + self.mark(text[body.end() :]) if body else text
        shown = self.uri(_MEMBER.sub(self._found, shown))
        return line if shown == text else shown.encode("latin-1")

    def body(self, body: str, resource: str | None) -> str:
        """A request or response object (JSON text) without its secrets.

        What cannot be searched field by field (no JSON, nested too deep) is replaced as a whole.
        """
        try:
            value = msgspec.json.decode(body)
            secret = resource in _SECRET_KINDS
            if secret and isinstance(value, str) and not value.lstrip().startswith(("{", "[")):
                return msgspec.json.encode(self.mark(value)).decode()  # a patch in YAML
            return msgspec.json.encode(self._walk(value, secret)).decode()
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
            return msgspec.json.encode(self.mark(body)).decode()

    def _parameter(self, found: re.Match[str]) -> str:
        # The API server decodes names, too: "%63ommand" is a command.
        if not found[3] or not _PARAMETER.search(unquote_plus(found[2])):
            return found[0]
        return f"{found[1]}{found[2]}={self.mark(found[3])}"

    def _token(self, found: re.Match[str]) -> str:
        begin = found[0].find("eyJ")
        token = found[0][begin:]
        if begin < 0 or not 11 <= token.find(".", 3) < len(token) - 8:
            return found[0]
        return found[0][:begin] + self.mark(token)

    def _found(self, found: re.Match[str]) -> str:
        start, end = (place - found.start() for place in found.span("secret"))
        return found[0][:start] + self.mark(found["secret"]) + found[0][end:]

    def _walk(self, value: Any, secret: bool) -> Any:
        if isinstance(value, str):
            return self._text(value, secret)
        if isinstance(value, list):
            return self._list(value, secret)
        if not isinstance(value, dict):
            return value
        kind = value.get("kind")
        kind = kind if isinstance(kind, str) else ""
        secret = secret or kind in _SECRET_OBJECTS
        # A JSON patch names the field in "path" and carries the secret in "value".
        patched = secret and isinstance(value.get("path"), str)
        variable = isinstance(value.get("name"), str) and _VARIABLE.search(value["name"])
        cleaned: dict[str, Any] = {}
        for name, item in value.items():
            if (
                (secret and name in _SECRET_FIELDS)
                or (name == "command" and kind in _COMMANDS)
                or (name == "value" and (patched or (variable and isinstance(item, str))))
                or (_is_value(item) and _FIELD.search(name))
            ):
                cleaned[name] = self._blank(item, encoded=name == "data")
            else:
                cleaned[self.text(name)] = self._walk(item, secret)
        return cleaned

    def _list(self, items: list[Any], secret: bool) -> list[Any]:
        """A list, perhaps a command line: a flag tells of the argument after it."""
        cleaned: list[Any] = []
        flag = False
        for item in items:
            text = isinstance(item, str)
            cleaned.append(
                self.mark(item)
                if flag and text and not item.startswith("-")
                else self._walk(item, secret)
            )
            flag = text and _FLAG.fullmatch(item) is not None
        return cleaned

    def _text(self, text: str, secret: bool) -> str:
        """A string in a body: a whole object may stand in it (``last-applied-configuration``)."""
        if not text.lstrip().startswith(("{", "[")):
            return self.text(text)
        try:
            inner = msgspec.json.decode(text)
        except (msgspec.MsgspecError, ValueError):
            return self.mark(text) if secret else self.text(text)
        cleaned = self._walk(inner, secret)
        if cleaned == inner and self.text(text) == text:
            return text
        # Searched as text it would be cut across its structure, and be no JSON the next time.
        return msgspec.json.encode(cleaned).decode()

    def _blank(self, value: Any, *, encoded: bool = False) -> Any:
        if isinstance(value, dict):
            return {name: self._blank(item, encoded=encoded) for name, item in value.items()}
        if isinstance(value, list):
            return [self._blank(item, encoded=encoded) for item in value]
        if value is None:
            return None
        return self.mark(_decoded(value) if encoded and isinstance(value, str) else str(value))


def _is_value(value: Any) -> bool:
    """Text that is not empty, or a list of it, as headers have it; or a number."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str) for item in value)
    return value != "" and isinstance(value, str | int | float) and not isinstance(value, bool)


def _decoded(text: str) -> str:
    """What base64 ``text`` stands for: ``data`` and ``stringData`` of one secret are equal."""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return text
