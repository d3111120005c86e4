"""Durations as operators write them: `30`, `0.5`, `500ms`, `30s`, `5m`, `2h`, `7d`."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

HOW_TO_WRITE: Final = "write seconds or 500ms, 30s, 5m, 2h, 7d"

_LONGEST: Final = timedelta(days=36525)

_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND: Final = 1_000_000

_UNITS: Final = {"d": 86_400 * _SECOND, "h": 3_600 * _SECOND, "m": 60 * _SECOND, "s": _SECOND, "ms": 1_000}

# The lengths are bounded because a number of a million digits takes seconds to read.
_WRITTEN: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)(ms|s|m|h|d)?")


def parse_duration(text: str) -> timedelta:
    """A number with its unit, in seconds without one; rounded to a microsecond.

    Raises ValueError for anything else: negative, not finite, longer than 100 years. The message names the fix.
    """
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        raise ValueError(f"{text!r:.60} is not a duration: {HOW_TO_WRITE}")
    number, unit = written.groups()
    microseconds = round(Decimal(number) * _UNITS[unit or "s"])
    if microseconds > _LONGEST // _MICROSECOND:
        raise ValueError(f"{text!r:.60} is longer than 100 years: {HOW_TO_WRITE}")
    return timedelta(microseconds=microseconds)


def format_duration(duration: timedelta) -> str:
    """The largest unit that leaves no fraction, else seconds with one; `parse_duration` gives it back exactly."""
    microseconds = duration // _MICROSECOND
    for unit, size in _UNITS.items():
        is_fine = unit != "ms" or abs(microseconds) < _SECOND
        if microseconds and microseconds % size == 0 and is_fine:
            return f"{microseconds // size}{unit}"
    return f"{Decimal(microseconds) / _SECOND:f}s"
