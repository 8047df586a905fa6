"""Prove that the new system is healthy.

The proof takes a new connection, the host's own verdict on its units, and the declared checks.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.errors import HostError, UnreachableError
from fleet.host import answers
from fleet.host.answers import State
from fleet.host.program import ask
from fleet.steps.hold import Hold
from fleet.steps.monitor import now
from fleet.steps.switch import REFUSED
from fleet.steps.verdict import Condemned, Decided, Proof, Proven

if TYPE_CHECKING:
    from fleet.host.answers import View
    from fleet.host.program import HostProgram
    from fleet.machine import Link, Machine
    from fleet.model import Closure, RunId
    from fleet.steps.monitor import CheckMonitor
    from fleet.steps.verdict import Verdict

LONGEST_PAUSE = 10.0
"""Seconds between two looks after which all that was seen before counts for nothing: this machine was asleep, or the
link was silent. The host takes no `confirm` so long after the last look."""
LOOK_INTERVAL = 1.0
"""Seconds between two looks at the units, at most. Each costs the host, and its PID 1, some tens of milliseconds."""
LONGEST_LOOK = 2.0
"""Seconds of one look, with the pause before it, that count as contact. In the rest of a longer one the link was
silent, and a check that was failing before had no chance to pass."""
KEEPS = (State.COMMITTING, State.COMMITTED, State.TESTED)
"""The states of a host that has heard that it may keep the new system."""
NEWEST = 1.0
"""Seconds since the last login began after which a system is not confirmed without one more."""
RECONNECT_INTERVAL = 0.5
"""Seconds before a lost connection is opened again."""
REFUSED_INTERVAL = 3.0
"""Seconds before the next login after a refused one: sshd and fail2ban shut out whoever tries too often."""
FLAPPING = 3
"""How much longer a proof may take because of lost connections, in all, in `confirm_timeout`s. No single silence may
last longer than one of them. A connection that is lost again and again for ever proves nothing."""


@dataclass
class Prover:
    """Proves one switched host, and leaves the word that follows from the verdict."""

    link: Link
    program: HostProgram
    run: RunId
    closure: Closure
    monitor: CheckMonitor
    cursor: str = ""
    """Up to where in the host's journal the words of the switch were heard."""
    watch: float = 0.0
    """The least time, in seconds of contact, for which the host is looked at, even if it settles long before."""
    hold: Hold = field(default_factory=Hold)
    """With which number the host is asked. Whoever has lost it has no verdict any more: somebody else has."""
    _settled_since: float | None = None
    """Since when every look found all units settled. Time without looks does not count."""
    _contact: float = 0.0
    """Seconds for which the host could be looked at. Only these count for the `within` of checks."""
    _connected: float = 0.0
    """The value of `_contact` at the end of the first look over the connection that is open now. Settling starts anew
    then and not before, however long that look took."""
    _heard: float = 0.0
    """The loop's time of the last look."""
    _lost: str = ""
    """Why the host could not be looked at since then. A refused login says more than a silence, which does not replace
    it."""
    _refused: bool = False
    _opened: float = 0.0
    """The loop's time at which the newest login of the proof began."""
    _answer: View | None = None
    """What the host has answered to the word."""
    _confirmed: Proven | None = None
    """The verdict that the host was told, whether or not it has heard of it."""
    _away_since: float | None = None
    """Since when sshd has turned away every new login with words that it will not do so for ever."""

    async def prove(self) -> Proof:
        """Prove the host until there is a verdict. The host has it then, or will act by itself at its deadline."""
        verdict = await self._verdict()
        answers = tuple(self.monitor.last_answers())
        return Proof(verdict=verdict, heard=self._heard, lost=self._lost, answers=answers, answer=self._answer)

    async def _verdict(self) -> Verdict:
        """Look over new connections until there is a verdict and the host has taken it."""
        started = self._heard = now()
        while True:
            try:
                opened = now()
                async with self.link.fresh() as machine:
                    self._away_since, self._opened = None, opened
                    async with self.monitor.asking(machine):
                        verdict = await self._look_until_certain(machine)
                    if verdict is not None and (final := await self._act_on(verdict, machine)):
                        return final
                    if now() - started > self._longest:
                        return await self._condemn(
                            Condemned("nothing was well for long enough without a pause", found=False)
                        )
            except HostError as error:
                failed = now()
                is_refused, turns_away = self._note(error)
                if turns_away and (final := await self._look_while_turned_away()):
                    return final
                if now() - self._heard > self.link.host.confirm_timeout or now() - started > self._longest:
                    if self._confirmed is not None:  # it has kept the system, or goes back by itself
                        return self._confirmed
                    # Not `found`: a refused login is no proof of a bad system. Keys in the agent expire, and an
                    # address may belong to another machine by now.
                    return await self._condemn(Condemned(self._lost, found=False))
                waited = now() - failed
                await asyncio.sleep((REFUSED_INTERVAL if is_refused or turns_away else RECONNECT_INTERVAL) - waited)

    def _note(self, error: HostError) -> tuple[bool, bool]:
        """Remember why the host could not be looked at. Return whether it refuses us, and whether only for now."""
        is_refused = isinstance(error, REFUSED)
        turns_away = isinstance(error, UnreachableError) and error.turns_away
        if is_refused or turns_away or not self._refused:
            self._refused = is_refused or turns_away
            self._lost = f"no new {'login' if is_refused else 'connection'}: {error.message}"
        if not turns_away:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = now()
        return is_refused, turns_away

    async def _look_while_turned_away(self) -> Verdict | None:
        """Look over the old connection for a while: a busy or cautious sshd must not make a healthy host go back.

        That renews the host's deadline, for `FLAPPING` times `confirm_timeout`. It proves nothing: only a new login
        does. Return the verdict if the host has decided, or is seen to be bad, or if it is time.
        """
        lost, since = self._lost, self._away_since or now()
        if now() - since > FLAPPING * self.link.host.confirm_timeout:
            return await self._condemn(Condemned(lost, found=False))
        again = now() + REFUSED_INTERVAL
        with contextlib.suppress(HostError):
            while now() < again:
                view = await self._look(self.link)
                self._lost, self._refused = lost, True
                if self._is_decided(view):
                    return Decided(view)
                if view.bad:
                    return await self._condemn(Condemned("; ".join(view.bad), found=True))
                await asyncio.sleep(LOOK_INTERVAL)
        return None

    @property
    def _longest(self) -> float:
        """Seconds after which a proof is given up that is interrupted again and again."""
        host = self.link.host
        within = max([self.watch, *(check.within for check in self.monitor.checks)])
        return within + host.settle + FLAPPING * host.confirm_timeout

    async def _look_until_certain(self, machine: Machine) -> Verdict | None:
        """Look at the host over one connection until there is a verdict; None after too long a pause."""
        self._settled_since = None
        is_first = True
        looked = now()
        while True:
            view = await self._look(machine)
            before, looked = looked, now()
            self._contact += min(looked - before, LONGEST_LOOK)
            if is_first:
                self._connected, is_first = self._contact, False
            if looked - before > LONGEST_PAUSE and not self._is_decided(view) and not view.bad:
                return None
            verdict = self._judge(view)
            if verdict is not None:
                return verdict
            await asyncio.sleep(min(LOOK_INTERVAL, max(0.05, self.link.host.settle / 4)))

    async def _look(self, machine: Machine) -> View:
        """Look at the host once, which renews its deadline."""
        call = self.program.look(self.run, self.hold.number)
        view = self._heed(answers.view(await ask(machine, self.link.host, call)))
        if view.state == "switched":
            self._heard, self._lost, self._refused = now(), "", False
        if view.unsettled or view.running != self.closure:
            self._settled_since = None
        elif self._settled_since is None:
            self._settled_since = now()
        return view

    def _heed(self, view: View) -> View:
        """Note whether somebody else proves by now, and return the view."""
        self.hold.is_lost = self.hold.is_lost or view.displaced
        return view

    def _is_decided(self, view: View) -> bool:
        """Whether it is not for us to judge any more: the host has decided, or somebody else does."""
        return view.state != "switched" or self.hold.is_lost

    def _judge(self, view: View) -> Verdict | None:
        """Return the verdict that follows from the view, the checks and the time; None if it is too early for one."""
        if self._is_decided(view):
            has_heard = self._confirmed is not None and view.state in KEEPS
            return self._confirmed if has_heard else Decided(view)
        if view.bad:
            return Condemned("; ".join(view.bad), found=True)
        settle = self.link.host.settle
        passing = self.monitor.all_pass_since()
        if passing is not None and self._settled_since is not None:
            healthy = now() - max(passing, self._settled_since)
            if healthy >= settle and self._contact >= self.watch:
                return Proven(self._contact)
        for state in self.monitor.overdue(self._contact):
            if state.is_seen:
                return Condemned(str(state), found=True)
        limit = max([self.watch, self._connected, *(check.within for check in self.monitor.checks)]) + settle
        return self._not_settled(view, limit) if self._contact > limit + LOOK_INTERVAL else None

    def _not_settled(self, view: View, limit: float) -> Condemned:
        """Return the verdict on a system that did not settle in time, with everything that kept it from settling."""
        states, settle = self.monitor.states.values(), self.link.host.settle
        failing = [state for state in states if state.passed_since is None]
        reasons = [*view.unsettled, *(f"check {state.check.name} keeps failing" for state in failing)]
        reasons += [
            f"check {state.check.name} passes only now and then"
            for state in states
            if state.passed_since is not None and now() - state.passed_since < settle
        ]
        if view.running != self.closure:
            reasons.append(f"{view.running} runs instead")
        found = bool(view.unsettled) or any(state.is_seen for state in failing)
        reason = "; ".join(reasons) or f"nothing was well for {settle:g} s without a break"
        return Condemned(f"{reason} (after {limit:g} s)", found=found)

    async def _act_on(self, verdict: Verdict, machine: Machine) -> Verdict | None:
        """Leave the word that follows from the verdict, and return the final verdict.

        Return None if a further look shows that it is too early to confirm.
        """
        match verdict:
            case Decided():
                return verdict
            case Proven() if verdict is self._confirmed:  # it has heard of it meanwhile
                return verdict
            case Condemned():
                return await self._condemn(verdict, machine)
            case Proven():
                return await self._confirm(verdict, machine)

    async def _confirm(self, verdict: Proven, machine: Machine) -> Verdict | None:
        """Tell the host to commit, if it lets people in until the end: where the login is old, look over a new one."""
        if now() - self._opened <= NEWEST:
            return await self._commit(verdict, machine)
        seen = self._heard
        async with self.link.fresh() as machine:
            view = await self._look(machine)
            if self._is_decided(view):
                return Decided(view)
            if view.bad:
                return await self._condemn(Condemned("; ".join(view.bad), found=True), machine)
            if self._settled_since is None or now() - seen > LONGEST_PAUSE:
                return None
            return await self._commit(verdict, machine)

    async def _commit(self, verdict: Proven, machine: Machine) -> Verdict | None:
        """Tell the host to commit. Return None if it wants to be looked at again first: its last look is too old."""
        self._confirmed = verdict
        view = await self._leave_word(machine, "confirm")
        if view.accepted:
            return verdict
        if self._is_decided(view):
            return Decided(view)
        self._confirmed = self._answer = None
        return None

    async def _condemn(self, verdict: Condemned, *machines: Machine) -> Verdict:
        """Tell the host to go back, over the connection that found the fault if there is one.

        Return the verdict, or that it is somebody else's by now.

        The older connection is tried last: it may be dead without anybody having noticed.
        """
        word = f"abandon {'found' if verdict.found else 'silent'} {verdict.reason}"
        for machine in (*machines, self.link):
            with contextlib.suppress(HostError):  # if no connection works, the host goes back at its deadline
                view = await self._leave_word(machine, word)
                return Decided(view) if view.displaced else verdict
        return verdict

    async def _leave_word(self, machine: Machine, word: str) -> View:
        """Leave a word for the keeper and return the host's answer."""
        call = self.program.word(self.run, word, self.cursor, self.hold.number)
        self._answer = self._heed(answers.view(await ask(machine, self.link.host, call)))
        return self._answer
