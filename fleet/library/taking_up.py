"""Take up runs that another process has begun."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from fleet.deploy.journal import Journal
from fleet.deploy.run import RunResult, run_to_end
from fleet.errors import FleetError, StateError
from fleet.events import RunStarted
from fleet.library import delivering, entering, rollouts
from fleet.library.patience import Asking
from fleet.library.permits import permitted
from fleet.library.record import recording
from fleet.library.runs import Run
from fleet.library.seen import remember_ends
from fleet.library.telling import telling
from fleet.model import Verb
from fleet.plans import Plan, TextError
from fleet.state import Entered, Hosts
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.deploy.context import Context
    from fleet.deploy.stop import Stop
    from fleet.inventory import Host
    from fleet.library.factory import RunFactory
    from fleet.library.permits import Permit
    from fleet.library.runs import OnEnvelope
    from fleet.library.tools import Tools
    from fleet.model import HostName
    from fleet.state import RunRecord

    PermitOf = Callable[[Plan, Sequence[HostName]], Permit]


class TakingUp:
    """Begins runs that take up earlier ones."""

    def __init__(self, tools: Tools, factory: RunFactory) -> None:
        self._tools = tools
        self._factory = factory

    def resume(self, past: RunRecord, stop: Stop) -> Run:
        """Begin to take up a run that another process began."""
        journal = Journal(past, self._tools.by)

        async def work(on_envelope: OnEnvelope) -> RunResult:
            journal.listen(on_envelope)
            with self._factory.folder(journal, Verb.RESUME) as folder:
                hosts = [host for name, host in self._tools.inventory.hosts.items() if _concerns(past, name)]
                async with self._tools.context(journal, stop, hosts, folder) as context:
                    return await self._resume(context, past, hosts)

        return Run(journal, stop, telling(self._tools, journal, stop, work))

    async def _resume(self, context: Context, past: RunRecord, hosts: Sequence[Host]) -> RunResult:
        from fleet.deploy.resume import Resumer, concerned  # few runs need that

        journal, state = context.journal, self._tools.state
        if not past.is_readable:
            may_have_begun = await concerned(context.links, hosts, past.id)
            past = dataclasses.replace(past, hosts=Hosts(may_have_begun))
        plan = await self._plan_of(past)
        names = tuple(past.hosts)
        journal.emit(
            RunStarted(run=past.id, verb=Verb.RESUME, goal=past.goal, hosts=names, watch=past.watch, strict=past.strict)
        )
        entered = await self._entered(past, [name for name, host in past.hosts.items() if not host.is_settled])
        async with recording(
            state, journal, context.folder, plan=past.plan, must_record=False, entered=entered
        ) as record:
            resumer = Resumer(context, self._tools.inventory, past, plan)
            done = await run_to_end(journal, context.stop, names, resumer.resume_all())
        await remember_ends(state, self._tools.inventory, done.hosts, time.time())
        return dataclasses.replace(done, unrecorded=record.trouble)

    async def _entered(self, past: RunRecord, hosts: Sequence[HostName]) -> Entered:
        """Return what is entered of a run that is taken up: its end, those of these hosts, and what is missing."""
        missing: tuple[HostName, ...] = ()
        with contextlib.suppress(StateError):
            begun = await Asking(lambda: self._tools.state.ledger.begun(past.id))()
            missing = begun.hosts if begun is not None else ()
        entered = Entered(self._tools.origin, past.known_verb)
        entered.begin({*hosts, *missing})
        return entered

    async def _plan_of(self, past: RunRecord) -> Plan | None:
        """Return the plan that the run applied; None if it is not known."""
        with contextlib.suppress(FleetError, TextError):
            if past.plan is not None:
                return Plan.parse(await in_state(self._tools.state.plan, past.plan))
        return None

    async def carry_on(self, past: RunRecord, stop: Stop, permit_of: PermitOf) -> Run:
        """Begin to go on with a rollout that another process has begun: with the hosts that have not begun too.

        `permit_of` returns what allows hosts of its plan that have not begun to begin. Raise `ConfigError` if its plan
        is not known, or cannot be applied any more.
        """
        plan, names = rollouts.carry_on(self._tools.inventory, past, await self._plan_of(past))
        journal = Journal(past, self._tools.by)

        async def work(on_envelope: OnEnvelope) -> RunResult:
            journal.listen(on_envelope)
            with self._factory.folder(journal, Verb.RESUME) as folder:
                hosts = [plan.parts[name].apply_policy(self._tools.inventory.hosts[name]) for name in names]
                async with self._tools.context(journal, stop, hosts, folder) as context:
                    return await self._carry_on(context, past, plan, names, permit_of)

        return Run(journal, stop, telling(self._tools, journal, stop, work, intent=plan.intent))

    async def _carry_on(
        self, context: Context, past: RunRecord, plan: Plan, names: Sequence[HostName], permit_of: PermitOf
    ) -> RunResult:
        from fleet.deploy.applying import Applying
        from fleet.deploy.resume import Resumer

        journal, fleet = context.journal, self._tools.inventory
        journal.adopt(result for name, result in rollouts.settled(past).items() if name in names)
        journal.emit(
            RunStarted(
                run=past.id, verb=plan.verb, goal=past.goal, hosts=tuple(names), watch=past.watch, strict=past.strict
            )
        )
        entered = await self._entered(past, [name for name in names if name not in journal.results])

        async def work() -> None:
            await Resumer(context, fleet, rollouts.begun(past), plan).resume_all()
            rest = [name for name in names if name not in journal.results]
            allowed = permitted(context, await permit_of(plan, rest)())
            about = entering.begun(self._tools, past.id, rest, entered, plan=plan, must_record=not allowed.break_glass)
            async with about as head:
                told = dataclasses.replace(allowed, head=head)
                await Applying(told, fleet, plan, rest, selected=names, soaked=past.soaked).apply({})
            if rollouts.must_undo(plan, journal):
                await rollouts.undo(self._factory, fleet, context, plan)

        async with recording(
            self._tools.state, journal, context.folder, plan=past.plan, must_record=True, entered=entered
        ) as record:
            done = await run_to_end(journal, context.stop, names, work())
        await remember_ends(self._tools.state, fleet, done.hosts, time.time())
        has_failed = await rollouts.has_failed(context, plan)
        lost = await delivering.note(
            self._tools, journal, plan, has_failed=has_failed, is_whole=len(names) == len(plan.hosts)
        )
        return dataclasses.replace(done, unrecorded=record.trouble or lost)


def _concerns(past: RunRecord, host: HostName) -> bool:
    """Whether the host is in the run, or may be because its record cannot be read."""
    return not past.is_readable or host in past.hosts
