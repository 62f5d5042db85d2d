"""How terminal text is laid out: headings, prose, bars, tables without borders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from kubewitness.incidents.model import Severity

READABLE = 100
"""Prose wider than this many columns is hard to read, however wide the terminal."""

STYLES: dict[Severity, str] = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "bold yellow",
    "low": "bold blue",
}
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
# One for one, so that what was aligned stays so where the output holds ASCII only.
_ASCII = str.maketrans("▁▂▃▄▅▆▇█▏▎▍▌▋▊▉─•●×–…›→“”↳", '..:-=+*#|||####--*x-~>>"">')


class Trimmed:
    """A renderable without the blanks that pad its lines, and in ASCII where that is all there is.

    Clean in a pipe and in a diff.
    """

    def __init__(self, renderable: RenderableType) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self.renderable, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                text, style, control = line.pop()
                line.append(Segment(text.rstrip(), style, control))
            if options.ascii_only:
                yield from (Segment(_ascii(text), style, more) for text, style, more in line)
            else:
                yield from line
            yield Segment.line()


def _ascii(text: str) -> str:
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def show(console: Console, *renderables: RenderableType) -> None:
    """Print each renderable on lines of its own."""
    for renderable in renderables:
        console.print(Trimmed(renderable), end="")


def whole(console: Console, line: Text) -> None:
    """Print one line as it is: never wrapped, never cropped."""
    text = Text(_ascii(line.plain)) if console.options.ascii_only else line
    console.print(text, soft_wrap=True)


def heading(console: Console, title: Text | str, note: str = "") -> None:
    """A section's first line: the title, a quiet note, and a rule to the edge."""
    line = Text(style="bold").append(title)
    if note:
        line.append(f"  {note}", style="dim not bold")
    room = min(console.width, READABLE + 20) - line.cell_len - 2
    if room > 3:
        line.append("  " + "─" * room, style="dim not bold")
    show(console, Text(), line)


def part(console: Console, title: str, note: str = "") -> None:
    """The first line of a part of a section."""
    line = Text(title, style="bold")
    if note:
        line.append(f"  {note}", style="dim not bold")
    show(console, Text(), line)


def more(console: Console, n: int, note: str = "") -> None:
    """How many were not shown, if any."""
    if n > 0:
        show(console, Text(f"  +{n:,} more{f' {note}' if note else ''}", style="dim"))


def prose(text: str, console: Console, *, indent: int = 0, style: str = "") -> RenderableType:
    """``text`` (inert already) wrapped at a readable width."""
    surplus = max(console.width - READABLE, 0)
    return Padding(Text(text, style=style), (0, surplus, 0, indent))


def bullets(items: Iterable[str], console: Console) -> list[RenderableType]:
    """One hanging-indented line an item."""
    return [_hanging("•", item, console) for item in items]


def numbered(items: Iterable[str], console: Console) -> list[RenderableType]:
    """``bullets``, with numbers to refer to."""
    return [_hanging(f"{number}.", item, console) for number, item in enumerate(items, 1)]


def labelled(label: str, text: str, console: Console) -> RenderableType:
    """A quiet label and what it labels, hanging-indented."""
    return _hanging(label.ljust(10), text, console)


def _hanging(mark: str, item: str, console: Console) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=len(mark), style="dim")
    # A path is one long word, and what it ends in (the line) is what it is shown for.
    grid.add_column(max_width=min(console.width, READABLE) - 2 - len(mark) - 1, overflow="fold")
    grid.add_row(Text(mark), Text(item))
    return Padding(grid, (0, 0, 0, 2))


def columns(
    headers: Sequence[str],
    rows: Iterable[Sequence[Text]],
    *,
    right: Sequence[int] = (),
    fixed: Sequence[int] = (),
) -> RenderableType:
    """A borderless table; ``right`` columns are numbers, ``fixed`` ones never wrap."""
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
        show_header=any(headers),
    )
    for number, header in enumerate(headers):
        table.add_column(
            Text(header),
            justify="right" if number in right else "left",
            no_wrap=number in fixed or number in right,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    return Padding(table, (0, 0, 0, 2))


def severity(level: Severity) -> Text:
    """The severity in capitals, in its colour."""
    return Text(level.upper(), style=STYLES[level])


def bar(share: float, width: int) -> str:
    """A share as a horizontal bar, at least a sliver when it is not nothing.

    >>> bar(0.5, 4), bar(0.001, 4), bar(0, 4)
    ('██', '▏', '')
    """
    eighths = round(max(0.0, min(share, 1.0)) * width * 8)
    full, rest = divmod(max(eighths, 1 if share > 0 else 0), 8)
    return "█" * full + _EIGHTHS[rest].strip()


def sparkline(numbers: Sequence[int], width: int) -> str:
    """The numbers as one line of at most ``width`` columns; nothing at all is a blank.

    >>> sparkline([0, 1, 4, 8], 4)
    ' ▂▅█'
    """
    if not numbers or width < 1:
        return ""
    edges = [i * len(numbers) // min(width, len(numbers)) for i in range(len(numbers) + 1)]
    edges = edges[: min(width, len(numbers)) + 1]
    # A mean, not a sum: columns may cover unequally many slots.
    means = [sum(numbers[a:b]) / (b - a) for a, b in pairwise(edges)]
    top = max(means)
    return "".join(_HEIGHTS[min(int(mean / top * 8), 7)] if mean > 0 else " " for mean in means)
