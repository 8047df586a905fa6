"""Asking the host to switch, and following what it does. The host acts; this only watches and leaves words."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, HostError, UnfitError, UnreachableError
from fleet.events import HostSwitched, OutputLine, PhaseStarted, plain_text
from fleet.host import answers
from fleet.host.program import ask
from fleet.model import Goal, Phase
from fleet.steps.board import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.events import Emit
    from fleet.host.answers import View
    from fleet.host.program import HostProgram, Order
    from fleet.inventory import Host
    from fleet.machine import Machine

RETRY = 0.5
"""Seconds between attempts to reach a host that went silent."""
GOING_BACK = 60.0
"""Seconds that a silent host gets to go back after its deadline, beyond the time that its activation took. What takes
longer, where somebody else's switch holds the lock say, a later `fleet status` or `fleet resume` tells."""
BOOT_ALLOWANCE = 1800.0
"""Seconds in which a host has set the profile and installed the boot loader, and taken both back, at their limits."""

DOWN_ALLOWANCE = 480.0
"""Seconds in which a host that was told to reboot is down: it waits 7 minutes for its services at the most."""
UNDER_WAY = ("arming", "rebooting", "switching")
"""The states before the new system can be looked at."""
TIMED = ("switching", "switched")
"""The states that a host leaves at its deadline, whatever happens. In the others a deadline may be over."""

LOST = (UnreachableError, CommandFailedError)
"""After these nobody knows whether the host has done what it was asked."""

PHASES = {
    "arming": Phase.REBOOT,  # `rebooting` may be over before anybody looks
    "switched": Phase.PROVE,
    "committing": Phase.COMMIT,
    "reverting": Phase.REVERT,
}


async def begin(machine: Machine, program: HostProgram, order: Order) -> None:
    """The host has opened the transaction and is switching. Raises `LockedError`, `QuarantinedError`, `UnfitError`.

    The order is told again when its answer was lost: one run begins once on a host, however often it is asked.
    """
    command = program.begin(order)
    try:
        answer = await ask(machine, order.host, command)
    except LOST:
        await asyncio.sleep(RETRY)
        answer = await ask(machine, order.host, command)
    if "begun" not in answer:
        hint = "nix-store --verify --check-contents there tells what is damaged, and --repair mends it"
        raise UnfitError(order.host.name, f"{program.path} says nothing there: it is not what was pushed", hint=hint)


def longest_reboot(host: Host) -> float:
    """Seconds of silence while it reboots, and while it boots the old system again if the new one did not come."""
    return 2 * (host.boot_timeout + DOWN_ALLOWANCE)


@dataclass
class Follower:
    """Reads one transaction on one host, over connections that may come and go."""

    machine: Machine
    program: HostProgram
    order: Order
    emit: Emit
    cursor: str = ""
    said: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    """The last lines that the switch wrote."""
    lost: str = ""
    """What kept the host from answering, the last time that something did."""
    is_overdue: bool = False
    """Whether it was given up because nothing there acted on its own deadline: its keeper is stopped, say."""
    _told: str = "switching"
    _begun: float = field(default_factory=now)
    _activation: float | None = None
    """Seconds that it took, once it has ended."""
    _due: float = 0.0
    """The loop's time at which a host that nobody reaches goes back, as far as is known."""

    def __post_init__(self) -> None:
        """Nothing has been heard yet: it may just have begun."""
        host = self.order.host
        self._due = self._begun + host.activation_timeout + host.confirm_timeout + self._reboots

    def renewed(self, heard: float) -> None:
        """The host was looked at then, the loop's time, and has renewed its deadline."""
        self._due = heard + self.order.host.confirm_timeout + self._reboots

    async def until(self, done: Callable[[View], bool]) -> View:
        """The first view that is `done`. Raises the last `HostError` when the host must have gone back unseen.

        Whatever keeps the host from answering, a login that is refused say: it comes back when the host goes back.
        One that answers for ever and comes to no end, or stays where its own deadline has passed, is given up too.
        """
        state = "switching"
        punctual = now()
        limit = punctual + self._longest
        while True:
            if now() > limit:
                raise UnreachableError(self.order.host.name, f"still {state} after {self._longest:g} s")
            try:
                view = await self._watch(state)
            except HostError as error:
                self.lost = error.message
                if now() > self._due + (self._activation or 0.0) + GOING_BACK:
                    raise
                await asyncio.sleep(RETRY)
                punctual = now()  # it may have slept, and its deadline with it
                continue
            state = view.state
            self._hear(view)
            if done(view):
                return view
            if state not in TIMED or view.closes_in >= 0:
                punctual = now()
            self.is_overdue = now() > punctual + GOING_BACK
            if self.is_overdue:
                late = f"still {state} {-view.closes_in} s after its own deadline"
                raise UnreachableError(self.order.host.name, f"{late}: nothing there acts on it")

    @property
    def _longest(self) -> float:
        """Seconds in which a host is through, from whatever state: forward takes one activation, back up to two."""
        host = self.order.host
        return 3 * host.activation_timeout + host.confirm_timeout + BOOT_ALLOWANCE + self._reboots

    @property
    def _reboots(self) -> float:
        return longest_reboot(self.order.host) if self.order.goal is Goal.BOOT else 0.0

    async def _watch(self, state: str) -> View:
        call = self.program.call("watch", self.order.run, state, self.cursor)
        return answers.view(await ask(self.machine, self.order.host, call))

    def _hear(self, view: View) -> None:
        """What the view says is known and told."""
        still = self.order.host.confirm_timeout if view.state in UNDER_WAY else 0.0
        self._due = now() + max(0, view.closes_in) + still + self._reboots
        self.cursor = view.cursor or self.cursor
        for line in view.lines:
            text = plain_text(line)
            self.said.append(text)
            self.emit(OutputLine(host=self.order.host.name, phase=Phase.SWITCH, text=text))
        if view.status is not None and self._activation is None:
            self._activation = now() - self._begun
            name, closure = self.order.host.name, self.order.closure
            self.emit(HostSwitched(host=name, closure=closure, status=view.status, seconds=self._activation))
        if view.state in PHASES and view.state != self._told:
            self._told = view.state
            self.emit(PhaseStarted(host=self.order.host.name, phase=PHASES[view.state]))

    async def follow_activation(self) -> View:
        """switch-to-configuration has ended, or the host is back from its reboot, and says what comes of it.

        What only a reboot changes tells that it is back: /run, and with it the state. A host leaves `rebooting` for
        `switched` when it has booted the new system, and for `reverting` when it has booted the old one.
        """
        return await self.until(lambda view: view.state not in UNDER_WAY)

    async def follow_to_end(self) -> View:
        """The transaction is closed."""
        return await self.until(lambda view: not view.is_open)
