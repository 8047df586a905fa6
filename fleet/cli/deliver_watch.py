"""Deliver to hosts as they come back, for as long as somebody lets it go on: `fleet deliver --watch`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from fleet.cli.changing import follow, follow_to_end, warn_of
from fleet.errors import FleetError, StateError
from fleet.output.format import one_line
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from fleet import Fleet, Stop
    from fleet.inventory import Host
    from fleet.library.delivering import Back
    from fleet.model import HostName
    from fleet.output import Display
    from fleet.state import Delivery

INTERVAL = 0.5
"""Seconds between two looks at a host that is away: it is to have its system within 10 s of coming back."""
AGAIN = 60.0
"""Seconds before the next attempt at a host that answered and did not get what waits for it. Each pause after that is
twice as long, up to `SELDOM`: each attempt is a run that is recorded."""
SELDOM = 3600.0
FORBIDDEN = 2.0
"""Seconds between two looks at a host that is back and may not be changed now."""


class Pause(NamedTuple):
    """How long a host gets no further attempt at the delivery of this run."""

    run: str
    seconds: float
    until: float


class DeliveryWatch:
    """Looks at each host that something waits for in its own time. Those that are back at once share a run.

    No host waits for another one: neither for its answer nor for the end of its run. Displays are opened one for each
    run, so they must not move. `tell` writes a line for people.
    """

    def __init__(
        self,
        fleet: Fleet,
        hosts: Sequence[Host],
        stop: Stop,
        display: Callable[[], AbstractContextManager[Display]],
        tell: Callable[[str], None],
    ) -> None:
        self._fleet = fleet
        self._hosts = hosts
        self._stop = stop
        self._display = display
        self._tell = tell
        self._looks: dict[HostName, asyncio.Task[dict[HostName, Back]]] = {}
        self._runs: dict[asyncio.Task[None], tuple[Delivery, ...]] = {}
        self._pauses: dict[HostName, Pause] = {}
        self._why_not: dict[HostName, str] = {}
        """What was told last of each host that is back and may not be changed."""
        self._waiting: tuple[HostName, ...] | None = None
        """The hosts that were told last to be waited for."""
        self._trouble = ""

    async def go_on(self) -> None:
        """Deliver until somebody asks for the end. Then wait for the runs that have begun."""
        try:
            while not self._stop.is_requested:
                try:
                    await self._turn()
                except StateError as error:  # the disk may be better the next time
                    self._say_trouble(error.message)
                else:
                    self._say_trouble("")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.requested(), INTERVAL)
        finally:
            for look in self._looks.values():
                look.cancel()
            await asyncio.gather(*self._looks.values(), *self._runs, return_exceptions=True)

    async def _turn(self) -> None:
        """Begin to look at hosts, and deliver to those of which a look has shown that they are back."""
        for run in [run for run in self._runs if run.done()]:
            self._end(run)
        waiting = await self._fleet.deliveries(*(host.name for host in self._hosts))
        self._say_who_waits(waiting)
        back = self._ended_looks()
        ready = tuple(one for one in waiting if one.host in back and self._may_be_changed(back[one.host], one))
        if ready and not self._stop.is_requested:
            self._runs[asyncio.create_task(self._deliver(ready))] = ready
        busy = {delivery.host for those in self._runs.values() for delivery in those}
        for delivery in waiting:
            if delivery.host not in busy and delivery.host not in self._looks and not self._is_early(delivery):
                self._looks[delivery.host] = asyncio.create_task(self._fleet.those_back([delivery]))

    def _ended_looks(self) -> dict[HostName, Back]:
        """Return the hosts that are back, of those whose look has ended since the last turn."""
        ended = [name for name, look in self._looks.items() if look.done()]
        back: dict[HostName, Back] = {}
        for name in ended:
            back |= self._looks.pop(name).result()
            if name not in back:
                self._why_not.pop(name, None)
        return back

    def _may_be_changed(self, back: Back, delivery: Delivery) -> bool:
        """Whether the host may be changed now. Say once what forbids it."""
        name = delivery.host
        if back.why_not and self._why_not.get(name) != back.why_not:
            self._tell(one_line(f"{name}: is back, and {back.why_not}"))
        self._why_not[name] = back.why_not
        if back.why_not:
            self._pause(delivery, FORBIDDEN)
        return not back.why_not and back.delivery == delivery

    async def _deliver(self, ready: Sequence[Delivery]) -> None:
        gated = {host.name for host in self._hosts if host.gate}
        free = [delivery for delivery in ready if delivery.host not in gated]
        with self._display() as output:
            if free:
                await self._plan_and_apply(free, output)
            if len(free) == len(ready):
                return
            try:
                for parts in await self._fleet.signed_parts(ready):
                    await follow_to_end(self._fleet.deliver(parts, stop=self._stop), output)
            except FleetError as error:  # they have expired, or cannot be read
                self._tell(one_line(f"fleet: {error.message}"))

    async def _plan_and_apply(self, ready: Sequence[Delivery], output: Display) -> None:
        planning = self._fleet.plan_delivery(ready, stop=self._stop)
        await follow(planning, output)
        try:
            await follow_to_end(self._fleet.apply(await planning, stop=self._stop), output)
        except FleetError:  # the last event has reported it
            warn_of(planning.untold, output)

    def _end(self, run: asyncio.Task[None]) -> None:
        """Let the hosts of a run wait, in case they have not got their system. Raise what ended the run otherwise."""
        for delivery in self._runs.pop(run):
            before = self._pauses.get(delivery.host)
            is_first = before is None or before.run != delivery.run or before.seconds < AGAIN
            self._pause(delivery, AGAIN if is_first or before is None else min(2 * before.seconds, SELDOM))
        run.result()

    def _pause(self, delivery: Delivery, seconds: float) -> None:
        self._pauses[delivery.host] = Pause(delivery.run, seconds, time.monotonic() + seconds)

    def _is_early(self, delivery: Delivery) -> bool:
        """Whether this very delivery was tried lately, and may have come to nothing."""
        pause = self._pauses.get(delivery.host)
        return pause is not None and pause.run == delivery.run and time.monotonic() < pause.until

    def _say_trouble(self, trouble: str) -> None:
        """Say once that nobody can tell for whom something waits, and why."""
        if trouble and trouble != self._trouble:
            self._tell(one_line(f"fleet: {trouble}; tried again"))
        self._trouble = trouble

    def _say_who_waits(self, waiting: Sequence[Delivery]) -> None:
        """Say for which hosts something waits, at first and whenever that changes."""
        names = tuple(delivery.host for delivery in waiting)
        if names != self._waiting:
            self._waiting = names
            self._tell(f"fleet: something waits for {listed(names, most=6)}" if names else "fleet: nothing waits now")
