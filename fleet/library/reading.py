"""Ask many hosts at once for something that changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from fleet.errors import BugError, FleetError, UnreachableError
from fleet.machine import CONTACTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterator

    from fleet.deploy.stop import Stop
    from fleet.inventory import Host
    from fleet.machine import Connector, Link
    from fleet.model import HostName

Found = TypeVar("Found")
LENT = 0.25
"""Seconds without an answer after which a host's place goes to another one. It gets one again when somebody answers."""
OnWait = Callable[[Sequence["HostName"]], None]


def ignore(_: object) -> None:
    """Do nothing with it."""


async def ask_all(
    logins: Connector,
    hosts: Sequence[Host],
    ask: Callable[[Host, Link], Awaitable[Found]],
    *,
    on_wait: OnWait,
    at_once: int = CONTACTS,
    stop: Stop | None = None,
    late: float | None = None,
) -> dict[HostName, Found | FleetError]:
    """Ask every host, `at_once` of them at the same time, and return the answers in the order of the hosts.

    A host at which nobody answers keeps no other one waiting. A host that cannot be asked has its error in place of an
    answer, and so has one that leads into a bug. `on_wait` gets the names of the hosts that have not answered yet: at
    first, and whenever they become fewer. At a request to stop the answer of these is `StoppedError`. With `late`, the
    hosts at which nobody has answered when all others are done get only so many seconds more, unless fleet.toml says
    how long.
    """
    left = {host.name: None for host in hosts}
    on_wait(tuple(left))
    silent = _Silent(left, late)
    places = asyncio.Semaphore(at_once)

    async def answer_of(host: Host) -> Found | FleetError:
        link = logins.link(host)
        try:
            work = asked(link, lambda: ask(host, link), places, silent=silent)
            return await (stop.unless(work) if stop is not None else work)
        except FleetError as error:
            return error
        except Exception as error:
            return BugError.of(error)
        finally:
            del left[host.name]
            on_wait(tuple(left))
            silent.hurry_if_alone()

    async with asyncio.TaskGroup() as group:
        tasks = {host.name: group.create_task(answer_of(host)) for host in hosts}
    return {name: task.result() for name, task in tasks.items()}


async def asked(
    link: Link,
    ask: Callable[[], Awaitable[Found]],
    places: asyncio.Semaphore,
    *,
    closes: bool = True,
    silent: _Silent | None = None,
) -> Found:
    """Take a place, connect, and return what `ask` returns.

    The place is given to somebody else while nobody answers. If it `closes`, the link is closed afterwards, and in any
    case after an error.
    """
    place = _Place(places)
    await place.take()
    try:
        with place.lent_while_silent() as take_back:
            if silent is None:
                await link.open(on_answer=take_back)
            else:
                await silent.open(link, on_answer=take_back)
        await place.take()
        found = await ask()
    except BaseException:
        await link.close()
        raise
    else:
        if closes:
            await link.close()
        return found
    finally:
        place.give()


class _Place:
    """One of the places of those that are asked at the same time."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._is_taken = False

    async def take(self) -> None:
        """Wait for the place, unless it is taken already."""
        if not self._is_taken:
            await self._places.acquire()
            self._is_taken = True

    def give(self) -> None:
        """Leave it to somebody else."""
        if self._is_taken:
            self._is_taken = False
            self._places.release()

    @contextlib.contextmanager
    def lent_while_silent(self) -> Iterator[Callable[[], None]]:
        """Give the place away after `LENT` without an answer, while inside. Yields what to call at an answer."""
        timer = asyncio.get_running_loop().call_later(LENT, self.give)
        try:
            yield timer.cancel
        finally:
            timer.cancel()


class _Silent:
    """The hosts at which nobody has answered yet, and how long they get."""

    def __init__(self, left: Collection[HostName], late: float | None) -> None:
        """`left` are the hosts whose answer is not there yet, from now on."""
        self._left = left
        self._count = len(left)
        self._late = late
        self._limits: dict[HostName, asyncio.Timeout] = {}

    async def open(self, link: Link, *, on_answer: Callable[[], None]) -> None:
        """Connect. Raise what that raises, and `UnreachableError` if nobody answers and there is no more time."""
        host, began = link.host, asyncio.get_running_loop().time()

        def answered() -> None:
            on_answer()
            if (limit := self._limits.pop(host.name, None)) is not None:
                limit.reschedule(None)

        limit = asyncio.timeout(None)
        try:
            async with limit:
                if self._late is not None and host.connect_timeout is None:
                    self._limits[host.name] = limit
                    self.hurry_if_alone()
                await link.open(on_answer=answered)
        except TimeoutError:
            if not limit.expired():
                raise
            waited = asyncio.get_running_loop().time() - began
            hint = "connect_timeout in fleet.toml gives it longer"
            raise UnreachableError(host.name, f"no answer within {waited:.1f} s", hint=hint) from None
        finally:
            self._limits.pop(host.name, None)

    def hurry_if_alone(self) -> None:
        """Let the time of these hosts begin to run out if there were others, and all of these are done."""
        if self._late is None or len(self._limits) < len(self._left) or len(self._left) == self._count:
            return
        end = asyncio.get_running_loop().time() + self._late
        for limit in self._limits.values():
            if limit.when() is None:
                limit.reschedule(end)
