"""The lake that is asked, and the last analysis of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import duckdb
from mcp_types import CallToolResult

from kubewitness import inquiry
from kubewitness.assistant.parameters import point
from kubewitness.assistant.portion import portion
from kubewitness.assistant.told import refused, told
from kubewitness.errors import KubewitnessError
from kubewitness.incidents.model import Incident
from kubewitness.report import kept
from kubewitness.report.model import Analysis

PATIENCE = 60.0
"""Seconds a question may take; whoever waits longer has asked for too much."""

_AGAIN = 0.01

_Found = TypeVar("_Found")


class Witness:
    """Answers questions of one lake, one at a time: each may take all cores.

    Raises ``KubewitnessError`` where there is no lake.
    """

    def __init__(self, lake: Path, *, patience: float = PATIENCE) -> None:
        if not (lake / "lake.json").exists():
            raise KubewitnessError(
                "there is no lake",
                where=str(lake),
                remedy="make one: kubewitness ingest PATH... --lake DIR",
            )
        self._lake = lake
        self._patience = patience
        self._turn = threading.Lock()

    @property
    def kept(self) -> Path:
        """Where the last analysis is, if there is one."""
        return self._lake / "analysis.json"

    def analysis(self) -> Analysis:
        """The last analysis. Raises ``KubewitnessError`` where there is none."""
        try:
            return kept.recall(self.kept)
        except KubewitnessError as error:
            raise KubewitnessError(
                error.what,
                where=error.where,
                remedy="somebody with a shell has to run: kubewitness analyze --lake DIR",
            ) from error

    def incident(self, identity: str) -> Incident | None:
        """The incident that is meant, if ``identity`` can only mean one."""
        if "/" in identity or len(identity) < kept.TELLING or not self.kept.exists():
            return None
        try:
            return kept.named(self.analysis(), identity, self.kept)
        except KubewitnessError:
            return None

    def told(
        self,
        question: Callable[[duckdb.DuckDBPyConnection], Mapping[str, Any]],
        cluster: str | None,
        rows: int,
        start: int = 0,
        until: str | None = None,
    ) -> CallToolResult:
        """What ``question`` finds in the lake before ``until``, in a portion.

        Raises ``ToolError`` where it finds nothing, or takes too long.
        """
        with refused():
            with self._turn:
                found, intake = inquiry.ask(
                    [],
                    self._timed(question),
                    lake=self._lake,
                    cluster=cluster,
                    until=point(until),
                )
            return told(portion(found, rows=rows, start=start), intake.warnings)

    def _timed(
        self, question: Callable[[duckdb.DuckDBPyConnection], _Found]
    ) -> Callable[[duckdb.DuckDBPyConnection], _Found]:
        def asked(connection: duckdb.DuckDBPyConnection) -> _Found:
            answered = threading.Event()
            alarm = threading.Thread(target=self._stop, args=(connection, answered), daemon=True)
            alarm.start()
            try:
                return question(connection)
            except duckdb.InterruptException as error:
                raise KubewitnessError(
                    f"the question took longer than {self._patience:.0f} seconds",
                    remedy="ask a narrower one: with a namespace, since and until",
                ) from error
            finally:
                answered.set()
                alarm.join()

        return asked

    def _stop(self, connection: duckdb.DuckDBPyConnection, answered: threading.Event) -> None:
        """Interrupts what takes too long: again and again, as between two questions to the engine
        there is nothing to interrupt."""
        if not answered.wait(self._patience):
            while not answered.wait(_AGAIN):
                connection.interrupt()
