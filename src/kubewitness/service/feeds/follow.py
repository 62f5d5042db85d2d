"""Follows files that an API server, or whoever collects its log, writes and rotates.

A path is a file (with what was rotated away from it), a directory or a glob. The files are looked
at, not waited for: a look every tenth of a second while something is written, every second
otherwise, costs little and needs nothing of the file system, be it local or mounted.
"""

from __future__ import annotations

import logging
from asyncio import sleep
from pathlib import Path

import msgspec

from kubewitness.report.inert import plain
from kubewitness.service.feeds.feed import Inlet, Intake, Positions, Spool, in_thread
from kubewitness.service.feeds.log_file import Mark
from kubewitness.service.feeds.trail import LINGER, Trail

logger = logging.getLogger(__name__)

_SHORTEST, _LONGEST = 0.1, 1.0


class FollowFeed:
    """Follows ``path`` for a cluster. ``name`` is what its position is kept by."""

    def __init__(
        self,
        cluster: str,
        path: Path,
        intake: Intake,
        spool: Spool,
        positions: Positions,
        *,
        linger: float = LINGER,
    ) -> None:
        self.name = f"follow/{cluster}/{path}"
        self._path = path
        self._linger = linger
        self._inlet = Inlet(intake, spool, positions)
        self._trail = Trail(path)

    @property
    def behind(self) -> int:
        """Bytes that were there at the last look and are not durable yet."""
        return self._trail.behind

    async def run(self) -> None:
        """Until it is cancelled."""
        self._trail = Trail(self._path, await self._marks(), linger=self._linger)
        pause = _SHORTEST
        try:
            while True:
                pause = _SHORTEST if await self._look() else min(_LONGEST, pause * 1.5)
                await sleep(pause)
        finally:
            self._trail.close()

    async def _look(self) -> bool:
        """Whether there was anything new."""
        news = self._trail.look()
        found = False
        while (piece := await in_thread(next, news, None)) is not None:
            if piece.cut.body:
                await self._inlet.take(piece.source, piece.cut.body)
            self._trail.took(piece)
            await self._inlet.remember(self.name, msgspec.json.encode(self._trail.marks()))
            found = True
        return found

    async def _marks(self) -> list[Mark]:
        kept = await self._inlet.position(self.name)
        try:
            return msgspec.json.decode(kept, type=list[Mark]) if kept else []
        except msgspec.DecodeError as error:
            logger.warning("%s: position is damaged, reading anew: %s", plain(self.name), error)
            return []
