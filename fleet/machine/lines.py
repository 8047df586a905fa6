"""The output of a command, told line by line while it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.events import plain_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet.machine import OnLine

BLOCK = 1 << 16


async def read_text(read: Callable[[int], Awaitable[bytes]], on_line: OnLine | None) -> str:
    """All that there was to read. Each line has been told the moment it was whole; no line is too long."""
    seen = bytearray()
    told = 0
    while block := await read(BLOCK):
        start = len(seen)
        seen += block
        while on_line and (end := seen.find(b"\n", max(start, told))) >= 0:
            on_line(_line(seen[told:end]))
            told = end + 1
    if on_line and told < len(seen):
        on_line(_line(seen[told:]))
    return seen.decode(errors="replace")


def _line(raw: bytearray) -> str:
    return plain_text(raw.decode(errors="replace"))
