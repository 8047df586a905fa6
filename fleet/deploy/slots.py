"""Limit how many hosts push, and how many switch, at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.plans import Plan


class Slots:
    """The places that the hosts of a wave share: `at_once` of them, each held from the push to the result.

    With `push_at_once` there are that many places for pushing, and `at_once` for everything after the push. Hosts then
    receive what they need while others switch, and wait for a place with all of it.
    """

    def __init__(self, plan: Plan) -> None:
        self.switching = asyncio.Semaphore(plan.at_once)
        self.pushing = asyncio.Semaphore(plan.push_at_once) if plan.push_at_once else self.switching


class HostSlot:
    """The place of one host. Entering waits for a place; leaving gives it up, whatever happened."""

    def __init__(self, places: Slots) -> None:
        self._places = places
        self._held: asyncio.Semaphore | None = None

    async def __aenter__(self) -> HostSlot:
        await self._hold(self._places.pushing)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.release()

    @property
    def must_wait(self) -> bool:
        """Whether `switch` would have to wait for a place."""
        return self._held is not self._places.switching and self._places.switching.locked()

    async def switch(self) -> bool:
        """Hold a place among the hosts that switch. Returns whether the host had to change places for it."""
        if self._held is self._places.switching:
            return False
        if self._held is not None:
            self._held.release()
            self._held = None
        await self._hold(self._places.switching)
        return True

    async def _hold(self, places: asyncio.Semaphore) -> None:
        await places.acquire()
        self._held = places
