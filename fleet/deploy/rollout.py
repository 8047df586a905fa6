"""Take all hosts through the waves, a limited number at once, and stop after too many bad outcomes."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.host import HostRun
from fleet.deploy.slots import HostSlot, Slots
from fleet.errors import BugError, FleetError, StoppedError
from fleet.events import PhaseStarted, WaveStarted
from fleet.model import HostResult, Outcome, Phase
from fleet.tasks import wait_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.deploy.context import Context
    from fleet.host.program import HostProgram
    from fleet.model import CheckAnswer, Closure, HostName
    from fleet.plans import Plan
    from fleet.steps.job import Job


@dataclass
class Rollout:
    """Goes through the waves of a plan. Afterwards every host that has a job has a result."""

    context: Context
    plan: Plan
    jobs: Mapping[HostName, Job]
    program: HostProgram
    _bad_outcomes: int = field(default=0, init=False)
    """How many hosts of this rollout ended badly."""

    async def roll_out(self) -> None:
        """Roll out wave by wave, until every host has ended or was skipped.

        When this is cancelled, hosts in the middle of a switch get a result that says so: in doubt.
        """
        waves = [[self.jobs[name] for name in wave if name in self.jobs] for wave in self.plan.waves]
        waves = [wave for wave in waves if wave]
        try:
            for number, wave in enumerate(waves, 1):
                names = tuple(job.host.name for job in wave)
                if self._stop_reason() is None:
                    self.context.journal.emit(WaveStarted(wave=number, waves=len(waves), hosts=names))
                await self._wave(wave)
        finally:
            self._finish_the_rest()

    async def _wave(self, wave: Sequence[Job]) -> None:
        """Wait until every host of the wave has ended.

        A bug at one host must not cancel the others in the middle of a switch.
        """
        places = Slots(self.plan)
        await wait_all([asyncio.create_task(self._take_turn(job, places)) for job in wave])

    async def _take_turn(self, job: Job, places: Slots) -> None:
        name = job.host.name
        async with HostSlot(places) as turn:
            if (reason := self._stop_reason()) is not None:
                self._finish(result.skipped(name, reason))
                return
            started = time.monotonic()
            try:
                host_run = HostRun(context=self.context, job=job, program=self.program, plan=self.plan)
                ended = await self._run_host(host_run, turn)
                self._finish(dataclasses.replace(ended, seconds=time.monotonic() - started))
            except Exception as error:  # a bug; its result names the host and the state that it is in
                self._finish(bug(name, job.closure, error, begun=self.context.journal.has_begun(name)))
            finally:
                await self.context.links[name].close()

    async def _run_host(self, host_run: HostRun, turn: HostSlot) -> HostResult:
        """Take one host through the run and return its result. Only bugs raise.

        A stop has no effect any more once the host was asked to begin.
        """
        job = host_run.job
        try:
            ready = await self.context.stop.unless(self._prepare(host_run, turn))
            return ready if isinstance(ready, HostResult) else await host_run.switch(ready)
        except StoppedError:
            return result.skipped(job.host.name, "interrupted before it began")
        except FleetError as error:
            await host_run.unroot()
            return result.left_out(job.host, error, job.facts)

    async def _prepare(self, host_run: HostRun, turn: HostSlot) -> Mapping[str, CheckAnswer] | HostResult:
        """Do all that comes before the switch: push, wait for a place, try a login, ask the checks.

        Return the answers of the checks, or the host's result if it ends here.
        """
        job = host_run.job
        try:
            await host_run.push()
            if not job.part.goal.switches:
                return await host_run.stage()
            if turn.must_wait:
                self.context.journal.emit(PhaseStarted(host=job.host.name, phase=Phase.WAITING))
            if await turn.switch() and (reason := self._stop_reason()) is not None:
                await host_run.unroot()
                return result.skipped(job.host.name, reason)
            await host_run.link.rehearse()
            return await host_run.ask_checks()
        except asyncio.CancelledError:  # nothing will switch to what was pushed: let it be collected as garbage
            await host_run.unroot()
            raise

    def _stop_reason(self) -> str | None:
        """Return why no further host may begin; None if one may."""
        if self.context.stop.is_requested:
            return "interrupted before it began"
        if self._bad_outcomes > self.plan.max_failures:
            return f"not begun: {self._bad_outcomes} of the hosts before it ended badly (max_failures)"
        return None

    def _finish(self, ended: HostResult) -> None:
        self._bad_outcomes += ended.outcome.counts_against_run
        self.context.journal.finish(ended)

    def _finish_the_rest(self) -> None:
        """Give every job without a result one: in doubt if its switch may have begun, skipped otherwise."""
        for name, job in self.jobs.items():
            if name in self.context.journal.results:
                continue
            journal = self.context.journal
            if journal.has_begun(name):
                why = "interrupted during the switch"
                self._finish(result.in_doubt(job, why, has_switched=journal.has_switched(name)))
            else:
                self._finish(result.skipped(name, "interrupted before it began"))


def bug(name: HostName, closure: Closure | None, error: Exception, *, begun: bool) -> HostResult:
    """Return the result of a host at which fleet itself failed with this error."""
    failure = dataclasses.replace(
        BugError.of(error).failure(),
        now="in doubt; the host goes back by itself unless it committed" if begun else "nothing was changed",
        hint=f"fleet status {name}; please report this",
    )
    outcome = Outcome.NEEDS_HUMAN if begun else Outcome.FAILED
    return HostResult(host=name, outcome=outcome, closure=closure, failure=failure)
