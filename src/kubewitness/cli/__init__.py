"""The command line: thin skins over the library, nothing imported before it is needed."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from kubewitness import __version__
from kubewitness.errors import KubewitnessError

# Loaded when called or asked for help: `kubewitness --help` must not wait for numpy.
_COMMANDS = {
    "analyze": "Read audit logs and report ranked, explained incidents.",
    "ingest": "Add audit logs to a lake.",
    "summary": "Trends, statistics and coverage of audit logs.",
    "incident": "Everything about one incident of the last analysis.",
    "evaluate": "Measure detection on labelled datasets, beside baselines.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"kubewitness.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kubewitness")
def cli() -> None:
    """Reads Kubernetes audit logs and testifies."""


def main(args: list[str] | None = None) -> Any:
    """Run, print what went wrong as what, where and what to do, and exit with its code."""
    try:
        return cli.main(args=args, prog_name=_program())
    except KubewitnessError as error:
        click.echo(f"kubewitness: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output has seen enough (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _program() -> str:
    name = os.path.basename(sys.argv[0])
    return "kubectl witness" if name.startswith("kubectl-witness") else "kubewitness"
