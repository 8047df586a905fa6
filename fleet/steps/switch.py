"""Asking the host to switch, and following what it does. The host acts; this only watches and leaves words."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, HostError, UnfitError, UnreachableError
from fleet.events import HostSwitched, OutputLine, PhaseStarted, plain_text
from fleet.host import answers
from fleet.host.answers import State
from fleet.host.program import ask
from fleet.model import Phase
from fleet.steps.monitor import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.events import Emit
    from fleet.host.answers import View
    from fleet.host.program import HostProgram, Order
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import RunId
    from fleet.steps.job import Job

RETRY = 0.5
"""Seconds between attempts to reach a host that went silent."""
GOING_BACK = 60.0
"""Seconds that a silent host gets to go back after its deadline, beyond the time that its activation took. What takes
longer, where somebody else's switch holds the lock say, a later `fleet status` or `fleet resume` tells."""
BOOT_ALLOWANCE = 1800.0
"""Seconds in which a host has set the profile and installed the boot loader, and taken both back, at their limits."""

DOWN_ALLOWANCE = 480.0
"""Seconds in which a host that was told to reboot is down: it waits 7 minutes for its services at the most."""
UNDER_WAY = (State.ARMING, State.REBOOTING, State.SWITCHING)
"""The states before the new system can be looked at."""
TIMED = (State.SWITCHING, State.SWITCHED)
"""The states that a host leaves at its deadline, whatever happens. In the others a deadline may be over."""

LOST = (UnreachableError, CommandFailedError)
"""After these nobody knows whether the host has done what it was asked."""

PHASES = {
    State.ARMING: Phase.REBOOT,  # `rebooting` may be over before anybody looks
    State.SWITCHED: Phase.PROVE,
    State.COMMITTING: Phase.COMMIT,
    State.REVERTING: Phase.REVERT,
}


async def begin(machine: Machine, host: Host, program: HostProgram, order: Order) -> None:
    """The host has opened the transaction and is switching.

    Raises `LockedError`, `StaleError`, `QuarantinedError` or `UnfitError`, and `EndedError` where it has ended by this
    very part before. The order is told again when its answer was
    lost: one run begins once on a host, however often it is asked.
    """
    command = program.begin(order)
    try:
        answer = await ask(machine, host, command)
    except LOST:
        await asyncio.sleep(RETRY)
        answer = await ask(machine, host, command)
    if "begun" not in answer:
        hint = "nix-store --verify --check-contents there tells what is damaged, and --repair mends it"
        raise UnfitError(host.name, f"{program.path} says nothing there: it is not what was pushed", hint=hint)


def longest_reboot(host: Host) -> float:
    """Seconds of silence while it reboots, and while it boots the old system again if the new one did not come."""
    return 2 * (host.boot_timeout + DOWN_ALLOWANCE)


class OverdueError(Exception):
    """The host is past its own deadline and has not gone back: its keeper is stopped, say."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What a transaction had come to when it was followed so far."""

    view: View
    said: tuple[str, ...]
    """The last lines that the switch wrote."""
    lost: str
    """What kept the host from answering, the last time that something did."""


@dataclass
class Follower:
    """Reads one transaction on one host, over connections that may come and go."""

    machine: Machine
    program: HostProgram
    run: RunId
    job: Job
    emit: Emit
    _cursor: str = ""
    _said: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    _lost: str = ""
    _told: State = State.SWITCHING
    _begun: float = field(default_factory=now)
    _activation: float | None = None
    """Seconds that it took, once it has ended."""
    _due: float = 0.0
    """The loop's time at which a host that nobody reaches goes back, as far as is known."""

    def __post_init__(self) -> None:
        """Nothing has been heard yet: it may just have begun."""
        host = self.job.host
        self._due = self._begun + host.activation_timeout + host.confirm_timeout + self._reboots

    async def follow_activation(self) -> Followed:
        """switch-to-configuration has ended, or the host is back from its reboot, and says what comes of it.

        What only a reboot changes tells that it is back: /run, and with it the state. A host leaves `rebooting` for
        `switched` when it has booted the new system, and for `reverting` when it has booted the old one.
        """
        return await self._until(lambda view: view.state not in UNDER_WAY)

    async def follow_to_end(self, *, heard: float | None = None) -> Followed:
        """The transaction is closed. `heard` is the loop's time of the last look, which renewed the host's deadline."""
        if heard is not None:
            self._due = heard + self.job.host.confirm_timeout + self._reboots
        return await self._until(lambda view: not view.is_open)

    async def _until(self, done: Callable[[View], bool]) -> Followed:
        """The first view that is `done`. Raises the last `HostError` when the host must have gone back unseen.

        Whatever keeps the host from answering, a login that is refused say: it comes back when the host goes back.
        One that answers for ever and comes to no end, or stays where its own deadline has passed (`OverdueError`), is
        given up too.
        """
        state = State.SWITCHING
        punctual = now()
        limit = punctual + self._longest
        while True:
            if now() > limit:
                raise UnreachableError(self.job.host.name, f"still {state} after {self._longest:g} s")
            try:
                view = await self._watch(state)
            except HostError as error:
                self._lost = error.message
                if now() > self._due + (self._activation or 0.0) + GOING_BACK:
                    raise
                await asyncio.sleep(RETRY)
                punctual = now()  # it may have slept, and its deadline with it
                continue
            state = view.state
            self._hear(view)
            if done(view):
                return Followed(view=view, said=tuple(self._said), lost=self._lost)
            if state not in TIMED or view.closes_in >= 0:
                punctual = now()
            if now() > punctual + GOING_BACK:
                late = f"still {state} {-view.closes_in} s after its own deadline"
                raise OverdueError(f"{late}: nothing there acts on it")

    @property
    def _longest(self) -> float:
        """Seconds in which a host is through, from whatever state: forward takes one activation, back up to two."""
        host = self.job.host
        return 3 * host.activation_timeout + host.confirm_timeout + BOOT_ALLOWANCE + self._reboots

    @property
    def _reboots(self) -> float:
        return longest_reboot(self.job.host) if self.job.part.by_reboot else 0.0

    async def _watch(self, state: State) -> View:
        call = self.program.call("watch", self.run, state, self._cursor)
        return answers.view(await ask(self.machine, self.job.host, call))

    def _hear(self, view: View) -> None:
        """Remember what the view says, and tell what is new in it."""
        name = self.job.host.name
        still = self.job.host.confirm_timeout if view.state in UNDER_WAY else 0.0
        self._due = now() + max(0, view.closes_in) + still + self._reboots
        self._cursor = view.cursor or self._cursor
        for line in view.lines:
            text = plain_text(line)
            self._said.append(text)
            self.emit(OutputLine(host=name, phase=Phase.SWITCH, text=text))
        if view.status is not None and self._activation is None:
            self._activation = now() - self._begun
            closure = self.job.closure
            self.emit(HostSwitched(host=name, closure=closure, status=view.status, seconds=self._activation))
        if view.state in PHASES and view.state != self._told:
            self._told = view.state
            self.emit(PhaseStarted(host=name, phase=PHASES[view.state]))
