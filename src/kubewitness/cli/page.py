"""The file of ``--report``."""

from __future__ import annotations

import os
from pathlib import Path

from kubewitness.errors import KubewitnessError


def require_writable(path: Path) -> None:
    """A mistake in the name should cost neither the time of an analysis nor a file that is none
    of ours: ``--report audit.log``."""
    folder = _followed(path).parent
    if not folder.is_dir():
        raise _unwritable(path, "no such directory")
    if not os.access(path if _is_special(path) else folder, os.W_OK):
        raise _unwritable(path, "not writable")
    if path.is_file() and not _is_page(path):
        raise _unwritable(path, "there is a file that is no report")


def write_page(path: Path, page: str) -> None:
    """Write a page whole or not at all: a full disk costs no earlier report."""
    try:
        if _is_special(path):
            path.write_text(page, encoding="utf-8")
            return
        whole = _followed(path)
        draft = whole.with_name(f".{whole.name[:100]}.{os.getpid()}")
        try:
            draft.write_text(page, encoding="utf-8")
            draft.replace(whole)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def _followed(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_page(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(15).lower() in (b"", b"<!doctype html>")
    except OSError:
        return False


def _is_special(path: Path) -> bool:
    """A pipe or a device: nothing to be replaced."""
    return path.exists() and not path.is_file()


def _unwritable(path: Path, problem: str) -> KubewitnessError:
    return KubewitnessError(
        f"the report cannot be written: {problem}",
        where=str(path),
        remedy="choose another file with --report",
    )
