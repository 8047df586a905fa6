"""The declared checks of a host: asked again and again, each at its own interval, and remembered."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import checks
from fleet.errors import HostError
from fleet.events import CheckReported
from fleet.machine import CHANNELS
from fleet.tasks import all_ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fleet.checks import Answer
    from fleet.events import Emit
    from fleet.inventory import Check, Host
    from fleet.machine import Machine


def now() -> float:
    """The loop's time: what it sleeps by, so that nothing here can disagree with it."""
    return asyncio.get_running_loop().time()


@dataclass
class Standing:
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
            return self.failing_since is not None and now() - self.failing_since > self.check.within
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
    standings: dict[str, Standing] = field(default_factory=dict)
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHANNELS - 1))
    """Slow checks leave one channel of the connection to the looks, whose silence would be the host's."""

    @contextlib.asynccontextmanager
    async def asking(self, machine: Machine) -> AsyncIterator[None]:
        """While inside, all checks are asked, all at once. What they said before counts no more.

        Raises at the end what went wrong in fleet itself: a check that was not asked says nothing of the host.
        """
        for check in self.checks:
            standing = self.standings.setdefault(check.name, Standing(check))
            standing.passed_since, standing.failing_since, standing.is_seen = None, None, False
        over = asyncio.Event()
        tasks = [asyncio.create_task(self._ask(standing, machine, over)) for standing in self.standings.values()]
        try:
            yield
        finally:
            over.set()  # a connection that is lost in the same moment may be told instead of the cancellation
            for task in tasks:
                task.cancel()
            await all_ended(tasks)

    async def _ask(self, standing: Standing, machine: Machine, over: asyncio.Event) -> None:
        while True:
            try:
                async with self._places:
                    answer = await checks.ask(standing.check, host=machine, controller=self.here)
                standing.is_seen = True
            except HostError as error:
                answer = checks.Answer(check=standing.check.name, passed=False, said=error.message, seconds=0.0)
                standing.is_seen = False
            if over.is_set():
                return
            self._note(standing, answer)
            await asyncio.sleep(standing.check.interval)

    def _note(self, standing: Standing, answer: Answer) -> None:
        before, standing.answer = standing.answer, answer
        if not answer.passed:
            standing.passed_since, standing.failing_since = None, standing.failing_since or now()
        elif standing.passed_since is None:
            standing.passed_since, standing.failing_since, standing.has_passed = now(), None, True
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

    def overdue(self, elapsed: float) -> list[Standing]:
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
