"""The service's own log: one line a record on stderr, as text or as JSON.

What is logged may quote what a client, a sink or a file said. So every line is redacted and made
inert (``report.inert``), is of bounded length, and what repeats is counted instead of written: a
sender of broken lines cannot fill a disk with what we say of them.
"""

from __future__ import annotations

import logging
import secrets
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import IO, Literal

import msgspec

from kubewitness.events.redaction import Redactor
from kubewitness.report.inert import plain

LONGEST = 2000
"""Characters of a message; of a traceback four times as many."""

MOST_ALIKE = 30
"""Records of one template that are written in ``WINDOW`` seconds."""
WINDOW = 60.0
MOST_TEMPLATES = 1000

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "held_back"}


def write_logs(
    form: Literal["text", "json"], stream: IO[str] | None = None, *, level: int = logging.INFO
) -> None:
    """Send the records of all loggers of this process to ``stream`` (stderr), and nowhere else."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Line(form))
    handler.addFilter(Thrift())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    # Each request and migration at level INFO is for whoever develops those.
    for name in ("httpx2", "httpcore2", "alembic", "sqlalchemy", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Line(logging.Formatter):
    """A record as one line. What was given as ``extra`` are further fields.

    >>> record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": "b\\x1b[2J"})
    >>> Line("text").format(record).partition(" ")[2]
    'INFO a: b\\\\x1b[2J'
    """

    def __init__(self, form: Literal["text", "json"]) -> None:
        super().__init__()
        self._json = form == "json"
        # Equal secrets need not be joined over two runs.
        self._redactor = Redactor(secrets.token_bytes(32))

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": self._shown(_message(record)),
        }
        for name, value in record.__dict__.items():
            if name not in _OWN:
                number = isinstance(value, int | float)
                fields[name] = value if number else self._shown(str(value))
        held_back = getattr(record, "held_back", 0)
        if held_back:
            fields["held_back"] = held_back
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = self._shown("".join(traceback.format_exception(*record.exc_info)), 4)
        return msgspec.json.encode(fields).decode() if self._json else _text(fields)

    def _shown(self, text: str, times: int = 1) -> str:
        # Redacted before it is cut, as half a secret would not be known as one.
        return plain(self._redactor.text(text[: 64 * LONGEST]), times * LONGEST)


class Thrift(logging.Filter):
    """Lets ``MOST_ALIKE`` records of one template pass in a window of time and counts the others;
    the next that passes tells how many (``held_back``)."""

    def __init__(self) -> None:
        super().__init__()
        self._began = 0.0
        self._passed: dict[tuple[str, int, str], int] = {}
        self._held: dict[tuple[str, int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        # A template is what the program says, whatever it is filled with.
        template = (record.name, record.levelno, str(record.msg)[:LONGEST])
        if template not in self._passed and len(self._passed) >= MOST_TEMPLATES:
            template = (record.name, record.levelno, "")
        now = time.monotonic()
        if now - self._began >= WINDOW:
            self._began = now
            self._held = {key: n - MOST_ALIKE for key, n in self._passed.items() if n > MOST_ALIKE}
            self._passed.clear()
        n = self._passed[template] = self._passed.get(template, 0) + 1
        record.held_back = self._held.pop(template, 0)
        return n <= MOST_ALIKE


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a wrong template must not hide what there was to say
        return f"{record.msg} {record.args}"


def _text(fields: dict[str, object]) -> str:
    head = f"{fields.pop('time')} {fields.pop('level')} {fields.pop('logger')}:"
    said = fields.pop("message")
    return " ".join([head, str(said), *(f"{name}={value}" for name, value in fields.items())])


def _rfc3339(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
