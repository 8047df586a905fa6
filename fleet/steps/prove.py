"""Is the new system healthy? A new connection, the host's own verdict on its units, and the declared checks."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import checks
from fleet.errors import AuthenticationError, HostError, HostKeyError
from fleet.events import CheckReported
from fleet.host import answers
from fleet.host.program import ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from fleet.checks import Answer
    from fleet.events import Emit
    from fleet.host.answers import View
    from fleet.host.program import HostProgram
    from fleet.inventory import Check, Host
    from fleet.machine import Machine
    from fleet.machine.link import Link
    from fleet.model import Closure, RunId

LOOK_INTERVAL = 0.5
"""Seconds between two looks at the units."""
RECONNECT_INTERVAL = 0.5


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


def _now() -> float:
    """The loop's time: what it sleeps by, so that nothing here can disagree with it."""
    return asyncio.get_running_loop().time()


@dataclass
class _Standing:
    """What one check has said so far."""

    check: Check
    answer: Answer | None = None
    passed_since: float | None = None
    has_passed: bool = False
    failing_since: float | None = None
    """Since when it has failed, if it had passed before."""
    is_seen: bool = False
    """Whether the answer is the check's own, given over the connection that is open now."""

    def is_late(self, elapsed: float) -> bool:
        """Whether it does not pass, `elapsed` seconds after it began to count, and had its `within` for that."""
        if self.passed_since is not None:
            return False
        if self.has_passed:
            return self.failing_since is not None and _now() - self.failing_since > self.check.within
        return elapsed > self.check.within

    def __str__(self) -> str:
        said = self.answer.said if self.answer else "has not answered"
        return f"check {self.check.name}: {said} (within {self.check.within:g} s)"


@dataclass
class Board:
    """Asks the checks of a host again and again, each at its own interval, and remembers."""

    host: Host
    checks: Sequence[Check]
    here: Machine
    emit: Emit
    stage: str
    standings: dict[str, _Standing] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def asking(self, machine: Machine) -> AsyncIterator[None]:
        """While inside, all checks are asked, all at once. What they said before counts no more."""
        for check in self.checks:
            standing = self.standings.setdefault(check.name, _Standing(check))
            standing.passed_since, standing.failing_since, standing.is_seen = None, None, False
        tasks = [asyncio.create_task(self._ask(standing, machine)) for standing in self.standings.values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, standing: _Standing, machine: Machine) -> None:
        while True:
            try:
                answer = await checks.ask(standing.check, host=machine, controller=self.here)
                standing.is_seen = True
            except HostError as error:
                answer = checks.Answer(check=standing.check.name, passed=False, said=error.message, seconds=0.0)
                standing.is_seen = False
            self._note(standing, answer)
            await asyncio.sleep(standing.check.interval)

    def _note(self, standing: _Standing, answer: Answer) -> None:
        before, standing.answer = standing.answer, answer
        if not answer.passed:
            standing.passed_since, standing.failing_since = None, standing.failing_since or _now()
        elif standing.passed_since is None:
            standing.passed_since, standing.failing_since, standing.has_passed = _now(), None, True
        if before is None or (before.passed, before.said) != (answer.passed, answer.said):
            self.emit(
                CheckReported(
                    host=self.host.name,
                    check=answer.check,
                    passed=answer.passed,
                    answer=answer.said,
                    stage=self.stage,
                )
            )

    def last_answers(self) -> list[Answer]:
        """What each check said last, of those that have answered."""
        return [standing.answer for standing in self.standings.values() if standing.answer is not None]

    def all_pass_since(self) -> float | None:
        """The loop's time since when every check has passed; 0 without checks, None while one does not."""
        since = [standing.passed_since for standing in self.standings.values()]
        return None if None in since else max((moment for moment in since if moment is not None), default=0.0)

    def overdue(self, elapsed: float) -> list[_Standing]:
        """The checks that do not pass though their time is over, `elapsed` seconds after they began to count.

        One that had passed has its time anew: in a long watch a single flap is not the end.
        """
        return [standing for standing in self.standings.values() if standing.is_late(elapsed)]


async def ask_once(
    host: Host, machine: Machine, here: Machine, *, emit: Emit, stage: str = "before"
) -> dict[str, Answer]:
    """One attempt of each declared check, all at once. Raises `HostError` when the host cannot be asked.

    A connection that is lost is no answer: a check that "fails" so would be tolerated by mistake.
    """

    async def one(check: Check) -> Answer | HostError:
        try:
            return await checks.ask(check, host=machine, controller=here)
        except HostError as error:
            return error

    answers_or_errors = await asyncio.gather(*(one(check) for check in host.checks))
    found = {}
    for answer in answers_or_errors:
        if isinstance(answer, HostError):
            raise answer
        emit(CheckReported(host=host.name, check=answer.check, passed=answer.passed, answer=answer.said, stage=stage))
        found[answer.check] = answer
    return found


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
    """How many of them had passed when the connection that is open now was opened: settling starts anew then."""

    async def prove(self) -> Verdict:
        """The verdict. Whatever it is, the host knows it or will act on its own at its deadline."""
        started = _now()
        while True:
            try:
                async with self.link.fresh() as machine, self.board.asking(machine):
                    verdict = await self._look_until_certain(machine)
                if said := await self._say(verdict):
                    return said
            except (AuthenticationError, HostKeyError) as error:  # they were accepted before the switch
                return await self._condemn(Condemned(f"no new login: {error.message}", found=True))
            except HostError as error:
                if _now() - started - self._contact > self.link.host.confirm_timeout:
                    return await self._condemn(Condemned(f"no new connection: {error.message}", found=False))
                await asyncio.sleep(RECONNECT_INTERVAL)

    async def _look_until_certain(self, machine: Machine) -> Verdict:
        self._calm_since = None
        self._connected = self._contact
        looked = _now()
        while True:
            view = await self._look(machine)
            before, looked = looked, _now()
            self._contact += looked - before
            verdict = self._judge(view)
            if verdict is not None:
                return verdict
            await asyncio.sleep(min(LOOK_INTERVAL, max(0.05, self.link.host.settle / 4)))

    async def _look(self, machine: Machine) -> View:
        call = self.program.call("look", self.run)
        view = answers.view(await ask(machine, self.link.host, call))
        if view.unsettled or view.running != self.closure:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = _now()
        return view

    def _judge(self, view: View) -> Verdict | None:
        if view.state != "switched":
            return Decided(view)
        if view.bad:
            return Condemned("; ".join(view.bad), found=True)
        settle = self.link.host.settle
        passing = self.board.all_pass_since()
        calm = None if None in (passing, self._calm_since) else _now() - max(passing or 0.0, self._calm_since or 0.0)
        if calm is not None and calm >= settle and self._contact >= self.watch:
            return Proven(self._contact)
        for standing in self.board.overdue(self._contact):
            if standing.is_seen:
                return Condemned(str(standing), found=True)
        limit = max([self.watch, self._connected, *(check.within for check in self.board.checks)]) + settle
        return self._unsettled(view, limit) if self._contact > limit + LOOK_INTERVAL else None

    def _unsettled(self, view: View, limit: float) -> Condemned:
        failing = [standing for standing in self.board.standings.values() if standing.passed_since is None]
        what = [*view.unsettled, *(f"check {standing.check.name} keeps failing" for standing in failing)]
        if view.running != self.closure:
            what.append(f"{view.running} runs instead")
        found = bool(view.unsettled) or any(standing.is_seen for standing in failing)
        reason = "; ".join(what) or f"nothing was well for {self.link.host.settle:g} s without a break"
        return Condemned(f"{reason} (after {limit:g} s)", found=found)

    async def _say(self, verdict: Verdict) -> Verdict | None:
        """The host has the word. Nothing when the last look showed that it is too early for one."""
        match verdict:
            case Decided():
                return verdict
            case Condemned():
                return await self._condemn(verdict)
            case Proven():
                return await self._confirm(verdict)

    async def _confirm(self, verdict: Proven) -> Verdict | None:
        """A good word goes over a further new connection, after one more look."""
        async with self.link.fresh() as machine:
            view = await self._look(machine)
            if view.bad:
                return await self._condemn(Condemned("; ".join(view.bad), found=True))
            if self._calm_since is None:
                return None
            view = await self._leave(machine, "confirm")
            return verdict if view.accepted else Decided(view)

    async def _condemn(self, verdict: Condemned) -> Verdict:
        word = f"abandon {'found' if verdict.found else 'silent'} {verdict.reason}"
        with contextlib.suppress(HostError):  # then its deadline says it
            await self._leave(self.link, word)
        return verdict

    async def _leave(self, machine: Machine, word: str) -> View:
        call = self.program.call("word", self.run, " ".join(word.split()))
        return answers.view(await ask(machine, self.link.host, call))


async def prove_old(host: Host, machine: Machine, here: Machine, passed: Iterable[str], *, emit: Emit) -> str | None:
    """Nothing when every check that passed before the switch passes again, else what one of them says."""
    wanted = [check for check in host.checks if check.name in set(passed)]
    board = Board(host=host, checks=wanted, here=here, emit=emit, stage="reverted")
    started = _now()
    async with board.asking(machine):
        while board.all_pass_since() is None:
            for standing in board.overdue(_now() - started):
                return str(standing)
            await asyncio.sleep(0.05)
    return None
