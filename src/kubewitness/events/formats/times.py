"""Timestamps of every shipper, as the API server writes them: ``2025-10-12T14:47:21.123456Z``."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from kubewitness.events.columns import EARLIEST, LATEST

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"\d{9,19}(?:\.\d{1,9})?")
_FRACTION = re.compile(r"(\.\d{6})\d+")
# Azure's portal and its CSV export: 5/8/2020, 10:44:17.862 PM
_PORTAL = "%m/%d/%Y, %I:%M:%S.%f %p"


def timestamp(value: Any) -> str | None:
    """``value`` in UTC with microseconds; ``None`` where it is no time between 2000 and 2100.

    Takes RFC 3339 with any offset (none means UTC), with a space for the ``T``, with nanoseconds;
    epoch numbers in seconds, milli-, micro- or nanoseconds; and datetimes (YAML).

    >>> timestamp("2023-07-31 01:58:12.101")
    '2023-07-31T01:58:12.101000Z'
    >>> timestamp("2025-10-12T16:47:21.123456789+02:00")
    '2025-10-12T14:47:21.123456Z'
    >>> timestamp(1736000000000)
    '2025-01-04T14:13:20.000000Z'
    >>> timestamp("99999-01-01T00:00:00Z")
    """
    moment = _moment(value)
    if moment is None or not EARLIEST <= moment < LATEST:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        text = value.strip().removesuffix(" UTC")
        return _number(float(text)) if _NUMBER.fullmatch(text) else _written(text)
    if isinstance(value, datetime):
        return _utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    return None


def _written(text: str) -> datetime | None:
    try:
        return _utc(datetime.fromisoformat(_FRACTION.sub(r"\1", text)))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.strptime(text, _PORTAL).replace(tzinfo=UTC)
    except ValueError:
        return None


def _utc(moment: datetime) -> datetime | None:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        return None


def _number(value: float) -> datetime | None:
    """The unit is told by the magnitude: all four agree on the years 1973 to 5138."""
    try:
        value = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    if not math.isfinite(value):
        return None
    for unit, below in ((1, 1e11), (1e3, 1e14), (1e6, 1e17), (1e9, 1e20)):
        if abs(value) < below:
            try:
                return _EPOCH + timedelta(seconds=value / unit)
            except OverflowError:
                return None
    return None
