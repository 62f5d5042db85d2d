"""Durations and sizes as people write them: "1h30m", "64MiB"."""

from __future__ import annotations

import re
from decimal import Decimal

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[wdhms])")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST = 100 * 366 * _SECONDS["d"]

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgt])(i?))?b?", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_LARGEST = 1 << 60


def duration(text: str) -> float:
    """Seconds. A number alone is none, as it does not say of what.

    >>> duration("30d"), duration("1h30m"), duration("250ms")
    (2592000.0, 5400.0, 0.25)
    """
    if len(text) > 100 or not _DURATION.fullmatch(text):
        raise ValueError("no duration")
    units = [unit for _, unit in _PART.findall(text)]
    if len(set(units)) < len(units):
        raise ValueError("no duration, as it has a unit twice")
    seconds = sum(
        Decimal(n) * (Decimal("0.001") if unit == "ms" else _SECONDS[unit])
        for n, unit in _PART.findall(text)
    )
    if seconds > _LONGEST:
        raise ValueError("more than a hundred years")
    return float(seconds)


def spelled_duration(seconds: float) -> str:
    """What ``duration`` reads as ``seconds``.

    >>> spelled_duration(2592000.0), spelled_duration(5400.0), spelled_duration(0.25)
    ('30d', '1h30m', '0.25s')
    """
    if seconds != int(seconds):
        return f"{Decimal(repr(seconds)):f}s"
    rest, text = int(seconds), ""
    for unit in "dhms":
        n, rest = divmod(rest, _SECONDS[unit])
        text += f"{n}{unit}" if n else ""
    return text or "0s"


def size(text: str) -> int:
    """Bytes. As Kubernetes has it, "Mi" is a power of 1024 and "M" one of 1000; "B" may follow.

    >>> size("64MiB"), size("4GB"), size("512")
    (67108864, 4000000000, 512)
    """
    found = _SIZE.fullmatch(text) if len(text) < 40 else None
    if found is None:
        raise ValueError("no size")
    number, unit, binary = found.groups()
    factor = (1024 if binary else 1000) ** (_POWERS[unit.lower()] if unit else 0)
    bytes_ = Decimal(number) * factor
    if bytes_ > _LARGEST:
        raise ValueError("larger than an exbibyte")
    if bytes_ != int(bytes_):
        raise ValueError("no whole number of bytes")
    return int(bytes_)


def spelled_size(bytes_: int) -> str:
    """What ``size`` reads as ``bytes_``.

    >>> spelled_size(67108864), spelled_size(4000000000), spelled_size(4097)
    ('64MiB', '4GB', '4097')
    """
    exact = [(bytes_, "")]
    for base, suffix in ((1024, "iB"), (1000, "B")):
        for unit, power in _POWERS.items():
            n, rest = divmod(bytes_, base**power)
            if n and not rest:
                exact.append((n, f"{unit.upper()}{suffix}"))
    n, unit = min(exact)
    return f"{n}{unit}"
