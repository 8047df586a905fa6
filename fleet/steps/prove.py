"""Is the new system healthy? A new connection, the host's own verdict on its units, and the declared checks."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import AuthenticationError, HostError, HostKeyError
from fleet.host import answers
from fleet.host.program import ask
from fleet.steps.board import Board, now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.events import Emit
    from fleet.host.answers import View
    from fleet.host.program import HostProgram
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.machine.link import Link
    from fleet.model import Closure, RunId

LOOK_INTERVAL = 0.5
"""Seconds between two looks at the units."""
RECONNECT_INTERVAL = 0.5
REFUSED_INTERVAL = 3.0
"""Seconds after a login that was refused: sshd and fail2ban shut out who tries too often."""
FLAPPING = 3
"""Silences in all, in `confirm_timeout`s, that a proof may take beyond its own time. No single one of them may last
longer than one: a connection that comes and goes for ever proves nothing."""


@dataclass(frozen=True)
class Proven:
    """The new system was healthy without a break for `settle`; the host has been told to commit."""

    seconds: float


@dataclass(frozen=True)
class Condemned:
    """It was found bad, or could not be proven; the host has been told to go back, if it could be reached."""

    reason: str
    found: bool
    """Whether the new system was seen to be bad, and not merely silent."""


@dataclass(frozen=True)
class Decided:
    """The host decided by itself before we did."""

    view: View


Verdict = Proven | Condemned | Decided


@dataclass
class Prover:
    """Proves one switched host, then leaves the word that follows from it."""

    link: Link
    program: HostProgram
    run: RunId
    closure: Closure
    board: Board
    watch: float = 0.0
    """Seconds of contact for which it is looked at, at the least, though it may be settled long before."""
    _calm_since: float | None = None
    """Since when every look found nothing unsettled. What nobody looked at was not calm."""
    _contact: float = 0.0
    """Seconds in which the host could be looked at: only these count for the checks' `within`."""
    _connected: float = 0.0
    """How many of them had passed at the end of the first look on the connection that is open now: settling starts anew
    then, and not before, however long that look took."""
    heard: float = 0.0
    """The loop's time of the last look, which renewed the host's deadline."""
    lost: str = ""
    """What has kept it from being looked at since then. A login that was refused says more than a silence."""
    _refused: bool = False

    async def prove(self) -> Verdict:
        """The verdict. Whatever it is, the host knows it or will act on its own at its deadline."""
        started = self.heard = now()
        while True:
            try:
                async with self.link.fresh() as machine:
                    async with self.board.asking(machine):
                        verdict = await self._look_until_certain(machine)
                    if said := await self._say(verdict, machine):
                        return said
            except HostError as error:
                is_refused = isinstance(error, AuthenticationError | HostKeyError)
                if is_refused or not self._refused:
                    self._refused = is_refused
                    self.lost = f"no new {'login' if is_refused else 'connection'}: {error.message}"
                if now() - self.heard > self.link.host.confirm_timeout or now() - started > self._longest:
                    # A refusal is no proof either: keys in the agent expire, addresses go to other machines.
                    return await self._condemn(Condemned(self.lost, found=False))
                await asyncio.sleep(REFUSED_INTERVAL if is_refused else RECONNECT_INTERVAL)

    @property
    def _longest(self) -> float:
        """Seconds after which a proof that is interrupted again and again is given up."""
        host = self.link.host
        within = max([self.watch, *(check.within for check in self.board.checks)])
        return within + host.settle + FLAPPING * host.confirm_timeout

    async def _look_until_certain(self, machine: Machine) -> Verdict:
        self._calm_since = None
        is_first = True
        looked = now()
        while True:
            view = await self._look(machine)
            before, looked = looked, now()
            self._contact += looked - before
            if is_first:
                self._connected, is_first = self._contact, False
            verdict = self._judge(view)
            if verdict is not None:
                return verdict
            await asyncio.sleep(min(LOOK_INTERVAL, max(0.05, self.link.host.settle / 4)))

    async def _look(self, machine: Machine) -> View:
        call = self.program.call("look", self.run)
        view = answers.view(await ask(machine, self.link.host, call))
        if view.state == "switched":
            self.heard, self.lost, self._refused = now(), "", False
        if view.unsettled or view.running != self.closure:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now()
        return view

    def _judge(self, view: View) -> Verdict | None:
        if view.state != "switched":
            return Decided(view)
        if view.bad:
            return Condemned("; ".join(view.bad), found=True)
        settle = self.link.host.settle
        passing = self.board.all_pass_since()
        calm = None if None in (passing, self._calm_since) else now() - max(passing or 0.0, self._calm_since or 0.0)
        if calm is not None and calm >= settle and self._contact >= self.watch:
            return Proven(self._contact)
        for standing in self.board.overdue(self._contact):
            if standing.is_seen:
                return Condemned(str(standing), found=True)
        limit = max([self.watch, self._connected, *(check.within for check in self.board.checks)]) + settle
        return self._unsettled(view, limit) if self._contact > limit + LOOK_INTERVAL else None

    def _unsettled(self, view: View, limit: float) -> Condemned:
        standings, settle = self.board.standings.values(), self.link.host.settle
        failing = [standing for standing in standings if standing.passed_since is None]
        what = [*view.unsettled, *(f"check {standing.check.name} keeps failing" for standing in failing)]
        what += [
            f"check {standing.check.name} passes only now and then"
            for standing in standings
            if standing.passed_since is not None and now() - standing.passed_since < settle
        ]
        if view.running != self.closure:
            what.append(f"{view.running} runs instead")
        found = bool(view.unsettled) or any(standing.is_seen for standing in failing)
        reason = "; ".join(what) or f"nothing was well for {settle:g} s without a break"
        return Condemned(f"{reason} (after {limit:g} s)", found=found)

    async def _say(self, verdict: Verdict, machine: Machine) -> Verdict | None:
        """The host has the word. Nothing when the last look showed that it is too early for one."""
        match verdict:
            case Decided():
                return verdict
            case Condemned():
                return await self._condemn(verdict, machine)
            case Proven():
                return await self._confirm(verdict)

    async def _confirm(self, verdict: Proven) -> Verdict | None:
        """A good word goes over a further new connection, after one more look."""
        async with self.link.fresh() as machine:
            view = await self._look(machine)
            if view.bad:
                return await self._condemn(Condemned("; ".join(view.bad), found=True), machine)
            if self._calm_since is None:
                return None
            view = await self._leave(machine, "confirm")
            return verdict if view.accepted else Decided(view)

    async def _condemn(self, verdict: Condemned, *machines: Machine) -> Verdict:
        """A bad word goes over the connection that saw it, if one is open; the old one may be dead and not know it."""
        word = f"abandon {'found' if verdict.found else 'silent'} {verdict.reason}"
        for machine in (*machines, self.link):
            with contextlib.suppress(HostError):  # over none of them: then the deadline says it
                await self._leave(machine, word)
                break
        return verdict

    async def _leave(self, machine: Machine, word: str) -> View:
        call = self.program.call("word", self.run, " ".join(word.split()))
        return answers.view(await ask(machine, self.link.host, call))


async def prove_old(host: Host, machine: Machine, here: Machine, passed: Iterable[str], *, emit: Emit) -> str | None:
    """Nothing when every check that passed before the switch passes again, else what one of them says."""
    wanted = [check for check in host.checks if check.name in set(passed)]
    board = Board(host=host, checks=wanted, here=here, emit=emit, stage="reverted")
    started = now()
    async with board.asking(machine):
        while board.all_pass_since() is None:
            for standing in board.overdue(now() - started):
                return str(standing)
            await asyncio.sleep(0.05)
    return None
