"""Hear what somebody asks of a rollout that goes on in this process: to pause, to continue, or to end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from fleet.errors import StateError
from fleet.events import RolloutAsked
from fleet.state import Asked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.deploy.context import Context
    from fleet.state import Request

INTERVAL = 1.0
"""Seconds between two looks at what is asked for."""


class Control:
    """What is asked of one rollout now."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._request: Request | None = None
        self._changed = asyncio.Event()

    @property
    def why_none_may_begin(self) -> str:
        """Why no host may begin any more, whatever comes; nothing if one may."""
        if self._context.stop.is_requested:
            return "interrupted before it began"
        if self._request is not None and self._request.asked is Asked.ABORT:
            return f"not begun: {self._request.by} has aborted the rollout"
        return ""

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear what is asked for, while inside."""
        task = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def look(self) -> None:
        """See what is asked for now."""
        with contextlib.suppress(StateError):  # what cannot be read is not asked for
            before, self._request = self._request, await self._context.asked()
            if self._request == before:
                return
            if self._request is not None:
                self._context.journal.emit(RolloutAsked(asked=self._request.asked.value, who=self._request.by))
            elif before is not None:
                self._context.journal.emit(RolloutAsked(asked="continue", who=""))
            self._changed.set()

    async def while_paused(self) -> bool:
        """Wait until the rollout is not paused, or is to end. Return whether it was paused."""
        was_paused = False
        with self._context.stop.calls(self._changed.set):
            while self._request is not None and self._request.asked is Asked.PAUSE and not self.why_none_may_begin:
                was_paused = True
                self._changed.clear()
                await self._changed.wait()
        return was_paused

    async def _listen(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look()
