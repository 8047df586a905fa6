"""Compare two texts line by line, in a time that no text can stretch. No I/O.

`difflib` finds short differences, but its work grows with the cube of the lines in the worst case, and nothing can
interrupt it. So it gets only what it can do within a limit. For the rest a difference is still right and not short: the
lines between what both texts begin and end with are all removed, and all added.
"""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING

from fleet.text import without_control

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTEXT = 3
"""Lines around a change that are shown."""
WORK = 2_000_000
"""Steps that one comparison may take: some tenths of a second."""
WORK_IN_ALL = 10_000_000
"""Steps that all comparisons of two systems may take."""
LONGEST_LINE = 2000
"""Characters of a line that are shown."""
MOST_LINES = 4000
"""Lines of a difference, at most. One that has more is not shown at all."""


class Patches:
    """Makes the unified differences of files of two systems, within the limits above."""

    def __init__(self) -> None:
        self._left = WORK_IN_ALL
        self._lines_left = 5 * MOST_LINES

    def of(self, path: str, old: str, new: str) -> tuple[str, ...] | None:
        """Return the unified difference of a file below `etc`; None if it is too long to be shown.

        Its lines have no control characters: anything may be in a file.
        """
        one, other = _lines(without_control(old)), _lines(without_control(new))
        if one == other:  # they differ in what cannot be seen
            one, other = _lines(_spelled_out(old)), _lines(_spelled_out(new))
        start, end = _common(one, other)
        middle = one[start : len(one) - end], other[start : len(other) - end]
        if sum(map(len, middle)) > min(MOST_LINES, self._lines_left):
            return None
        patch = self._unified(path, (one, other), (start, end), middle)
        self._lines_left -= len(patch)
        return patch

    def _unified(
        self,
        path: str,
        texts: tuple[Sequence[str], Sequence[str]],
        common: tuple[int, int],
        middle: tuple[list[str], list[str]],
    ) -> tuple[str, ...]:
        names = f"a/etc/{path}", f"b/etc/{path}"
        work = _work(*middle)
        if work <= min(WORK, self._left):
            self._left -= work
            before, after = max(0, common[0] - CONTEXT), max(0, common[1] - CONTEXT)
            shown = [text[before : len(text) - after] for text in texts]
            patch = difflib.unified_diff(shown[0], shown[1], names[0], names[1], n=CONTEXT, lineterm="")
            return _moved(tuple(patch), before)
        start, end = common
        head, tail = texts[0][max(0, start - CONTEXT) : start], texts[0][len(texts[0]) - end :][:CONTEXT]
        lengths = [len(head) + len(lines) + len(tail) for lines in middle]
        first = start - len(head) + 1
        return (
            f"--- {names[0]}",
            f"+++ {names[1]}",
            f"@@ -{first},{lengths[0]} +{first},{lengths[1]} @@",
            *(f" {line}" for line in head),
            *(f"-{line}" for line in middle[0]),
            *(f"+{line}" for line in middle[1]),
            *(f" {line}" for line in tail),
        )


def _lines(text: str) -> list[str]:
    """Return the lines of a text that has no other line breaks than line feeds. Very long ones are cut."""
    return [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in text.splitlines()]


def _spelled_out(text: str) -> str:
    """Return the text with escapes for everything but printable ASCII and line feeds."""
    return text.encode("unicode_escape").decode("ascii").replace("\\n", "\n")


def _common(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """Return how many lines both begin with, and how many of the rest both end with."""
    shorter = min(len(old), len(new))
    start = next((place for place in range(shorter) if old[place] != new[place]), shorter)
    rest = shorter - start
    end = next((place for place in range(rest) if old[-1 - place] != new[-1 - place]), rest)
    return start, end


def _work(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many steps `difflib` takes for the lines in the worst case.

    For each piece that both have in common it goes through all pairs of equal lines again.
    """
    counts = Counter(new)
    pairs = sum(counts[line] for line in old) + len(old)
    return pairs * (min(len(old), len(new)) + 1)


def _moved(patch: tuple[str, ...], lines: int) -> tuple[str, ...]:
    """Return the patch of two texts for texts that have so many more lines before."""
    if not lines:
        return patch

    def moved(numbers: str) -> str:
        sign, (first, *count) = numbers[0], numbers[1:].split(",")
        return ",".join([f"{sign}{int(first) + lines}", *count])

    def hunk(line: str) -> str:
        _, old, new, _ = line.split(" ", 3)
        return f"@@ {moved(old)} {moved(new)} @@"

    return (*patch[:2], *(hunk(line) if line.startswith("@@") else line for line in patch[2:]))
