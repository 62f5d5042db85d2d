"""The page of an object's history: it shows what was told, and hostile text does nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from activities import START
from audit_log import write
from conftest import Command
from forensic_log import rollout
from kubewitness.forensics.objects.fields import Field
from kubewitness.forensics.objects.model import Change, Effect, History, Subject
from kubewitness.report.history_page import FIELDS, ROWS, history_page
from kubewitness.report.history_wording import gist, lives, runs, sentence
from kubewitness.report.lifelines import lifelines

HOSTILE = "</title><script>alert('x')</script>\u202e\x1b[2J{{7*7}}"


def change(minutes: float = 0, effect: Effect = "changed", **other: Any) -> Change:
    at = START + timedelta(minutes=minutes)
    plain = Change(
        at=at,
        until=at,
        life=1,
        uid="u-1",
        effect=effect,
        how="patch",
        subresource="",
        principal="ada",
        acting_as="",
        owner="",
        source_ips=("10.8.0.4",),
        user_agent="kubectl",
        reason="",
        outcome="denied" if effect == "refused" else "ok",
        code=403 if effect == "refused" else 200,
        level="RequestResponse",
        fields=(),
        note="",
        n=1,
        audit_ids=("id-1",),
    )
    return msgspec.structs.replace(plain, **other)


def history(*changes: Change, lives: int = 1, name: str = "web") -> History:
    return History(Subject("prod", "deployments.apps", "shop", name), changes, lives, ())


class _Tags(HTMLParser):
    """Counts opened tags, and fails where one is closed that is not open."""

    VOID = frozenset({"meta", "link", "wbr", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(page: str) -> list[str]:
    parser = _Tags()
    parser.feed(page)
    assert parser.open == []
    return parser.seen


EVERY = tuple(change(n, effect) for n, effect in enumerate(get_args(Effect)))


def test_every_effect_has_its_place() -> None:
    page = history_page(history(*EVERY))
    tags(page)
    for effect in get_args(Effect):
        shown = effect.replace(" ", "-")
        assert f'class="mark is-{shown}"' in page
        assert re.search(rf'<li class="is-{shown}[ "]', page)
        assert f".is-{shown}" in page, "a colour"


def test_hostile_text_is_shown_and_does_nothing() -> None:
    field = Field(HOSTILE, "replace", HOSTILE, {HOSTILE: HOSTILE})
    evil = change(
        fields=(field,), note=HOSTILE, reason=HOSTILE, principal=HOSTILE, acting_as=HOSTILE,
        owner=HOSTILE, source_ips=(HOSTILE,), user_agent=HOSTILE, how=HOSTILE, level=HOSTILE,
        subresource=HOSTILE, uid=HOSTILE, audit_ids=(HOSTILE,),
    )  # fmt: skip
    page = history_page(history(evil, name=HOSTILE))
    harmless = history_page(history(change(fields=(Field("a.b", "replace", 1, 2),), note="n",
        reason="r", acting_as="x", owner="o", subresource="s")))  # fmt: skip
    assert [t for t in tags(page) if t != "wbr"] == [t for t in tags(harmless) if t != "wbr"]
    assert "<script" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "{{7*7}}" in page


def test_the_sentence_tells_who_did_what() -> None:
    told = sentence(
        history(
            change(0, "created"),
            change(1, principal="ben"),
            change(2, principal="eve", acting_as="root"),
            change(3, "refused", principal="mia", outcome="conflict", code=409),
            change(4, "deleted", principal="zoe"),
        )
    )
    assert "ada made it, ben and eve as root changed it, zoe deleted it" in told
    assert "mia" not in told, "a conflict between writers is no attempt"
    assert "5 requests by 5 principals over 4 min" in told


def test_a_history_without_changes_has_no_picture() -> None:
    assert lifelines(history()) == ""
    assert "Nothing was done" in history_page(history())


def test_lives_begin_and_end_as_the_log_says() -> None:
    found = history(
        change(0),
        change(5, "deleted"),
        change(7, "created", life=2, uid="u-2"),
        change(9, life=2, uid="u-2"),
        lives=2,
    )
    at = [START + timedelta(minutes=n) for n in (0, 5, 7)]
    assert lives(found) == [(1, at[0], at[1], False), (2, at[2], None, True)]
    page = history_page(found)
    assert page.count('class="band before"') == 1
    assert page.count('class="band"') == 1
    assert re.findall(r"Life (\d) of 2", page) == ["1", "2"]


def test_the_gist_is_the_field_that_says_most() -> None:
    fields = tuple(
        Field(path, "replace", 1, 2)
        for path in ("metadata.labels.a", "status.x", "spec.template.spec.containers[web].image")
    )
    assert gist(change(fields=fields)) == "image +2"
    assert gist(change(0, "touched", subresource="exec", how="create")) == (
        "touched (create of exec)"
    )


def test_a_giant_history_is_bounded() -> None:
    fields = tuple(Field(f"spec.f{n}", "add", None, n) for n in range(500))
    many = [change(n, principal=f"p{n % 40}", fields=fields) for n in range(1000)]
    page = history_page(history(*many))
    assert page.count('<tr class="add">') == ROWS * FIELDS
    assert "700 earlier lines" in page
    assert page.count('class="lane"') == 9
    assert "32 others" in page


def test_changes_of_the_status_by_one_hand_are_one_line() -> None:
    status = [change(n, subresource="status") for n in range(3)]
    assert [len(run) for run in runs([*status, change(5)])] == [3, 1]


def test_the_command_writes_the_page(kubewitness: Command, tmp_path: Path) -> None:
    log = write(tmp_path / "audit.log", rollout())
    page = tmp_path / "history.html"
    assert kubewitness("history", "deploy/web", log, "--report", page).code == 0
    text = page.read_text(encoding="utf-8")
    tags(text)
    assert "deployments/web in shop" in re.sub("<wbr>", "", text)
    assert "ada" in text
    refused = kubewitness("history", "deploy/web", log, "--report", tmp_path / "none" / "x.html")
    assert refused.code == 1


@pytest.mark.parametrize("effect", ["created", "refused"])
def test_an_instant_has_a_picture(effect: Effect) -> None:
    assert lifelines(history(change(0, effect))).count("<svg") == 1
