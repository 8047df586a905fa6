"""Read the output of a command, and pass it on line by line while it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.events import plain_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet.machine import OnLine

BLOCK = 1 << 16
TAIL = 4 << 20
"""Bytes that are kept of an output that is passed on line by line: a build may write more than fits in memory."""


async def read_text(read: Callable[[int], Awaitable[bytes]], on_line: OnLine | None, keep: int | None = None) -> str:
    """Read to the end and return the text, or its last `keep` bytes, or its last `TAIL` bytes if there is `on_line`.

    `on_line` gets each line as soon as it is complete. Of a line that is longer than what is kept, it gets the end.
    """
    keep = TAIL if keep is None and on_line else keep
    seen = bytearray()
    passed_on = 0
    while block := await read(BLOCK):
        start = len(seen)
        seen += block
        while on_line and (end := seen.find(b"\n", max(start, passed_on))) >= 0:
            on_line(_line(seen[passed_on:end]))
            passed_on = end + 1
        if keep is not None and len(seen) > 2 * keep:
            surplus = len(seen) - keep
            del seen[:surplus]
            passed_on = max(0, passed_on - surplus)
    if on_line and passed_on < len(seen):
        on_line(_line(seen[passed_on:]))
    return (seen if keep is None else seen[-keep:]).decode(errors="replace")


def _line(raw: bytearray) -> str:
    return plain_text(raw.decode(errors="replace"))
