"""A receiver on loopback, certificates of our own, and a client that sends bytes as they are."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from audit_log import Event, event
from kubewitness.config.settings import Cluster, Listen, Tls
from kubewitness.events.redaction import Redactor
from kubewitness.service.intake import Intake
from kubewitness.service.receiver import Receiver
from kubewitness.service.spool import Batch, Spool
from kubewitness.service.tls import Certificates
from kubewitness.service.transport import Transport

KEY = b"k" * 32


@dataclass(frozen=True)
class Reply:
    """What came back; ``head`` in lower case."""

    code: int
    head: dict[str, str]
    body: bytes


@dataclass
class Served:
    """A receiver that listens, and what it keeps."""

    port: int
    spool: Spool
    quarantine: Path
    receiver: Receiver
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def batches(self) -> list[Batch]:
        return [batch for _, batch in self.spool.read(None, most_bytes=1 << 40)]

    def lines(self) -> list[bytes]:
        return [line for batch in self.batches() for line in batch.lines]

    def quarantined(self) -> list[dict[str, Any]]:
        paths = sorted(self.quarantine.glob("*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


@asynccontextmanager
async def serving(
    folder: Path,
    *clusters: Cluster,
    tls: Tls | None = None,
    limit: int = 1 << 30,
    intake: Intake | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """A receiver for ``clusters`` (one without credentials if there are none)."""
    listen = Listen(port=0, tls=tls, **options)
    quarantine = folder / "quarantine"
    intake = intake or Intake(quarantine, Redactor(KEY), most_bytes=listen.unpacked_bytes)
    spool = Spool(folder / "spool", limit=limit)
    receiver = Receiver(listen, clusters or (Cluster(name="a"),), intake, spool)
    transport = Transport(
        receiver,
        listen.address,
        listen.port,
        certificates=Certificates(tls) if tls else None,
        connections=listen.connections,
    )
    served = Served(transport.port, spool, quarantine, receiver)
    running = asyncio.create_task(transport.run(served.stop))
    try:
        yield served
    finally:
        served.stop.set()
        await asyncio.wait_for(running, 30)
        await spool.close()
        intake.close()


class Connection:
    """One connection; ``post`` may be called again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> Reply:
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")[:-2]
        pairs = (one.partition(":") for one in fields)
        named = {name.lower(): value.strip() for name, _, value in pairs}
        body = await self.reader.readexactly(int(named.get("content-length", "0")))
        return Reply(int(status.split()[1]), named, body)

    async def post(self, body: bytes, path: str = "/audit/a", **fields: str) -> Reply:
        self.send(request(body, path, **fields))
        return await self.reply()

    async def closed(self) -> bool:
        """Whether the other side ends the connection, now or soon."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 5) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


@asynccontextmanager
async def connected(
    served: Served, context: ssl.SSLContext | None = None
) -> AsyncIterator[Connection]:
    name = "localhost" if context else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served.port, ssl=context, server_hostname=name
    )
    connection = Connection(reader, writer)
    try:
        yield connection
    finally:
        await connection.close()


async def posted(
    served: Served,
    body: bytes,
    path: str = "/audit/a",
    *,
    context: ssl.SSLContext | None = None,
    **fields: str,
) -> Reply:
    """The answer to one request on a connection of its own."""
    async with connected(served, context) as connection:
        return await connection.post(body, path, **fields)


def request(body: bytes, path: str = "/audit/a", **fields: str) -> bytes:
    """As an API server posts; a field that is '' is left out."""
    given = {
        "host": "127.0.0.1",
        "user-agent": "Go-http-client/1.1",
        "content-length": str(len(body)),
        "accept": "application/json, */*",
        "content-type": "application/json",
        "accept-encoding": "gzip",
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"POST {path}?timeout=30s HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def event_list(*events: Event) -> bytes:
    """The body of a delivery, as the API server writes it."""
    items = [{k: v for k, v in one.items() if k not in ("kind", "apiVersion")} for one in events]
    whole = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()


def some_events(count: int, **fields: Any) -> list[Event]:
    return [event(auditID=f"id-{number}", **fields) for number in range(count)]


# Certificates


class Authority:
    """Signs certificates into ``folder``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.path = folder / f"{name}.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(self._name, self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        dns: tuple[str, ...] = (),
        expired: bool = False,
        file: str = "",
    ) -> tuple[Path, Path]:
        """A certificate and its key for ``name``, good for servers and clients."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.DNSName(one) for one in ("localhost", *dns)]
        names.append(x509.IPAddress(ip_address("127.0.0.1")))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(subject, self._name, key, expired=expired)
            .add_extension(x509.SubjectAlternativeName(names), False)
            .add_extension(x509.ExtendedKeyUsage(usages), False)
            .sign(self._key, hashes.SHA256())
        )
        pair = self.folder / f"{file or name}.crt", self.folder / f"{file or name}.key"
        pair[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def client(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Trusts this authority, and shows the certificate of ``pair``."""
        context = ssl.create_default_context(cafile=str(self.path))
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool = False
) -> x509.CertificateBuilder:
    now = datetime.now(UTC) - (timedelta(days=30) if expired else timedelta())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
    )
