"""Asking the host to switch, and following what it does. The host acts; this only watches and leaves words."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, HostError, UnreachableError
from fleet.events import HostSwitched, OutputLine, PhaseStarted, plain_text
from fleet.host import answers
from fleet.host.program import ask
from fleet.model import Phase
from fleet.steps.board import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.events import Emit
    from fleet.host.answers import View
    from fleet.host.program import HostProgram, Order
    from fleet.machine import Machine

RETRY = 0.5
"""Seconds between attempts to reach a host that went silent."""
REVERT_ALLOWANCE = 180.0
"""Seconds that a host gets to go back after its deadline, before a silent one is a person's business."""
BOOT_ALLOWANCE = 1800.0
"""Seconds in which a host has set the profile and installed the boot loader, and taken both back, at their limits."""

LOST = (UnreachableError, CommandFailedError)
"""After these nobody knows whether the host has done what it was asked."""

PHASES = {
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
        await ask(machine, order.host, command)
    except LOST:
        await asyncio.sleep(RETRY)
        await ask(machine, order.host, command)


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
    _told: str = "switching"
    _begun: float = field(default_factory=now)
    _activated: bool = False

    async def until(self, done: Callable[[View], bool], *, patience: float) -> View:
        """The first view that is `done`. Raises the last `HostError` after `patience` seconds without one answer.

        Whatever keeps the host from answering, a login that is refused say: it comes back when the host goes back.
        One that answers for ever and comes to no end is given up too, as unreachable.
        """
        state = "switching"
        heard = now()
        limit = heard + self._longest
        while True:
            if now() > limit:
                raise UnreachableError(self.order.host.name, f"still {state} after {self._longest:g} s")
            try:
                view = await self._watch(state)
                heard = now()
            except HostError as error:
                self.lost = error.message
                if now() - heard > patience:
                    raise
                await asyncio.sleep(RETRY)
                continue
            state = view.state
            self._tell(view)
            if done(view):
                return view

    @property
    def _longest(self) -> float:
        """Seconds in which a host is through, from whatever state: forward takes one activation, back up to two."""
        host = self.order.host
        return 3 * host.activation_timeout + host.confirm_timeout + BOOT_ALLOWANCE + REVERT_ALLOWANCE

    async def _watch(self, state: str) -> View:
        call = self.program.call("watch", self.order.run, state, self.cursor)
        return answers.view(await ask(self.machine, self.order.host, call))

    def _tell(self, view: View) -> None:
        self.cursor = view.cursor or self.cursor
        for line in view.lines:
            text = plain_text(line)
            self.said.append(text)
            self.emit(OutputLine(host=self.order.host.name, phase=Phase.SWITCH, text=text))
        if view.status is not None and not self._activated:
            self._activated = True
            name, seconds = self.order.host.name, now() - self._begun
            self.emit(HostSwitched(host=name, closure=self.order.closure, status=view.status, seconds=seconds))
        if view.state in PHASES and view.state != self._told:
            self._told = view.state
            self.emit(PhaseStarted(host=self.order.host.name, phase=PHASES[view.state]))

    async def follow_activation(self) -> View:
        """switch-to-configuration has ended, and the host says what comes of it."""
        patience = self.order.host.activation_timeout + self.order.host.confirm_timeout + REVERT_ALLOWANCE
        return await self.until(lambda view: view.state != "switching", patience=patience)

    async def follow_to_end(self) -> View:
        """The transaction is closed."""
        patience = self.order.host.confirm_timeout + REVERT_ALLOWANCE
        return await self.until(lambda view: not view.is_open, patience=patience)
