"""Whatever is done to a log, and whenever it is looked at, no line is lost, torn or read twice.

Lines that were deleted or truncated away before anybody looked are gone, and what was read but not
kept before a crash is read again; nothing else is excused.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from feeding import intake
from kubewitness.service.feeds.log_file import WINDOW, Mark
from kubewitness.service.feeds.trail import Trail

whole_lines = precondition(lambda self: not self.half)


class FollowedLog(RuleBasedStateMachine):
    """``unseen``: lines of the live file since the last look; ``stray``: unseen lines of files that
    are deleted, but were open; ``excused``: what may be missing; ``again``: may come twice."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "audit.log"
        self.trail = Trail(self.path, linger=0.0)
        self.kept = b"[]"
        self.read: list[bytes] = []
        self.lines = self.rotations = 0
        self.half = b""
        self.written: set[bytes] = set()
        self.stray: set[bytes] = set()
        self.excused: set[bytes] = set()
        self.again: set[bytes] = set()
        self.begin()

    def begin(self) -> None:
        self.file = self.path.open("ab", buffering=0)
        self.unseen: set[bytes] = set()
        self.is_open = False

    def teardown(self) -> None:
        try:
            self.look()
            assert self.written - self.excused <= set(self.read)
        finally:
            self.trail.close()
            self.file.close()
            shutil.rmtree(self.folder)

    # What is done to the log ----------------------------------------------------------------------

    @rule(n=st.integers(1, 5), pad=st.sampled_from([0, WINDOW]), looked_at=st.booleans())
    def write(self, n: int, pad: int, looked_at: bool) -> None:
        if looked_at:
            self.look()
        for _ in range(n):
            rest = b"%d%s" % (self.lines, b"x" * pad)
            self.file.write(rest + b"\n")
            self.unseen.add(self.half + rest)
            self.written.add(self.half + rest)
            self.half = b""
            self.lines += 1

    @whole_lines
    @rule()
    def begin_a_line(self) -> None:
        self.half = b"begun "
        self.file.write(self.half)

    def name(self) -> Path:
        self.rotations += 1
        return self.folder / f"audit-2026-11-23T18-{self.rotations:02}-00.000.log"

    @whole_lines
    @rule(packed=st.booleans())
    def rotate(self, packed: bool) -> None:
        old = self.name()
        self.path.rename(old)
        if packed:
            pack(old)
        self.file.close()
        self.begin()

    @rule()
    def write_to_the_one_that_was_rotated(self) -> None:
        for old in sorted(self.folder.glob("audit-*.log"))[-1:]:
            with old.open("ab") as file:
                file.write(b"late %d\n" % self.lines)
            self.written.add(b"late %d" % self.lines)
            self.lines += 1

    @rule()
    def pack_the_oldest(self) -> None:
        for old in sorted(self.folder.glob("audit-*.log"))[:1]:
            pack(old)

    @whole_lines
    @rule(packed=st.booleans())
    def copy_and_truncate(self, packed: bool) -> None:
        copy = self.name()
        shutil.copyfile(self.path, copy)
        if packed:
            pack(copy)
        os.truncate(self.path, 0)
        self.unseen = set()

    @whole_lines
    @rule()
    def truncate(self) -> None:
        os.truncate(self.path, 0)
        self.excused |= self.unseen
        self.unseen = set()

    @whole_lines
    @rule()
    def delete(self) -> None:
        self.path.unlink()
        if self.is_open:  # then the file is there for whoever reads it
            self.stray |= self.unseen
        else:
            self.excused |= self.unseen
        self.file.close()
        self.begin()

    # Who looks at it ------------------------------------------------------------------------------

    @rule()
    def look(self) -> None:
        for piece in self.trail.look():
            self.read += intake(piece.source, piece.cut.body).lines
            self.trail.took(piece)
        self.kept = msgspec.json.encode(self.trail.marks())
        self.unseen, self.stray = set(), set()
        self.is_open = True

    @rule(n=st.integers(0, 3))
    def look_and_crash(self, n: int) -> None:
        """The position after the last look is lost, and so is the last piece."""
        for _, piece in zip(range(n), self.trail.look(), strict=False):
            self.read += intake(piece.source, piece.cut.body).lines
            self.again |= set(intake(piece.source, piece.cut.body).lines)
            self.trail.took(piece)
        self.restart()

    @rule()
    def restart(self) -> None:
        self.trail.close()
        marks = msgspec.json.decode(self.kept, type=list[Mark])
        self.trail = Trail(self.path, marks, linger=0.0)
        self.excused |= self.stray
        self.stray = set()
        self.is_open = False

    # What must be true ----------------------------------------------------------------------------

    @invariant()
    def no_line_is_torn(self) -> None:
        assert set(self.read) <= self.written

    @invariant()
    def no_line_is_read_twice(self) -> None:
        twice = {line for line, n in Counter(self.read).items() if n > 1}
        assert twice <= self.again


def pack(path: Path) -> None:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


FollowedLog.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
TestFollowedLog = FollowedLog.TestCase
