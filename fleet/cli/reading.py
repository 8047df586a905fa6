"""Asking many hosts at once, for commands that change nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from fleet.errors import FleetError
from fleet.machine import CONTACTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fleet.inventory import Host
    from fleet.machine.link import Link
    from fleet.machine.login import Logins

Answer = TypeVar("Answer")


def ask_all(
    logins: Logins, hosts: Sequence[Host], ask: Callable[[Host, Link], Awaitable[Answer]]
) -> list[tuple[Host, Answer | FleetError]]:
    """What each host said, in the order of the hosts; the error of those that could not be asked."""
    return asyncio.run(_ask_all(logins, hosts, ask))


async def _ask_all(
    logins: Logins, hosts: Sequence[Host], ask: Callable[[Host, Link], Awaitable[Answer]]
) -> list[tuple[Host, Answer | FleetError]]:
    from fleet.machine.link import Link

    places = asyncio.Semaphore(CONTACTS)

    async def one(host: Host) -> tuple[Host, Answer | FleetError]:
        link = Link(logins, host)
        async with places:
            try:
                return host, await ask(host, link)
            except FleetError as error:
                return host, error
            finally:
                await link.close()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(host)) for host in hosts]
    return [task.result() for task in tasks]


def tell_errors(answers: Sequence[tuple[Host, object]]) -> bool:
    """Whether any host could not be asked; what each of those said is on stderr."""
    import click

    from fleet.output.format import failure_lines

    failed = [(host, answer) for host, answer in answers if isinstance(answer, FleetError)]
    for host, error in failed:
        click.echo("\n".join(failure_lines([host.name], error.failure())), err=True)
    return bool(failed)
