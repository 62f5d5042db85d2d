"""From what the user named to files: paths, directories, globs and ``-``."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kubewitness.errors import SourceError

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One stream to read: a file, or standard input where ``path`` is ``None``."""

    name: str
    path: Path | None


def expand(paths: Iterable[str | Path]) -> list[Source]:
    """The files that ``paths`` stand for, in order, each once.

    A directory stands for all files below it, sorted, without hidden ones; symbolic links are
    followed, and no directory is entered twice. Pipes and devices are read where they are named
    only (to wait for one that happens to lie around could take for ever), lakes never. Raises
    ``SourceError`` for what does not exist and for a directory or a glob without files: a typing
    mistake is told before anything is read.
    """
    sources: list[Source] = []
    seen: set[tuple[int, int]] = set()
    for given in map(str, paths):
        if given == STDIN:
            sources.append(Source(STDIN, None))
            continue
        found = list(_files(given))
        if not found:
            raise SourceError("holds no files", where=given, remedy="Hidden files are ignored.")
        for path in found:
            identity = _identity(path)
            if identity is None or identity not in seen:
                sources.append(Source(_name(path), path))
            if identity is not None:
                seen.add(identity)
    if not sources:
        raise SourceError("no source given", remedy="Name files, directories or - for stdin.")
    if sum(source.path is None for source in sources) > 1:
        raise SourceError("named twice", where=STDIN, remedy="Standard input can be read once.")
    return sources


def _name(path: Path) -> str:
    """The path as text that can be written anywhere, even where its bytes are no UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _files(given: str) -> Iterator[Path]:
    if not given:  # an unset variable of a script, not the current directory
        raise SourceError("no name given", remedy="Name files, directories or - for stdin.")
    path = Path(given)
    if _is_lake(path):
        raise SourceError("is a lake", where=given, remedy="Give it with --lake.")
    if path.is_dir():
        yield from _below(path, set())
    elif os.path.lexists(path):
        yield path
    elif glob.has_magic(given):
        for match in sorted(glob.glob(given, recursive=True)):
            if not os.path.isdir(match) and not _is_special(Path(match)):
                yield Path(match)
    else:
        raise SourceError("no such file or directory", where=given)


def _below(directory: Path, entered: set[tuple[int, int]]) -> Iterator[Path]:
    identity = _identity(directory)
    if identity is None or identity in entered:
        return
    entered.add(identity)
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise SourceError(reason(error), where=str(directory)) from error
    for name in names:
        if name.startswith("."):
            continue
        path = directory / name
        if path.is_dir():
            if not _is_lake(path):
                yield from _below(path, entered)
        elif not _is_special(path):
            yield path


def _is_lake(path: Path) -> bool:
    return (path / "lake.json").is_file() and (path / "events").is_dir()


def _is_special(path: Path) -> bool:
    """Neither a file nor a broken link to one."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def reason(error: OSError) -> str:
    """What the operating system says, without the path."""
    return (error.strerror or str(error)).lower()
