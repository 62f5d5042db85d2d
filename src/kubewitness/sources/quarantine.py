"""Where broken lines are kept, so that somebody can look at them and read them again.

One JSON object a line: ``source``, ``line``, ``reason`` and the bytes as ``text``, or as ``base64``
where they are not UTF-8, with ``cut`` where only the first 64 KiB were kept.

A broken line may hold what the cluster keeps secret: an audit log at the levels Request and
RequestResponse has bodies. Bodies and what looks like a secret are replaced (whoever needs the
whole line finds it in the source), the file can be read by its owner only (0600), lines that were
understood and passed over are not in it, only counted; and it stops growing at 256 MiB.

A service has a file a day (``DailyQuarantine``).
"""

from __future__ import annotations

import base64
import os
import secrets
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from kubewitness.events.redaction import Redactor
from kubewitness.sources.spool import writing

KEPT = 64 << 10
LIMIT = 256 << 20


class Quarantine:
    """The file at ``path``, made when the first broken line comes, appended to if it exists.

    ``redactor``: the lake's own, so that equal secrets are equal here, too.
    """

    def __init__(self, path: Path, redactor: Redactor | None = None) -> None:
        self.path = path
        self._redactor = redactor or Redactor(secrets.token_bytes(32))
        self.full = False
        self._file: BinaryIO | None = None
        self._size = 0

    @property
    def used(self) -> bool:
        return self._file is not None

    def keep(self, source: str, line: int, reason: str, raw: bytes) -> None:
        kept = self._redactor.line(raw[:KEPT])
        entry: dict[str, object] = {"source": source, "line": line, "reason": reason}
        try:
            entry["text"] = kept.decode()
        except UnicodeDecodeError:
            entry["base64"] = base64.b64encode(kept).decode()
        if len(raw) > KEPT:
            entry["cut"] = True
        data = msgspec.json.encode(entry) + b"\n"
        self._size += len(data)
        if self._size > LIMIT:
            self.full = True
            return
        with writing(self.path):
            if self._file is None:
                self._file = _private(self.path)
            self._file.write(data)

    def flush(self) -> None:
        if self._file is not None:
            with writing(self.path):
                self._file.flush()

    def close(self) -> None:
        if self._file is not None and not self._file.closed:
            with writing(self.path):
                self._file.close()


class DailyQuarantine(Quarantine):
    """Files ``received-DATE.jsonl`` in ``folder``, by the day (UTC); threads may share it."""

    def __init__(self, folder: Path, redactor: Redactor) -> None:
        super().__init__(folder, redactor)
        self._folder = folder
        self._day = -1.0
        self._alone = threading.Lock()

    def keep(self, source: str, line: int, reason: str, raw: bytes) -> None:
        with self._alone:
            day = time.time() // 86_400
            if day != self._day:
                super().close()
                name = f"received-{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}.jsonl"
                self._day, self.path = day, self._folder / name
                self._file, self.full = None, False
                self._size = self.path.stat().st_size if self.path.exists() else 0
            super().keep(source, line, reason, raw)

    def flush(self) -> None:
        with self._alone:
            super().flush()

    def close(self) -> None:
        with self._alone:
            super().close()


def _private(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "ab")
