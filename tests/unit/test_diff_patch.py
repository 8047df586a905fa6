"""Differences of files: right whatever the files are, and made in a time that no file can stretch."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.diff import patch as patches
from fleet.diff.patch import MOST_LINES, WORK, Patches

LINES = st.lists(st.sampled_from(["a", "b", "c", "d", "+x", "-y", "@@ z", ""]), max_size=40)
RANDOM = random.Random(5)
HARD = {
    "equal lines": (["a"] * 700, ["b", *["a"] * 700, "c"]),
    "two lines, turned around": (["a", "b"] * 700, ["b", "a"] * 700),
    "every second line differs": (
        [str(number) for number in range(1900)],
        [str(number if number % 2 else -number) for number in range(1900)],
    ),
    "few different lines in any order": (
        [str(RANDOM.randrange(90)) for _ in range(1900)],
        [str(RANDOM.randrange(90)) for _ in range(1900)],
    ),
    "the same lines again and again, every second one changed": (
        [str(number % 100) for number in range(1980)],
        [str(number % 100) if number % 2 else f"x{number}" for number in range(1980)],
    ),
    "empty lines": ([""] * 1500, [*[""] * 1400, "x"]),
}


def patched(old: list[str], patch: tuple[str, ...]) -> list[str]:
    """The lines after the patch, each of whose own lines fits."""
    new: list[str] = []
    place = 0
    for line in patch[2:]:
        if line.startswith("@@ -"):
            first, _, count = line.split()[1][1:].partition(",")
            start = int(first) - (count != "0")
            new += old[place:start]
            place = start
        elif line.startswith("+"):
            new.append(line[1:])
        else:
            assert old[place] == line[1:]
            new += [old[place]] if line.startswith(" ") else []
            place += 1
    return new + old[place:]


def text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("work", [WORK, 0], ids=["by difflib", "without it"])
@given(old=LINES, new=LINES)
def test_a_patch_makes_the_new_file_of_the_old(work: int, old: list[str], new: list[str]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(patches, "WORK", work)
        patch = Patches().of("motd", text(old), text(new))
    assert patch is not None
    assert patched(old, patch) == new


def test_a_patch_shows_what_is_around_a_change() -> None:
    old = [str(number) for number in range(20)]
    assert Patches().of("motd", text(old), text([*old[:9], "new", *old[10:]])) == (
        "--- a/etc/motd", "+++ b/etc/motd", "@@ -7,7 +7,7 @@", " 6", " 7", " 8", "-9", "+new", " 10", " 11", " 12",
    )  # fmt: skip


@pytest.mark.parametrize(("old", "new"), HARD.values(), ids=HARD)
def test_hard_files_take_no_longer_than_others(old: list[str], new: list[str]) -> None:
    begun = time.process_time()
    made = Patches()
    found = [made.of("motd", text(old), text(new)) for _ in range(10)]
    assert time.process_time() - begun < 4
    assert found[0] is not None
    assert patched(old, found[0]) == new


def test_many_hard_files_take_no_more_than_one_limit() -> None:
    made = Patches()
    lines = [str(number) for number in range(1000)]
    others = [line if number % 2 else f"-{line}" for number, line in enumerate(lines)]
    begun = time.process_time()
    for _ in range(200):
        made.of("motd", text(lines), text(others))
    assert time.process_time() - begun < 5


def test_difference_that_nobody_would_read_is_left_out() -> None:
    old, new = ["a"] * MOST_LINES, ["b"] * MOST_LINES
    assert Patches().of("motd", text(old), text(new)) is None
    assert Patches().of("motd", text(["same"] * 9 * MOST_LINES), text(["same"] * 9 * MOST_LINES + ["more"])) is not None


def test_patch_moves_no_cursor_and_shows_what_cannot_be_seen() -> None:
    assert Patches().of("motd", "a\n", "\x1b[2J\u202eb\n") == (
        "--- a/etc/motd", "+++ b/etc/motd", "@@ -1 +1 @@", "-a", "+b",
    )  # fmt: skip
    assert (Patches().of("motd", "a\n", "a\x07\n") or ())[-1] == "+a\\x07"
