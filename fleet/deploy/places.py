"""How many hosts are at which part of their run at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.inventory import Rollout


class Places:
    """The places that the hosts of a wave share: `at_once` from push to record.

    With `push_at_once`, so many for the push, and `at_once` from its end on: then hosts are pushed to while others
    switch, and wait for their turn with all that they need.
    """

    def __init__(self, rollout: Rollout) -> None:
        self.switching = asyncio.Semaphore(rollout.at_once)
        self.pushing = asyncio.Semaphore(rollout.push_at_once) if rollout.push_at_once else self.switching


class Turn:
    """One host's place. A context manager: afterwards the place is another's, whatever happened."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._held: asyncio.Semaphore | None = None

    async def __aenter__(self) -> Turn:
        await self._hold(self._places.pushing)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.release()

    @property
    def must_wait(self) -> bool:
        """Whether the host has no place among those that switch, and would have to wait for one."""
        return self._held is not self._places.switching and self._places.switching.locked()

    async def switch(self) -> bool:
        """The host has a place among those that switch. Returns whether it had to change its place for that."""
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
