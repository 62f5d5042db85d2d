"""Slack, by an incoming webhook: Block Kit within its limits.

What a log says stands in ``plain_text`` elements, where nothing is marked up, mentioned or linked,
and with ``&``, ``<`` and ``>`` escaped all the same, as Slack asks of every text. Whatever looks
like a mention of everybody is taken apart, and no link is unfolded: that would be a request to
wherever an attacker likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from kubewitness.config import settings
from kubewitness.incidents.model import Incident
from kubewitness.report import exports, tactics
from kubewitness.report.inert import ends, plain
from kubewitness.report.wording import brief, period, plural, principal
from kubewitness.sinks.posting import Message, Poster
from kubewitness.sinks.sink import Notice

HEADER, TEXT, FIELD = 150, 3000, 2000
"""Characters that Slack takes in a header, in a text and in a field of a section."""
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_EVERYBODY = re.compile(r"@(?=(channel|here|everyone|group)\b)", re.IGNORECASE)


def sink(wanted: settings.Sink) -> Poster:
    return Poster(wanted, _message, secret_url=True)


def _message(notice: Notice, _: datetime) -> Message:
    return Message(exports.json_bytes(document(notice)))


def document(notice: Notice) -> dict[str, Any]:
    """The message as plain values; ``text`` is what a notification shows."""
    headline = plain(notice.headline, 2 * TEXT)
    if notice.kind != "resolved":
        headline = f"{notice.incident.severity.capitalize()}: {headline}"
    return {
        "text": escaped(headline, TEXT),
        "blocks": list(_blocks(notice, headline)),
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _blocks(notice: Notice, headline: str) -> Iterator[dict[str, Any]]:
    incident = notice.incident
    yield {"type": "header", "text": _text(headline, HEADER)}
    yield from _section(plain(incident.summary, 2 * TEXT))
    yield {"type": "section", "fields": list(_fields(notice))}
    if notice.kind != "resolved":
        yield from _why_and_what_to_do(incident)
    told = f"kubewitness · incident {plain(incident.id, 60)} · score {incident.score:.1f}"
    yield {"type": "context", "elements": [_text(told, TEXT)]}


def _why_and_what_to_do(incident: Incident) -> Iterator[dict[str, Any]]:
    why = [f"• {plain(brief(reason.sentence), 300)}" for reason in incident.reasons[:4]]
    yield from _section("\n".join(why))
    steps = [f"{n}. {plain(step, 300)}" for n, step in enumerate(incident.next_steps[:4], 1)]
    yield from _section("\n".join(steps))


def _fields(notice: Notice) -> Iterator[dict[str, Any]]:
    """Two columns: what it is, and what a log says of it. At most ten fields go into a section."""
    incident = notice.incident
    for label, value in (
        ("Who", _listed(map(principal, incident.principals))),
        ("From", _listed(incident.source_ips)),
        ("Touched", _listed(map(brief, incident.objects))),
        ("Tactics", _listed(tactics.touched(incident))),
        (
            "When",
            f"{period(incident.opened_at, incident.updated_at)}, cluster {plain(incident.cluster)}",
        ),
    ):
        if value.strip():
            yield {"type": "mrkdwn", "text": f"*{label}*", "verbatim": True}
            yield _text(value, FIELD)


def _listed(texts: Iterable[str]) -> str:
    known = list(texts)
    more = f" and {plural(len(known) - 5, 'other')}" if len(known) > 5 else ""
    return ", ".join(plain(text, 120) for text in known[:5]) + more


def _section(text: str) -> Iterator[dict[str, Any]]:
    # Slack refuses a message with an empty text.
    if text.strip():
        yield {"type": "section", "text": _text(text, TEXT)}


def _text(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": escaped(text, limit), "emoji": False}


def escaped(text: str, limit: int) -> str:
    """``text`` with Slack's three letters escaped and no mention of everybody, within ``limit``.

    >>> escaped("<!channel> & @here", 150)
    '&lt;!channel&gt; &amp; @ here'
    """
    apart = _EVERYBODY.sub("@ ", text)
    cap = min(limit, len(apart))
    while len(shown := "".join(_ENTITIES.get(c, c) for c in ends(apart, cap))) > limit:
        cap -= max(1, (len(shown) - limit) // 5)
    return shown
