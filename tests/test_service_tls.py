"""TLS: who connects proves who it is, and new certificates are used without a restart."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from kubewitness.config.settings import Cluster, Tls
from kubewitness.errors import SourceError
from kubewitness.service import transport
from kubewitness.service.tls import Certificates
from receiving import Authority, Served, connected, event_list, posted, serving, some_events
from test_receiver import run

BODY = event_list(*some_events(1))


async def code(served: Served, context: ssl.SSLContext, path: str = "/audit/a") -> int:
    return (await posted(served, BODY, path, context=context)).code


async def refused(served: Served, context: ssl.SSLContext) -> bool:
    """Whether no request gets through; TLS 1.3 tells a client only when it reads."""
    try:
        await code(served, context)
    except (OSError, asyncio.IncompleteReadError):
        return True
    return False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_batches_come_over_tls(tmp_path: Path, version: ssl.TLSVersion) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("receiver")

    async def test() -> None:
        async with serving(tmp_path, tls=Tls(certificate=certificate, key=key)) as served:
            context = authority.client()
            context.maximum_version = context.minimum_version = version
            async with connected(served, context) as connection:
                for _ in range(3):
                    assert (await connection.post(BODY)).code == 200
            assert len(served.lines()) == 3

    run(test())


def test_what_is_no_tls_keeps_nobody_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "HEAD_TIMEOUT", 0.4)
    authority = Authority(tmp_path)
    certificate, key = authority.issue("receiver")

    async def test() -> None:
        tls = Tls(certificate=certificate, key=key)
        async with serving(tmp_path, tls=tls, connections=4) as served:
            async with connected(served) as plain, connected(served) as silent:
                plain.send(b"POST /audit/a HTTP/1.1\r\n\r\n")
                assert await plain.closed()
                assert await silent.closed()
            assert await code(served, authority.client()) == 200
            # Handshakes that are not finished make room.
            idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
            await asyncio.sleep(0.1)
            assert await code(served, authority.client()) == 200
            for one in idle:
                one.close()

    run(test())


def test_a_client_certificate_opens_the_path_of_its_cluster_only(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("receiver")
    clusters = [
        Cluster(name="a", client="api-a"),
        Cluster(name="b", client="b.example.com"),
        Cluster(name="c", client="api-c", token_file=tmp_path / "token"),
    ]
    (tmp_path / "token").write_text("word")
    tls = Tls(certificate=certificate, key=key, client_ca=authority.path)

    async def test() -> None:
        async with serving(tmp_path, *clusters, tls=tls) as served:
            for_a = authority.client(authority.issue("api-a"))
            for_b = authority.client(authority.issue("whoever", dns=("b.example.com",)))
            for_c = authority.client(authority.issue("api-c"))
            assert await code(served, for_a) == 200
            assert await code(served, for_b, "/audit/b") == 200
            assert await code(served, for_a, "/audit/b") == 403
            assert await code(served, for_b) == 403
            assert await code(served, for_c, "/audit/c") == 401
            for given, expected in (("Bearer word", 200), ("Bearer other", 401)):
                reply = await posted(served, BODY, "/audit/c", context=for_c, authorization=given)
                assert reply.code == expected
            reply = await posted(
                served, BODY, "/audit/c", context=for_a, authorization="Bearer word"
            )
            assert reply.code == 403
            assert [one.cluster for one in served.batches()] == ["a", "b", "c"]

    run(test())


def test_a_certificate_of_nobody_we_know_does_not_get_through(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    other = Authority(tmp_path, "other")
    certificate, key = authority.issue("receiver")
    tls = Tls(certificate=certificate, key=key, client_ca=authority.path)

    async def test() -> None:
        async with serving(tmp_path, Cluster(name="a", client="api"), tls=tls) as served:
            assert await code(served, authority.client(authority.issue("api"))) == 200
            assert await refused(served, authority.client())
            expired = authority.issue("api", expired=True, file="expired")
            assert await refused(served, authority.client(expired))
            unknown = authority.client(other.issue("api", file="unknown"))
            assert await refused(served, unknown)
            with pytest.raises(ssl.SSLCertVerificationError):
                await code(served, other.client())
            assert len(served.lines()) == 1

    run(test())


def test_without_tls_nobody_is_who_he_says(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, Cluster(name="a", client="api")) as served:
            assert (await posted(served, BODY)).code == 403

    run(test())


# Renewal


def shown(served: Served, context: ssl.SSLContext) -> bytes:
    """The certificate that the receiver shows to a new connection."""
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def test_a_renewed_certificate_is_used_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("receiver")

    def replace(old: Path, new: Path) -> None:
        copy = new.with_suffix(".copy")
        shutil.copy(new, copy)
        copy.replace(old)

    async def test() -> None:
        async with serving(tmp_path, tls=Tls(certificate=pair[0], key=pair[1])) as served:
            context = authority.client()
            first = await asyncio.to_thread(shown, served, context)
            async with connected(served, context) as standing:
                assert (await standing.post(BODY)).code == 200
                renewed = authority.issue("receiver", file="renewed")
                caplog.set_level(logging.INFO)
                replace(pair[0], renewed[0])  # the key is still the old one
                assert await asyncio.to_thread(shown, served, context) == first
                assert "the old certificate stays: key_values_mismatch" in caplog.text
                replace(pair[1], renewed[1])
                second = await asyncio.to_thread(shown, served, context)
                assert second != first
                for spoil in (lambda: pair[0].write_bytes(b"nonsense"), pair[0].unlink):
                    spoil()
                    assert await asyncio.to_thread(shown, served, context) == second
                replace(pair[0], renewed[0])
                assert await asyncio.to_thread(shown, served, context) == second
                assert (await standing.post(BODY)).code == 200

    run(test())


def test_certificates_that_could_not_be_read_once_are_read_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("receiver")
    certificates = Certificates(Tls(certificate=pair[0], key=pair[1]))
    first = certificates.context()
    authority.issue("receiver")

    def too_many_files(*given: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_cert_chain", too_many_files)
        assert certificates.context() is first
    second = certificates.context()
    assert second is not first
    assert certificates.context() is second


def test_a_new_authority_for_clients_replaces_the_old_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("receiver")
    trusted = tmp_path / "clients.pem"
    shutil.copy(authority.path, trusted)
    tls = Tls(certificate=certificate, key=key, client_ca=trusted)

    async def test() -> None:
        async with serving(tmp_path, Cluster(name="a", client="api"), tls=tls) as served:
            old = authority.client(authority.issue("api"))
            other = Authority(tmp_path, "other")
            new = authority.client(other.issue("api", file="new"))
            assert await code(served, old) == 200
            assert await refused(served, new)
            other.path.replace(trusted)
            assert await code(served, new) == 200
            assert await refused(served, old)

    run(test())


@pytest.mark.parametrize("what", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("nonsense")])
def test_files_that_cannot_serve_are_told_at_once(
    tmp_path: Path, what: str, spoil: Callable[[Path], object]
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("receiver")
    tls = Tls(certificate=certificate, key=key, client_ca=authority.path)
    spoil(getattr(tls, what))
    with pytest.raises(SourceError, match="cannot be used for TLS"):
        Certificates(tls)


def test_an_address_that_is_taken_is_told_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path / "one") as served:
            with pytest.raises(SourceError, match="in use"):
                transport.Transport(None, "127.0.0.1", served.port)

    run(test())
