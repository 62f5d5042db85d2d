"""The report as one HTML file."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import msgspec
import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

import kubewitness.report.html as page
import report_fixtures as fixtures
from kubewitness.report import charts, inert, svg
from kubewitness.report.lanes import lanes
from kubewitness.report.model import Analysis, Count, Series

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}
LOADING = {"src", "srcset", "action", "formaction", "data", "poster", "background", "ping", "style"}


class Page(HTMLParser):
    """Tags with their attributes, and a complaint for every tag that does not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.unbalanced: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


class PageExtension(SingleFileSnapshotExtension):
    """The snapshot is a page that a browser opens."""

    file_extension = "html"
    _write_mode = WriteMode.TEXT


ANALYSES = {
    "week": fixtures.week(),
    "silence": fixtures.silence(),
    "emptiness": fixtures.emptiness(),
    "giant": fixtures.analysis(fixtures.giant(), queue=(fixtures.slow_reads(),)),
    "hostile": fixtures.attack_on_the_report(),
}


@pytest.fixture(params=ANALYSES)
def analysis(request: pytest.FixtureRequest) -> Analysis:
    return ANALYSES[request.param]


def test_page(snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "__version__", "VERSION")
    assert page.render(ANALYSES["week"]) == snapshot(extension_class=PageExtension)


def test_every_tag_closes(analysis: Analysis) -> None:
    assert Page(page.render(analysis)).unbalanced == []


def test_nothing_is_loaded_from_anywhere(analysis: Analysis) -> None:
    text = page.render(analysis)
    read = Page(text)
    loading = [(tag, a) for tag, a in read.tags if LOADING & a.keys()]
    links = {a["href"] or "" for _, a in read.tags if "href" in a}
    assert loading == []
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(style) == 1
    assert not re.search(r"url\(|@import|https?:|//", style[0])


def test_the_policy_forbids_what_the_page_does_not_do(analysis: Analysis) -> None:
    read = Page(page.render(analysis))
    (policy,) = [m for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] is not None
    assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src da")
    assert {"script", "iframe", "object", "embed", "form", "base"}.isdisjoint(
        tag for tag, _ in read.tags
    )
    assert [a for _, a in read.tags if any(key.startswith("on") for key in a)] == []


def test_links_within_the_page_lead_somewhere(analysis: Analysis) -> None:
    read = Page(page.render(analysis))
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {(a["href"] or "")[1:] for a in read.all("a")}
    assert targets - set(ids) == set()


def test_pictures_and_tables_can_be_listened_to(analysis: Analysis) -> None:
    read = Page(page.render(analysis))
    for picture in read.all("svg"):
        assert picture.get("aria-hidden") == "true" or (
            picture.get("role") == "img" and picture.get("aria-label")
        )
    assert [cell for cell in read.all("th") if "scope" not in cell] == []
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_hostile_text_is_shown_and_does_nothing() -> None:
    text = page.render(ANALYSES["hostile"])
    read = Page(text)
    assert not inert.acts(text.replace("\n", ""))
    assert "alert(1)" not in "".join(tag for tag, _ in read.tags)
    shown = "".join(read.text)
    assert fixtures.SCRIPT in shown
    assert fixtures.MARKUP in shown
    assert "\\x1b[2J" in shown


def test_hostile_tags_are_those_of_a_harmless_report() -> None:
    harmless = {tag for tag, _ in Page(page.render(ANALYSES["week"])).tags}
    assert {tag for tag, _ in Page(page.render(ANALYSES["hostile"])).tags} <= harmless | {"path"}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_is_legible_on_its_paper(theme: int) -> None:
    style = (page.TEMPLATES / "report.css").read_text()
    palette = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", style.split(":root {")[1 + theme]))

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        red, green, blue = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        ]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for paper in ("paper", "wash"):
        for ink in ("ink", "quiet", "link", "critical", "high", "medium", "low"):
            dark, light = sorted((luminance(palette[paper]), luminance(palette[ink])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (paper, ink)


def test_a_fleet_report_names_the_cluster_of_each_finding() -> None:
    fleet = msgspec.structs.replace(
        ANALYSES["week"],
        summary=msgspec.structs.replace(
            fixtures.summary(),
            coverage=msgspec.structs.replace(
                fixtures.summary().coverage, clusters=(Count("prod-eu-1", 2), Count("dev", 1))
            ),
        ),
    )
    assert page.render(fleet).count("<span>prod-eu-1</span>") == 5  # incidents and what is broken
    assert "<span>prod-eu-1</span>" not in page.render(ANALYSES["week"])


def test_no_incidents_says_what_to_look_at_instead() -> None:
    text = page.render(ANALYSES["silence"])
    assert "<b>No incidents.</b>" in text
    assert 'href="#coverage"' in text
    assert "incident-1" not in text


def test_a_giant_incident_is_bounded() -> None:
    giant = fixtures.giant()
    more = msgspec.structs.replace(giant, timeline=giant.timeline * 50)
    text = page.render(fixtures.analysis(more))
    assert "+9,800 more" in text or "+9800 more" in text
    assert len(text) < 700_000
    assert "00001387-audit" not in text  # the last of 5,000 auditIDs


def test_many_incidents_are_bounded() -> None:
    many = tuple(msgspec.structs.replace(fixtures.escalation(), id=f"many-{i}") for i in range(400))
    text = page.render(fixtures.analysis(*many))
    assert text.count("<article") == page.CARDS
    assert "375 incidents ranked lower" in text
    assert len(text) < 900_000


def test_the_paragraph_counts_and_names_the_first() -> None:
    text = page.render(ANALYSES["week"])
    assert "3 incidents are worth attention (1 critical, 2 high)" in text
    assert "The first to look at began Sat 14 Mar 02:11 UTC" in text


def test_volume_is_summed_into_slots_that_fit() -> None:
    summary = fixtures.summary()
    long = msgspec.structs.replace(
        summary,
        slots=summary.slots * 12,
        volume=tuple(Series(s.label, s.n * 12) for s in summary.volume),
    )
    drawn = str(charts.volume(long))
    assert drawn.count('class="hover"') <= 336
    assert len(drawn) < 200_000


def test_volume_marks_each_incident_at_its_time_and_apart() -> None:
    summary = fixtures.summary()
    crowd = (fixtures.escalation(),) * 5
    discs = re.findall(r'<circle cx="([\d.]+)"', str(charts.volume(summary, crowd)))
    columns = [float(x) for x in discs]
    assert len(columns) == 5
    assert all(b - a >= 19 for a, b in itertools.pairwise(columns))


def test_flags_of_a_bad_last_hour_stay_in_the_picture() -> None:
    summary = fixtures.summary()
    late = msgspec.structs.replace(fixtures.escalation(), opened_at=summary.end)
    drawn = str(charts.volume(summary, (late,) * 40))
    columns = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)]
    assert len(columns) == charts.FLAGS
    assert 0 < min(columns) < max(columns) < svg.WIDTH - 9
    assert all(b - a >= 19 for a, b in itertools.pairwise(columns))


def test_lanes_tell_one_token_in_two_places_apart() -> None:
    drawn = str(lanes(fixtures.stolen_token()))
    assert drawn.count("sa:payments:checkout-api</text>") == 2
    assert drawn.count('class="notable"') == 8
    assert drawn.count('class="plain"') == 2


def test_hostile_text_stays_inside_its_svg_element() -> None:
    text = '"><script>\u202e'
    drawn = svg.picture(text, 10, svg.label(text, 0, 0, text) + svg.tip(text))
    assert [tag for tag, _ in Page(drawn).tags] == ["svg", "title", "text", "title"]
    assert not inert.acts(drawn)


def test_an_empty_period_has_no_charts_and_does_not_stumble() -> None:
    nothing = Series("denied", ())
    summary = msgspec.structs.replace(
        fixtures.summary(), slots=(), volume=(), denied_volume=nothing, hours=(), classes=()
    )
    text = page.render(msgspec.structs.replace(fixtures.silence(), summary=summary))
    assert Page(text).unbalanced == []
    assert "<figure" not in text


def test_lanes_of_a_giant_are_few() -> None:
    drawn = str(lanes(fixtures.giant()))
    assert drawn.count('class="lane"') == 8
    assert "other lanes" in drawn


def test_an_instant_incident_has_a_picture() -> None:
    one = fixtures.stolen_token()
    instant = msgspec.structs.replace(one, timeline=one.timeline[1:2])
    assert "create selfsubjectrulesreviews" in str(lanes(instant))
    assert str(lanes(msgspec.structs.replace(one, timeline=()))) == ""


def test_a_log_without_events_has_no_date_and_no_summary() -> None:
    text = page.render(ANALYSES["emptiness"])
    assert "<b>Nothing to judge.</b>" in text
    assert "1970" not in text
    assert 'id="summary"' not in text
    assert 'id="intake"' in text
