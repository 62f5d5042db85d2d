"""The Reader: what goes past Python, what is sifted, and that nothing is lost between the two."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

from kubewitness.errors import LakeError, SourceError
from kubewitness.events.columns import JSON_COLUMNS
from kubewitness.sources import reading
from kubewitness.sources.reading import SUSPECT, Chunk, Reader

DATA = Path(__file__).parent / "data" / "formats"


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": f"id-{number}",
        "stage": "ResponseComplete",
        "requestURI": f"/api/v1/namespaces/n/pods/p-{number}",
        "verb": "get",
        "user": {"username": "alice", "groups": ["system:authenticated"]},
        "sourceIPs": ["203.0.113.7"],
        "userAgent": "kubectl/v1.33.4",
        "objectRef": {"resource": "pods", "namespace": "n", "name": f"p-{number}"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2025-03-04T10:15:00.100000Z",
        "stageTimestamp": f"2025-03-04T10:15:{number % 60:02}.123456Z",
        **fields,
    }


def plain(numbers: range) -> bytes:
    return b"".join(json.dumps(event(n)).encode() + b"\n" for n in numbers)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[Reader, list[str], list[Chunk]]]:
    """Reads as the lake does: DuckDB, SUSPECT, distrust."""
    connection = duckdb.connect()
    columns = ",".join(
        f"'{name}': '{kind.replace(chr(39), chr(39) * 2)}'" for name, kind in JSON_COLUMNS.items()
    )

    def rows(chunk: Chunk) -> list[tuple[str, bool]]:
        return connection.execute(
            f"SELECT auditID, {SUSPECT} FROM read_json(?, format='newline_delimited',"
            f" columns={{{columns}}}, ignore_errors=true, compression=?)",
            [str(chunk.path), chunk.compression],
        ).fetchall()

    def run(*paths: str | Path, **options: Any) -> tuple[Reader, list[str], list[Chunk]]:
        spool = tmp_path / "spool"
        reader = Reader(paths, quarantine=tmp_path / "quarantine", spool=spool, **options)
        found: list[str] = []
        chunks = []
        with reader:
            for chunk in reader.chunks():
                chunks.append(chunk)
                try:
                    read = rows(chunk)
                except duckdb.Error:
                    read = [("", True)]
                if not chunk.verbatim or not any(suspect for _, suspect in read):
                    reader.accepted(chunk, len(read))
                    found += [audit_id for audit_id, _ in read]
                    continue
                for trusted in reader.distrust(chunk):
                    again = rows(trusted)
                    reader.accepted(trusted, len(again))
                    found += [audit_id for audit_id, _ in again]
        assert not spool.exists() or not list(spool.iterdir())
        assert reader.tally.events == len(found)
        return reader, found, chunks

    return run


Read = Callable[..., tuple[Reader, list[str], list[Chunk]]]
IDS = [f"id-{n}" for n in range(1000)]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("none", lambda data: data),
        ("gzip", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:50_000]) + gzip.compress(data[50_000:])),
        ("zstd", zstandard.ZstdCompressor().compress),
    ],
)
def test_plain_files_go_past_python(
    name: str, pack: Callable[[bytes], bytes], tmp_path: Path, read: Read
) -> None:
    path = tmp_path / "audit.txt"  # the name says nothing
    path.write_bytes(pack(plain(range(1000))))
    reader, found, (chunk,) = read(path)
    assert (chunk.verbatim, chunk.compression, chunk.lines) == (True, name, None)
    assert (chunk.path, chunk.source) == (path, str(path))
    assert found == IDS
    assert (reader.tally.lines, reader.tally.rejected) == (1000, 0)


@pytest.mark.parametrize("name", ["audit.gz", "audit.log"])
def test_other_compression_is_sifted(name: str, tmp_path: Path, read: Read) -> None:
    path = tmp_path / name
    path.write_bytes(bz2.compress(plain(range(1000))))
    _, found, (chunk,) = read(path)
    assert (chunk.verbatim, chunk.compression, chunk.lines) == (False, "none", 1000)
    assert found == IDS


LATER = {
    "cut": b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","le\n',
    "text": b"foo\n",
    "user as text": json.dumps(event(0, user="bob")).encode() + b"\n",
    "addresses as text": json.dumps(event(0, sourceIPs="203.0.113.7")).encode() + b"\n",
    "level overwritten": json.dumps(event(0, level="default", k8s_audit_level="Request")).encode()
    + b"\n",
    "policy": b'{"kind":"Policy","apiVersion":"audit.k8s.io/v1","rules":[]}\n',
    "far future": json.dumps(event(0, stageTimestamp="99999-01-01T00:00:00Z")).encode() + b"\n",
    "status": json.dumps(event(0, responseStatus={"code": 10**30})).encode() + b"\n",
    "pretty": json.dumps(event(0), indent=2).encode() + b"\n",
    "list": json.dumps({"kind": "EventList", "items": [event(0)]}).encode() + b"\n",
}


@pytest.mark.parametrize("later", LATER)
def test_what_the_beginning_did_not_show_is_found(
    later: str, tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "HEAD_BYTES", 4096)
    path = tmp_path / "audit.log"
    path.write_bytes(plain(range(5000)) + LATER[later] + plain(range(5000, 5010)))
    reader, found, (chunk,) = read(path)
    assert chunk.verbatim
    expected = [f"id-{n}" for n in range(5010)]
    if later in ("cut", "text", "policy"):
        assert found == expected
        assert reader.tally.rejected == 1
        (rejection,) = reader.tally.broken or reader.tally.skipped
        assert rejection.places == (f"{path}:5001",)
    else:
        assert found == [*expected[:5000], "id-0", *expected[5000:]]
        assert reader.tally.rejected == 0
    assert reader.tally.lines == 5011


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_cut_compressed_file_gives_what_it_has(
    pack: Callable[[bytes], bytes], tmp_path: Path, read: Read
) -> None:
    lines = b"".join(
        json.dumps(event(n, userAgent=os.urandom(200).hex())).encode() + b"\n" for n in range(8000)
    )
    packed = pack(lines)
    path = tmp_path / "audit.log.gz"
    path.write_bytes(packed[: len(packed) * 9 // 10])
    reader, found, _ = read(path)
    assert 6000 < len(found) < 8000
    assert found == [f"id-{n}" for n in range(len(found))]
    assert any("stream does not end" in warning for warning in reader.tally.warnings)
    assert [rejection.reason for rejection in reader.tally.broken] == ["cut off"]


def test_standard_input_is_sifted(read: Read) -> None:
    _, found, (chunk,) = read("-", stdin=io.BytesIO(gzip.compress(plain(range(1000)))))
    assert (chunk.verbatim, chunk.source) == (False, "-")
    assert found == IDS


def test_pipes_are_read_as_streams(tmp_path: Path, read: Read) -> None:
    source, sink = os.pipe()
    with os.fdopen(sink, "wb") as file:
        file.write(plain(range(20)))
    try:
        _, found, (chunk,) = read(f"/dev/fd/{source}")
    finally:
        os.close(source)
    assert not chunk.verbatim
    assert found == IDS[:20]


def test_spool_files_are_bounded_and_private(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(json.dumps([event(n) for n in range(9000)]))
    spool = tmp_path / "spool"
    lines = []
    with Reader([path], quarantine=tmp_path / "q", spool=spool, chunk_bytes=1 << 20) as reader:
        for chunk in reader.chunks():
            assert list(spool.iterdir()) == [chunk.path]
            assert chunk.path.stat().st_mode & 0o777 == 0o600
            assert chunk.path.stat().st_size < (1 << 20) + 4096
            read = chunk.path.read_bytes().splitlines()
            assert chunk.lines == len(read)
            lines += read
    assert [json.loads(line)["auditID"] for line in lines] == [f"id-{n}" for n in range(9000)]
    assert not list(spool.iterdir())


def test_an_abandoned_reader_leaves_no_spool(tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(json.dumps([event(n) for n in range(9000)]))
    spool = tmp_path / "spool"
    reader = Reader([path], quarantine=tmp_path / "q", spool=spool, chunk_bytes=1 << 20)
    chunks = reader.chunks()
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert not list(spool.iterdir())


def test_an_unreadable_file_among_others_is_a_warning(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.log").write_bytes(plain(range(20)))
    (tmp_path / "b.log").symlink_to(tmp_path / "gone")
    reader, found, _ = read(tmp_path)
    assert found == IDS[:20]
    missing = tmp_path / "b.log"
    assert reader.tally.warnings == (f"{missing}: not read to the end, no such file or directory",)
    assert reader.tally.sources == 1


def test_nothing_readable_is_an_error(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "b.log"
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(SourceError) as caught:
        read(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"", mtime=0)])
def test_empty_files_are_a_warning(content: bytes, tmp_path: Path, read: Read) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(content)
    reader, found, _ = read(path)
    assert (found, reader.tally.lines) == ([], 0)
    assert reader.tally.warnings == (f"{path}: empty",)


@pytest.mark.parametrize(
    ("magic", "name"),
    [(b"PK\x03\x04", "zip"), (b"x" * 257 + b"ustar\0", "tar"), (b"PAR1", "Parquet")],
)
def test_archives_are_named(magic: bytes, name: str, tmp_path: Path, read: Read) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(magic + bytes(5000))
    reader, _, _ = read(path)
    (rejection,) = reader.tally.broken
    assert name in rejection.reason
    assert rejection.n == 1


def test_a_name_with_a_glob_in_it_is_only_itself(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a*.log").write_bytes(plain(range(5)))
    (tmp_path / "ab.log").write_bytes(plain(range(5, 9)))
    _, found, _ = read(tmp_path / "a*.log")
    assert found == IDS[:5]


def test_bodies_over_the_limit_are_dropped_with_a_warning(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("formats.plain", "formats.canonical"):
        monkeypatch.setattr(f"kubewitness.events.{module}.BODY_LIMIT", 5000)
    monkeypatch.setattr("kubewitness.sources.sifting.BODY_LIMIT", 5000)
    path = tmp_path / "audit.log"
    path.write_bytes(plain(range(2)) + json.dumps(event(2, requestObject="x" * 9000)).encode())
    reader, found, _ = read(path)
    assert found == IDS[:3]
    assert reader.tally.warnings == (
        f"requestObject, responseObject: dropped, too long (events: 1, first at {path}:3)",
    )


def test_repeated_keys_are_seen_when_sifting(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "audit.log"
    twice = json.dumps(event(0)).encode()[:-1] + b', "verb": "delete"}\n'
    path.write_bytes(plain(range(1, 4)) + twice)
    reader, found, _ = read(path, sift=True)
    assert found == ["id-1", "id-2", "id-3", "id-0"]
    (warning,) = reader.tally.warnings
    assert warning == f"duplicate keys: the last of each was read (events: 1, first at {path}:4)"


def test_quarantine_has_the_broken_lines(tmp_path: Path, read: Read) -> None:
    reader, _, _ = read(DATA / "broken.jsonl")
    kept = [json.loads(line) for line in (tmp_path / "quarantine").read_text().splitlines()]
    assert len(kept) == sum(rejection.n for rejection in reader.tally.broken)
    assert {entry["source"] for entry in kept} == {str(DATA / "broken.jsonl")}
    assert reader.quarantine.used


def test_all_inputs_through_duckdb(read: Read) -> None:
    reader, found, chunks = read(DATA)
    assert len(chunks) > 60
    assert all(found)
    assert reader.tally.sources == len(list(DATA.iterdir()))


def test_a_full_disk_is_not_blamed_on_the_source(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spool = tmp_path / "file" / "spool"
    with (
        Reader([DATA / "array.json"], quarantine=tmp_path / "q", spool=spool) as reader,
        pytest.raises(LakeError, match="cannot be written"),
    ):
        list(reader.chunks())
    quarantine = tmp_path / "file" / "q"
    with (
        Reader([DATA / "broken.jsonl"], quarantine=quarantine, spool=tmp_path) as reader,
        pytest.raises(LakeError, match="cannot be written"),
    ):
        list(reader.chunks())
