"""Is the new system healthy? A new connection, the host's own verdict on its units, and the declared checks."""

from __future__ import annotations

import asyncio
import contextlib
import time
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


@dataclass
class _Standing:
    """What one check has said so far."""

    check: Check
    answer: Answer | None = None
    passed_since: float | None = None


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
        """While inside, all checks are asked, all at once."""
        for check in self.checks:
            self.standings.setdefault(check.name, _Standing(check))
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
            except HostError as error:
                answer = checks.Answer(check=standing.check.name, passed=False, said=error.message, seconds=0.0)
            self._note(standing, answer)
            await asyncio.sleep(standing.check.interval)

    def _note(self, standing: _Standing, answer: Answer) -> None:
        before, standing.answer = standing.answer, answer
        if not answer.passed:
            standing.passed_since = None
        elif standing.passed_since is None:
            standing.passed_since = time.monotonic()
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

    def all_pass_since(self) -> float | None:
        """The `time.monotonic()` since when every check has passed; 0 without checks, None while one does not."""
        since = [standing.passed_since for standing in self.standings.values()]
        return None if None in since else max((moment for moment in since if moment is not None), default=0.0)

    def overdue(self, started: float) -> str | None:
        """What the first check says that has not passed within its time."""
        for standing in self.standings.values():
            late = time.monotonic() - started > standing.check.within
            if late and standing.passed_since is None:
                said = standing.answer.said if standing.answer else "has not answered"
                return f"check {standing.check.name}: {said} (within {standing.check.within:g} s)"
        return None


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
    _calm_since: float = 0.0
    _heard: float = 0.0

    async def prove(self) -> Verdict:
        """The verdict. Whatever it is, the host knows it or will act on its own at its deadline."""
        started = self._calm_since = self._heard = time.monotonic()
        while True:
            try:
                async with self.link.fresh() as machine, self.board.asking(machine):
                    verdict = await self._look_until_certain(machine, started)
                return await self._say(verdict)
            except (AuthenticationError, HostKeyError) as error:  # they were accepted before the switch
                return await self._say(Condemned(f"no new login: {error.message}", found=True))
            except HostError as error:
                if time.monotonic() - self._heard > self.link.host.confirm_timeout:
                    return await self._say(Condemned(f"no new connection: {error.message}", found=False))
                await asyncio.sleep(RECONNECT_INTERVAL)

    async def _look_until_certain(self, machine: Machine, started: float) -> Verdict:
        host = self.link.host
        limit = max((check.within for check in self.board.checks), default=0.0) + host.settle
        while True:
            view = await self._look(machine)
            verdict = self._judge(view, started, limit)
            if verdict is not None:
                return verdict
            await asyncio.sleep(min(LOOK_INTERVAL, max(0.05, host.settle / 4)))

    async def _look(self, machine: Machine) -> View:
        call = self.program.call("look", self.run)
        view = answers.view(await ask(machine, self.link.host, call))
        self._heard = time.monotonic()
        if view.unsettled or view.running != self.closure:
            self._calm_since = time.monotonic()
        return view

    def _judge(self, view: View, started: float, limit: float) -> Verdict | None:
        now = time.monotonic()
        if view.state != "switched":
            return Decided(view)
        if view.bad:
            return Condemned("; ".join(view.bad), found=True)
        passing = self.board.all_pass_since()
        if passing is not None and now - max(passing, self._calm_since) >= self.link.host.settle:
            return Proven(now - started)
        overdue = self.board.overdue(started)
        if overdue is not None:
            return Condemned(overdue, found=True)
        if now - started > limit + LOOK_INTERVAL:
            return Condemned(_unsettled(view, self.board, limit), found=True)
        return None

    async def _say(self, verdict: Verdict) -> Verdict:
        """The host has the word. A good one goes over a further new connection, after one more look."""
        match verdict:
            case Decided():
                return verdict
            case Proven():
                async with self.link.fresh() as machine:
                    view = await self._look(machine)
                    if view.bad or view.unsettled:
                        return await self._say(Condemned("; ".join((*view.bad, *view.unsettled)), found=True))
                    return self._accepted(await self._leave(machine, "confirm"), verdict)
            case Condemned(reason, found):
                word = f"abandon {'found' if found else 'silent'} {reason}"
                with contextlib.suppress(HostError):  # then its deadline says it
                    await self._leave(self.link, word)
                return verdict

    async def _leave(self, machine: Machine, word: str) -> View:
        call = self.program.call("word", self.run, " ".join(word.split()))
        return answers.view(await ask(machine, self.link.host, call))

    @staticmethod
    def _accepted(view: View, verdict: Verdict) -> Verdict:
        return verdict if view.accepted else Decided(view)


def _unsettled(view: View, board: Board, limit: float) -> str:
    flapping = [name for name, standing in board.standings.items() if standing.passed_since is None]
    what = [*view.unsettled, *(f"check {name} keeps failing" for name in flapping)]
    if not what:
        what = [f"the checks were never all passing for {board.host.settle:g} s"]
    return f"{'; '.join(what)} (after {limit:g} s)"


async def prove_old(host: Host, machine: Machine, here: Machine, passed: Iterable[str], *, emit: Emit) -> str | None:
    """Nothing when every check that passed before the switch passes again, else what one of them says."""
    wanted = [check for check in host.checks if check.name in set(passed)]
    board = Board(host=host, checks=wanted, here=here, emit=emit, stage="reverted")
    started = time.monotonic()
    async with board.asking(machine):
        while board.all_pass_since() is None:
            overdue = board.overdue(started)
            if overdue is not None:
                return overdue
            await asyncio.sleep(0.05)
    return None
