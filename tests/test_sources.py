"""From what the user names to files, and from compressed files to bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.errors import SourceError
from kubewitness.sources.compression import BLOCK, Blocks
from kubewitness.sources.encoding import utf8
from kubewitness.sources.files import Source, expand
from kubewitness.sources.quarantine import Quarantine
from kubewitness.sources.tally import PLACES, REASONS, Tally

PACK = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def names(*paths: str | Path) -> list[str]:
    return [source.name for source in expand(paths)]


def test_directories_are_read_sorted_and_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.log", "a/z.log", "a/.hidden", ".git/x", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    expected = [str(tmp_path / name) for name in ("a/z.log", "b.log", "c")]
    assert names(tmp_path) == expected


def test_globs(tmp_path: Path) -> None:
    for name in ("audit-2.log", "audit-1.log", "other", "audit-[1].log"):
        (tmp_path / name).touch()
    found = names(tmp_path / "audit-*.log")
    assert found == [str(tmp_path / f"audit-{n}.log") for n in ("1", "2", "[1]")]
    assert names(tmp_path / "audit-[1].log") == [str(tmp_path / "audit-[1].log")]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    file.touch()
    (tmp_path / "link.log").symlink_to(file)
    assert names(file, tmp_path, str(tmp_path / "*.log")) == [str(file)]


def test_a_directory_that_contains_itself(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "audit.log").touch()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert names(tmp_path) == [str(tmp_path / "sub" / "audit.log")]


def test_standard_input() -> None:
    assert expand(["-"]) == [Source("-", None)]
    with pytest.raises(SourceError, match="named twice"):
        expand(["-", "-"])


def test_what_does_not_exist_is_said_at_once(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "*.log", tmp_path):
        with pytest.raises(SourceError) as caught:
            expand([path])
        assert caught.value.where == str(path)
    with pytest.raises(SourceError):
        expand([])


@pytest.mark.parametrize("name", PACK)
@given(data=st.binary(max_size=2000), parts=st.integers(1, 3))
def test_compression_round_trip(name: str, data: bytes, parts: int) -> None:
    blocks = Blocks(io.BytesIO(PACK[name](data) * parts))
    assert b"".join(blocks) == data * parts
    assert (blocks.compression, blocks.problem) == (name, "")


@given(data=st.binary(max_size=300))
def test_what_is_not_compressed(data: bytes) -> None:
    blocks = Blocks(io.BytesIO(b"x" + data))
    assert blocks.compression == "none"
    assert blocks.head(10) == b"x" + data
    assert b"".join(blocks) == b"x" + data


@pytest.mark.parametrize("name", PACK)
def test_a_cut_file_gives_what_can_be_read(name: str) -> None:
    data = os.urandom(400_000) + b"a" * 400_000 + os.urandom(400_000)
    packed = PACK[name](data)
    blocks = Blocks(io.BytesIO(packed[: len(packed) * 3 // 4]))
    read = b"".join(blocks)
    assert data.startswith(read)
    assert blocks.problem == f"cut off: the {name} stream does not end"
    if name in ("gzip", "zstd"):
        assert len(read) > 400_000


@pytest.mark.parametrize("name", PACK)
def test_a_damaged_file_gives_what_is_before_the_damage(name: str) -> None:
    data = os.urandom(3_000_000)
    packed = bytearray(PACK[name](data))
    packed[-40:] = b"\xff" * 40
    blocks = Blocks(io.BytesIO(bytes(packed)))
    assert data.startswith(b"".join(blocks)[:1_000_000])
    assert blocks.problem


@pytest.mark.parametrize("name", PACK)
@given(data=st.binary(max_size=200), cut=st.integers(0, 30))
def test_no_compressed_bytes_raise(name: str, data: bytes, cut: int) -> None:
    begin = PACK[name](b"some text")[:cut]
    for _ in Blocks(io.BytesIO(begin + data)):
        pass


@pytest.mark.parametrize("name", PACK)
def test_bombs_come_in_blocks(name: str) -> None:
    packed = PACK[name](b"\0" * (70 << 20))
    largest = max(len(block) for block in Blocks(io.BytesIO(packed)))
    assert largest <= 64 * BLOCK


@given(text=st.text(), size=st.integers(1, 9))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
def test_encodings(encoding: str, text: str, size: int) -> None:
    data = f"x{text}".encode(encoding)
    if encoding == "utf-16-le":
        data = b"\xff\xfe" + data
    elif encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(utf8(blocks, data)).decode() == f"x{text}"


def test_quarantine_is_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quarantine = Quarantine(tmp_path / "run" / "quarantine.jsonl")
    assert not quarantine.path.exists()
    quarantine.keep("a.log", 3, "not UTF-8", b"\xff" * 100_000)
    quarantine.keep("a.log", 4, "not JSON", b"x")
    monkeypatch.setattr("kubewitness.sources.quarantine.LIMIT", 10)
    quarantine.keep("a.log", 5, "not JSON", b"y")
    quarantine.close()
    assert quarantine.full
    assert quarantine.path.stat().st_mode & 0o777 == 0o600
    first, second = quarantine.path.read_bytes().splitlines()
    assert b'"cut":true' in first
    assert len(first) < 90_000
    assert second == b'{"source":"a.log","line":4,"reason":"not JSON","text":"x"}'


def test_tally_counts_everything_but_names_few_places() -> None:
    tally = Tally()
    for line in range(PLACES + 10):
        tally.breaks("a.log", "not JSON", line)
    tally.events += 2
    (rejection,) = tally.broken
    assert (rejection.n, len(rejection.places)) == (PLACES + 10, PLACES)
    assert rejection.places[0] == "a.log:0"
    assert tally.lines == PLACES + 12
    for kind in range(REASONS + 10):
        tally.skip("a.log", f"not an audit event: {kind}", 1)
    assert len(tally.skipped) == REASONS + 1
    assert tally.skipped[0].reason == "other reasons"
