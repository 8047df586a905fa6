"""Read windows: the times of a week in which something may begin, such as `Sat 02:00-05:00 Europe/Berlin`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from fleet.inventory import values
from fleet.inventory.words import expected, nearest

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EXAMPLE = 'a window such as "Sat 02:00-05:00 Europe/Berlin" or "Mon-Fri 22:00-04:00"'
_WINDOW = re.compile(r"(?:([A-Za-z,-]+) )?(\d\d):(\d\d)-(\d\d):(\d\d)(?: ([A-Za-z0-9_+/-]+))?", re.ASCII)
_A_DAY = 24 * 60


@dataclass(frozen=True)
class Window:
    """Some hours of some days of the week, by the clock of one place."""

    text: str
    """As it is written in fleet.toml, and in plans."""
    days: frozenset[int]
    """The days on which it opens, 0 for Monday."""
    opens: int
    """Minutes since midnight, like `closes`. Where it closes before it opens, it closes on the next day."""
    closes: int
    zone: tzinfo

    @classmethod
    def parse(cls, text: str) -> Window:
        """Return the window that this text describes. Without days it is every day's, without a zone it is in UTC.

        Raise `ValueError`, which says what was found.
        """
        match = _WINDOW.fullmatch(text)
        if match is None:
            raise expected(text, EXAMPLE)
        opens, closes = _minutes(text, match[2], match[3]), _minutes(text, match[4], match[5])
        if opens in (closes, _A_DAY):
            raise expected(text, "a window that closes later than it opens; the whole day is 00:00-24:00")
        return cls(text=text, days=_days(text, match[1]), opens=opens, closes=closes, zone=_zone(match[6]))

    def is_open(self, at: float) -> bool:
        """Whether it is open at this time, in seconds since 1970."""
        local = datetime.fromtimestamp(at, self.zone)
        minutes, day = local.hour * 60 + local.minute, local.weekday()
        if self.opens < self.closes:
            return day in self.days and self.opens <= minutes < self.closes
        return (day in self.days and minutes >= self.opens) or ((day - 1) % 7 in self.days and minutes < self.closes)

    def opens_next(self, at: float) -> float:
        """Return when it opens next after this time. Both are in seconds since 1970."""
        today = datetime.fromtimestamp(at, self.zone).date()
        moments = (self._opening(today + timedelta(days=ahead)) for ahead in range(15))
        # Where the clocks jump over all of it, it does not open on that day.
        return next(moment for moment in moments if moment > at and self.is_open(moment))

    def _opening(self, day: date) -> float:
        midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone)
        return midnight.replace(hour=self.opens // 60, minute=self.opens % 60).timestamp()


def window(value: object) -> str:
    """Read a window, and return its text. `Window.parse` reads it again without fail."""
    return Window.parse(values.text(value, EXAMPLE)).text


def windows(value: object) -> tuple[str, ...]:
    """Read a window or a list of windows."""
    if isinstance(value, list | tuple):
        return tuple(window(item) for item in value)
    return (window(value),)


def opening(texts: tuple[str, ...], at: float) -> float | None:
    """Return when one of these windows opens next; None if one is open at this time, or if there are none."""
    parsed = [Window.parse(text) for text in texts]
    if not parsed or any(each.is_open(at) for each in parsed):
        return None
    return min(each.opens_next(at) for each in parsed)


def _minutes(text: str, hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > _A_DAY:
        raise expected(text, "times from 00:00 to 24:00")
    return total


def _days(text: str, words: str | None) -> frozenset[int]:
    if words is None:
        return frozenset(range(7))
    found: set[int] = set()
    for word in words.split(","):
        first, dash, last = word.partition("-")
        begin, end = _day(text, first), _day(text, last if dash else first)
        found.update((begin + ahead) % 7 for ahead in range((end - begin) % 7 + 1))
    return frozenset(found)


def _day(text: str, word: str) -> int:
    if word not in DAYS:
        raise expected(text, f"days of the week: {', '.join(DAYS)}{nearest(word, DAYS)}")
    return DAYS.index(word)


def _zone(name: str | None) -> tzinfo:
    if name in (None, "UTC"):
        return UTC
    import zoneinfo  # few have windows

    try:
        return zoneinfo.ZoneInfo(name or "")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        why = nearest(name or "", sorted(known)) if known else "; this machine knows none: tzdata is missing"
        raise expected(name, f"a time zone such as Europe/Berlin{why}") from None
