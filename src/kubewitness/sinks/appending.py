"""Notices as lines of a file, each on disk before it counts as delivered.

The file is opened for each line: what rotates it may move, compress or delete it at any time, and
the next line begins a new one.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kubewitness.report import exports
from kubewitness.sinks.sink import DeliveryError, Notice


class Appender:
    """A sink that appends what ``render`` makes of a notice to a file, as one line of JSON.

    A new file is readable by its owner only. The folder has to be there. A line waits until the one
    before is written, also where nobody waits for that any more: what hangs, hangs once.
    """

    def __init__(self, name: str, path: Path, render: Callable[[Notice], dict[str, Any]]) -> None:
        self.name = name
        self._path = path
        self._render = render
        self._thread = ThreadPoolExecutor(1, f"sink {name}")

    async def send(self, notice: Notice) -> None:
        line = exports.json_bytes(self._render(notice)) + b"\n"
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._thread, _append, self._path, line
            )
        except OSError as error:
            raise DeliveryError(
                f"cannot append to {self._path}: {error.strerror or error}",
                where=f"sink {self.name}",
            ) from error

    def show(self, notice: Notice) -> str:
        return f"append to {self._path}\n\n{exports.json_bytes(self._render(notice)).decode()}\n"


def _append(path: Path, line: bytes) -> None:
    # For reading, too: to see how the file ends, and a pipe that nobody reads keeps nobody waiting.
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no regular file")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        # A line that a power failure cut short stays alone.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            _write(descriptor, line)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        if not size:
            _sync_folder(path.parent)
    finally:
        os.close(descriptor)


def _write(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Without it, a new file may be gone after a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
