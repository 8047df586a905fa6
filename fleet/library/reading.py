"""Ask many hosts at once for something that changes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from fleet.errors import FleetError
from fleet.machine import CONTACTS
from fleet.machine.link import SshLink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fleet.inventory import Host
    from fleet.machine import Connector, Link
    from fleet.model import HostName

Found = TypeVar("Found")


async def ask_all(
    logins: Connector, hosts: Sequence[Host], ask: Callable[[Host, Link], Awaitable[Found]]
) -> dict[HostName, Found | FleetError]:
    """Ask every host, `CONTACTS` of them at once, and return the answers in the order of the hosts.

    A host that cannot be asked has its error in place of an answer.
    """
    limit = asyncio.Semaphore(CONTACTS)

    async def answer_of(host: Host) -> Found | FleetError:
        link = SshLink(logins, host)
        async with limit:
            try:
                return await ask(host, link)
            except FleetError as error:
                return error
            finally:
                await link.close()

    async with asyncio.TaskGroup() as group:
        tasks = {host.name: group.create_task(answer_of(host)) for host in hosts}
    return {name: task.result() for name, task in tasks.items()}
