"""Draw the picture of the terminal report in the README from the example log.

    python bench/picture.py

Writes docs/report.svg: one of the incidents that ``make demo`` prints.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from kubewitness.analysis import analyze
from kubewitness.report.terminal import incident as terminal
from kubewitness.times import moment

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100
STOLEN = "system:serviceaccount:external-secrets:external-secrets"


def main() -> None:
    """Write the picture."""
    found = analyze([ROOT / "examples"], cluster="demo", since=moment("30m"))
    ranked = [*found.incidents, *found.queue]
    incident = next(one for one in ranked if STOLEN in one.principals)
    sheet = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    terminal.incident_section(incident, sheet, rank=ranked.index(incident) + 1)
    drawn = sheet.export_svg(title="kubewitness", theme=MONOKAI, unique_id="report")
    # The picture asks nobody for a font.
    drawn = re.sub(r"@font-face\s*\{.*?\}", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
    drawn = "\n".join(line.rstrip() for line in drawn.splitlines() if line.strip())
    (ROOT / "docs" / "report.svg").write_text(drawn + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
