"""The report on a terminal and in a pipe."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

import report_fixtures as fixtures
from kubewitness.report import inert
from kubewitness.report.model import Coverage, Series
from kubewitness.report.terminal import analysis as terminal
from kubewitness.report.terminal.layout import sparkline

WEEK = fixtures.week()
COLOUR = re.compile(r"\x1b\[[0-9;]*[34]\d(;[0-9;]*)?m")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def piped(width: int = 80) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width), stream


def on_screen(width: int, *, no_color: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=True,
        color_system="standard",
        no_color=no_color,
        legacy_windows=False,
    )
    return console, stream


@pytest.mark.parametrize("width", [80, 140])
def test_report(width: int, snapshot: SnapshotAssertion) -> None:
    console, stream = piped(width)
    terminal.analysis_report(WEEK, console)
    assert stream.getvalue() == snapshot


def test_incident_detail(snapshot: SnapshotAssertion) -> None:
    console, stream = piped(100)
    terminal.incident_detail(fixtures.stolen_token(), console)
    assert stream.getvalue() == snapshot


def test_summary(snapshot: SnapshotAssertion) -> None:
    console, stream = piped(100)
    terminal.summary_report(fixtures.summary(), fixtures.intake(), console)
    assert stream.getvalue() == snapshot


@pytest.mark.parametrize("wide", [False, True])
def test_table(wide: bool, snapshot: SnapshotAssertion) -> None:
    console, stream = piped()
    terminal.incidents_table(
        (*WEEK.incidents, fixtures.hostile()), console, wide=wide, now=fixtures.END
    )
    assert stream.getvalue() == snapshot


def test_table_is_aligned_and_its_age_counts_from_the_end_of_the_log() -> None:
    console, stream = piped(60)
    terminal.incidents_table(WEEK.incidents, console, now=fixtures.END)
    header, *rows = stream.getvalue().splitlines()
    assert header == header.upper()
    assert len(rows) == len(WEEK.incidents)
    for name in ("SEVERITY", "PRINCIPAL", "AGE", "TITLE"):
        column = header.index(name)
        assert all(row[column - 1] == " " and row[column] != " " for row in rows), name
    assert [row.split()[4] for row in rows if "+1" not in row] == ["3d20h"]


def test_table_without_headers_or_without_rows() -> None:
    console, stream = piped()
    terminal.incidents_table(WEEK.incidents[:1], console, headers=False)
    assert stream.getvalue().startswith("7f3a91c2")
    console, stream = piped()
    terminal.incidents_table((), console)
    assert stream.getvalue() == "No incidents found.\n"


def test_a_pipe_gets_no_escapes_and_no_trailing_blanks() -> None:
    console, stream = piped()
    terminal.analysis_report(WEEK, console)
    lines = stream.getvalue().split("\n")
    assert "\x1b" not in stream.getvalue()
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_nothing_is_wider_than_the_screen(width: int) -> None:
    console, stream = on_screen(width)
    terminal.analysis_report(WEEK, console)
    lines = ESCAPES.sub("", stream.getvalue()).splitlines()
    assert [line for line in lines if cell_len(line) > width] == []


def test_colour_is_only_an_addition() -> None:
    console, stream = on_screen(100)
    terminal.analysis_report(WEEK, console)
    coloured = stream.getvalue()
    assert COLOUR.search(coloured)
    console, stream = on_screen(100, no_color=True)
    terminal.analysis_report(WEEK, console)
    assert not COLOUR.search(stream.getvalue())
    assert ESCAPES.sub("", stream.getvalue()) == ESCAPES.sub("", coloured)
    assert "CRITICAL" in stream.getvalue()


def test_an_ascii_terminal_gets_ascii() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii", errors="strict")
    console = Console(file=stream, width=100)
    terminal.analysis_report(WEEK, console)
    terminal.incidents_table(
        (msgspec.structs.replace(WEEK.incidents[0], title="Ünusual"),), console
    )
    stream.flush()
    text = written.getvalue().decode("ascii")
    assert "\\xdcnusual" in text
    assert "###" in text


def test_hostile_text_is_shown_and_does_nothing() -> None:
    console, stream = piped(120)
    terminal.analysis_report(fixtures.attack_on_the_report(), console)
    terminal.incident_detail(fixtures.hostile(), console)
    terminal.incidents_table((fixtures.hostile(),), console, wide=True)
    text = stream.getvalue()
    assert not inert.acts(text.replace("\n", ""))
    assert fixtures.MARKUP in text
    assert "\\x1b[2J\\x1b]0;owned\\x07" in text
    assert "\\u202egpj.exe\\u2066" in text
    table = text[text.rindex("\nID ") :]
    assert f"'{fixtures.FORMULA}" in table


def test_hostile_text_on_a_colour_terminal_brings_no_escapes_of_its_own() -> None:
    console, stream = on_screen(120)
    terminal.analysis_report(fixtures.attack_on_the_report(), console)
    assert not inert.acts(ESCAPES.sub("", stream.getvalue()).replace("\n", ""))


def test_no_incidents_says_what_to_look_at_instead() -> None:
    console, stream = piped()
    terminal.analysis_report(fixtures.silence(), console)
    text = stream.getvalue()
    assert "No incidents." in text
    assert "kubewitness summary" in text
    assert "Further down" not in text
    assert text.index("No incidents.") < text.index("Coverage") < text.index("Intake")


def test_the_queue_is_listed_below_the_incidents_and_each_incident_once() -> None:
    both = msgspec.structs.replace(WEEK, queue=(*WEEK.incidents, *WEEK.queue))
    console, stream = piped(120)
    terminal.analysis_report(both, console)
    below = stream.getvalue().partition("Further down the queue")[2].partition("Summary")[0]
    assert "5b88f013" in below
    assert "7f3a91c2" not in below


def test_a_giant_incident_is_folded_in_the_report_and_bounded_in_full() -> None:
    console, stream = piped(100)
    terminal.analysis_report(fixtures.analysis(fixtures.giant()), console)
    story = stream.getvalue().partition("\nSummary ")[0].splitlines()
    assert len(story) < 130
    assert "  +188 more" in story
    console, stream = piped(100)
    terminal.incident_detail(fixtures.giant(), console)
    full = stream.getvalue()
    assert "get secrets key-199" in full
    assert "+4,800 more" in full
    assert len(full.splitlines()) < 1500


def test_a_timeline_folds_to_what_stands_out() -> None:
    console, stream = piped(100)
    terminal.analysis_report(fixtures.analysis(fixtures.giant()), console)
    shown = re.findall(r"\d\d:\d\d:\d\d(.{5})get secrets key-(\d+)", stream.getvalue())
    assert len(shown) == 12
    assert all("●" in mark for mark, _ in shown)


def test_broken_lines_are_named_with_their_place() -> None:
    console, stream = piped(120)
    terminal.summary_report(fixtures.summary(), fixtures.intake(), console)
    assert "audit-2026-03-13.log:60211" in stream.getvalue()
    assert ".kubewitness/quarantine" in stream.getvalue()


def test_an_empty_summary_does_not_stumble() -> None:
    nothing = msgspec.structs.replace(
        fixtures.summary(),
        requests=0,
        slots=(),
        volume=(),
        denied_volume=Series("denied", ()),
        hours=(),
        classes=(),
        verbs=(),
        resources=(),
        outcomes=(),
        movers=(),
        newcomers=(),
        denied=(),
        sensitive=(),
        coverage=Coverage(levels=(), stages=(), gaps=(), blind=(), clusters=()),
    )
    console, stream = piped()
    terminal.summary_report(nothing, None, console)
    assert "0 requests" in stream.getvalue()
    assert "Intake" not in stream.getvalue()


def test_sparkline_shows_peaks_and_silence() -> None:
    assert sparkline([0, 0, 8, 8, 0, 0, 4, 4], 4) == " █ ▅"
    assert sparkline([0, 0], 2) == "  "
    assert sparkline([], 5) == ""


def test_showing_needs_no_engine() -> None:
    code = """
import sys
import kubewitness.report.exports, kubewitness.report.html, kubewitness.report.terminal.analysis
print(*sorted({"duckdb", "numpy", "scipy", "sklearn", "yaml"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "\n"


@pytest.mark.parametrize(
    ("lines", "words"),
    [(0, "There is not a single line in"), (9, "None of 9 lines from")],
)
def test_a_log_without_events_is_not_called_uneventful(lines: int, words: str) -> None:
    console, stream = piped(80)
    terminal.analysis_report(fixtures.emptiness(lines), console)
    text = stream.getvalue()
    assert words in text
    assert "Nothing to judge." in text
    assert "Intake" in text
    for wrong in ("1970", "No incidents", "Summary", "Coverage"):
        assert wrong not in text


def test_a_queue_without_alerts_is_not_called_empty() -> None:
    console, stream = piped(80)
    terminal.analysis_report(
        msgspec.structs.replace(WEEK, incidents=(), queue=(fixtures.slow_reads(),)), console
    )
    text = " ".join(stream.getvalue().split())
    assert "1 incident of lower rank may be worth a look" in text
    assert "No alerts." in text
    assert "No incidents." not in text
    assert fixtures.slow_reads().title in text


@pytest.mark.parametrize("width", [80, 160])
def test_what_was_usual_is_told_once_for_reasons_that_share_it(width: int) -> None:
    incident = fixtures.stolen_token()
    alike = (incident.reasons[0], incident.reasons[0], *incident.reasons[1:])
    console, stream = piped(width)
    terminal.incident_detail(msgspec.structs.replace(incident, reasons=alike), console)
    assert stream.getvalue().count("as above") == 1
    assert stream.getvalue().count(incident.reasons[0].expected[0].value) == 1
