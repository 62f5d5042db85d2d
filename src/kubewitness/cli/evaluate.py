"""``kubewitness evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubewitness.cli import streams
from kubewitness.cli.options import page_option
from kubewitness.cli.page import require_writable, write_page

if TYPE_CHECKING:
    from rich.status import Status


@click.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="DIR...",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
@click.option(
    "-o", "--output", type=click.Choice(("table", "json")), default="table", show_default=True
)
@page_option
@click.option(
    "--baselines/--no-baselines",
    default=True,
    show_default=True,
    help="Measure the simplest things that might work, too.",
)
@click.option("--ablation", is_flag=True, help="Measure again without each factor and aspect.")
def evaluate(
    folders: tuple[Path, ...], output: str, report: Path | None, baselines: bool, ablation: bool
) -> None:
    """Measure detection on labelled datasets.

    DIR holds audit logs and the truth about them (truth.jsonl): see docs/evaluation.md.
    """
    if report is not None:
        require_writable(report)
    from functools import partial

    import msgspec
    from rich.console import Console

    from kubewitness.evaluate import terminal
    from kubewitness.evaluate.baselines import BASELINES
    from kubewitness.evaluate.dataset import read_dataset, trial
    from kubewitness.evaluate.evaluation import evaluate as measure

    # Read first: a mistake in the last folder should not cost the time of the first.
    datasets = [read_dataset(folder) for folder in folders]
    evaluations = []
    with Console(stderr=True).status("reading") as status:
        for dataset in datasets:
            status.update(f"{dataset.name}: reading")
            with trial(dataset) as ready:
                evaluations.append(
                    measure(
                        ready,
                        baselines=BASELINES if baselines else (),
                        ablation=ablation,
                        progress=partial(_tell, status, dataset.name),
                    )
                )
    if report is not None:
        from kubewitness.evaluate import page

        write_page(report, page.render(evaluations))
    with streams.data() as console:
        if output == "json":
            click.echo(msgspec.json.format(msgspec.json.encode(evaluations), indent=2))
        else:
            terminal.tables(evaluations, console)


def _tell(status: Status, name: str, what: str) -> None:
    status.update(f"{name}: {what}")
