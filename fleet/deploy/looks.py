"""Look at many hosts while other work goes on. Nobody waits long for a host that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from fleet.errors import UnreachableError
from fleet.tasks import wait_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any

    from fleet.inventory import Host

    AccountFor = Callable[[Host, Awaitable[None]], Coroutine[Any, Any, None]]
    Attempt = Callable[["Look"], Awaitable[None]]
    """Looks at the host once, and calls `begin` and `answer`. Raises `HostError`."""

SOON = 1.0
"""Seconds without an answer after which other work does not wait for a host any more."""
LATE = 2.0
"""Seconds that a silent host still gets when that work is done."""
PAUSE = 5.0
"""Seconds between two attempts to reach a silent host while that work goes on."""


class Look:
    """The look at one host. While nobody answers there, it is tried again for as long as other work takes time."""

    def __init__(self, host: Host, attempt: Attempt) -> None:
        self.host = host
        self.settled = asyncio.Event()
        """Is set when the look has ended, or nobody has answered for `SOON`."""
        self._attempt = attempt
        self._has_begun = self._has_answered = False
        self._end = float("inf")
        """The time of the loop after which nobody tries again."""
        self._hurry = asyncio.Event()
        """Is set when that time is known."""
        self._limit: asyncio.Timeout | None = None
        """Of the attempt that is under way, if it is not the first one."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> bool:
        """Note that an attempt begins now, and return whether it is the first one."""
        if self._has_begun:
            return False
        self._has_begun = True
        self._timer = asyncio.get_running_loop().call_later(SOON, self._settle_if_silent)
        return True

    def answer(self) -> None:
        """Note that somebody answers: the look takes as long as the login now."""
        self._has_answered = True
        self._set_limit()

    def end_at(self, time: float) -> None:
        """Try to reach a silent host until that time of the loop, and at least once: a login has limits of its own."""
        self._end = time
        self._hurry.set()
        self._set_limit()

    async def run(self) -> None:
        """Look at the host. Raise the `HostError` of the last attempt that came to an end."""
        try:
            await self._attempt(self)
        except UnreachableError as error:
            if not error.is_silent:
                raise
            await self._try_again(error)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.settled.set()

    async def _try_again(self, silence: UnreachableError) -> None:
        """Try until somebody answers, or there is no time left. Raise the `HostError` of the last attempt."""
        while asyncio.get_running_loop().time() < self._end:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), PAUSE)
            try:
                async with asyncio.timeout(None) as self._limit:
                    self._set_limit()
                    return await self._attempt(self)
            except UnreachableError as error:
                if not error.is_silent:
                    raise
                silence = error
            except TimeoutError:
                if not self._limit or not self._limit.expired():
                    raise
        raise silence

    def _settle_if_silent(self) -> None:
        if not self._has_answered:
            self.settled.set()

    def _set_limit(self) -> None:
        """Limit a further attempt for as long as nobody answers."""
        if self._limit is not None and self._end != float("inf"):
            with contextlib.suppress(RuntimeError):  # it has ended
                self._limit.reschedule(None if self._has_answered else self._end)


class Looks:
    """The looks at many hosts, under way."""

    def __init__(self, hosts: Sequence[Host], attempt: Attempt, account_for: AccountFor) -> None:
        """Begin to look. `account_for` awaits the look at a host, and keeps what it raises."""
        self._looks = [Look(host, attempt) for host in hosts]
        self._tasks = [asyncio.create_task(account_for(look.host, look.run())) for look in self._looks]

    async def settled(self) -> None:
        """Wait until each look has ended, or its host is silent. Raise what is no matter of a single host."""
        for look in self._looks:
            await look.settled.wait()
        await wait_all([task for task in self._tasks if task.done()])

    async def end(self, patience: float = 0.0) -> None:
        """Wait until each look has ended. Silent hosts get so many seconds from now, and at least one attempt."""
        time = asyncio.get_running_loop().time() + patience
        for look in self._looks:
            look.end_at(time)
        await wait_all(self._tasks)

    async def cancel(self) -> None:
        """Stop to look."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
