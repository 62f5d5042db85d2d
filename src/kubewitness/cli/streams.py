"""The three streams as scripts use them: stdout is data, stderr is talk, and either may end early.

A reader that has seen enough (``| head``) is no error, a full disk behind ``> FILE`` is one, and
nobody who listens on stderr is needed for the work to be done.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from kubewitness.errors import KubewitnessError

if TYPE_CHECKING:
    from rich.console import Console


def fill_missing() -> None:
    """Stand in for streams that were closed (``>&-``): the next file opened would get their
    numbers, and what is meant for the stream would be written into it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, mode))


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Leave by the front door when told to stop, so that temporary files are deleted.

    Who is told twice goes at once: DuckDB may lose what comes while it begins a query.
    """
    told: list[int] = []

    def leave(number: int, _: FrameType | None) -> None:
        told.append(number)
        for other in before:
            signal.signal(other, signal.SIG_DFL)
        sys.exit(128 + number)

    before = {
        number: signal.signal(number, leave)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup, a shell's background
    }
    try:
        yield
    except Exception:
        # What was interrupted may say so in words of its own: DuckDB does.
        if told:
            sys.exit(128 + told[0])
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def data() -> Iterator[Console]:
    """A console on stdout. Raises ``KubewitnessError`` where stdout cannot be written."""
    from rich.console import Console

    class _Data(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the program with exit code 1

    with stdout():
        yield _Data()


@contextmanager
def stdout() -> Iterator[None]:
    """What is written to stdout within arrives, or is told to have failed."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        raise KubewitnessError(
            f"cannot be written: {error.strerror or error}",
            where="standard output",
            remedy="free some disk space, or write somewhere else",
        ) from error


@contextmanager
def talk() -> Iterator[Console]:
    """A console on stderr; whether anybody can read it makes no difference."""
    from rich.console import Console

    class _Talk(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    with suppress(OSError):
        yield _Talk(stderr=True)


def end_talk() -> None:
    """What could not be said on stderr is forgotten: the interpreter would try once more at the
    end, and exit with 120."""
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Nothing more is written to this stream, at the end of the program neither."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
