"""Read what a command says. It may be anything: endless, one line of a gigabyte, or escape sequences for a terminal.

Whatever a machine runs has its outputs here, and nobody else reads them (`tests/test_architecture.py`). So there is no
way to forget a limit: text is bounded in bytes and lines, what is passed on line by line also in time, and no text of a
host has control characters.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.text import plain_text, without_control

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fleet.machine import Command, OnLine

    Read = Callable[[int], Awaitable[bytes]]

BLOCK = 1 << 16
MOST = 4 << 20
"""Bytes of a host's answer, at most. The largest answers have a line of about 100 bytes for each store path of a
closure, and for each file below its `etc`."""
SHORTEST = 40
"""An answer has at most one line for so many bytes of what it may have: each takes memory of its own."""
MOST_LINES = MOST // SHORTEST
MOST_HERE = 64 << 20
"""The same for a command on this machine: Nix and git, whose answers grow with people's own files."""
TAIL = 1 << 20
"""Bytes that are kept of stderr, whose end explains a failure."""
LONGEST_LINE = 4096
"""Characters of a line that is passed on."""
MOST_OF_LINE = 4 * LONGEST_LINE
"""Bytes of a line that are looked at for that: a character may have four."""
BURST, STEADY = 4 << 20, 4 << 10
"""Characters of lines that are passed on at once, and in each second after that. A build may write for hours."""
COST = 200
"""Characters that a line counts for besides its own: an event has more than its text."""
PIECE = 128 << 10
"""Characters that are cleaned before other tasks get a turn. A sequence that is cut there loses its beginning, and with
that its effect."""
BREATH = 256
"""Lines that are passed on before other tasks get a turn."""


class TooMuchError(Exception):
    """The other end says more than an answer may have."""


class Outputs:
    """The outputs of one command. Each is read once, by one of these methods."""

    def __init__(self, process: Any, *, most: int = MOST, clean: bool = True) -> None:
        """`process` has `stdout` and `stderr`, as those of asyncio and of asyncssh do.

        `most` is how many bytes an answer may have if the command does not say. With `clean`, an answer has no control
        characters but tabs and line feeds.
        """
        self._stdout: Read = process.stdout.read
        self._stderr: Read = process.stderr.read
        self._most = most
        self._clean = clean
        self.left_out = 0
        """How many bytes at the beginning of an output that was read to its end are not in what was returned."""

    async def answer(self, command: Command) -> str:
        """Read stdout to its end, and return it, or as many of its last bytes as the command keeps.

        Raise `TooMuchError` as soon as it is longer than an answer may be.
        """
        if command.keep is not None:
            return await self._text(await self._last(self._stdout, command.keep, None))
        most, said, lines = command.most or self._most, bytearray(), 0
        most_lines = self._most // SHORTEST
        while block := await self._stdout(BLOCK):
            said += block
            lines += block.count(b"\n")
            if len(said) > most:
                raise TooMuchError(f"answers with more than {most >> 10} KiB")
            if lines > most_lines:
                raise TooMuchError(f"answers with more than {most_lines} lines")
        return await self._text(said)

    async def errors(self, keep: int | None = None, on_line: OnLine | None = None) -> str:
        """Read stderr to its end, and return its last `keep` bytes, by default `TAIL`.

        `on_line` gets each line as soon as it is complete, cut to `LONGEST_LINE`. What comes faster than anybody could
        read is left out, and said so.
        """
        said = await self._last(self._stderr, TAIL if keep is None else keep, on_line)
        return await _cleaned(said.decode(errors="replace"))

    async def block(self, count: int) -> bytes:
        """Return the next bytes of stdout, as they are: for protocols, whose decoder has limits of its own."""
        return await self._stdout(count)

    async def until(self, *ends: bytes, most: int) -> bytes:
        """Read stderr, byte by byte, until it ends with one of these. Takes nothing of what comes after that.

        Return what was read. It ends with none of them if the output has ended, or has more than `most` bytes.
        """
        said = bytearray()
        while len(said) < most and not said.endswith(ends) and (byte := await self._stderr(1)):
            said += byte
        return bytes(said)

    async def emptied(self, patience: float, *, stderr: bool = True) -> None:
        """Read what is left to its end, since asyncio keeps a pipe open until then. Nobody else may read it meanwhile.

        This takes no longer than `patience` seconds, if a process that has left its group still holds a pipe.
        """
        reading = [asyncio.create_task(_read_to_end(self._stdout))]
        if stderr:
            reading.append(asyncio.create_task(_read_to_end(self._stderr)))
        try:
            await asyncio.wait(reading, timeout=patience)
        finally:
            for task in reading:
                task.cancel()

    async def _last(self, read: Read, keep: int, on_line: OnLine | None) -> bytearray:
        """Read to the end, and return the last `keep` bytes. Pass on each line."""
        said, left_out = await _last(read, keep, on_line)
        self.left_out += left_out
        return said

    async def _text(self, said: bytearray) -> str:
        text = said.decode(errors="replace")
        return await _cleaned(text) if self._clean else text


async def lines(read: Read) -> AsyncIterator[str]:
    """Yield each line as soon as it is complete, without control characters, and of a very long one the beginning."""
    begun = bytearray()
    while block := await read(BLOCK):
        *complete, rest = block.split(b"\n")
        for piece in complete:
            yield _line(begun + piece)
            begun.clear()
        begun += rest[: max(0, MOST_OF_LINE - len(begun))]
    if begun:
        yield _line(begun)


async def _cleaned(text: str) -> str:
    """Return the text without control characters. Other tasks get a turn after each piece of it."""
    pieces = []
    for start in range(0, len(text), PIECE):
        if start:
            await asyncio.sleep(0)
        pieces.append(without_control(text[start : start + PIECE]))
    return "".join(pieces)


async def _read_to_end(read: Read) -> None:
    while await read(BLOCK):
        pass


async def _last(read: Read, keep: int, on_line: OnLine | None) -> tuple[bytearray, int]:
    """Read to the end. Return the last `keep` bytes, and how many came before them. Pass on each line."""
    seen = bytearray()
    passed_on = dropped = 0
    teller = Teller(on_line) if on_line else None
    while block := await read(BLOCK):
        start = len(seen)
        seen += block
        while teller and (end := seen.find(b"\n", max(start, passed_on))) >= 0:
            await teller.tell(seen[passed_on:end])
            passed_on = end + 1
        if len(seen) > 2 * keep + BLOCK:
            surplus = len(seen) - keep - BLOCK
            del seen[:surplus]
            dropped += surplus
            passed_on = max(0, passed_on - surplus)
    if teller and passed_on < len(seen):
        await teller.tell(seen[passed_on:])
    if teller:
        teller.end()
    surplus = max(0, len(seen) - keep)
    del seen[:surplus]
    return seen, dropped + surplus


@dataclass
class Teller:
    """Passes on lines, no more of them than somebody could want: a flood must fill neither disk nor memory."""

    on_line: OnLine
    clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    _left: float = BURST
    """How many characters may be passed on now."""
    _at: float = -1.0
    """The loop's time at which that was true."""
    _left_out: int = 0
    _passed_on: int = 0

    async def tell(self, raw: bytearray) -> None:
        """Pass on the line, or count it as left out."""
        now = self.clock()
        if self._at >= 0:
            self._left = min(BURST, self._left + (now - self._at) * STEADY)
        self._at = now
        cost = COST + min(len(raw), LONGEST_LINE)
        if cost > self._left:
            self._left_out += 1
        else:
            self._left -= cost
            self.end()
            self.on_line(_line(raw))
        self._passed_on += 1
        if self._passed_on % BREATH == 0:
            await asyncio.sleep(0)

    def end(self) -> None:
        """Say how many lines were left out since the last one that was passed on, if any were."""
        if self._left_out:
            self.on_line(f"({self._left_out} lines are left out here: they came too fast)")
            self._left_out = 0


def _line(raw: bytearray) -> str:
    text = plain_text(raw[:MOST_OF_LINE].decode(errors="replace"))
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"
