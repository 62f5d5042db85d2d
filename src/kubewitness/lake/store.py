"""The lake: a folder of Parquet files that any engine can read.

    LAKE/
      lake.json                 the format's version and the redaction key
      events/cluster=NAME/date=YYYY-MM-DD/part-UUID.parquet     (lake/day.py)
      objects/                  large parts once more, in the order of objects (lake/arranging.py)
      quarantine/               lines that were no audit events, one JSON Lines file a run
      staging/                  parts being written; whatever a killed run left here is deleted

A part appears under its final name only when it is whole (written aside, then renamed), and never
changes afterwards.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import duckdb
import msgspec

from kubewitness.errors import LakeError
from kubewitness.events.change import CHANGE_COLUMNS, TOUCH_COLUMNS, change_rows, touch_rows
from kubewitness.events.columns import EVENT_COLUMNS
from kubewitness.events.normalisation import quoted
from kubewitness.events.redaction import Redactor
from kubewitness.lake.day import Day, damage
from kubewitness.lake.locks import alone, together
from kubewitness.sources.spool import REMEDY

log = logging.getLogger(__name__)

VERSION = 1
ARRANGED = "v1"
"""In which way events are arranged; others are deleted, and made anew."""

# How many files there are in all: changes-0000-of-0004.parquet
_OF = re.compile(r"-of-(\d+)\.parquet$")

# Parts are merged now and then, and what they were is kept for minutes: a reader that has lost one
# hardly loses another in its second attempt.
ATTEMPTS = 5

GOES_ON = "free some disk space, and see who may write there: it goes on by itself"


class _Header(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=1)]
    redaction_key: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Lake:
    """One lake folder; made when missing. Parts of one that is not ``lasting`` are of any day.

    Without ``bodies`` only what is told of them is kept. Of a ``durable`` one, parts outlive a
    power failure from the moment they are placed: whoever acknowledges events needs that, a run
    that can be repeated does not. ``stubborn`` parts could not be arranged.

    Raises ``LakeError`` when the folder cannot be made, is no lake, or is of a newer version.
    """

    def __init__(
        self, root: Path, *, lasting: bool = True, bodies: bool = True, durable: bool = False
    ) -> None:
        self.root = root
        self.lasting = lasting
        self.bodies = bodies
        self.durable = durable
        self.events = root / "events"
        self.objects = root / "objects" / ARRANGED
        self.staging = root / "staging"
        self.quarantine = root / "quarantine"
        self._days: dict[Path, Day] = {}
        self._attached: list[Path] = []
        self._disarranged: set[Path] = set()
        self.stubborn: set[Path] = set()
        self._header = self._open()

    @property
    def redactor(self) -> Redactor:
        """Replaces secrets under this lake's own key."""
        return Redactor(bytes.fromhex(self._header.redaction_key))

    def days(self) -> list[Day]:
        """Every cluster's days, in a stable order."""
        folders = sorted(self.events.glob("cluster=*/date=*"))
        self._days = {folder: self.day(folder) for folder in folders}
        return list(self._days.values())

    def day(self, folder: Path) -> Day:
        """The one in ``folder``, with what is known of it already."""
        return self._days.setdefault(folder, Day(folder))

    def parts(self) -> list[Path]:
        """The event files, in a stable order."""
        return [part for day in self.days() for part in day.parts()]

    def arrangement(self, part: Path) -> Path:
        """Where the events of a part are in the order of objects, if they are."""
        return self.objects / part.parent.relative_to(self.events) / part.stem

    def arranged(self) -> dict[Path, list[Path]]:
        """The files of all arrangements that are whole, by the part, which may be gone."""
        found: dict[Path, list[Path]] = {}
        for file in sorted(self.objects.glob("cluster=*/date=*/*/*.parquet")):
            home = file.parent
            if home not in self._disarranged:
                day = self.events / home.parent.relative_to(self.objects)
                found.setdefault(day / f"{home.name}.parquet", []).append(file)
        return {part: files for part, files in found.items() if _is_whole(files)}

    def arrange(self, part: Path, draft: Path) -> bool:
        """Put a folder with the arrangement of a part in place, unless one is there or the part
        does not count any longer."""
        with alone(self.events):
            if part not in self.day(part.parent).parts() or part in self.arranged():
                return False
            home = self.arrangement(part)
            self._discard(home)
            home.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(home)
            self._disarranged.discard(home)
        return True

    def sweep(self) -> None:
        """Delete arrangements of parts that are gone, and those of other versions."""
        for home in self.objects.glob("cluster=*/date=*/*"):
            day = self.events / home.parent.relative_to(self.objects)
            if not (day / f"{home.name}.parquet").exists():
                self._discard(home)
        for other in self.objects.parent.glob("*"):
            if other != self.objects:
                self._discard(other)

    def _discard(self, folder: Path) -> None:
        """By one rename: half of an arrangement would answer for the whole."""
        self.staging.mkdir(parents=True, exist_ok=True)
        away = self.staging / f"gone-{uuid.uuid4().hex}"
        with suppress(OSError):
            folder.rename(away)
        shutil.rmtree(away, ignore_errors=True)

    @contextmanager
    def run(self) -> Iterator[Path]:
        """A folder in which one ingest writes its parts, deleted at the end.

        What killed runs have left is deleted when no other process ingests.
        """
        self.staging.mkdir(parents=True, exist_ok=True)
        with together(self.staging, first=self._clear_staging):
            folder = self.staging / uuid.uuid4().hex
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def writing(self, remedy: str = REMEDY) -> Iterator[None]:
        """Turns what the engine and the disk say into a ``LakeError``."""
        try:
            yield
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise LakeError(
                f"writing stopped: {str(error).splitlines()[0]}",
                where=str(self.root),
                remedy=remedy,
            ) from error
        except OSError as error:
            raise LakeError(
                f"writing stopped: {error.strerror or error}",
                where=str(error.filename or self.root),
                remedy=remedy,
            ) from error

    def place(self, drafts: Iterable[Path], home: Path) -> list[Path]:
        """Rename whole files into ``home``, which is made; returns where they are now."""
        drafts = list(drafts)
        if self.durable:
            for draft in drafts:
                synced(draft)
        home.mkdir(parents=True, exist_ok=True)
        placed = [draft.replace(home / draft.name) for draft in drafts]
        if self.durable:
            for folder in (home, *home.relative_to(self.root).parents):
                synced(self.root / folder)
        return placed

    def attach(
        self, connection: duckdb.DuckDBPyConnection, parts: Sequence[Path] | None = None
    ) -> None:
        """Make the view ``events`` (``EVENT_COLUMNS`` + ``date``) over all parts, or some, and two
        more over the same events, in which objects are found at once: ``changes``
        (``CHANGE_COLUMNS``) of those that are changes, ``touches`` (``TOUCH_COLUMNS``) of all."""
        for left in reversed(range(ATTEMPTS)):
            chosen = self.parts() if parts is None else list(parts)
            arranged = self.arranged()
            files = [file for part in chosen for file in arranged.get(part, ())]
            others = [part for part in chosen if part not in arranged]
            self._attached = [*chosen, *files]
            try:
                for view, select in _views(chosen, files, others).items():
                    connection.execute(f"CREATE OR REPLACE VIEW {view} AS {select}")
            except duckdb.Error:
                if not left or not (self.outdated or self._disarrange(files, connection)):
                    raise
            else:
                return

    @property
    def outdated(self) -> bool:
        """Whether files of the views are gone: merged into others, or too old. Then
        ``attach`` again and ask again."""
        return not all(part.exists() for part in self._attached)

    def set_damaged_aside(
        self, connection: duckdb.DuckDBPyConnection, *, thoroughly: Iterable[Path] = ()
    ) -> list[str]:
        """Move parts that cannot be read into the quarantine, so that none hides the others.

        Looks at the schema of each part, of those to be looked at ``thoroughly`` at every value,
        and of their arrangements, which are made anew. Returns a warning for each.
        """
        thoroughly = list(thoroughly)
        problems = {
            part: footer.problem
            for day in self.days()
            for part, footer in day.fresh_footers(connection).items()
            if footer.problem
        }
        for part in thoroughly:
            select = self.relation([part])
            if part not in problems and (problem := _problem(part, select, connection)):
                problems[part] = problem
        return [
            *(
                f"damaged lake part {self._set_aside(part)} ({problem}): ingest the logs of"
                f" {part.parent.name.partition('=')[2]} again to have its events back"
                for part, problem in sorted(problems.items())
            ),
            *self.disarrange(thoroughly, connection),
        ]

    def disarrange(self, parts: Iterable[Path], connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Do without the arrangements of these parts that cannot be read; returns a warning for
        each."""
        arranged = self.arranged()
        return self._disarrange([f for part in parts for f in arranged.get(part, ())], connection)

    def _disarrange(
        self, files: Iterable[Path], connection: duckdb.DuckDBPyConnection
    ) -> list[str]:
        """Do without arrangements that cannot be read; returns a warning for each."""
        warnings = []
        for file in files:
            kind = CHANGE_COLUMNS if file.name.startswith("changes-") else TOUCH_COLUMNS
            problem = _problem(file, _rows([file], kind), connection)
            if problem and file.parent not in self._disarranged:
                self._disarranged.add(file.parent)
                self._discard(file.parent)
                warnings.append(
                    f"damaged {file} ({problem}): nothing is lost, and questions about objects take"
                    " longer until 'kubewitness ingest' or 'serve' has made it again"
                )
                log.warning("%s", warnings[-1])
        return warnings

    def _set_aside(self, part: Path) -> str:
        aside = self.quarantine / f"{part.parent.name}-{part.name}.damaged"
        try:
            self.quarantine.mkdir(exist_ok=True)
            return f"set aside as {part.replace(aside)}"
        except OSError:  # a lake that may only be read
            self.day(part.parent).leave_out(part)
            return f"left out: {part}"

    def _clear_staging(self) -> None:
        for left in self.staging.iterdir():
            shutil.rmtree(left, ignore_errors=True)

    @staticmethod
    def relation(parts: list[Path]) -> str:
        """A SELECT over these parts with the columns ``EVENT_COLUMNS`` and ``date``."""
        return _rows(parts, {**EVENT_COLUMNS, "date": "DATE"})

    def _open(self) -> _Header:
        if not _is_utf8(self.root):
            raise LakeError(
                "the name of a lake's folder has to be UTF-8",
                where=str(self.root),
                remedy="choose another folder with --lake",
            )
        header = self.root / "lake.json"
        try:
            if not header.exists():
                self._begin(header)
            found = msgspec.json.decode(header.read_bytes(), type=_Header)
        except OSError as error:
            raise LakeError(
                f"the lake cannot be opened: {error.strerror}",
                where=str(self.root),
                remedy="choose a writable folder with --lake",
            ) from error
        except msgspec.MsgspecError as error:
            raise LakeError(
                "lake.json is damaged",
                where=str(self.root / "lake.json"),
                remedy="restore it from a backup, or start a new lake and ingest again",
            ) from error
        if found.version > VERSION:
            raise LakeError(
                f"written by a newer kubewitness (lake version {found.version})",
                where=str(self.root),
                remedy="upgrade kubewitness",
            )
        return found

    def _begin(self, header: Path) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        draft = self.root / f"lake.{uuid.uuid4().hex}"
        try:
            draft.touch(mode=0o600)
            draft.write_bytes(msgspec.json.encode(_Header(VERSION, secrets.token_hex(32))))
            # Of two processes that begin at once, the second takes the key of the first.
            with suppress(FileExistsError):
                os.link(draft, header)
        finally:
            draft.unlink(missing_ok=True)


def _is_whole(files: list[Path]) -> bool:
    """Whether these are all files of an arrangement, as their names say."""
    found = _OF.search(files[0].name)
    return found is not None and len(files) == int(found[1])


def _views(parts: list[Path], arranged: list[Path], others: list[Path]) -> dict[str, str]:
    """SQL for each view: over ``parts``, of which some are ``arranged`` in these files and
    ``others`` are not."""
    events = Lake.relation(others)
    if not arranged:
        return {
            "events": Lake.relation(parts),
            "changes": change_rows(events),
            "touches": touch_rows(events),
        }
    changes = [file for file in arranged if file.name.startswith("changes-")]
    reads = [file for file in arranged if not file.name.startswith("changes-")]
    found = {
        "changes": [_rows(changes, CHANGE_COLUMNS)],
        "touches": [touch_rows(_rows(files, TOUCH_COLUMNS)) for files in (changes, reads)],
    }
    if others:
        found["changes"].append(change_rows(events))
        found["touches"].append(touch_rows(events))
    unions = {view: " UNION ALL ".join(selects) for view, selects in found.items()}
    return {"events": Lake.relation(parts), **unions}


def _rows(files: list[Path], columns: dict[str, str]) -> str:
    if not files:
        empty = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
        return f"SELECT {empty} WHERE false"
    listed = ", ".join(quoted(str(file)) for file in files)
    named = ", ".join(f'"{name}"' for name in columns)
    return f"SELECT {named} FROM read_parquet([{listed}], hive_partitioning=false)"


def synced(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _problem(file: Path, select: str, connection: duckdb.DuckDBPyConnection) -> str:
    """Why a value of a file, which ``select`` reads, cannot be read, or ''."""
    try:
        connection.execute(f"SELECT bit_xor(hash(row)) FROM ({select}) AS row").fetchall()
    except duckdb.Error as error:
        return damage(file, error)
    return ""


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def lake_at(root: Path | None, *, bodies: bool = False) -> Iterator[Lake]:
    """The lake at ``root``, or a temporary one that is deleted at the end.

    The temporary one keeps ``bodies`` only where somebody will ask for them.
    """
    if root is not None:
        yield Lake(root)
        return
    folder = Path(tempfile.mkdtemp(prefix="kubewitness-"))
    try:
        yield Lake(folder, lasting=False, bodies=bodies)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
