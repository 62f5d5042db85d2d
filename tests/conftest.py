"""What tests share: the command in this process and as a program, and disks that are full."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from kubewitness.cli import main
from postgresql import Server, programs, running

# How fast a machine is, is measured in bench/, and no test fails for it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it wrote."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def talk(self) -> str:
        return self.err.decode()


Command = Callable[..., Ran]


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """What a test wrote reaches another process as UTF-8, whatever hostile text it was about."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_encodable, value))
    return value


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory and a temporary directory of this test's own."""
    home, scratch = tmp_path / "state", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def kubewitness(
    state: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """``kubewitness ARGS`` in this process, its streams no terminals."""

    def run(*args: str | Path, stdin: bytes = b"") -> Ran:
        capfdbinary.readouterr()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            main([str(arg) for arg in args])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        sys.stdout.flush()
        sys.stderr.flush()
        return Ran(code, *capfdbinary.readouterr())

    return run


def program(*args: str | Path) -> list[str]:
    """The command line of the program itself."""
    return [sys.executable, "-m", "kubewitness", *map(str, args)]


@pytest.fixture
def process(state: Path) -> Command:
    """``kubewitness ARGS`` as a program of its own."""

    def run(
        *args: str | Path,
        stdin: bytes = b"",
        env: Mapping[str, str | None] | None = None,
        **options: Any,
    ) -> Ran:
        wanted = {**os.environ, **(env or {})}
        done = subprocess.run(
            program(*args),
            input=stdin,
            capture_output=True,
            env={name: value for name, value in wanted.items() if value is not None},
            timeout=120,
            check=False,
            **options,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server. A test that stops it starts it again."""
    where = programs()
    if where is None:
        pytest.skip("there is no PostgreSQL server on this machine (apt-get install postgresql)")
    with running(where) as server:
        yield server


@pytest.fixture
def database(postgresql: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own."""
    name = f"test_{abs(hash(request.node.nodeid))}"
    postgresql.execute(f"CREATE DATABASE {name}")
    yield postgresql.url(name)
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a state may be: a file, and a database of a server."""
    if request.param == "sqlite":
        return tmp_path / "state.sqlite"
    url: str = request.getfixturevalue("database")
    return url


def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"only root may mount a file system of its own: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    yield from mounted(tmp_path / "disk", "size=8m")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is full after a few pages."""
    yield from mounted(tmp_path / "small", "size=48k")


@dataclass(frozen=True)
class FailingDisk:
    """A disk of its own that can fail as disks do: the kernel makes it read-only under whoever has
    files open there, and it has to be mended and mounted again."""

    image: Path
    folder: Path

    def mount(self) -> None:
        options = "loop,errors=remount-ro"
        subprocess.run(["mount", "-o", options, str(self.image), str(self.folder)], check=True)

    def fail(self) -> None:
        device = next(
            line.split()[0]
            for line in Path("/proc/mounts").read_text("utf-8").splitlines()
            if line.split()[1] == str(self.folder)
        )
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("test", "ascii")

    def mend(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)
        # Its exit status says what it has mended.
        subprocess.run(["fsck.ext4", "-fy", str(self.image)], capture_output=True, check=False)
        self.mount()


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[FailingDisk]:
    disk = FailingDisk(tmp_path / "disk.ext4", tmp_path / "disk")
    disk.folder.mkdir()
    with disk.image.open("wb") as file:
        file.truncate(64 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", str(disk.image)], check=True, capture_output=True)
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"only root may mount a file system of its own: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk.folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)
