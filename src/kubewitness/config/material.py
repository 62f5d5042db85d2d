"""Secrets, keys and certificates on disk: are they there, do they fit, who may read them."""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

_LARGEST_SECRET = 1 << 16
# RFC 6750, section 2.1; what a client may send behind "Bearer".
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_SHORTEST_TOKEN = 20
_SOON = timedelta(days=14)


class Doubt(NamedTuple):
    """What is doubtful about a file, and what helps."""

    what: str
    remedy: str


def secret(path: Path) -> str:
    """The text in a file, without the line break that editors end it with. Raises ``ValueError``
    that says what is wrong with the file."""
    text = _content(path).rstrip("\r\n")
    if not text.strip():
        raise ValueError("the file is empty")
    return text


def token(path: Path) -> str:
    """The bearer token in a file. Raises ``ValueError``."""
    text = secret(path).strip()
    if not _TOKEN.fullmatch(text):
        raise ValueError("the file holds no bearer token (letters, digits and -._~+/=, one line)")
    return text


def text(path: Path) -> str:
    """The text in a file that is no secret. Raises ``ValueError``."""
    return _content(path)


def _content(path: Path) -> str:
    try:
        # A pipe would be waited for, and read once.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("no file")
        with path.open("rb") as file:
            data = file.read(_LARGEST_SECRET + 1)
    except OSError as error:
        raise ValueError(_strerror(error)) from None
    if len(data) > _LARGEST_SECRET:
        raise ValueError(f"larger than {_LARGEST_SECRET >> 10} KiB")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("no UTF-8") from None


def _strerror(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def exposed(path: Path) -> Iterator[Doubt]:
    """Whether others than its owner and group may read a secret."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & stat.S_IROTH:
        yield Doubt(
            f"{path} may be read by everybody on this machine (mode {stat.S_IMODE(mode):04o})",
            f"chmod 600 {path}; in a pod, defaultMode: 0440 of the volume",
        )


def guessable(path: Path) -> Iterator[Doubt]:
    """Whether a token is too short to be one."""
    if len(token(path)) < _SHORTEST_TOKEN:
        yield Doubt(
            f"the token in {path} is shorter than {_SHORTEST_TOKEN} characters",
            "openssl rand -hex 32 makes one that nobody guesses",
        )


def certificate(chain: Path, key: Path) -> Iterator[Doubt]:
    """What is doubtful about a certificate. Raises ``ValueError`` for a pair that cannot serve."""
    _content(key)
    pem = _content(chain)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password=_no_password)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(_tls_mistake(error)) from None
    yield from _dated(chain, pem)


def authority(path: Path) -> Iterator[Doubt]:
    """What is doubtful about the certificates of an authority. Raises ``ValueError``."""
    pem = _content(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem)
    except (ssl.SSLError, OSError, ValueError):
        raise ValueError("no certificates in PEM") from None
    yield from _dated(path, pem)


def _no_password() -> str:
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")


def _tls_mistake(error: Exception) -> str:
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return f"no certificate and key in PEM{f' ({reason.lower()})' if reason else ''}"


def _dated(path: Path, pem: str) -> Iterator[Doubt]:
    from cryptography import x509

    now = datetime.now(UTC)
    for one in x509.load_pem_x509_certificates(pem.encode()):
        until = one.not_valid_after_utc
        if now + _SOON > until:
            when = f"{until:%Y-%m-%d %H:%M} UTC"
            said = f"expired at {when}" if until < now else f"ends at {when}"
            yield Doubt(f"a certificate in {path} {said}", "renew it; the file is read again")
        if one.not_valid_before_utc > now:
            begin = f"{one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            yield Doubt(f"a certificate in {path} begins only at {begin}", "check the clock")


def writable_folder(path: Path) -> None:
    """Raises ``ValueError`` unless ``path`` is a folder to write to, or can become one."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise ValueError(f"{there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{there} may not be written to")
