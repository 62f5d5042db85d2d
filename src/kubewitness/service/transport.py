"""HTTP/1.1 over TCP and TLS, in the event loop of the service.

uvicorn speaks HTTP; what a service at the edge of a network needs besides stands here: each
connection is admitted under the certificates of the moment; one whose request does not arrive in
time, or with a head without end, is closed; and there are only so many.

The application finds in ``scope["state"]`` who the client's certificate names (``peer_names``), and
calls ``welcome`` once it knows who that is: where there are too many connections, the oldest of
those that were not welcomed makes room. So whoever only holds connections keeps nobody out.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kubewitness.errors import SourceError
from kubewitness.service.tls import Certificates, names

_log = logging.getLogger(__name__)

HEAD_TIMEOUT = 10.0
"""Seconds in which a request's head has to arrive, counted from the connection or its first byte;
so long may a TLS handshake take, too."""

HEAD_BYTES = 64 << 10
_DRAINED_BYTES = 1 << 20
"""Of a body whose request was answered already."""

_IDLE = 120
"""Seconds between two requests; the API server's own client gives up after 90."""
_LAST_WORDS = 20
"""Seconds that requests in flight have when the service stops."""
_BACKLOG = 512


class Transport:
    """Serves an ASGI application at ``address`` and ``port`` (0: any that is free)."""

    def __init__(
        self,
        app: Any,
        address: str,
        port: int,
        *,
        certificates: Certificates | None = None,
        connections: int = 512,
    ) -> None:
        self._address = address
        self._certificates = certificates
        self._connections = connections
        self._admitting: set[asyncio.Task[None]] = set()
        self._listeners = _listeners(address, port)
        self.port: int = self._listeners[0].getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_IDLE,
                timeout_graceful_shutdown=_LAST_WORDS,
            )
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then finish what was begun.

        Raises whatever ends it earlier.
        """
        serving = asyncio.create_task(self._server.serve())
        stopping = asyncio.create_task(stop.wait())
        accepting = [asyncio.create_task(self._accept(one)) for one in self._listeners]
        ended: set[asyncio.Task[Any]] = set()
        try:
            ended, _ = await asyncio.wait(
                {serving, stopping, *accepting}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (stopping, *accepting):
                task.cancel()
            for listener in self._listeners:
                listener.close()
            self._server.should_exit = True
            await asyncio.gather(*self._admitting, return_exceptions=True)
            await serving
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
        for task in ended:
            task.result()
        if not stop.is_set():
            raise SourceError(
                "nothing is answered any more",
                where=f"{self._address}:{self.port}",
                remedy="see the log, and start it again",
            )

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # out of descriptors or memory
                    _log.error("no connection can be accepted: %s", error.strerror)
                    await asyncio.sleep(1)
                continue
            if len(self._admitting) + len(self._server.server_state.connections) >= (
                self._connections
            ):
                _log.warning("with a connection from %s there are too many", address[0])
                if not self._make_room():
                    connection.close()
                    continue
            protocol = self._server.protocol()
            task = asyncio.create_task(self._admit(protocol, connection, address[0]))
            self._admitting.add(task)
            task.add_done_callback(self._admitting.discard)
            self._server.strangers[protocol] = task
            await asyncio.sleep(0)  # a task that never began would not close its connection

    def _make_room(self) -> bool:
        """End the oldest connection of somebody unknown, if there is one."""
        for protocol, task in self._server.strangers.items():
            del self._server.strangers[protocol]
            task.cancel()
            if protocol.transport is not None:
                protocol.transport.abort()
            return True
        return False

    async def _admit(self, protocol: _Protocol, connection: socket.socket, peer: str) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        context = self._certificates.context() if self._certificates else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=context,
                ssl_handshake_timeout=HEAD_TIMEOUT if context else None,
                ssl_shutdown_timeout=HEAD_TIMEOUT if context else None,
            )
        except ssl.SSLError as error:
            _log.warning("TLS with %s: %s", peer, (error.reason or "no TLS").lower())
        except OSError as error:
            _log.info("the connection with %s ended early: %s", peer, error)
        finally:
            if protocol.transport is None:
                self._server.strangers.pop(protocol, None)


class _Server(uvicorn.Server):
    """uvicorn's, without sockets and signal handlers of its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.strangers: dict[_Protocol, asyncio.Task[None]] = {}

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self.servers = []
        self.started = not self.lifespan.should_exit
        self.should_exit = self.should_exit or self.lifespan.should_exit

    def protocol(self) -> _Protocol:
        return _Protocol(self.strangers, self.config, self.server_state, self.lifespan.state)


class _Protocol(HttpToolsProtocol):
    """Closes connections that keep nobody busy but us."""

    def __init__(self, strangers: dict[_Protocol, asyncio.Task[None]], *args: Any) -> None:
        super().__init__(*args)
        self._strangers = strangers
        self._timer: asyncio.TimerHandle | None = None
        self._in_body = False
        self._passed = 0  # bytes since the last head or body was complete
        self._peer_names: frozenset[str] = frozenset()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer_names = names(transport.get_extra_info("peercert"))
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_wait()
        self._welcome()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._passed += len(data)
        super().data_received(data)
        if self.transport.is_closing() or (self.cycle and not self.cycle.response_complete):
            return  # the application decides how long a body may take
        if self._passed > (_DRAINED_BYTES if self._in_body else HEAD_BYTES):
            self.transport.close()
        elif self._timer is None:
            self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"].update(peer_names=self._peer_names, welcome=self._welcome)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Not of trailers, which nobody asks for: they may go on for as long as a body, and would
        # be kept.
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._cancel_wait()
        self._passed = 0
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._passed = 0
        self._in_body = False
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """It is answered as if it had not asked, and needs no package to be installed."""

    def _welcome(self) -> None:
        self._strangers.pop(self, None)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.abort)

    def _cancel_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _listeners(address: str, port: int) -> list[socket.socket]:
    """A listening socket for each address that ``address`` stands for."""
    found: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in socket.getaddrinfo(
            address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listener = socket.socket(family, kind, protocol)
            found.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(where)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
    except OSError as error:
        for listener in found:
            listener.close()
        raise SourceError(
            f"cannot be listened at: {error.strerror or error}",
            where=f"{address}:{port}",
            remedy="see what else listens there, or choose another listen.address and port",
        ) from error
    return found
