"""Ask hosts what a page needs that nobody remembers, few at a time and never twice for the same."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

AT_ONCE = 4
"""Questions that are asked at the same time. The others wait."""
PATIENCE = 60.0
"""Seconds after which a question is given up."""
FRESH = 20.0
"""Seconds for which an answer is shown again."""
MOST = 200
"""Answers that are kept."""


class Asking:
    """Answers that are the same for everybody who asks the same within some seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places = asyncio.Semaphore(AT_ONCE)
        self._asked: OrderedDict[Hashable, tuple[float, asyncio.Task[Any]]] = OrderedDict()

    async def answer(self, key: Hashable, ask: Callable[[], Awaitable[Any]], *, fresh: float = FRESH) -> Any:
        """Return what `ask` returns, or has returned within the last `fresh` seconds, for whoever asks with this key.

        Raise what it raises. It goes on if this is cancelled, for whoever else waits.
        """
        at, task = self._asked.pop(key, (0.0, None))
        if task is None or (task.done() and (self._clock() > at + fresh or task.cancelled() or task.exception())):
            at, task = self._clock(), asyncio.create_task(self._ask(ask))
            task.add_done_callback(_take_note)
        self._asked[key] = at, task
        while len(self._asked) > MOST:
            self._asked.popitem(last=False)
        return await asyncio.shield(task)

    async def _ask(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout(PATIENCE), self._places:
                return await ask()
        except TimeoutError:
            raise FleetError(
                f"no answer within {PATIENCE:.0f} s", hint="try again; other questions may have to end first"
            ) from None


def _take_note(task: asyncio.Task[Any]) -> None:
    """Look at the error of a task that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
