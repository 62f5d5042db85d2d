"""What tools are asked with: types that say to an assistant what to write, and times."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from kubewitness.errors import KubewitnessError
from kubewitness.times import Moment, moment

Rows = Annotated[
    int, Field(ge=1, le=500, description="At most so many elements of each list in the answer.")
]
Start = Annotated[
    int,
    Field(ge=0, le=100_000, description="Leave out so many elements at the head of each list."),
]
Time = Annotated[
    str,
    Field(
        max_length=40,
        description="A date, an RFC 3339 time, or a duration like 7d or 2h30m that counts back from"
        " the last event of the log.",
    ),
]
Namespace = Annotated[str, Field(max_length=253, description="The namespace of the object.")]
Cluster = Annotated[
    str, Field(max_length=253, description="The cluster that is meant, where a lake has several.")
]
Reference = Annotated[
    str,
    Field(
        max_length=1000,
        description="KIND/NAME, with any kind that kubectl knows: deploy/web, secret/payments-db,"
        " clusterrolebinding/ops.",
    ),
]
Expression = Annotated[str, Field(max_length=10_000, description="A filter; '' for all events.")]


def point(text: str | None) -> Moment | None:
    """A time as an assistant wrote it. Raises ``KubewitnessError`` for what is none."""
    try:
        return moment(text) if text else None
    except ValueError as error:
        raise KubewitnessError(str(error)) from error


def instant(text: str | None, last: datetime) -> datetime | None:
    """The same in a log that ends at ``last``."""
    when = point(text)
    return when.at(last) if when else None
