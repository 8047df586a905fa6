"""Ask the host to switch, and follow what it does. The host acts; this only watches and leaves words."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from fleet.errors import (
    AuthenticationError,
    CommandFailedError,
    HostError,
    HostKeyError,
    UnfitError,
    UnreachableError,
)
from fleet.events import HostSwitched, OutputLine, PhaseStarted, plain_text
from fleet.host import answers
from fleet.host.answers import State
from fleet.host.program import ask
from fleet.model import Phase
from fleet.steps.monitor import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet.events import Emit
    from fleet.host.answers import View
    from fleet.host.program import HostProgram, Order
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import RunId
    from fleet.steps.job import Job
    from fleet.steps.verdict import Proof

T = TypeVar("T")

RETRY = 0.5
"""Seconds between attempts to reach a host that went silent."""
GOING_BACK = 60.0
"""Seconds that a silent host gets to go back after its deadline, beyond the time that its activation took. If it
takes longer, for example because somebody else's switch holds the lock, a later `fleet status` or `fleet resume` tells
how it ended."""
BOOT_ALLOWANCE = 1800.0
"""Seconds in which a host has set the profile and installed the boot loader, and taken both back, even if each of these
takes as long as it may."""

DOWN_ALLOWANCE = 480.0
"""Seconds in which a host that was told to reboot is down. It waits at most 7 minutes for its services."""
UNDER_WAY = (State.ARMING, State.REBOOTING, State.SWITCHING)
"""The states before the new system can be looked at."""
TIMED = (State.SWITCHING, State.SWITCHED)
"""The states that a host leaves at its deadline, whatever happens. In the others it may have passed."""

LOST = (UnreachableError, CommandFailedError)
"""The errors after which nobody knows whether the host has done what it was asked."""
REFUSED = (AuthenticationError, HostKeyError)
"""The errors of a login that a host refuses, or that goes to another machine."""

PHASES = {
    State.ARMING: Phase.REBOOT,  # `rebooting` may be over before anybody looks
    State.SWITCHED: Phase.PROVE,
    State.COMMITTING: Phase.COMMIT,
    State.REVERTING: Phase.REVERT,
}


async def begin(machine: Machine, host: Host, program: HostProgram, order: Order) -> View:
    """Ask the host to begin. It has opened the transaction afterwards. Return what it shows of that.

    If the answer is lost the order is sent once more: one run begins once on a host, however often it is asked. Raise
    `LockedError`, `StaleError`, `QuarantinedError` or `UnfitError` if the host refuses, `EndedError` if it has ended by
    this very part before, and one of `LOST` if the second answer is lost too, or nobody is let in to hear it.
    """
    command = program.begin(order)
    try:
        answer = await ask(machine, host, command, begins=True)
    except LOST as lost:
        await asyncio.sleep(RETRY)
        try:
            answer = await ask(machine, host, command, begins=True)
        except REFUSED:  # as a new system's sshd does that has taken the first answer along
            raise lost from None
    if "begun" not in answer:
        hint = "nix-store --verify --check-contents there tells what is damaged, and --repair mends it"
        raise UnfitError(host.name, f"{program.path} says nothing there: it is not what was pushed", hint=hint)
    return answers.view(answer)


async def while_lost(ask_once: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Return what the host answers, which may be lost for a moment: it is asked again for so many seconds.

    What is asked may be done more than once. Raise one of `LOST` if the host is lost for longer.
    """
    until = now() + seconds
    while True:
        try:
            return await ask_once()
        except LOST:
            if now() > until:
                raise
        await asyncio.sleep(RETRY)


def longest_reboot(host: Host) -> float:
    """Return for how many seconds the host may be silent while it reboots.

    In that time it can boot the old system again too, if the new one did not come.
    """
    return 2 * (host.boot_timeout + DOWN_ALLOWANCE)


class OverdueError(Exception):
    """The host is past its own deadline and has not gone back, for example because its keeper is stopped."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What a transaction had come to when it was last looked at."""

    view: View
    said: tuple[str, ...]
    """The last lines that the switch wrote."""
    lost: str
    """What kept the host from answering, the last time that something did. Empty if nothing ever did."""


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
    _refusal: HostError | None = None
    """The last refused login. A host that boots the new system has other keys, say, and after that only goes down."""
    _told: State = State.SWITCHING
    _begun: float = field(default_factory=now)
    _activation: float | None = None
    """Seconds that the activation took; None until it has ended."""
    _due: float = 0.0
    """The loop's time at which a host that nobody reaches goes back, as far as is known."""

    def __post_init__(self) -> None:
        """Assume that the host has just begun, since nothing has been heard from it yet."""
        host = self.job.host
        self._due = self._begun + host.activation_timeout + host.confirm_timeout + self._reboot_time

    @property
    def cursor(self) -> str:
        """Up to where in the journal the words of the switch were heard."""
        return self._cursor

    async def follow_activation(self, begun: View | None = None) -> Followed:
        """Wait until switch-to-configuration has ended or the host is back from its reboot. Return what it says then.

        `begun` is what it showed when it began. That it is back shows in what only a reboot changes: /run, and with it
        the state. A host leaves `rebooting` for `switched` when it has booted the new system, and for `reverting` when
        it has booted the old one. Raise `HostError` or `OverdueError` if the host is given up before.
        """
        return await self._follow_until(lambda view: view.state not in UNDER_WAY, begun)

    async def follow_to_end(self, proof: Proof | None = None) -> Followed:
        """Wait until the transaction is closed, and return what came of it.

        The looks of a proof have renewed the host's deadline, and what it has answered to the word is seen first. Raise
        `HostError` or `OverdueError` if the host is given up before.
        """
        if proof is not None:
            self._due = proof.heard + self.job.host.confirm_timeout + self._reboot_time
        return await self._follow_until(lambda view: not view.is_open, proof.answer if proof is not None else None)

    async def _follow_until(self, done: Callable[[View], bool], seen: View | None) -> Followed:
        """Watch the host until a view is `done`, and return that one. Raise an error if the host is given up before.

        That is the last `HostError`, if the host must have gone back unseen. Until then any such error is waited out:
        whatever keeps the host from answering, a refused login for example, passes when the host goes back. It is
        `UnreachableError` if the host answers for ever and comes to no end, and `OverdueError` if it stays in a state
        whose deadline has passed.
        """
        state = State.SWITCHING
        punctual = now()
        limit = punctual + self._time_limit
        while True:
            if now() > limit:
                raise UnreachableError(self.job.host.name, f"still {state} after {self._time_limit:g} s")
            try:
                view, seen = seen or await self._watch(state), None
            except HostError as error:
                self._note(error)
                if now() > self._due + (self._activation or 0.0) + GOING_BACK:
                    raise (self._refusal or error) from error
                await asyncio.sleep(RETRY)
                punctual = now()  # it may have slept, and its deadline with it
                continue
            state = view.state
            self._take_in(view)
            if done(view):
                return Followed(view=view, said=tuple(self._said), lost=self._lost)
            if state not in TIMED or view.closes_in >= 0:
                punctual = now()
            if now() > punctual + GOING_BACK:
                late = f"still {state} {-view.closes_in} s after its own deadline"
                raise OverdueError(f"{late}: nothing there acts on it")

    def _note(self, error: HostError) -> None:
        """Remember what kept the host from answering. A refusal says more than a silence, which does not replace it."""
        if isinstance(error, REFUSED):
            self._refusal = error
        self._lost = (self._refusal or error).message

    @property
    def _time_limit(self) -> float:
        """Seconds in which a host has ended, from any state: forward takes one activation, going back up to two."""
        host = self.job.host
        return 3 * host.activation_timeout + host.confirm_timeout + BOOT_ALLOWANCE + self._reboot_time

    @property
    def _reboot_time(self) -> float:
        """Seconds that the reboots of this switch may take; 0.0 if it has none."""
        return longest_reboot(self.job.host) if self.job.part.by_reboot else 0.0

    async def _watch(self, state: State) -> View:
        """Return what the host shows as soon as it leaves `state`, or after about a second."""
        call = self.program.call("watch", self.run, state, self._cursor)
        return answers.view(await ask(self.machine, self.job.host, call))

    def _take_in(self, view: View) -> None:
        """Remember what the view says, and emit what is new in it."""
        name = self.job.host.name
        still = self.job.host.confirm_timeout if view.state in UNDER_WAY else 0.0
        self._due = now() + max(0, view.closes_in) + still + self._reboot_time
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
            if view.state is State.SWITCHED and self.job.part.by_reboot and self._told is State.SWITCHING:
                self.emit(PhaseStarted(host=name, phase=Phase.REBOOT))  # it was over before anybody looked
            self._told = view.state
            self.emit(PhaseStarted(host=name, phase=PHASES[view.state]))
