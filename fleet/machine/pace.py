"""Limit the bytes per second, for one link or for all of them together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.machine import Output, Stream

SLICE = 0.1
"""Seconds that a portion takes at the full rate, and the most seconds that are made up for. A timer is late by some
milliseconds each time, which would add up at a high rate."""
SMALLEST, LARGEST = 1 << 10, 1 << 18
"""The least and the most bytes of a portion, whatever the rate: each one costs a packet and a turn of the event
loop."""


class Pace:
    """Limits the bytes per second of everything that is sent at this pace, and at the wider pace `within`, if given.

    In any period, at most the bytes of that period, those of `SLICE` seconds, and one portion are sent: a longer pause
    is not made up for. First come, first served, so that those who share a pace get equal parts.
    """

    def __init__(self, rate: float, *, within: Pace | None = None) -> None:
        self._rate = rate
        self._within = within
        self._free = 0.0
        """The event loop's time at which the portions allowed so far will have gone."""

    @property
    def portion(self) -> int:
        """Bytes that are sent at once."""
        own = min(max(int(self._rate * SLICE), SMALLEST), LARGEST)
        return own if self._within is None else min(own, self._within.portion)

    async def portions(self, data: bytes | bytearray | memoryview) -> AsyncIterator[memoryview]:
        """Yield the data piece by piece, each as soon as it may be sent."""
        view = memoryview(data)
        for start in range(0, len(view), self.portion):
            piece = view[start : start + self.portion]
            await self._turn(len(piece))
            yield piece

    async def _turn(self, count: int) -> None:
        now = asyncio.get_running_loop().time()
        start = max(now - SLICE, self._free)
        self._free = start + count / self._rate
        if start > now:
            await asyncio.sleep(start - now)
        if self._within is not None:
            await self._within._turn(count)


class PacedStream:
    """A stream that is written to at a pace. See `Stream`."""

    def __init__(self, stream: Stream, pace: Pace) -> None:
        self._stream = stream
        self._pace = pace

    async def read(self, count: int) -> bytes:
        """See `Stream.read`."""
        return await self._stream.read(count)

    async def write(self, data: bytes | memoryview) -> None:
        """See `Stream.write`."""
        async for piece in self._pace.portions(data):
            await self._stream.write(piece)

    @property
    def waiting(self) -> int:
        """See `Stream.waiting`."""
        return self._stream.waiting

    async def ended(self) -> Output:
        """See `Stream.ended`."""
        return await self._stream.ended()
