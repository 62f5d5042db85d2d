"""What does an audit policy cost in volume, and what does it cost detection?

    python bench/policy.py [--policy FILE]... DIR...

Each labelled dataset (docs/evaluation.md) is judged as it was logged and once more as each policy
would have logged it: events that a rule leaves out are gone, bodies that it does not ask for are
taken out. Without ``--policy`` that is the one of ``kubewitness init policy``. Rewrites the block
between ``<!-- policy:begin -->`` and ``<!-- policy:end -->`` in docs/policy.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import msgspec
import zstandard

from kubewitness.errors import KubewitnessError
from kubewitness.evaluate.dataset import Dataset, read_dataset, trial
from kubewitness.evaluate.evaluation import evaluate
from kubewitness.evaluate.figures import markdown
from kubewitness.evaluate.judgement import Judgement
from kubewitness.evaluate.results import Grid
from kubewitness.policy.log import logged_lines
from kubewitness.policy.policy import Policy
from kubewitness.policy.reading import read_policy
from kubewitness.policy.volume import Filter, Share

PAGE = Path(__file__).resolve().parent.parent / "docs" / "policy.md"
BEGIN, END = "<!-- policy:begin -->", "<!-- policy:end -->"
DAILY = 5


@dataclass(frozen=True)
class Kept:
    """A dataset as a policy (``None``: as it is) logs it, and how detection does on it."""

    dataset: str
    policy: str
    share: Share
    days: float
    judgement: Judgement


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    options.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    options.add_argument("--policy", action="append", default=[], type=Path, metavar="FILE")
    given = options.parse_args()
    own = Path(str(resources.files("kubewitness.policy").joinpath("detection.yaml")))
    policies = {"kubewitness init policy": read_policy(own)} if not given.policy else {}
    policies |= {path.stem: read_policy(path) for path in given.policy}
    found = []
    for folder in given.folders:
        for name, policy in [("as logged", None), *policies.items()]:
            found.append(judged(folder, name, policy))
            print(table(found), flush=True)
    if not given.policy:
        rewrite(found)


def judged(folder: Path, name: str, policy: Policy | None) -> Kept:
    """The dataset in ``folder`` as ``policy`` logs it, and the judgement of it."""
    with tempfile.TemporaryDirectory(prefix="kubewitness-policy-") as scratch:
        copy = Path(scratch) / folder.resolve().name
        copy.mkdir()
        dataset = read_dataset(folder)
        share = Share()
        for log in dataset.files:
            target = copy / f"{log.name.partition('.jsonl')[0]}.jsonl.zst"
            write(target, lines(log, policy), share)
        for truth in ("truth.jsonl", "test_from.txt"):
            if (folder / truth).exists():
                shutil.copy(folder / truth, copy)
        return Kept(dataset.name, name, share, *judge(read_dataset(copy)))


def judge(dataset: Dataset) -> tuple[float, Judgement]:
    with trial(dataset) as ready:
        found = evaluate(ready, baselines=())
    return found.days, found.product


def lines(log: Path, policy: Policy | None) -> Iterator[bytes]:
    """The events of a log, one a line."""
    with logged_lines([log]) as (read, _):
        if policy is None:
            yield from read
            return
        events = (msgspec.json.decode(line) for line in read)
        yield from (msgspec.json.encode(event) for event in Filter(policy).events(events))


def write(path: Path, read: Iterable[bytes], share: Share) -> None:
    """Compress ``read`` to ``path`` and count it."""
    with path.open("wb") as file, zstandard.ZstdCompressor(level=1).stream_writer(file) as out:
        for line in read:
            share.add(len(line))
            out.write(line + b"\n")


def table(found: list[Kept]) -> str:
    """One row a dataset and policy."""
    whole = {one.dataset: one for one in reversed(found) if one.policy == "as logged"}
    rows = []
    for one in found:
        judgement, before = one.judgement, whole[one.dataset].share
        ranked = (
            f"{judgement.recall[DAILY]:.2f} @{DAILY}/day"
            if one.days >= 1
            else f"{judgement.r_precision:.2f} r-precision"
        )
        rows.append(
            (
                f"{one.dataset}, {one.policy}",
                f"{one.share.events:,}",
                f"{one.share.events / before.events:.0%}",
                f"{one.share.bytes / 1e6:,.0f} MB",
                f"{one.share.bytes / before.bytes:.0%}",
                ranked,
                f"{judgement.alert_recall:.2f}",
                str(sum(judgement.false_alerts_by_kind.values())),
                f"{judgement.completeness or 0:.2f}",
            )
        )
    header = ("Log, policy", "events", "of all", "bytes", "of all", "attacks found",
              "alert recall", "false alerts", "evidence found")  # fmt: skip
    return markdown(Grid("", header, tuple(rows)))


def rewrite(found: list[Kept]) -> None:
    """Put the table into the documentation."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise KubewitnessError("the marks of the figures are no pair", where=str(PAGE))
    today = datetime.now(UTC).date()
    block = f"{table(found)}\n\nMeasured on {today.isoformat()} by `bench/policy.py`."
    PAGE.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except KubewitnessError as error:
        sys.exit(f"policy: {error}")
