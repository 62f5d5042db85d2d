"""``kubewitness serve``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from kubewitness.cli.options import overriding


@click.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The settings (docs/configuration.md); else the file that KUBEWITNESS_CONFIG names.",
)
@click.option("--data", metavar="DIR", help="Where the lake, the spool and the state are kept.")
@click.option(
    "--stdin",
    metavar="CLUSTER",
    default="",
    help="Also read the log of this cluster from standard input.",
)
@overriding
def serve(file: Path | None, data: str | None, stdin: str, overrides: dict[str, str]) -> None:
    """Receive audit logs, store and judge them as they come, and tell of incidents.

    Runs until SIGTERM or SIGINT. Port and path of the receiver, sinks and all else: see
    'kubewitness config example'.
    """
    import asyncio
    import signal
    import sys

    from kubewitness.config.environment import FILE_VARIABLE
    from kubewitness.config.reading import read
    from kubewitness.service.logs import write_logs
    from kubewitness.service.serving import serve as run

    if file is None and os.environ.get(FILE_VARIABLE):
        file = Path(os.environ[FILE_VARIABLE])
    if data is not None:
        overrides = {**overrides, "data": data}
    settings = read(file, environment=os.environ, overrides=overrides, stdin=stdin)
    write_logs(settings.logs)

    async def until_told() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await run(settings, stop, ready=_tell)

    def _tell(port: int | None, admin: int | None) -> None:
        import logging

        logger = logging.getLogger("kubewitness.service")
        if port is not None:
            logger.info("audit events are received at port %d", port)
        if admin is not None:
            logger.info("metrics, health and readiness at port %d", admin)

    asyncio.run(until_told())
    sys.exit(0)
