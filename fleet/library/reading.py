"""Ask many hosts at once for something that changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from fleet.errors import BugError, FleetError
from fleet.machine import CONTACTS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from fleet.inventory import Host
    from fleet.machine import Connector, Link
    from fleet.model import HostName

Found = TypeVar("Found")
OnWait = Callable[[Sequence["HostName"]], None]


async def ask_all(
    logins: Connector,
    hosts: Sequence[Host],
    ask: Callable[[Host, Link], Awaitable[Found]],
    *,
    on_wait: OnWait,
) -> dict[HostName, Found | FleetError]:
    """Ask every host, `CONTACTS` of them at once, and return the answers in the order of the hosts.

    A host that cannot be asked has its error in place of an answer, and so has one that leads into a bug. `on_wait`
    gets the names of the hosts that have not answered yet: at first, and whenever they become fewer.
    """
    left = {host.name: None for host in hosts}
    on_wait(tuple(left))
    limit = asyncio.Semaphore(CONTACTS)

    async def answer_of(host: Host) -> Found | FleetError:
        link = logins.link(host)
        async with limit:
            try:
                try:
                    return await ask(host, link)
                finally:
                    await link.close()
            except FleetError as error:
                return error
            except Exception as error:
                return BugError.of(error)
            finally:
                del left[host.name]
                on_wait(tuple(left))

    async with asyncio.TaskGroup() as group:
        tasks = {host.name: group.create_task(answer_of(host)) for host in hosts}
    return {name: task.result() for name, task in tasks.items()}
