"""Keep the picture of the fleet up to date, and tell those who look that it has changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from fleet.errors import BugError, StateError
from fleet.library.watching import Watched
from fleet.serve.picture import Picture, picture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from fleet.library.recent import RecentRun
    from fleet.model import HostName
    from fleet.serve.source import Source

_log = logging.getLogger(__name__)
OFTEN = 0.25
"""Seconds between two looks at this machine's memory while somebody watches."""
SELDOM = 5.0
"""The same while nobody does."""
CALM = 2.0
"""Seconds between two pictures that are drawn anew since hosts have answered: of many hosts some always have."""
SEEN = 3.0
"""Seconds between two looks at what hosts were when they last answered, where none is asked."""
FRESH = 30.0
"""Seconds after which a picture is drawn anew in any case: it tells how long ago things were."""
BEAT = 20.0
"""Seconds after which somebody who waits for news is told that there are none."""


class Watcher:
    """Looks at what this machine remembers, and at hosts if it `asks`. Use it as an asynchronous context manager."""

    def __init__(self, source: Source, *, asks: bool, every: float) -> None:
        self._source = source
        self._asks = asks
        self._every = every
        self._recent = source.fleet.recent_runs()
        self._runs: Sequence[RecentRun] = ()
        self._watched: Mapping[HostName, Watched] = {}
        self._trouble = self._bug = ""
        self._news = asyncio.Condition()
        self._watchers = 0
        self._drawn = float("-inf")
        self._shown: tuple[object, ...] = ()
        """What the picture was drawn from."""
        self._read_seen = float("-inf")
        self._has_changed = asyncio.Event()
        self.picture = Picture(number=0, inventory=source.fleet.inventory, hosts={}, watched={}, runs=())

    async def __aenter__(self) -> Watcher:
        """Have the first picture, and go on from there until the end."""
        await self._look()
        works = [self._keep_looking, *([self._keep_asking] if self._asks else [])]
        self._tasks = [asyncio.create_task(self._go_on(work)) for work in works]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look often, while inside."""
        self._watchers += 1
        self._has_changed.set()
        try:
            yield
        finally:
            self._watchers -= 1

    async def changed(self, after: int) -> int | None:
        """Return the number of the first picture after this one; None if there is none for `BEAT` seconds."""
        try:
            async with asyncio.timeout(BEAT), self._news:
                await self._news.wait_for(lambda: self.picture.number > after)
                return self.picture.number
        except TimeoutError:
            return None

    async def _go_on(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work that has no end. A bug does not end it: pages say that there is one."""
        while True:
            try:
                await work()
            except Exception as error:
                self._bug = BugError.of(error).message
                _log.exception("the picture of the fleet may be old")
            await asyncio.sleep(SELDOM)

    async def _keep_looking(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_changed.wait(), OFTEN if self._watchers else SELDOM)
            self._has_changed.clear()
            began = time.monotonic()
            await self._look()
            # However much there is to look at, half of the time is left for those who want to see it.
            await asyncio.sleep(max(OFTEN / 2, time.monotonic() - began))

    async def _look(self) -> None:
        """Draw the picture anew if something in it has changed."""
        if is_new := await self._source.refresh():
            self._recent = self._source.fleet.recent_runs()
            self._read_seen = float("-inf")
        await self._read()
        known = (self._runs, self._watched, self._trouble, self._bug, self._source.trouble)
        is_old = is_new or time.monotonic() > self._drawn + FRESH
        if not is_old and known == self._shown:
            return
        self._drawn, self._shown = time.monotonic(), known
        inventory = self._source.fleet.inventory
        watched = {name: self._watched.get(name, Watched()) for name in inventory.hosts}
        trouble = [text for text in (self._source.trouble, self._trouble, self._bug) if text]
        drawn = await asyncio.to_thread(
            picture, self.picture.number + 1, inventory, watched, self._runs, now=time.time(), trouble=trouble
        )
        async with self._news:
            self.picture = drawn
            self._news.notify_all()

    async def _read(self) -> None:
        """Read what this machine remembers: its runs, and what hosts were if none is asked."""
        try:
            runs = await asyncio.to_thread(self._recent.look)
        except StateError as error:
            self._trouble = error.message
            return
        self._trouble = ""
        if len(runs) != len(self._runs) or any(new is not old for new, old in zip(runs, self._runs, strict=True)):
            self._runs = runs
        if not self._asks and time.monotonic() > self._read_seen + SEEN:
            self._read_seen = time.monotonic()
            fleet = self._source.fleet
            seen, waits = await fleet.last_seen(), await fleet.waiting()
            self._watched = {
                name: Watched(last=seen.get(name), waits=waits.get(name)) for name in fleet.inventory.hosts
            }

    async def _keep_asking(self) -> None:
        """Ask every host now and then; those of a fleet.toml that has changed, too."""
        while True:
            fleet = self._source.fleet
            async with contextlib.aclosing(fleet.watch(every=self._every)) as answers:
                async for known in answers:
                    self._watched = known
                    self._has_changed.set()
                    if self._source.fleet is not fleet:
                        break
                    await asyncio.sleep(CALM)
