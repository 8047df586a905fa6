"""All hosts: in waves, so many at once, and no further one after too many bad outcomes."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.host import HostRun
from fleet.deploy.places import Places, Turn
from fleet.events import HostFinished, PhaseStarted, WaveStarted
from fleet.model import Failure, HostResult, Outcome, Phase
from fleet.tasks import all_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.deploy.request import Run
    from fleet.host.program import HostProgram
    from fleet.machine.link import Link
    from fleet.model import Closure, HostName
    from fleet.steps.plan import HostPlan


@dataclass
class Rollout:
    """Goes through the waves. `results` fills as hosts end; every planned host is in it afterwards.

    It may have hosts already that were left out before; those do not count.
    """

    run: Run
    waves: Sequence[Sequence[HostPlan]]
    links: dict[HostName, Link]
    program: HostProgram
    results: dict[HostName, HostResult] = field(default_factory=dict)
    host_run: Callable[[Run, HostPlan, Link, HostProgram], HostRun] = HostRun
    _at_work: dict[HostName, HostRun] = field(default_factory=dict)
    _tasks: dict[HostName, asyncio.Task[None]] = field(default_factory=dict)

    def end_early(self) -> None:
        """No further host begins, and no push goes on; hosts that began to switch are proven or go back."""
        for name, task in self._tasks.items():
            if name in self._at_work and not self._at_work[name].begun:
                task.cancel()

    async def roll_out(self) -> None:
        """Every host has ended, or was not begun. When cancelled, hosts at work are in doubt and said to be."""
        try:
            for number, wave in enumerate(self.waves, 1):
                names = tuple(plan.host.name for plan in wave)
                if self._stop_reason() is None:
                    self.run.emit(WaveStarted(wave=number, waves=len(self.waves), hosts=names))
                await self._wave(wave)
        finally:
            self._account_for_the_rest()

    async def _wave(self, wave: Sequence[HostPlan]) -> None:
        """Every host of the wave has ended. A bug around one must not cancel its neighbours in mid-switch."""
        places = Places(self.run.inventory.rollout)
        tasks = {plan.host.name: asyncio.create_task(self._host(plan, places)) for plan in wave}
        self._tasks |= tasks
        await all_ended(tasks.values())

    async def _host(self, plan: HostPlan, places: Places) -> None:
        async with Turn(places) as turn:
            reason = self._stop_reason()
            if reason is not None:
                self._finish(result.skipped(plan.host.name, reason))
                return
            host_run = self.host_run(self.run, plan, self.links[plan.host.name], self.program)
            self._at_work[plan.host.name] = host_run
            try:
                self._finish(await host_run.deploy(lambda: self._switch_place(plan, turn)))
            except Exception:  # a bug; people are told which host it is about, and what state that is in
                self._finish(bug(plan.host.name, plan.closure, begun=host_run.begun))
            finally:
                await self.links[plan.host.name].close()

    async def _switch_place(self, plan: HostPlan, turn: Turn) -> str | None:
        """The host has a place to switch, or this is why it must not begin any more."""
        if turn.must_wait:
            self.run.emit(PhaseStarted(host=plan.host.name, phase=Phase.WAITING))
        return self._stop_reason() if await turn.switch() else None

    def _stop_reason(self) -> str | None:
        """Why no further host may begin."""
        if self.run.interrupt.asked:
            return "interrupted before it began"
        ended = [self.results[name] for name in self._at_work if name in self.results]
        bad = sum(one.outcome.counts_against_run for one in ended)
        if bad > self.run.inventory.rollout.max_failures:
            return f"not begun: {bad} of the hosts before it ended badly (max_failures)"
        return None

    def _finish(self, ended: HostResult) -> None:
        self.results[ended.host] = ended
        self.run.emit(HostFinished(host=ended.host, result=ended))

    def _account_for_the_rest(self) -> None:
        for wave in self.waves:
            for plan in wave:
                if plan.host.name in self.results:
                    continue
                host_run = self._at_work.get(plan.host.name)
                if host_run is not None and host_run.begun:
                    why = "interrupted during the switch"
                    self._finish(result.in_doubt(plan, why, has_switched=host_run.has_switched))
                else:
                    self._finish(result.skipped(plan.host.name, "interrupted before it began"))


def bug(name: HostName, closure: Closure | None, *, begun: bool) -> HostResult:
    """The result of a host on which fleet itself failed, by the error that is being handled."""
    failure = Failure(
        kind="bug",
        message="fleet itself failed; this is a bug in fleet",
        said=tuple(traceback.format_exc().splitlines()),
        now="in doubt; the host goes back by itself unless it committed" if begun else "nothing was changed",
        hint=f"fleet status {name}; please report this",
    )
    outcome = Outcome.NEEDS_HUMAN if begun else Outcome.FAILED
    return HostResult(host=name, outcome=outcome, closure=closure, failure=failure)
