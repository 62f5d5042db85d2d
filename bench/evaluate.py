"""Measure detection on labelled datasets and write the figures into the documentation.

    python bench/evaluate.py DIR...

Rewrites the blocks between ``<!-- figures:begin -->`` and ``<!-- figures:end -->`` in README.md
and docs/evaluation.md. The order of the datasets is the order of the columns.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from kubewitness.errors import KubewitnessError
from kubewitness.evaluate import figures
from kubewitness.evaluate.dataset import read_dataset, trial
from kubewitness.evaluate.evaluation import evaluate

ROOT = Path(__file__).resolve().parent.parent


def main(folders: list[str]) -> None:
    """Everything at once: it takes a few minutes a dataset, most of them for the ablation."""
    if not folders:
        sys.exit(__doc__)
    datasets = [read_dataset(Path(folder)) for folder in folders]
    evaluations = []
    for dataset in datasets:
        with trial(dataset) as ready:
            evaluations.append(
                evaluate(
                    ready,
                    ablation=True,
                    progress=partial(_tell, dataset.name),
                )
            )
    today = datetime.now(UTC).date()
    blocks = {
        ROOT / "README.md": figures.short(evaluations, today),
        ROOT / "docs" / "evaluation.md": figures.full(evaluations, today),
    }
    for path, block in blocks.items():
        written = path.exists() and figures.rewrite(path, block)
        print(f"{path.relative_to(ROOT)}: {'written' if written else 'no marks, left as it is'}")


def _tell(name: str, what: str) -> None:
    print(f"{name}: {what}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KubewitnessError as error:
        sys.exit(f"evaluate: {error}")
