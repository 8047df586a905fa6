"""The output of a command, told line by line while it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.events import plain_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet.machine import OnLine

BLOCK = 1 << 16
TAIL = 4 << 20
"""Bytes that are kept of an output that is told line by line: a build may write more than memory has."""


async def read_text(read: Callable[[int], Awaitable[bytes]], on_line: OnLine | None, keep: int | None = None) -> str:
    """All that there was to read, but its last `keep` bytes where that is given, or `TAIL` where lines are told.

    Each line has been told the moment it was whole; of one that is longer than what is kept, its end.
    """
    keep = TAIL if keep is None and on_line else keep
    seen = bytearray()
    told = 0
    while block := await read(BLOCK):
        start = len(seen)
        seen += block
        while on_line and (end := seen.find(b"\n", max(start, told))) >= 0:
            on_line(_line(seen[told:end]))
            told = end + 1
        if keep is not None and len(seen) > 2 * keep:
            surplus = len(seen) - keep
            del seen[:surplus]
            told = max(0, told - surplus)
    if on_line and told < len(seen):
        on_line(_line(seen[told:]))
    return (seen if keep is None else seen[-keep:]).decode(errors="replace")


def _line(raw: bytearray) -> str:
    return plain_text(raw.decode(errors="replace"))
