"""Compare what hosts run with what a plan brings them, before anybody agrees to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.deploy.look import KEPT_OPEN
from fleet.errors import CommandFailedError, FleetError
from fleet.inventory import BuildOn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.diff import SystemDiff
    from fleet.machine import Link, Machine
    from fleet.model import HostName
    from fleet.plans import Part

PATIENCE = 60.0
"""Seconds for all hosts together: somebody waits for the question. `fleet diff` takes the time that it needs."""
AT_ONCE = 8
"""Comparisons at the same time. Each of them reads a closure here too."""


async def differences(
    parts: Iterable[Part], links: Mapping[HostName, Link], here: Machine, *, patience: float = PATIENCE
) -> dict[HostName, SystemDiff | FleetError]:
    """Return what differs on each host that gets another system, or why that is not known. Raises nothing."""
    places, loop = asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop()
    deadline = loop.time() + patience

    changing = [part for part in parts if part.closure != part.expected]

    async def compare(part: Part) -> SystemDiff | FleetError:
        try:
            async with asyncio.timeout_at(deadline), places:
                return await _difference(part, links[part.host], here)
        except TimeoutError:
            return CommandFailedError(part.host, f"not compared within {patience:g} s")
        except FleetError as error:
            return error
        except Exception as error:  # what a host says about itself may be nonsense, and this only informs
            return CommandFailedError(part.host, f"what it says about its system cannot be read: {error!r}")
        finally:
            if len(changing) > KEPT_OPEN:
                await links[part.host].close()

    async with asyncio.TaskGroup() as group:
        tasks = {part.host: group.create_task(compare(part)) for part in changing}
    return {host: task.result() for host, task in tasks.items()}


async def _difference(part: Part, link: Link, here: Machine) -> SystemDiff:
    """Return what differs on one host. Raise `FleetError` if that cannot be told."""
    if part.build_on is BuildOn.TARGET:
        raise CommandFailedError(part.host, "the host builds its system itself, so that nothing can be compared yet")
    there = here if part.manifest else link  # what ran on the host before is there, and perhaps not here
    from fleet.diff import read_diff  # only this compares

    return await read_diff(link, part.expected, there, part.closure)
