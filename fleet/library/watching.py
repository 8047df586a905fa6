"""Keep looking at many hosts, each in its own time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.deploy.look import KEPT_OPEN
from fleet.errors import BugError, FleetError, StateError
from fleet.library.reading import asked
from fleet.library.seen import LastSeen, remember, remembered
from fleet.machine import CONTACTS
from fleet.state.threads import in_state
from fleet.steps.preflight import preflight

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.library.tools import Tools
    from fleet.machine import Link
    from fleet.model import HostName
    from fleet.state import Delivery, State

REMEMBER = 60.0
"""Seconds between two times that what was seen is written to the disk."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What is known of a host that is watched."""

    answer: HostFacts | FleetError | None = None
    """Its newest answer, or why it gives none. None before the first."""
    last: LastSeen | None = None
    """What it was when it last answered, if it ever has."""
    waits: Delivery | None = None
    """What it should get, since it was away when it was deployed to."""


async def watch(tools: Tools, hosts: Sequence[Host], *, every: float) -> AsyncGenerator[dict[HostName, Watched]]:
    """Yield what is known of every host, at first and whenever that changes. It is remembered now and then."""
    remembers, waits = await remembered(tools.state), await waiting(tools.state)
    known = {host.name: Watched(last=remembers.get(host.name), waits=waits.get(host.name)) for host in hosts}
    changed = asyncio.Event()
    places = asyncio.Semaphore(CONTACTS)

    async def follow(host: Host) -> None:
        link = tools.logins.link(host)
        try:
            while True:
                answer = await _look(link, host, places, closes=len(hosts) > KEPT_OPEN)
                before = known[host.name].last
                last = before if isinstance(answer, FleetError) else LastSeen.of(answer, time.time(), link.host_key)
                waits = await waiting(tools.state)
                known[host.name] = Watched(answer=answer, last=last, waits=waits.get(host.name))
                changed.set()
                await asyncio.sleep(every)
        finally:
            await link.close()

    async def keep() -> None:
        while True:
            await asyncio.sleep(REMEMBER)
            await _remember(tools, known)

    tasks = [asyncio.create_task(work) for work in (*map(follow, hosts), keep())]
    try:
        while True:
            yield dict(known)
            await changed.wait()
            changed.clear()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _remember(tools, known)


async def waiting(state: State) -> dict[HostName, Delivery]:
    """Return what waits for hosts that were away. Where that cannot be read, nothing is said to wait."""
    with contextlib.suppress(StateError):
        return {delivery.host: delivery for delivery in await in_state(state.deliveries)}
    return {}


async def _look(link: Link, host: Host, places: asyncio.Semaphore, *, closes: bool) -> HostFacts | FleetError:
    try:
        return await asked(link, lambda: preflight(link, host), places, closes=closes)
    except FleetError as error:
        return error
    except Exception as error:
        return BugError.of(error)


async def _remember(tools: Tools, known: dict[HostName, Watched]) -> None:
    seen = {name: one.last for name, one in known.items() if one.last is not None and one.answer is not None}
    await remember(tools.state, tools.inventory, seen)
