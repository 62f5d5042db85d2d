"""``kubewitness mcp``."""

from __future__ import annotations

from pathlib import Path

import click

from kubewitness.errors import KubewitnessError


@click.command()
@click.option(
    "--lake",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="The lake that is asked.",
)
@click.option(
    "--http",
    "port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Streamable HTTP at http://127.0.0.1:PORT/mcp instead of standard input and output.",
)
def mcp(lake: Path, port: int | None) -> None:
    """Answer an assistant's questions over the Model Context Protocol; it can only read.

    Without --http, the assistant starts this command and speaks to it through standard input and
    output.
    """
    try:
        from kubewitness.assistant import server
    except ModuleNotFoundError as error:
        raise KubewitnessError(
            f"{error.name} is not installed", remedy="pip install 'kubewitness[mcp]'"
        ) from error
    from kubewitness.assistant.witness import Witness

    made = server.server(Witness(lake))
    if port is None:
        made.run("stdio")
    else:
        import uvicorn

        click.echo(f"http://{server.HOST}:{port}{server.PATH}", err=True)
        uvicorn.run(server.web(made, port), host=server.HOST, port=port, log_level="warning")
