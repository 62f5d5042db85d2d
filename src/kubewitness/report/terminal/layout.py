"""How terminal text is laid out: headings, prose, bars, tables without borders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


class Trimmed:
    """A renderable without the blanks that pad its lines: clean in a pipe and in a diff."""

    def __init__(self, renderable: RenderableType) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self.renderable, options, pad=False):
            while line and not line[-1].text.strip() and not _painted(line[-1]):
                line.pop()
            if line and not _painted(line[-1]):
                text, style, control = line.pop()
                line.append(Segment(text.rstrip(), style, control))
            yield from line
            yield Segment.line()


def _painted(segment: Segment) -> bool:
    return segment.style is not None and segment.style.bgcolor is not None


def show(console: Console, *renderables: RenderableType) -> None:
    """Print each renderable on lines of its own."""
    for renderable in renderables:
        console.print(Trimmed(renderable), end="")


def heading(console: Console, title: str, note: str = "") -> None:
    """A section's first line: the title, a quiet note, and a rule to the edge."""
    line = Text(title, style="bold")
    if note:
        line.append(f"  {note}", style="dim not bold")
    room = min(console.width, READABLE + 20) - line.cell_len - 2
    if room > 3:
        line.append("  " + ("-" if plain_glyphs(console) else "─") * room, style="dim not bold")
    show(console, Text(), line)


def prose(text: str, console: Console, *, indent: int = 0, style: str = "") -> RenderableType:
    """``text`` (inert already) wrapped at a readable width."""
    width = min(console.width, READABLE)
    return Padding(Text(text, style=style), (0, max(console.width - width, 0), 0, indent))


def bullets(items: Iterable[str], console: Console, *, indent: int = 2) -> list[RenderableType]:
    """One hanging-indented line an item."""
    mark = "-" if plain_glyphs(console) else "•"
    return [_hanging(mark, item, console, indent) for item in items]


def numbered(items: Iterable[str], console: Console, *, indent: int = 2) -> list[RenderableType]:
    """``bullets``, with numbers to refer to."""
    return [_hanging(f"{i}.", item, console, indent) for i, item in enumerate(items, 1)]


def _hanging(mark: str, item: str, console: Console, indent: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=len(mark), style="dim")
    grid.add_column(max_width=min(console.width, READABLE) - indent - len(mark) - 1)
    grid.add_row(Text(mark), Text(item))
    return Padding(grid, (0, 0, 0, indent))


def columns(
    headers: Sequence[str],
    rows: Iterable[Sequence[Text]],
    *,
    right: Sequence[int] = (),
    fixed: Sequence[int] = (),
    indent: int = 2,
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
    return Padding(table, (0, 0, 0, indent))


def severity(level: Severity, *, pad: bool = False) -> Text:
    """The severity in capitals, in its colour."""
    label = level.upper()
    badge = Text(label, style=STYLES[level])
    if pad:
        return Text().append_text(badge).append(" " * (8 - len(label)))
    return badge


def bar(share: float, width: int, console: Console) -> str:
    """A share as a horizontal bar, at least a sliver when it is not zero."""
    eighths = round(max(0.0, min(share, 1.0)) * width * 8)
    if plain_glyphs(console):
        return "#" * max(round(eighths / 8), 1 if share > 0 else 0)
    full, part = divmod(max(eighths, 1 if share > 0 else 0), 8)
    return "█" * full + (_EIGHTHS[part] if part else "")


def sparkline(numbers: Sequence[int], width: int, console: Console) -> str:
    """The numbers as a line of at most ``width`` columns; slots that share a column are summed."""
    if not numbers or width < 1:
        return ""
    columns_ = min(width, len(numbers))
    edges = [i * len(numbers) // columns_ for i in range(columns_ + 1)]
    # A mean, not a sum: columns may cover unequally many slots.
    means = [sum(numbers[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False) if b > a]
    heights = " .:-=+*#" if plain_glyphs(console) else _HEIGHTS
    top = max(means)
    if top <= 0:
        return heights[0] * len(means)
    return "".join(
        " " if mean == 0 else heights[min(int(mean / top * len(heights)), len(heights) - 1)]
        for mean in means
    )


def plain_glyphs(console: Console) -> bool:
    """Whether the output can hold ASCII only."""
    return console.options.ascii_only
