"""A process that judges, and then hears what comes after, until another has judged.

It shares neither the interpreter's lock nor memory with the one that takes events: how long an
alert takes does not depend on whether all is being judged. It is asked in lines of JSON on standard
input, answers on standard output, and ends when its input does, so it never outlives who asks.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from kubewitness.errors import LakeError
from kubewitness.incidents.model import Incident
from kubewitness.lake.engine import engine
from kubewitness.service.judgement import Judgement, Task, Verdict

# How much less pressing than hearing the judging is, as in nice(1).
NICE = 10
# Seconds after which a process that does not answer is taken for hanging, and killed.
HEARS_WITHIN, JUDGES_WITHIN = 60.0, 3600.0


class Reply(msgspec.Struct, omit_defaults=True):
    """One of these. ``fault``: what went wrong, of the lake and for a while if ``passing``."""

    verdict: Verdict | None = None
    alerts: tuple[Incident, ...] = ()
    fault: str = ""
    passing: bool = False


class Judging:
    """The process for one task. It has ``task.folder`` to itself, which is deleted at the end."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.verdict: Verdict | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    @property
    def pid(self) -> int | None:
        """Of the process, once there is one."""
        return None if self._process is None else self._process.pid

    def reach(self) -> Verdict:
        """Begin, and wait for the verdict; it is also kept as ``verdict``.

        Raises ``LakeError`` where the archive cannot be written, ``ChildProcessError`` where the
        process ends before it has answered or hangs, ``RuntimeError`` with its traceback for a
        fault in it.
        """
        if self._ended:
            raise ChildProcessError("nobody waits for this judgement any more")
        # A group of its own: an interrupt from the terminal is for who asks, who ends this then.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        self.verdict = self._ask(msgspec.json.encode(self.task), JUDGES_WITHIN).verdict
        assert self.verdict is not None
        return self.verdict

    def hear(self, arrivals: Path) -> tuple[Incident, ...]:
        """The alerts that some activity, a Parquet file, opened or made grow. Raises as ``reach``
        does."""
        return self._ask(msgspec.json.encode(str(arrivals)), HEARS_WITHIN).alerts

    def end(self) -> None:
        """End the process, whatever it is doing; who waits for an answer gets an error."""
        self._ended = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(OSError):
                    pipe.close()
        shutil.rmtree(self.task.folder, ignore_errors=True)

    def _ask(self, line: bytes, patience: float) -> Reply:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        hangs = threading.Timer(patience, process.kill)
        hangs.daemon = True
        hangs.start()
        try:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            hangs.cancel()
        if not answer.endswith(b"\n"):
            code = process.wait()
            raise ChildProcessError(f"the process that judges ended with {code} ({_meaning(code)})")
        reply = msgspec.json.decode(answer, type=Reply)
        if reply.fault and reply.passing:
            raise LakeError(reply.fault)
        if reply.fault:
            raise RuntimeError(reply.fault)
        return reply


def _meaning(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed: it did not answer in time, or memory is short"
    return signal.Signals(-code).name if code < 0 else "see what it wrote before"


def main() -> None:
    """The process itself: answer each line of standard input with a line."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed is no answer
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    with engine(Path(task.folder) / "spill") as connection:
        # It has one processor's worth of patience; the other is for who takes events.
        connection.execute("SET threads = 1")
        judgement = Judgement(task, connection)
        threading.Thread(
            target=_reach, args=(judgement, answers), daemon=True, name="judgement"
        ).start()
        for line in sys.stdin.buffer:
            arrivals = Path(msgspec.json.decode(line, type=str))
            _answer(answers, lambda: Reply(alerts=judgement.hear(arrivals)))  # noqa: B023
        # Nobody is there any more. A judgement that is going on is not waited for.
        os._exit(0)


def _reach(judgement: Judgement, answers: BinaryIO) -> None:
    if sys.platform == "linux":  # where threads have priorities of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    _answer(answers, lambda: Reply(verdict=judgement.reach()))


def _answer(answers: BinaryIO, work: Callable[[], Reply]) -> None:
    try:
        reply = work()
    except LakeError as error:
        reply = Reply(fault=str(error), passing=True)
    except Exception:
        reply = Reply(fault=traceback.format_exc())
    answers.write(msgspec.json.encode(reply) + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
