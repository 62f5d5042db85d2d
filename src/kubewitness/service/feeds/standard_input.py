"""Reads standard input, line by line, until it ends: what another program pipes into ours.

Nothing can be read again from there, so there is no position; while the spool is full, the writer
is kept waiting.
"""

from __future__ import annotations

import os
import select

from kubewitness.service.feeds.feed import Inlet, Intake, Positions, Spool, in_thread
from kubewitness.service.feeds.lines import BODY, Cut, Cutter

SOURCE = "stdin"

_PATIENCE = 0.5


class StandardInputFeed:
    """Reads the file descriptor ``input``, a pipe, a terminal or a file."""

    def __init__(
        self, cluster: str, input: int, intake: Intake, spool: Spool, positions: Positions
    ) -> None:
        self.name = f"stdin/{cluster}"
        self.behind = 0
        """What a pipe holds is not known."""
        self._input = input
        self._inlet = Inlet(intake, spool, positions)

    async def run(self) -> None:
        """Until its end. A last line that lacks its newline is taken, too."""
        cutter = Cutter()
        while block := await self._block():
            for cut in cutter.cuts(block):
                await self._take(cut)
        if (rest := cutter.rest()) is not None:
            await self._take(rest)

    async def _take(self, cut: Cut) -> None:
        if cut.body:
            await self._inlet.take(SOURCE, cut.body)

    async def _block(self) -> bytes:
        # A read that waits for ever could not be cancelled, and nobody could end the program.
        while not await in_thread(self._ready):
            pass
        return await in_thread(os.read, self._input, BODY)

    def _ready(self) -> bool:
        return bool(select.select([self._input], [], [], _PATIENCE)[0])
