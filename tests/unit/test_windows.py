"""When a window is open, and when it opens next."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from fleet.inventory.windows import Window, opening, windows

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo | None = None) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "moment", "is_open"),
    [
        ("02:00-05:00", "2026-11-28 01:59", False),
        ("02:00-05:00", "2026-11-28 02:00", True),
        ("02:00-05:00", "2026-11-28 04:59", True),
        ("02:00-05:00", "2026-11-28 05:00", False),
        ("Sat 02:00-05:00", "2026-11-28 03:00", True),
        ("Sat 02:00-05:00", "2026-11-29 03:00", False),
        ("Mon-Fri 22:00-04:00", "2026-11-27 23:00", True),
        ("Mon-Fri 22:00-04:00", "2026-11-28 03:59", True),
        ("Mon-Fri 22:00-04:00", "2026-11-28 23:00", False),
        ("Mon-Fri 22:00-04:00", "2026-11-30 03:00", False),
        ("Sat-Mon,Wed 00:00-24:00", "2026-11-29 12:00", True),
        ("Sat-Mon,Wed 00:00-24:00", "2026-12-01 12:00", False),
        ("Sun 22:00-02:00", "2026-11-30 01:00", True),
    ],
)
def test_window_is_open_in_its_hours_of_its_days(text: str, moment: str, *, is_open: bool) -> None:
    assert Window.parse(text).is_open(at(moment)) is is_open


@pytest.mark.parametrize(("moment", "is_open"), [("2026-07-04 00:30", True), ("2026-11-28 00:30", False)])
def test_window_goes_by_the_clock_of_its_place_in_summer_and_winter(moment: str, *, is_open: bool) -> None:
    """02:30 in Berlin's summer is 00:30 in UTC."""
    assert Window.parse("Sat 02:00-03:00 Europe/Berlin").is_open(at(moment)) is is_open


def test_window_that_the_clocks_jump_over_does_not_open_on_that_day() -> None:
    """In Berlin the clocks go from 02:00 to 03:00 on 2026-03-29, a Sunday."""
    window = Window.parse("Sun 02:10-02:50 Europe/Berlin")
    assert window.opens_next(at("2026-03-29 00:00", BERLIN)) == at("2026-04-05 02:10", BERLIN)


def test_window_opens_next_on_its_next_day() -> None:
    window = Window.parse("Sat 02:00-05:00")
    assert window.opens_next(at("2026-11-28 01:00")) == at("2026-11-28 02:00")
    assert window.opens_next(at("2026-11-28 03:00")) == at("2026-12-05 02:00")


def test_of_several_windows_the_first_counts_that_opens() -> None:
    texts = ("Sat 02:00-05:00", "Wed 10:00-11:00")
    assert opening(texts, at("2026-11-29 12:00")) == at("2026-12-02 10:00")
    assert opening(texts, at("2026-12-02 10:30")) is None
    assert opening((), at("2026-12-02 10:30")) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2-5", "a window such as"),
        ("Sta 02:00-05:00", "did you mean Sat?"),
        ("02:00-02:00", "closes later than it opens"),
        ("24:00-02:00", "closes later than it opens"),
        ("02:60-03:00", "from 00:00 to 24:00"),
        ("25:00-26:00", "from 00:00 to 24:00"),
        ("02:00-03:00 Europe/Berln", "did you mean Europe/Berlin?"),
        ("02:00-03:00 ../etc/passwd", "a window such as"),
        (5, "a window such as"),
        (["02:00-03:00", 5], "a window such as"),
    ],
)
def test_what_is_no_window_is_refused_and_told(text: object, says: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        windows(text)
    assert says in str(caught.value)


def test_windows_are_one_or_a_list() -> None:
    assert windows("02:00-03:00") == ("02:00-03:00",)
    assert windows([]) == ()
