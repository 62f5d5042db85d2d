"""Compacts a lake until it is killed: ``python compactor.py DAY PARTS RUNS SEED``.

In each run some of the files in PARTS become parts of DAY, and a child merges whatever can be
merged until it is killed, some time after its first or second merge or before. The parent never
touches the engine, so that it can be forked, which is quicker than a new interpreter by far.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from kubewitness.lake import compaction
from kubewitness.lake.engine import engine
from kubewitness.lake.store import Lake


def merge_for_ever(home: Path, tell: int) -> NoReturn:
    """Tells when it begins and of each merge, by a byte."""
    compaction.FANIN, compaction._MOST_PARTS = 2, 8  # always something to do
    lake = Lake(home)
    with engine(home.parent / "spill") as connection:
        connection.execute("SET threads = 1")
        os.write(tell, b".")
        while True:
            if compaction.compact(lake, connection, grace=timedelta()):
                os.write(tell, b".")


def main(day: Path, parts: Path, runs: int, seed: int) -> None:
    chance = random.Random(seed)
    waiting = sorted(parts.glob("*.parquet"))
    share = -(-len(waiting) // runs)
    for _ in range(runs):
        for part in waiting[:share]:
            part.rename(day / part.name)
        del waiting[:share]
        told, tell = os.pipe()
        child = os.fork()
        if not child:
            merge_for_ever(day.parent.parent.parent, tell)
        for _ in range(1 + chance.randrange(3)):
            since = time.monotonic()
            os.read(told, 1)
        time.sleep(chance.uniform(0, 1.5) * (time.monotonic() - since))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        os.close(tell)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
