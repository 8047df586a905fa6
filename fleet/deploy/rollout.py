"""Take all hosts through the waves, a limited number at once, and stop after too many bad outcomes."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.deploy import result, rollout_results
from fleet.deploy.advance import (
    Begin,
    End,
    Soak,
    Standing,
    advance,
    count_bad,
    why_it_waits_in_vain,
    why_none_may_begin,
)
from fleet.deploy.control import Control
from fleet.deploy.hooked import HookedHost
from fleet.deploy.host import HostRun
from fleet.deploy.slots import HostSlot, Slots
from fleet.deploy.turns import Turn
from fleet.errors import BugError, FleetError, StoppedError
from fleet.events import PhaseStarted, SoakFinished, SoakStarted, WaveFinished, WaveStarted
from fleet.inventory.windows import opening
from fleet.model import HostResult, Outcome, Phase
from fleet.plans import Action
from fleet.steps.soak import Soaker
from fleet.tasks import wait_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    jobs: dict[HostName, Job]
    """The job of each host. One that is planned anew when its turn comes takes the place of the one before."""
    program: HostProgram
    selected: Iterable[HostName] = ()
    """The hosts of the plan that it is applied to, where those are not all."""
    soaked: frozenset[int] = frozenset()
    """The waves whose soak is over, where another process has begun this rollout."""
    _control: Control = field(init=False)
    _bad_outcomes: int = field(default=0, init=False)
    """How many hosts of this rollout ended badly."""
    _wave: int = field(default=1, init=False)
    """The wave that is under way, or comes next."""

    def __post_init__(self) -> None:
        self._control = Control(self.context)
        journal = self.context.journal
        self._bad_outcomes = count_bad(journal.results, journal.record.hosts)

    async def roll_out(self) -> None:
        """Roll out wave by wave, until every host has ended or was skipped.

        When this is cancelled, hosts in the middle of a switch get a result that says so: in doubt.
        """
        reason = ""
        try:
            async with self._control.listening():
                while not isinstance(move := self._next(), End):
                    await self._control.look()
                    await self._control.while_paused()
                    if not self._control.why_none_may_begin:
                        await self._do(move)
            reason = move.reason
        finally:
            self._finish_the_rest(reason or "interrupted before it began")

    async def take(self, name: HostName) -> None:
        """Take this host alone through its part, whatever its wave. It has a job, and a result afterwards."""
        async with self._control.listening():
            await self._take_turn(self.jobs[name], Slots(self.plan))

    def _next(self) -> Begin | Soak | End:
        standing = Standing(
            wave=self._wave,
            soaked=self.soaked,
            selected=frozenset(self.selected or self.plan.hosts),
            results=self.context.journal.results,
            bad=self._bad_outcomes,
            interrupted=self._control.why_none_may_begin,
        )
        return advance(self.plan, standing)

    async def _do(self, move: Begin | Soak) -> None:
        self._wave = move.wave
        match move:
            case Begin():
                await self._begin(move)
            case Soak():
                await self._soak(move)

    async def _begin(self, move: Begin) -> None:
        """Wait until every host of the wave has ended.

        A bug at one host must not cancel the others in the middle of a switch.
        """
        waves = len(self.plan.waves)
        jobs = [self.jobs[name] for name in move.hosts]
        self.context.journal.emit(WaveStarted(wave=move.wave, waves=waves, hosts=move.hosts))
        places = Slots(self.plan)
        await wait_all([asyncio.create_task(self._take_turn(job, places)) for job in jobs])
        results = self.context.journal.results
        ended = Counter(results[name].outcome.value for name in self.plan.waves[move.wave - 1] if name in results)
        self.context.journal.emit(WaveFinished(wave=move.wave, waves=waves, outcomes=dict(ended)))

    async def _soak(self, move: Soak) -> None:
        """Watch the hosts of the wave. One that gets unwell ends badly, though it keeps its system."""
        journal = self.context.journal
        journal.emit(SoakStarted(wave=move.wave, hosts=move.hosts, seconds=move.seconds))
        tasks = {name: asyncio.create_task(self.watch(name, move.seconds)) for name in move.hosts}
        with self.context.stop.calls(lambda: [task.cancel() for task in tasks.values()]):
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        if any(task.cancelled() for task in tasks.values()):
            return  # it is not over: whoever goes on with the rollout begins it anew
        unwell = {name: why for name, task in tasks.items() if (why := task.result())}
        for name, why in unwell.items():
            self._finish(rollout_results.unwell(journal.results[name], why))
        journal.emit(SoakFinished(wave=move.wave, unwell=unwell))
        self.soaked |= {move.wave}

    async def watch(self, name: HostName, seconds: float) -> str:
        """Watch a host that was kept for so many seconds. Return what gets unwell there; nothing if it stays well."""
        part, job, context = self.plan.parts[name], self.jobs.get(name), self.context
        before = context.journal.record.hosts[name].before
        failing = [answer.check for answer in before.values() if not answer.passed]
        soaker = Soaker(
            link=context.links[name],
            here=context.here,
            emit=context.journal.emit,
            closure=part.closure,
            checks=[
                check
                for check in part.checks
                if part.checks_decide and (check.name not in failing or not check.tolerate_existing)
            ],
            failed_before=job.facts.failed_units if job is not None else None,
        )
        try:
            return await soaker.soak(seconds)
        finally:
            await context.links[name].close()

    async def _take_turn(self, job: Job, places: Slots) -> None:
        name = job.host.name
        async with HostSlot(places) as turn:
            await self._control.while_paused()
            if (ended := self._without_beginning(job, has_waited=True)) is not None:
                self._finish(ended)
                return
            started = time.monotonic()
            try:
                host_run = HostRun.of(self.context, job, self.program, plan=self.plan)
                hooks = HookedHost(self.context, job)
                ended = await hooks.after(await self._run_host(host_run, hooks, turn), host_run.hold)
                self._finish(dataclasses.replace(ended, seconds=time.monotonic() - started))
            except Exception as error:  # a bug; its result names the host and the state that it is in
                self._finish(bug(name, job.closure, error, begun=self.context.journal.has_begun(name)))
            finally:
                await self.context.links[name].close()

    async def _ask_and_prepare(self, host_run: HostRun, hooks: HookedHost) -> Mapping[str, CheckAnswer]:
        """Try a login and ask the checks, before the hooks may disturb both, and return what the checks said."""
        await host_run.link.rehearse()
        before = await host_run.ask_checks()
        await hooks.before_switch()
        return before

    def _without_beginning(self, job: Job, *, has_waited: bool) -> HostResult | None:
        """Return the result of a host that does not begin; None if it may.

        Others that ended badly while it was pushed to stop it only if it has waited for something since.
        """
        name, bad = job.host.name, self._bad_outcomes if has_waited else 0
        if reason := why_none_may_begin(self.plan, bad, self._control.why_none_may_begin):
            return self._skipped(name, reason)
        if reason := why_it_waits_in_vain(self.plan, name, self.context.journal.results):
            return result.skipped(name, reason)
        opens = opening(job.part.windows, time.time())
        return rollout_results.outside_window(job, opens) if opens is not None else None

    async def _run_host(self, host_run: HostRun, hooks: HookedHost, turn: HostSlot) -> HostResult:
        """Take one host through the run and return its result. Only bugs raise.

        A stop has no effect any more once the host was asked to begin.
        """
        job = host_run.job
        try:
            ready = await self.context.stop.unless(self._prepare(host_run, hooks, turn))
            if isinstance(ready, HostResult):
                return ready
            return await dataclasses.replace(host_run, job=self.jobs[job.host.name]).switch(ready)
        except StoppedError:
            return self._skipped(job.host.name, "interrupted before it began")
        except FleetError as error:
            await host_run.unroot()
            left = result.left_out(job.host, error, job.facts)
            return rollout_results.told_of_delivery(left, self.context.journal.record)

    async def _prepare(
        self, host_run: HostRun, hooks: HookedHost, turn: HostSlot
    ) -> Mapping[str, CheckAnswer] | HostResult:
        """Do all that comes before the switch: push, wait for a place, try a login, ask the checks, run the hooks.

        Return the answers of the checks, or the host's result if it ends here.
        """
        job = host_run.job
        try:
            await hooks.before_push()
            await host_run.push()
            if not job.part.goal.switches:
                return await host_run.stage()
            if turn.must_wait:
                self.context.journal.emit(PhaseStarted(host=job.host.name, phase=Phase.WAITING))
            has_waited = await turn.switch() | await self._control.while_paused()
            if self.context.wait:
                await host_run.secrets.read()  # it has 30 s when its turn has come
                place = Turn(self.context, job, self.plan)
                if isinstance(ready := await place.wait(), HostResult):
                    await host_run.unroot()
                    return ready
                self.jobs[job.host.name] = job = ready
                hooks.follow(job)
                has_waited |= place.has_waited
            if (ended := self._without_beginning(job, has_waited=has_waited)) is not None:
                await host_run.unroot()
                return ended
            if job.part.action is Action.SECRETS and not await host_run.secrets.stage():
                await host_run.unroot()
                return result.unchanged(job.host, job.facts, job.closure)
            before = await self._ask_and_prepare(host_run, hooks)
            if hooks.has_prepared:  # that may have taken hours
                await self._control.while_paused()
                if (ended := self._without_beginning(job, has_waited=True)) is not None:
                    await host_run.unroot()
                    return ended
            await host_run.secrets.stage()  # last of all: values wait as short as they can
            return before  # noqa: TRY300 - a cancellation is no error
        except asyncio.CancelledError:  # nothing will switch to what was pushed: let it be collected as garbage
            await host_run.unroot()
            raise

    def _finish(self, ended: HostResult) -> None:
        self._bad_outcomes += ended.counts_against_run
        self.context.journal.finish(ended)

    def _finish_the_rest(self, reason: str) -> None:
        """Give every job without a result one: in doubt if its switch may have begun, otherwise skipped, and why."""
        for name, job in self.jobs.items():
            if name in self.context.journal.results:
                continue
            journal = self.context.journal
            if journal.has_begun(name):
                why = "interrupted during the switch"
                self._finish(result.in_doubt(job, why, has_switched=journal.has_switched(name)))
            else:
                self._finish(self._skipped(name, reason))

    def _skipped(self, name: HostName, reason: str) -> HostResult:
        """Return the result of a host that has not begun; if somebody has interrupted the run, with how it goes on."""
        goes_on = f"fleet rollout continue {self.context.journal.run} goes on with the run"
        return result.skipped(name, reason, goes_on if self.context.stop.is_requested else "")


def bug(name: HostName, closure: Closure | None, error: Exception, *, begun: bool) -> HostResult:
    """Return the result of a host at which fleet itself failed with this error."""
    failure = dataclasses.replace(
        BugError.of(error).failure(),
        now="in doubt; the host goes back by itself unless it committed" if begun else "nothing was changed",
        hint=f"fleet status {name}; please report this",
    )
    outcome = Outcome.NEEDS_HUMAN if begun else Outcome.FAILED
    return HostResult(host=name, outcome=outcome, closure=closure, failure=failure)
