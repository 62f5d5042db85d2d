"""What an attacker writes into a log is shown inert, the whole way from a file to the screen.

Names, user agents, addresses and URIs are written by whoever made the request.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from activities import theft
from audit_log import STOLEN_AT, Event, event, events_of, lines, quiet_days
from conftest import Command
from kubewitness.analysis import analyze
from kubewitness.report import exports, html
from kubewitness.report.model import Analysis
from kubewitness.report.terminal import analysis as terminal

PAYLOADS = {
    "harmless": "eve",
    "screen": "\x1b[2J\x1b[1;1H\x1b]0;owned\x07eve",
    "clipboard": "\x1b]52;c;Y3VybCBldmls\x07\x9b31meve",
    "link": "\x1b]8;;http://evil.example\x1b\\eve\x1b]8;;\x1b\\",
    "overwriting": "eve\r\b\b\bada\x7f",
    "lines": "eve\nNo incidents.\n\u2028\u2029\x0b\x0c",
    "script": "<script>alert(1)</script>",
    "attribute": "\" onmouseover='alert(1)' x=\"",
    "image": "'><img src=x onerror=alert(1)>",
    "comment": "--></style></svg><!--]]>",
    "entity": "&lt;script&gt;&#x3c;script&#x3e;",
    "address": "javascript:alert(1)",
    "formula": '=HYPERLINK("http://evil.example","eve")',
    "formulas": "+1-1@SUM(A1)|cmd'/c calc'!A0",
    "SQL": "'; DROP TABLE events; -- \" ) UNION SELECT 1",
    "template": "{{ 7*7 }}{% for x in ().__class__.__mro__ %}{{ x }}{% endfor %}${7*7}#{7*7}",
    "markup": "[bold red]eve[/bold red][link=http://evil.example]x[/link][/]",
    "format": "{0} {} %s %n %(x)s {user.__class__}",
    "path": "../../../../etc/passwd",
    "shell": "$(touch owned)`touch owned`;touch owned|touch owned",
    "direction": "\u202ecod.exe\u202c\u2066eve\u2069\u200b\u200d\ufeff",
    "tags": "".join(chr(0xE0000 + ord(letter)) for letter in "eve"),
    "piled": "e" + "\u0301\u0489" * 500,
    "NUL": "eve\x00\x01\x02",
    "separators": "a,b\tc;d\"e'f\\g/h",
    "YAML": "- !!python/object/apply:os.system ['touch owned']\n&a *a: |",
    "huge": "A" * 200_000,
    "wide": "\U0001f469\u200d\U0001f4bb" * 50 + "漢" * 300,
    "nothing": "   ",
}
ACTIVE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def attack_by(payload: str) -> Iterable[Event]:
    """The theft, with the payload in everything that its author could choose."""
    for one in events_of(theft(STOLEN_AT)):
        yield {
            **one,
            "auditID": f"{one['auditID']} {payload}"[:4000],
            "userAgent": payload,
            "requestURI": f"{one['requestURI']}?fieldSelector={payload}",
            "impersonatedUser": {"username": payload, "groups": [payload]},
            "objectRef": {**one["objectRef"], "name": payload, "namespace": payload},
            "responseStatus": {"code": 200, "reason": payload, "message": payload},
            "annotations": {
                "authorization.k8s.io/reason": f'RBAC: allowed by RoleBinding "{payload}"',
                payload: payload,
            },
            "sourceIPs": [payload, "203.0.113.9"],
        }
    yield event(STOLEN_AT, payload, "get", payload, subresource=payload, group=payload, code=403)


def log_of(payload: str) -> bytes:
    """A log with the payload; its victim bears it as a name, too."""
    named = json.dumps(payload, ensure_ascii=False).encode()
    log = quiet_days() + lines(attack_by(payload))
    return log.replace(b'"username":"ada"', b'"username":' + named)


@cache
def judged(name: str) -> Analysis:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.log"
        path.write_bytes(log_of(PAYLOADS[name]))
        return analyze([path])


def exported(name: str, output: str) -> str:
    stream = io.BytesIO()
    exports.write(judged(name), output, stream)
    return stream.getvalue().decode()


def screen(name: str, *show: Callable[[Analysis, Console], None], **options: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, width=100, **options)
    for one in show:
        one(judged(name), console)
    return file.getvalue()


def everything(analysis: Analysis, console: Console) -> None:
    """All that the commands print for people."""
    terminal.analysis_report(analysis, console)
    terminal.summary_report(analysis.summary, analysis.intake, console)
    for incident in (*analysis.incidents, *analysis.queue):
        terminal.incident_detail(incident, console)


class Tags(HTMLParser):
    """The tags and attributes of a page, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src", "action")}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_victim_is_found_whatever_its_name(name: str) -> None:
    found = judged(name)
    assert found.summary.requests == len(log_of("x").splitlines())
    (incident,) = [one for one in found.incidents if PAYLOADS[name] in one.principals]
    assert "203.0.113.9" in incident.source_ips


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_screen_shows_text_and_obeys_nothing(name: str) -> None:
    shown = screen(name, everything)
    assert not ACTIVE.search(shown)
    assert "203.0.113.9" in shown
    assert "No incidents." not in map(str.strip, shown.splitlines())
    assert len(shown) < 200_000


@pytest.mark.parametrize("name", PAYLOADS)
def test_colour_is_ours_alone(name: str) -> None:
    shown = screen(name, everything, force_terminal=True, color_system="standard")
    assert not ACTIVE.search(re.sub("\x1b\\[[0-9;]*m", "", shown))


@pytest.mark.parametrize("name", sorted(PAYLOADS.keys() - {"nothing"}))
@pytest.mark.parametrize("wide", [False, True])
def test_a_table_keeps_a_line_an_incident_and_no_formula(name: str, wide: bool) -> None:
    found = (*judged(name).incidents, *judged(name).queue)
    shown = screen(
        name, lambda _, console: terminal.incidents_table(found, console, wide=wide, headers=False)
    )
    assert len(shown.splitlines()) == len(found)
    assert not ACTIVE.search(shown)
    cells = re.split(" {3,}|\n", shown)
    assert not any(cell.startswith(tuple("=+-@")) for cell in cells)


@pytest.mark.parametrize("name", PAYLOADS)
def test_data_has_the_text_letter_by_letter_and_does_nothing(name: str) -> None:
    text = exported(name, "jsonl")
    assert not ACTIVE.search(text)
    found = [json.loads(line) for line in text.splitlines()]
    assert PAYLOADS[name] in {principal for one in found for principal in one["principals"]}
    document = exported(name, "json")
    assert not ACTIVE.search(document)
    assert json.loads(document)["items"] == found
    assert re.fullmatch("(incident/[0-9a-f]{10}\n)+", exported(name, "name"))


@pytest.mark.parametrize("name", sorted(PAYLOADS.keys() - {"huge"}))
def test_yaml_says_the_same(name: str) -> None:
    written = exported(name, "yaml")
    assert not ACTIVE.search(written)
    assert yaml.safe_load(written)["items"] == json.loads(exported(name, "json"))["items"]


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_page_has_no_tag_of_the_attackers(name: str) -> None:
    page = html.render(judged(name))
    tags, harmless = Tags(page), Tags(html.render(judged("harmless")))
    assert tags.found.keys() <= harmless.found.keys() | {"wbr", "details", "summary", "p", "li"}
    assert tags.attributes <= harmless.attributes
    assert {link for link in tags.links if not link.startswith("#")} <= harmless.links
    assert not ACTIVE.search(page)
    assert len(page) < 2_000_000


def test_a_page_computes_nothing_that_a_log_says() -> None:
    page = html.render(judged("template"))
    assert "{{ 7*7 }}" in page
    assert "class &#39;object" not in page


@pytest.mark.parametrize(
    "name", ["path", "shell", "template", "NUL", "lines", "separators", "YAML"]
)
def test_no_file_is_named_or_made_by_a_log(
    name: str, tmp_path: Path, kubewitness: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, page, lake = (tmp_path / name for name in ("audit.log", "page.html", "lake"))
    path.write_bytes(lines({**one, "cluster": PAYLOADS[name]} for one in attack_by(PAYLOADS[name])))
    done = kubewitness("analyze", path, "--lake", lake, "--report", page, "-o", "json")
    assert done.code == 0
    assert json.loads(done.text)["metadata"]["intake"]["events"] == 5
    made = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    part = re.compile(r"lake/events/cluster=[^/]+/date=[-0-9]+/part-[-0-9a-f]+\.parquet")
    parts = {one for one in made if part.fullmatch(one)}
    assert len(parts) == 1
    assert made - parts == {
        "audit.log",
        "page.html",
        "lake/lake.json",
        "lake/analysis.json",
        "state/kubewitness/analysis.json",
    }


@pytest.mark.parametrize("name", ["screen", "lines", "script", "markup", "SQL"])
def test_the_command_shows_what_the_library_shows(
    name: str, tmp_path: Path, kubewitness: Command
) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(log_of(PAYLOADS[name]))
    for args in (("analyze",), ("analyze", "-o", "wide"), ("summary",)):
        done = kubewitness(*args, path)
        assert (done.code, done.err) == (0, b"")
        assert not ACTIVE.search(done.text)


def test_a_line_of_the_quarantine_is_inert_where_it_is_named(
    tmp_path: Path, kubewitness: Command
) -> None:
    path = tmp_path / "audit\x1b[31m\u202e<b>.log"
    path.write_bytes(b'{"kind":"Event\x1b[2J"\n' + lines([event()]))
    for args in ((), ("-o", "json")):
        done = kubewitness("analyze", path, *args)
        assert not ACTIVE.search(done.text)
        assert not ACTIVE.search(done.talk)
        assert "audit\\x1b[31m\\u202e<b>.log:1" in "".join((done.text + done.talk).split()).replace(
            "\\\\", "\\"
        )


def test_gigantic_names_of_thousands_cost_linear_time(tmp_path: Path) -> None:
    """Names and user agents as long as a request's headers may be."""
    path = tmp_path / "audit.log"
    odd: list[Event] = [
        event(name=f"{n}" + "-x7" * 5000, client="(" * 10_000 + f"{n}", who=f"u{n}" + "-a" * 5000)
        for n in range(300)
    ]
    path.write_bytes(lines(odd))
    found: Any = analyze([path])
    assert found.summary.requests == 300
