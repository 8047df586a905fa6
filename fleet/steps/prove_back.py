"""Prove the old system from outside, after the host has gone back to it and proven it by itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, HostError
from fleet.host.program import ask
from fleet.machine import Command
from fleet.steps.monitor import CheckMonitor, now
from fleet.steps.prove import FLAPPING, RECONNECT_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.events import Emit
    from fleet.host.answers import View
    from fleet.host.program import HostProgram
    from fleet.machine import Link, Machine
    from fleet.model import CheckAnswer, RunId

LEAST_PATIENCE = 60.0
"""Seconds for which a new login is tried at least."""
LONGEST_PAUSE = 15.0
"""The most seconds between two attempts: sshd counts each refusal against whoever comes again and again."""
TRUE_TIMEOUT = 20.0
"""Seconds in which a new login has to run `true`."""


@dataclass(frozen=True)
class Unwell:
    """What is wrong with an old system that the host has proven by itself."""

    says: str
    check: str = ""
    """The check that fails with it; empty if it is no check."""


@dataclass(frozen=True, kw_only=True)
class BackProver:
    """Proves the old system of one host by a new login and by the checks."""

    link: Link
    here: Machine
    program: HostProgram
    run: RunId
    emit: Emit

    async def prove(self, end: View, before: Mapping[str, CheckAnswer]) -> tuple[View, Unwell | None]:
        """Log in anew, and wait until every check that passed before the switch passes again.

        Return the end and None if all is well, and otherwise what is wrong. What was `found` bad in the new system and
        is wrong with the old one too, is not the new one's fault: then the end says so, and the host has been told.
        """
        unwell = await self._wrong(frozenset(name for name, answer in before.items() if answer.passed))
        if unwell is None or not unwell.check or end.blame != "found" or f"check {unwell.check}:" not in end.reason:
            return end, unwell
        with contextlib.suppress(HostError):
            if "acquitted" in await ask(self.link, self.link.host, self.program.call("acquit", self.run)):
                end = dataclasses.replace(end, blame="silent")
        return end, unwell

    async def _wrong(self, passed: frozenset[str]) -> Unwell | None:
        """Return what is wrong with the old system: nobody can log in, or a check does not pass in its time."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                machine = await self._log_in(stack)
            except HostError as error:
                return Unwell(f"nobody can log in: {error.message}")
            return await self._failing_check(machine, passed)

    async def _log_in(self, stack: contextlib.AsyncExitStack) -> Machine:
        """Return a new login that runs commands. The stack closes it. Raise the last `HostError` if there is none.

        The standing connection is no proof: it outlives the keys that opened it. An sshd that refuses for a while is
        waited for, as long as a proof may be interrupted.
        """
        name = self.link.host.name
        until, pause = now() + max(LEAST_PATIENCE, FLAPPING * self.link.host.confirm_timeout), RECONNECT_INTERVAL
        while True:
            try:
                machine = await stack.enter_async_context(self.link.fresh())
                ran = await machine.run(Command(argv=("true",), timeout=TRUE_TIMEOUT, verb=("true",)))
                if ran.status == 0:
                    return machine
                raise CommandFailedError(name, f"a login runs nothing: `true` ends with exit status {ran.status}")
            except HostError:
                if now() + pause > until:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _failing_check(self, machine: Machine, passed: frozenset[str]) -> Unwell | None:
        """Return the first check that passed before and does not pass again in its time; None as soon as all pass."""
        host = self.link.host
        wanted = [check for check in host.checks if check.name in passed]
        monitor = CheckMonitor(host=host, checks=wanted, here=self.here, emit=self.emit, stage="reverted")
        started = now()
        async with monitor.asking(machine):
            while monitor.all_pass_since() is None:
                for state in monitor.overdue(now() - started):
                    return Unwell(str(state), state.check.name)
                await asyncio.sleep(0.05)
        return None
