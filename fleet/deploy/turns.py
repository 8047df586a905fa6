"""Wait until it is a host's turn, and plan its part anew where others have changed it meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.look import require_idle
from fleet.errors import LockedError
from fleet.events import HostQueued, HostReplanned, PhaseStarted
from fleet.host import history
from fleet.host.answers import State
from fleet.host.facts import open_transaction
from fleet.host.locked import waited_in_vain
from fleet.host.program import HostProgram, ask, described, refused_turn, stale
from fleet.host.tickets import tickets
from fleet.model import Phase
from fleet.plans import Action
from fleet.plans.part import NO_SERIAL
from fleet.steps.hardware import require_writable
from fleet.steps.monitor import now
from fleet.steps.preflight import preflight
from fleet.steps.reboot import require_safe_reboot
from fleet.steps.survey import Systems, survey
from fleet.steps.switch import LOST, REFUSED
from fleet.steps.system import require_live, require_not_quarantined

if TYPE_CHECKING:
    from fleet.deploy.context import Context
    from fleet.host.answers import Lines
    from fleet.host.facts import HostFacts, OpenTransaction
    from fleet.host.tickets import Ticket
    from fleet.machine import Link
    from fleet.model import HostResult, Serial
    from fleet.plans import Plan
    from fleet.steps.job import Job
    from fleet.steps.survey import Survey

PAUSE = 1.0
"""Seconds between two questions whether it is our turn, at least. The host answers late, but may answer at once."""
MOST_TOLD = 100
"""Transactions that are told of: a host remembers no more."""
AGAIN = 3.0
"""Seconds before a host is asked again that could not be asked: it may be going down for somebody else's reboot, and
sshd shuts out whoever tries too often."""


@dataclass
class Turn:
    """One host's turn in a run whose hosts wait for theirs. Everything that is switched to is on the host already."""

    context: Context
    job: Job
    plan: Plan
    has_waited: bool = False
    """Whether it was not its turn at once."""

    @property
    def _link(self) -> Link:
        return self.context.links[self.job.host.name]

    async def wait(self) -> Job | HostResult:
        """Wait for the turn. Return the job as it is by then, or the host's result if nothing is left to be done.

        Raise `LockedError` when the time that the run waits is over, and any other `HostError` if the host cannot be
        asked any more, or is not fit for its part any more.
        """
        await self._take_turn()
        facts = await preflight(self._link, self.job.host)
        part = self.job.part
        require_writable(self.job.host, facts, part.goal)
        if (facts.serial, facts.link, facts.running) == (part.serial, part.link, part.expected):
            return self.job
        return await self._plan_again(facts)

    async def _take_turn(self) -> None:
        """Wait until the host says that it is its turn. It begins within 30 s then, or others come first."""
        context, host = self.context, self.job.host
        order = context.order(self.job.part, self.plan)
        until = now() + context.wait
        told: HostQueued | None = None
        while True:
            asked, trouble = now(), None
            try:
                answer = await ask(self._link, host, HostProgram().queue(order, until - now()))
            except (*LOST, *REFUSED) as error:
                answer, trouble = {}, error
            if "yes" in answer.get("turn", ()):
                return
            self.has_waited = True
            if now() >= until:
                raise trouble or self._in_vain(answer)
            told = told if trouble is not None else self._tell(answer, told)
            again = asked + PAUSE if trouble is None else now() + AGAIN
            await asyncio.sleep(min(again, until) - now())

    def _tell(self, answer: Lines, told: HostQueued | None) -> HostQueued | None:
        """Emit whom the host waits for, unless that was told before. Return what was told last."""
        event, emit = self._queued(answer), self.context.journal.emit
        if event is None or event == told:
            return told
        if told is None:
            emit(PhaseStarted(host=self.job.host.name, phase=Phase.WAITING))
        emit(event)
        return event

    def _in_vain(self, answer: Lines) -> LockedError:
        """Return the error of a host whose turn did not come in time, with whoever was before it."""
        why = refused_turn(self.job.host, answer) or LockedError(self.job.host.name, "others are at work there")
        return waited_in_vain(self.job.host, self.context.wait, why)

    def _queued(self, answer: Lines) -> HostQueued | None:
        """Return the event that tells whom the host waits for; None if the answer names nobody."""
        held, waiting = open_transaction(answer), tickets(answer)
        runs = [ticket.run for ticket in waiting]
        earlier = waiting[: runs.index(self.context.run)] if self.context.run in runs else waiting
        first: OpenTransaction | Ticket | None = held
        if first is None and earlier:
            first, earlier = earlier[0], earlier[1:]
        if first is None:
            return None
        return HostQueued(
            host=self.job.host.name,
            waits_for=first.run,
            whose=first.whose,
            intent=first.intent,
            since=first.since,
            ahead=len(earlier),
        )

    async def _plan_again(self, facts: HostFacts) -> Job | HostResult:
        """Return the job as it is to be done to the host that others have changed; its result if it has come by then.

        The closure stays, and everything that was asked for with it. Raise `HostError` if that cannot be done any more,
        or if somebody has withdrawn the plan.
        """
        part, host, link = self.job.part, self.job.host, self._link
        told = await ask(link, host, HostProgram().call("history", self._last_known))
        entries = history.entries(told)[-MOST_TOLD:]
        if any(entry.state is State.WITHDRAWN and entry.plan == self.plan.digest for entry in entries):
            raise stale(host, told)
        meanwhile = tuple(described(entry) for entry in entries)
        self.context.journal.emit(
            HostReplanned(host=host.name, closure=part.closure, running=facts.running, meanwhile=meanwhile)
        )
        if facts.stands_on(part.closure) and not (part.secrets and facts.running == part.closure):
            return result.unchanged(host, facts, part.closure)
        require_not_quarantined(host, facts, part.closure, retry_quarantined=part.retry_quarantined)
        seen = await survey(link, host, facts, part.closure, contents=None, systems=Systems())
        await self._require_possible(facts, seen)
        action = Action.SECRETS if seen.action is Action.UNCHANGED else seen.action
        again = dataclasses.replace(
            part, expected=facts.running, link=facts.link, serial=facts.serial, action=action, reboot=seen.reboot
        )
        return dataclasses.replace(self.job, part=again, facts=facts, overtaken=meanwhile)

    @property
    def _last_known(self) -> Serial:
        """The newest transaction whose end was known when the part was planned."""
        known = self.job.facts
        if known.transaction is None:
            return self.job.part.serial
        return known.last.serial if known.last is not None else NO_SERIAL

    async def _require_possible(self, facts: HostFacts, seen: Survey) -> None:
        """Raise `UnfitError` if the host cannot go to its closure any more in the way that was planned."""
        part, host = self.job.part, self.job.host
        if part.by_reboot:
            require_safe_reboot(host, facts, accept_boot_risk=part.accept_boot_risk)
            await require_idle(self.context, host, force=part.force)
        elif seen.action is Action.SWITCH:
            require_live(host, seen.obstacles, part.goal)
