"""Everything kubewitness raises on purpose.

    KubewitnessError            exit code 1
    ├── SourceError             a path that cannot be read, or holds nothing that can be
    ├── StrictError             ``--strict`` was asked for and a line was not an audit event
    ├── LakeError               the Parquet lake is damaged, full or not writable
    │   └── SpoolFull           as much waits to be stored as may wait
    ├── StateError              the state database is no such thing, damaged, or of a newer version
    │   └── StateUnavailable    it is locked, full or gone for now: try again later
    ├── ConfigError             the configuration of the service, or an audit policy, has mistakes
    ├── QueryError              a query that cannot be read; exit code 2
    ├── MisuseError             what was asked for does not go together; exit code 2
    └── DeliveryError           a notice that did not reach its sink (``sinks.sink``)

Each says what happened, where, and what to do next; the command line prints exactly that and
exits with ``exit_code``. A usage mistake is click's own ``UsageError`` (exit code 2).
"""

from __future__ import annotations


class KubewitnessError(Exception):
    """What went wrong (``what``), where (``where``: a path or ``file:line``) and ``remedy``."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{advice}"


class SourceError(KubewitnessError):
    """A source that cannot be read at all."""


class StrictError(KubewitnessError):
    """``--strict``: something in the input was not an audit event."""


class LakeError(KubewitnessError):
    """The lake cannot be read or written."""


class SpoolFull(LakeError):  # noqa: N818 - a state, not a fault: it passes
    """As much waits to be stored as may wait; who brings more has to come again later."""


class StateError(KubewitnessError):
    """The state database cannot be used, and trying again will not help."""


class StateUnavailable(StateError):  # noqa: N818 (what it is: a state of the state)
    """The state database cannot be used now: whoever asked waits a little and asks again."""


class ConfigError(KubewitnessError):
    """Settings or an audit policy that cannot be taken so: ``remedy`` lists all mistakes."""


class MisuseError(KubewitnessError):
    """What was asked for does not go together, whatever the log holds."""

    exit_code = 2


class QueryError(KubewitnessError):
    """A query that cannot be read: ``column`` (from 0) of ``text`` is where, ``hint`` what helps.

    >>> print(QueryError("there is no field 'verv'", "verv = get", 0, hint="did you mean verb?"))
    there is no field 'verv', did you mean verb?
      verv = get
      ^
    """

    exit_code = 2

    def __init__(self, what: str, text: str, column: int, *, hint: str = "") -> None:
        self.text = text
        self.column = column
        # A window, as the query may be long; and a place for each character, whatever it is.
        begin = max(0, column - 60)
        window = "".join(c if c.isprintable() else " " for c in text[begin : begin + 78])
        super().__init__(
            f"{what}{', ' if hint else ''}{hint}",
            remedy=f"{window}\n  {' ' * (column - begin)}^",
        )
