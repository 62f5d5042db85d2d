"""The receiver as a process that is killed: what it answered with 200 is there."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

from audit_log import event
from kubewitness.service.spool import Spool
from receiving import Connection, event_list, request

RECEIVER = """
import asyncio, sys
from pathlib import Path
from kubewitness.config.settings import Cluster, Listen
from kubewitness.events.redaction import Redactor
from kubewitness.service.intake import Intake
from kubewitness.service.receiver import Receiver
from kubewitness.service.spool import Spool
from kubewitness.service.transport import Transport

async def main(folder: Path) -> None:
    spool = Spool(folder / "spool", limit=1 << 30, segment_bytes=50_000)
    intake = Intake(folder / "quarantine", Redactor(b"k" * 32))
    receiver = Receiver(Listen(port=0), [Cluster(name="a")], intake, spool)
    transport = Transport(receiver, "127.0.0.1", 0)
    print(transport.port, flush=True)
    await transport.run(asyncio.Event())

asyncio.run(main(Path(sys.argv[1])))
"""


async def post_until_killed(
    process: subprocess.Popen[bytes], port: int, round_: int, after: float
) -> set[str]:
    """The ids of all events that were answered with 200, over several connections."""
    answered: set[str] = set()

    async def send(client: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connection = Connection(reader, writer)
        try:
            for number in range(100_000):
                ids = [f"{round_}-{client}-{number}-{item}" for item in range(1 + client)]
                connection.send(request(event_list(*(event(auditID=one) for one in ids))))
                if (await connection.reply()).code == 200:
                    answered.update(ids)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            await connection.close()

    clients = [asyncio.create_task(send(client)) for client in range(6)]
    await asyncio.sleep(after)
    process.send_signal(signal.SIGKILL)
    await asyncio.gather(*clients)
    return answered


def test_what_was_answered_survives_kill(tmp_path: Path) -> None:
    chance = random.Random(7)
    answered: set[str] = set()
    for number in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", RECEIVER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        port = int(process.stdout.readline())
        after = chance.uniform(0.1, 0.5)
        answered |= asyncio.run(post_until_killed(process, port, number, after))
        process.communicate(timeout=30)
        spool = Spool(tmp_path / "spool", limit=1 << 30)
        found = spool.read(None, most_bytes=1 << 40)
        asyncio.run(spool.close())
        kept = [json.loads(line)["auditID"] for _, batch in found for line in batch.lines]
        assert answered <= set(kept)
        assert len(kept) == len(set(kept))
    assert len(answered) > 100
