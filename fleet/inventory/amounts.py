"""Read amounts in fleet.toml: counts, versions, and durations and rates with their units.

Like those in `values`, each reader returns the value, or raises a ValueError that says what was found.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.inventory import values
from fleet.inventory.words import expected

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 30 * 24 * 3600.0
_DURATION = re.compile(r"(?=.)(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?", re.ASCII)
SLOWEST = 1000.0
"""Bytes per second. A slower push would be given up as stalled."""
_PREFIXES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_RATE = re.compile(rf"(\d{{1,9}}(?:\.\d{{1,9}})?) ?({'|'.join(_PREFIXES)})(B|bit)/s", re.ASCII)


def version(value: object) -> str:
    """Read a version: numbers with dots between them."""
    word = values.text(value, 'a version such as "570.86"')
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})*", word, re.ASCII) is None:
        raise expected(value, 'a version such as "570.86"')
    return word


def whole(value: object) -> int:
    """Read a whole number."""
    if type(value) is not int:
        raise expected(value, "a whole number")
    return value


def at_least(least: int) -> Callable[[int], int]:
    """Return a reader of numbers that are not below `least`."""

    def check(value: int) -> int:
        if value < least:
            raise expected(value, f"at least {least}")
        return value

    return check


def seconds(value: object) -> float:
    """Read seconds from `5s`, `500ms`, `10m` or `1h30m`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise expected(value, f'a duration with its unit: write "{value}s"')
    match = _DURATION.fullmatch(values.text(value, 'a duration such as "5s"'))
    if match is None:
        raise expected(value, 'a duration such as "500ms", "5s", "10m" or "1h30m"')
    hours, minutes, whole, milli = match.groups(default="0")
    total = float(hours) * 3600 + float(minutes) * 60 + float(whole) + float(milli) / 1000
    if total > LONGEST:
        raise expected(value, "a duration of at most 720h")
    return total


def positive_seconds(value: object) -> float:
    """Read seconds that are more than 0."""
    total = seconds(value)
    if total <= 0:
        raise expected(value, "a duration longer than 0s")
    return total


def rate(value: object) -> float:
    """Read bytes per second from `2MB/s`, `1.5MiB/s` or `10Mbit/s`."""
    what = 'a rate such as "2MB/s", "500kB/s" or "10Mbit/s"'
    match = _RATE.fullmatch(values.text(value, what))
    if match is None:
        raise expected(value, what)
    total = float(match[1]) * _PREFIXES[match[2]] / (8 if match[3] == "bit" else 1)
    if total < SLOWEST:
        raise expected(value, "at least 1kB/s")
    return total
