"""Notices over HTTP: one request for each, and what its answer means.

An alert is rare, so each opens a connection of its own: none is stale, and none needs closing.
Redirects are not followed, certificates are verified, and a proxy is used only where the
environment names one. Tokens, signatures, configured headers and all of a URL but its host stay
out of errors and logs, whatever the other side answers.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from kubewitness import __version__
from kubewitness.config import settings
from kubewitness.errors import KubewitnessError
from kubewitness.report.inert import json as inert_json
from kubewitness.report.inert import plain
from kubewitness.sinks.sink import SLOWLY, DeliveryError, Notice

if TYPE_CHECKING:
    import ssl

    import httpx2

HIDDEN = "(hidden)"
LONGEST = 3600.0
"""Seconds that a receiver may ask to be left alone: it cannot silence the witness."""
_HEARD = 8192
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# Both log every URL, one of them every header.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Message(NamedTuple):
    """What one kind of sink makes of a notice; ``headers`` are its own, with lower-case names."""

    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


class Request(NamedTuple):
    """What is posted; ``secrets`` may not be told to anybody, ``hidden`` are headers with one."""

    url: str
    headers: dict[str, str]
    body: bytes
    hidden: frozenset[str]
    secrets: tuple[str, ...]


class Poster:
    """A sink that posts what ``compose`` makes of a notice at a time.

    ``path`` is added to the URL unless it ends with it. ``secret_url``: the URL itself is the
    credential, so only its host is ever shown.
    """

    def __init__(
        self,
        wanted: settings.Sink,
        compose: Callable[[Notice, datetime], Message],
        *,
        path: str = "",
        secret_url: bool = False,
    ) -> None:
        self.name = wanted.name
        self._wanted = wanted
        self._compose = compose
        self._path = path
        self._secret_url = secret_url or wanted.url_file is not None
        for name, value in wanted.headers.items():
            if not _TOKEN.fullmatch(name) or not (value.isascii() and value.isprintable()):
                raise KubewitnessError(
                    f"{plain(name)!r} cannot be sent as a header",
                    where=f"sink {wanted.name}",
                    remedy="headers are printable ASCII, in one line",
                )
        if wanted.url:
            self._address(wanted.url)

    async def send(self, notice: Notice) -> None:
        await self.post(lambda now: self._compose(notice, now))

    async def post(self, compose: Callable[[datetime], Message]) -> None:
        """Post what ``compose`` makes at the time it is. Raises ``DeliveryError``."""
        now = datetime.now(UTC)
        request = await asyncio.to_thread(lambda: self.request(compose(now)))
        await self._post(request, await asyncio.to_thread(self._trusting))

    def show(self, notice: Notice) -> str:
        request = self.request(self._compose(notice, datetime.now(UTC)))
        headers = {
            name: HIDDEN if name in request.hidden else value
            for name, value in request.headers.items()
        }
        lines = [
            f"POST {self._shown(urlsplit(request.url))}",
            *(f"{name}: {plain(value)}" for name, value in headers.items()),
            "",
            inert_json(request.body.decode("utf-8", "replace")),
        ]
        return "\n".join(lines) + "\n"

    def request(self, message: Message) -> Request:
        """What is sent. Raises ``DeliveryError`` where a file cannot be read."""
        wanted = self._wanted
        url = self._address(wanted.url or self._secret(wanted.url_file))
        headers = {
            "content-type": "application/json",
            "user-agent": f"kubewitness/{__version__}",
            "accept-encoding": "identity",
            **{name.lower(): value for name, value in wanted.headers.items()},
            **message.headers,
        }
        hidden = {name.lower() for name in wanted.headers} | {"authorization", "webhook-signature"}
        if wanted.token_file is not None:
            headers["authorization"] = f"Bearer {self._secret(wanted.token_file)}"
        parts = urlsplit(url)
        values = [headers[name] for name in hidden if name in headers]
        kept = {*values, *(value.rpartition(" ")[2] for value in values), url, parts.path}
        # The longest first: one may be a part of another.
        told = {one for one in {*kept, parts.query} if len(one) > 3}
        secrets = tuple(sorted(told, key=len, reverse=True))
        return Request(url, headers, message.body, frozenset(hidden), secrets)

    def _secret(self, path: Path | None) -> str:
        """What a file holds, read anew each time: it may be renewed while we run."""
        try:
            text = path.read_text(encoding="ascii").strip() if path else ""
        except (OSError, UnicodeDecodeError) as error:
            raise self._not_yet(
                f"cannot read {path}: {getattr(error, 'strerror', None) or 'not ASCII text'}"
            ) from None
        if not text.isprintable() or not text:
            raise self._not_yet(f"{path} holds no single line of text")
        return text

    def _not_yet(self, what: str, remedy: str = "") -> DeliveryError:
        return DeliveryError(what, where=f"sink {self.name}", remedy=remedy, retry_after=SLOWLY)

    def _trusting(self) -> ssl.SSLContext:
        try:
            return self._tls
        except OSError as error:
            raise self._not_yet(
                f"cannot read the authorities to trust: {error.strerror or error}",
                "see SSL_CERT_FILE and SSL_CERT_DIR",
            ) from None

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        import httpx2

        return httpx2.create_ssl_context()

    def _address(self, text: str) -> str:
        """The whole URL. Raises ``DeliveryError``, which does not repeat it."""
        try:
            parts = urlsplit(text)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or not text.isascii() or not text.isprintable() or " " in text:
            raise self._not_yet("its url is none", "write it as https://HOST:PORT/PATH")
        if parts.username is not None:
            raise self._not_yet(
                "its url holds credentials", "put them into token_file, or into headers"
            )
        if self._wanted.token_file and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise self._not_yet(
                "its token would be sent unencrypted",
                "give a https:// url, or leave token_file out",
            )
        path = parts.path.rstrip("/") if self._path else parts.path
        if not path.endswith(self._path):
            path += self._path
        return urlunsplit(parts._replace(path=path, fragment=""))

    def _shown(self, parts: SplitResult) -> str:
        if self._secret_url:
            return f"{_origin(parts)}/{HIDDEN}"
        return f"{_origin(parts)}{parts.path or '/'}{'?' + HIDDEN if parts.query else ''}"

    async def _post(self, request: Request, tls: ssl.SSLContext) -> None:
        import httpx2

        where = f"sink {self.name} at {_origin(urlsplit(request.url))}"
        seconds = self._wanted.timeout
        response: httpx2.Response | None = None
        said = ""
        try:
            async with (
                asyncio.timeout(seconds),
                httpx2.AsyncClient(verify=tls, timeout=None) as client,
                client.stream(
                    "POST", request.url, content=request.body, headers=request.headers
                ) as response,
            ):
                if not response.is_success:
                    said = await _beginning(response)
        except TimeoutError:
            if response is None:
                raise DeliveryError(f"no answer within {seconds:g} s", where=where) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            if response is None:
                # Not as its cause: it holds the request.
                raise _unreached(_without(_told(error), request.secrets), where) from None
        if response is not None and not response.is_success:
            raise refusal(
                response.status_code,
                _without(said, request.secrets),
                response.headers.get("retry-after", ""),
                where=where,
            )


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _unreached(text: str, where: str) -> DeliveryError:
    distrusted = "CERTIFICATE_VERIFY_FAILED" in text
    remedy = "SSL_CERT_FILE names the authorities to trust" if distrusted else ""
    return DeliveryError(f"not reached: {text}", where=where, remedy=remedy)


def refusal(status: int, said: str, retry_after: str, *, where: str) -> DeliveryError:
    """What an answer other than 2xx means.

    >>> refusal(503, "", "7", where="sink pager").retry_after
    7.0
    >>> refusal(400, "no rule", "", where="sink pager").permanent
    True
    """
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    what = f"answered {status}{phrase}{': ' if said else ''}{said}"
    wait = pause(retry_after, datetime.now(UTC))
    if 300 <= status < 400:
        return DeliveryError(
            what,
            where=where,
            remedy="redirects are not followed: give the new address in url",
            retry_after=max(wait or 0, SLOWLY),
        )
    if status in (401, 403, 407):
        return DeliveryError(
            what,
            where=where,
            remedy="renew its credentials: files are read anew for each attempt",
            retry_after=max(wait or 0, SLOWLY),
        )
    if status in (408, 425, 429) or status >= 500 or status < 200:
        return DeliveryError(what, where=where, retry_after=wait)
    return DeliveryError(
        what, where=where, remedy="kubewitness sinks show tells what is sent", permanent=True
    )


def pause(retry_after: str, now: datetime) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; at most an hour.

    >>> now = datetime(2026, 3, 14, 2, 11, 9, tzinfo=UTC)
    >>> pause("120", now), pause("Sat, 14 Mar 2026 02:12:09 GMT", now), pause("soon", now)
    (120.0, 60.0, None)
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    # "-0000" is a time without a zone, which is UTC here.
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return min(max((at - now).total_seconds(), 0.0), LONGEST)


async def _beginning(response: httpx2.Response) -> str:
    """The first words of an answer, however long it is and whatever is in it."""
    read = b""
    async for chunk in response.aiter_raw(_HEARD):
        read += chunk
        if len(read) >= _HEARD:
            break
    return read[:_HEARD].decode("utf-8", "replace")


def _without(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    # The beginning only: where reading stopped, a secret may be cut in two.
    return plain(" ".join(text[:300].split()), 300)


def _origin(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"
