"""Standard output, a line of JSON a notice: for whatever collects the logs of a container."""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from kubewitness.config import settings
from kubewitness.report import exports
from kubewitness.sinks.lines import FORMATS
from kubewitness.sinks.sink import DeliveryError, Notice


class Stdout:
    """A sink that writes to standard output, one line after the other as ``Appender`` does."""

    def __init__(self, wanted: settings.Sink) -> None:
        self.name = wanted.name
        self._render = FORMATS[wanted.format]
        self._thread = ThreadPoolExecutor(1, f"sink {wanted.name}")

    async def send(self, notice: Notice) -> None:
        line = exports.json_bytes(self._render(notice)) + b"\n"
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, _write, line)
        except (OSError, ValueError) as error:
            raise DeliveryError(
                f"standard output cannot be written: {getattr(error, 'strerror', None) or error}",
                where=f"sink {self.name}",
            ) from error

    def show(self, notice: Notice) -> str:
        return f"write to standard output\n\n{exports.json_bytes(self._render(notice)).decode()}\n"


def _write(line: bytes) -> None:
    # Not through its buffer, which would keep what could not be written and write it later.
    descriptor = sys.stdout.fileno()
    while line:
        line = line[os.write(descriptor, line) :]


def sink(wanted: settings.Sink) -> Stdout:
    return Stdout(wanted)
