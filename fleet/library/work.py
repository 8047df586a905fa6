"""Work that is under way: follow its events, and await its result."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fleet.events import PushProgressed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator

    from fleet.events import Envelope, Event

T = TypeVar("T")
LAG = 1000
"""Events that may wait for a slow follower. Beyond that, the progress of pushes is left out."""


class Work(Generic[T]):
    """Work that goes on in the running event loop, whether or not somebody follows it.

    `async for event in work` yields its events from the first to the last, to one follower. `await work` returns its
    result, or raises why it failed. To be cancelled while following or awaiting does not cancel the work.
    """

    def __init__(self, start: Callable[[Callable[[Envelope], None]], Coroutine[Any, Any, T]]) -> None:
        """Start the work. `start` gets the function that takes its events."""
        self._waiting: deque[Envelope] = deque()
        self._changed = asyncio.Event()
        self._task = asyncio.ensure_future(start(self._tell))
        self._task.add_done_callback(self._ended)

    @property
    def is_done(self) -> bool:
        """Whether the work has ended."""
        return self._task.done()

    async def settled(self) -> None:
        """Wait until the work has ended, well or not. Raises nothing."""
        await asyncio.wait([self._task])

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.shield(self._task).__await__()

    async def __aiter__(self) -> AsyncIterator[Event]:
        async for envelope in self.envelopes():
            yield envelope.event

    async def envelopes(self) -> AsyncIterator[Envelope]:
        """Yield the same events, each with its run, number, time and actor."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._task.done():
                return
            self._changed.clear()
            await self._changed.wait()

    def _tell(self, envelope: Envelope) -> None:
        if len(self._waiting) < LAG or not isinstance(envelope.event, PushProgressed):
            self._waiting.append(envelope)
            self._changed.set()

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._changed.set()
        if not task.cancelled():
            task.exception()  # mark it as retrieved: whoever awaits the work gets it, but nobody has to
