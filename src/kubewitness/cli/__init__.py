"""The command line: thin skins over the library, nothing imported before it is needed."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from typing import NoReturn

import click

from kubewitness import __version__
from kubewitness.cli import streams
from kubewitness.errors import KubewitnessError

# Loaded when called or asked for help: `kubewitness --help` must not wait for numpy.
_COMMANDS = {
    "analyze": "Read audit logs and report ranked, explained incidents.",
    "ingest": "Add audit logs to a lake.",
    "summary": "Trends, statistics and coverage of audit logs.",
    "query": "Find events: by who, what, where, when and how it ended.",
    "incident": "Everything about one incident of the last analysis, or of a service.",
    "incidents": "List the incidents of a running service.",
    "misconfigurations": "What is broken in the clusters of a running service, and the fix.",
    "history": "Every change of an object: who, how, allowed by what.",
    "state": "An object as it was at a time.",
    "diff": "What changed about an object between two times.",
    "inventory": "What ran at a time; which workloads held an image or a secret, and when.",
    "who": "Who touched an object, was that usual, and who could have.",
    "access": "What a principal is granted, what it used, and the least role that does.",
    "cause": "The causal chain back to who began it.",
    "blast-radius": "What a principal, credential, request or change touched and caused.",
    "sinks": "Try out where incidents are sent to.",
    "serve": "Receive, store and judge audit logs as they come, and tell of incidents.",
    "config": "Check the settings of the service, or print a file to begin with.",
    "init": "Write what makes a cluster send its audit log.",
    "policy": "Say what an audit policy costs, and what it blinds.",
    "mcp": "Answer an assistant's questions, as tools of the Model Context Protocol.",
    "evaluate": "Measure detection on labelled datasets, beside baselines.",
    "rehearse": "Copy a log with attacks woven in that never happened.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"kubewitness.cli.{name}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kubewitness")
def cli() -> None:
    """Reads Kubernetes audit logs and testifies."""


def main(args: list[str] | None = None) -> NoReturn:
    """Run, print what went wrong as what, where and what to do, and exit with its code.

    0 is fine, 1 an error, 2 a usage mistake, 3 what ``--fail-on`` asked for; 130, 143 and 129
    stand for Ctrl-C, SIGTERM and SIGHUP, as in a shell.
    """
    streams.fill_missing()
    with streams.cleaning_up():
        code = _exit_code(args)
        streams.end_talk()
        sys.exit(code)


def _exit_code(args: list[str] | None) -> int:
    try:
        # --help and --version end with a code, the commands with none.
        code = int(cli.main(args=args, prog_name=_program(), standalone_mode=False) or 0)
        with streams.stdout():
            return code
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except KubewitnessError as error:
        return _complain(error)
    except OSError as error:
        what = error.strerror or str(error)
        return _complain(KubewitnessError(what, where=str(error.filename or "")))


def _complain(error: KubewitnessError) -> int:
    from kubewitness.report.inert import plain

    # A file may be named by whoever wrote it.
    told = KubewitnessError(
        plain(error.what, 1000),
        where=plain(error.where, 1000),
        remedy="\n".join(plain(line, 1000) for line in error.remedy.splitlines()),
    )
    with suppress(OSError):
        click.echo(f"kubewitness: {told}", err=True)
    return error.exit_code


def _program() -> str:
    name = os.path.basename(sys.argv[0])
    return "kubectl witness" if name.startswith("kubectl-witness") else "kubewitness"
