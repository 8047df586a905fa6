"""Make answers that are never too long, and keep what others wrote apart in them. Pure functions.

Whatever a person, another agent or a host wrote is below a key `foreign`, without control characters and cut.
Everything else is made by fleet: numbers, words of its own, and names whose characters were checked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from fleet.errors import ConfigError
from fleet.text import plain_text, valid_unicode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.errors import FleetError
    from fleet.model import Failure

Document = dict[str, Any]
Name = TypeVar("Name", bound=str)
LARGEST = 100_000
"""Bytes that no answer exceeds on the wire, in its quotes."""
PAGE = 40_000
"""Bytes of the rows of one page."""
SHARE = 6_000
"""Bytes of what others wrote in one row."""
LONGEST = 500
"""Characters of one text that others wrote."""
MOST = 20
"""Entries of one list that others wrote."""
DEPTH = 6


def size(value: object) -> int:
    """Return how many bytes the value takes on the wire, where its JSON is a string in another JSON."""
    return len(json.dumps(written(value), ensure_ascii=False).encode())


def written(value: object) -> str:
    """Return the value as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def foreign(value: object, *, longest: int = LONGEST, most: int = MOST, share: int = SHARE) -> Any:
    """Return what others wrote, fit to be shown: one line a text, at most `share` bytes all in all.

    Where something is left out, that is said in its place.
    """
    while True:
        cut = _cut(value, longest, most, DEPTH)
        if size(cut) <= share or (longest <= 1 and most <= 1):
            return cut
        longest, most = max(longest // 2, 1), max(most // 2, 1)


def _cut(value: object, longest: int, most: int, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        kept = {
            _line(str(key), longest): _cut(one, longest, most, depth - 1) for key, one in list(value.items())[:most]
        }
        return kept if len(value) <= most else {**kept, "…": f"{len(value) - most} more"}
    if isinstance(value, list | tuple | set | frozenset):
        items = list(value)
        kept_items = [_cut(one, longest, most, depth - 1) for one in items[:most]]
        return kept_items if len(items) <= most else [*kept_items, f"… {len(items) - most} more"]
    return _line(str(value), longest)


def _line(text: str, longest: int) -> str:
    head = " ".join(valid_unicode(plain_text(text[: 4 * longest])).split())
    return head if len(head) <= longest and len(text) <= 4 * longest else f"{head[:longest]}…"


def newest_that_fit(lines: Sequence[str], *, longest: int) -> list[str]:
    """Return the last of the lines that others wrote, as many as fit on a page."""
    left, shown = PAGE, list[str]()
    for line in reversed(lines):
        told = _line(line, longest)
        left -= size(told)
        if left < 0:
            break
        shown.append(told)
    return shown[::-1]


def rows_from(names: Sequence[Name], after: str) -> Sequence[Name]:
    """Return the names that come behind `after`, or all if that is empty. Raise `ConfigError` if it is none of them."""
    if not after:
        return names
    if after not in names:
        raise ConfigError("after: is not the `next` of an earlier answer to the same question", hint="leave it out")
    return names[list[str](names).index(after) + 1 :]


def page(rows: Iterable[tuple[str, Document]], names: Sequence[str], *, key: str = "hosts") -> Document:
    """Return as many of the rows as fit, each given with its name, and the name to go on after.

    `names` are all that are left to be told; there may be fewer rows.
    """
    shown: list[Document] = []
    left, last = PAGE, ""
    for name, row in rows:
        left -= size(row)
        if left < 0 and shown:
            break
        shown.append(row)
        last = name
    is_last = not names or last == names[-1]
    return {key: shown, "next": None if is_last else last}


def problem(error: FleetError) -> Document:
    """Describe why something failed. Its words may have come from a host."""
    return failure(error.failure())


def failure(failed: Failure) -> Document:
    """Describe why something did not end well."""
    told = {"message": failed.message, "said": failed.said, "now": failed.now, "hint": failed.hint}
    return {"kind": failed.kind.value, "foreign": foreign({key: text for key, text in told.items() if text})}
