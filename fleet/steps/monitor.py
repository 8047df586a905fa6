"""Ask the declared checks of a host, each at its own interval, and remember the answers."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import checks
from fleet.errors import HostError
from fleet.events import CheckReported
from fleet.machine import CHANNELS
from fleet.model import CheckAnswer
from fleet.tasks import wait_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fleet.events import Emit
    from fleet.inventory import Check, Host
    from fleet.machine import Machine


def now() -> float:
    """Return the time of the event loop in seconds: the clock that it sleeps by, so that the two cannot disagree."""
    return asyncio.get_running_loop().time()


@dataclass
class CheckState:
    """What one check has answered so far. Times are those of the event loop."""

    check: Check
    answer: CheckAnswer | None = None
    passed_since: float | None = None
    has_passed: bool = False
    failing_since: float | None = None
    """Since when the check fails after it had passed; None if it passes or never did."""
    is_seen: bool = False
    """Whether the check itself gave the last answer, over the connection that is open now."""

    def is_late(self, elapsed: float) -> bool:
        """Whether the check fails and has used up its `within`.

        `elapsed` is the time in seconds since the checks began to count. A check that passed before gets its `within`
        again.
        """
        if self.passed_since is not None:
            return False
        if self.has_passed:
            return self.failing_since is not None and now() - self.failing_since > self.check.within
        return elapsed > self.check.within

    def __str__(self) -> str:
        said = self.answer.said if self.answer else "has not answered"
        return f"check {self.check.name}: {said} (within {self.check.within:g} s)"


@dataclass
class CheckMonitor:
    """Asks the checks of a host again and again, each at its own interval, and remembers the answers."""

    host: Host
    checks: Sequence[Check]
    here: Machine
    emit: Emit
    stage: str
    states: dict[str, CheckState] = field(default_factory=dict)
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHANNELS - 1))
    """Limits the checks so that slow ones leave a channel of the connection for looks: their silence would count
    against the host."""

    @contextlib.asynccontextmanager
    async def asking(self, machine: Machine) -> AsyncIterator[None]:
        """Ask all checks at once and repeatedly, while inside. Earlier answers do not count any more.

        On leaving, raise what went wrong in fleet itself: a check that was not asked says nothing about the host.
        """
        for check in self.checks:
            state = self.states.setdefault(check.name, CheckState(check))
            state.passed_since, state.failing_since, state.is_seen = None, None, False
        over = asyncio.Event()
        tasks = [asyncio.create_task(self._ask(state, machine, over)) for state in self.states.values()]
        try:
            yield
        finally:
            over.set()  # a connection lost at this moment may raise before the cancellation does: ignore that answer
            for task in tasks:
                task.cancel()
            await wait_all(tasks)

    async def _ask(self, state: CheckState, machine: Machine, over: asyncio.Event) -> None:
        """Ask one check at its interval until `over` is set."""
        while True:
            try:
                async with self._places:
                    answer = await checks.ask(state.check, host=machine, controller=self.here)
                state.is_seen = True
            except HostError as error:
                answer = CheckAnswer(check=state.check.name, passed=False, said=error.message, seconds=0.0)
                state.is_seen = False
            if over.is_set():
                return
            self._remember(state, answer)
            await asyncio.sleep(state.check.interval)

    def _remember(self, state: CheckState, answer: CheckAnswer) -> None:
        """Remember the answer, and report it if it differs from the one before."""
        before, state.answer = state.answer, answer
        if not answer.passed:
            state.passed_since, state.failing_since = None, state.failing_since or now()
        elif state.passed_since is None:
            state.passed_since, state.failing_since, state.has_passed = now(), None, True
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

    def last_answers(self) -> list[CheckAnswer]:
        """Return the last answer of each check that has answered."""
        return [state.answer for state in self.states.values() if state.answer is not None]

    def all_pass_since(self) -> float | None:
        """Return the loop's time since when all checks pass; 0.0 if there are none, None while one fails."""
        since = [state.passed_since for state in self.states.values()]
        return None if None in since else max((moment for moment in since if moment is not None), default=0.0)

    def overdue(self, elapsed: float) -> list[CheckState]:
        """Return the checks that fail and have used up their time, `elapsed` seconds after they began to count.

        A check that passed before gets its time again: one flap does not end a long watch.
        """
        return [state for state in self.states.values() if state.is_late(elapsed)]


async def ask_once(
    host: Host, machine: Machine, here: Machine, *, emit: Emit, stage: str = "before"
) -> dict[str, CheckAnswer]:
    """Ask each declared check once, all at the same time. Raise `HostError` if the host cannot be asked.

    A lost connection is not an answer: a check that "fails" before the switch only for that would be tolerated
    afterwards.
    """

    async def ask(check: Check) -> CheckAnswer | HostError:
        try:
            return await checks.ask(check, host=machine, controller=here)
        except HostError as error:
            return error

    answers_or_errors = await asyncio.gather(*(ask(check) for check in host.checks))
    found = {}
    for answer in answers_or_errors:
        if isinstance(answer, HostError):
            raise answer
        emit(CheckReported(host=host.name, check=answer.check, passed=answer.passed, answer=answer.said, stage=stage))
        found[answer.check] = answer
    return found
