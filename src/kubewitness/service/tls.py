"""The certificates that the receiver shows and asks for, read anew when their files change.

A new handshake uses what the files hold then; connections that stand go on. While a new file is
broken, or does not fit the other one yet, the old certificate stays in use, with a warning.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from kubewitness.config.settings import Tls
from kubewitness.errors import SourceError

_log = logging.getLogger(__name__)

Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]


def stamp(*paths: Path) -> Stamp:
    """What changes when one of the files does (renamed over, written to, deleted)."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Certificates:
    """Raises ``SourceError`` where the files cannot be used to begin with."""

    def __init__(self, settings: Tls) -> None:
        self._settings = settings
        self._paths = [settings.certificate, settings.key]
        if settings.client_ca is not None:
            self._paths.append(settings.client_ca)
        self._stamp = stamp(*self._paths)
        try:
            self._context = self._load()
        except (OSError, ValueError) as error:
            raise SourceError(
                f"cannot be used for TLS: {_reason(error)}",
                where=str(settings.certificate),
                remedy="see that certificate, key and client_ca are PEM and belong together",
            ) from error

    def context(self) -> ssl.SSLContext:
        """What the next handshake is made with."""
        now = stamp(*self._paths)
        if now != self._stamp:
            try:
                self._context = self._load()
            except (OSError, ValueError) as error:
                _log.warning(
                    "%s: cannot be used, the old certificate stays: %s",
                    self._settings.certificate,
                    _reason(error),
                )
            else:
                self._stamp = now
                _log.info("%s: read anew", self._settings.certificate)
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._settings.certificate, self._settings.key, _no_password)
        if self._settings.client_ca is not None:
            context.load_verify_locations(self._settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def names(certificate: dict[str, Any] | None) -> frozenset[str]:
    """The common name and the DNS names of a verified client certificate, as ``ssl`` gives it.

    >>> sorted(names({"subject": ((("commonName", "api"),),), "subjectAltName": (("DNS", "b"),)}))
    ['api', 'b']
    """
    if not certificate:
        return frozenset()
    subject = (pair for part in certificate.get("subject", ()) for pair in part)
    common = (value for kind, value in subject if kind == "commonName")
    alternative = (v for kind, v in certificate.get("subjectAltName", ()) if kind == "DNS")
    return frozenset((*common, *alternative))


def _no_password() -> NoReturn:
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "no certificates in PEM").lower()
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
