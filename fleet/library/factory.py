"""Assemble plannings and runs from the tools of a fleet. Nothing else does that."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.journal import Journal
from fleet.deploy.planning import Planner
from fleet.deploy.run import RunResult, finish, run_to_end, unexpected
from fleet.deploy.stop import Stop
from fleet.errors import FleetError, StateError, StoppedError
from fleet.events import RunStarted
from fleet.library import delivering, entering, rollouts
from fleet.library.drafts import Draft, Known
from fleet.library.patience import Asking
from fleet.library.permits import anything, permitted
from fleet.library.record import recording
from fleet.library.runs import Planning, Run
from fleet.library.seen import absentees, remember_ends, remember_planned
from fleet.library.telling import tell, telling
from fleet.library.tools import new_run_id
from fleet.model import Goal, Verb
from fleet.state import Entered, RunRecord
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleet.deploy.context import Context
    from fleet.deploy.options import Options
    from fleet.deploy.rebooting import Agree
    from fleet.inventory import Host
    from fleet.library.drafts import Drafts
    from fleet.library.permits import Permit
    from fleet.library.runs import OnEnvelope
    from fleet.library.tools import Tools
    from fleet.model import HostName, RunId
    from fleet.plans import Plan


class RunFactory:
    """Begins plannings and runs of one fleet."""

    def __init__(self, tools: Tools, drafts: Drafts) -> None:
        self._tools = tools
        self._drafts = drafts

    def plan(self, hosts: Sequence[Host], options: Options, stop: Stop) -> Planning:
        """Begin to make a plan. It is a draft until it is applied."""
        journal = Journal(RunRecord(id=new_run_id()), self._tools.by)

        async def work(on_envelope: OnEnvelope) -> Plan:
            journal.listen(on_envelope)
            return await self._plan(journal, hosts, options, stop)

        return Planning(journal, stop, work)

    async def _plan(self, journal: Journal, hosts: Sequence[Host], options: Options, stop: Stop) -> Plan:
        names = tuple(host.name for host in hosts)
        goal, watch, strict = options.goal, options.watch, options.strict
        journal.emit(RunStarted(run=journal.run, verb=options.verb, goal=goal, hosts=names, watch=watch, strict=strict))
        folder: Path | None = None
        head = asyncio.ensure_future(entering.head(self._tools))  # read from disk while the hosts are contacted
        async with contextlib.AsyncExitStack() as resources:
            resources.callback(head.cancel)
            try:
                folder = resources.enter_context(self.folder(journal, options.verb))
                context = await resources.enter_async_context(self._tools.context(journal, stop, hosts, folder))
                context = dataclasses.replace(context, wait=options.wait)
                absent = await absentees(self._tools.state, hosts) if options.plans_for_absent else {}
                planner = Planner(context, self._tools.inventory, hosts, options, speeds=self._speeds, absent=absent)
                planned = await stop.unless(planner.plan())
                await remember_planned(self._tools.state, self._tools.inventory, planner.seen, context.links)
                made = dataclasses.replace(planned.plan, ledger=await head)
                digest = made.digest
            except Exception as error:
                reported = error if isinstance(error, FleetError) else unexpected(error)
                is_recorded = options.verb is not Verb.PLAN and folder is not None
                await self._end_early(journal, stop, names, reported, folder if is_recorded else None)
                tells = options.verb is not Verb.PLAN and not options.is_undo
                if tells and not isinstance(reported, StoppedError):
                    await tell(self._tools, journal, stop, error=reported.failure(), intent=options.intent)
                raise reported from error
            draft = Draft(
                context=context,
                hosts=names,
                jobs=planned.jobs,
                resources=resources.pop_all(),
                is_late=bool(options.late) and options.amends is None,
            )
            self._drafts.keep(digest, draft)
            return made

    async def _speeds(self) -> Mapping[HostName, float]:
        with contextlib.suppress(StateError):  # it is an estimate
            return await Asking(self._tools.state.speeds)()
        return {}

    async def _end_early(
        self, journal: Journal, stop: Stop, hosts: Sequence[HostName], error: FleetError, folder: Path | None
    ) -> None:
        """End a run that has no plan. If there is a folder for the run, record that."""
        async with contextlib.AsyncExitStack() as stack:
            if folder is not None:
                await stack.enter_async_context(recording(self._tools.state, journal, folder, must_record=False))
            finish(journal, stop, hosts, None if isinstance(error, StoppedError) else error)

    @contextlib.contextmanager
    def folder(self, journal: Journal, verb: Verb) -> Iterator[Path]:
        """Make a folder for the run, while inside.

        It is in the state if the run is recorded there, otherwise a temporary one. A rollback and a resume do not wait
        for a state that cannot be written: they get a temporary folder too.
        """
        with contextlib.ExitStack() as stack:
            try:
                is_new, state = verb is not Verb.RESUME, self._tools.state
                held = _temporary_folder() if verb is Verb.PLAN else state.hold(journal.run, is_new=is_new)
                folder = stack.enter_context(held)
            except StateError:
                if verb not in (Verb.ROLLBACK, Verb.RESUME):
                    raise
                folder = stack.enter_context(_temporary_folder())
            try:
                yield folder
            finally:
                if verb is not Verb.RESUME and not journal.is_recorded:  # the plan was never applied
                    shutil.rmtree(folder, ignore_errors=True)

    def apply(
        self,
        plan: Plan,
        hosts: Sequence[HostName],
        stop: Stop,
        *,
        permit: Permit = anything,
        tells: bool = True,
        is_late: bool = False,
    ) -> Run:
        """Begin to apply a plan to some of its hosts, if there is a `permit` for it. It `tells` how it has ended.

        `is_late` says that it brings the hosts what they have missed.
        A draft goes on as the run that it began. One that was made only to look at, with `Verb.PLAN`, gets a new run.
        """
        draft = self._drafts.take(plan)
        continues = draft is not None and draft.context.journal.record.verb != Verb.PLAN
        journal = draft.context.journal if draft and continues else Journal(RunRecord(id=new_run_id()), self._tools.by)

        async def work(on_envelope: OnEnvelope) -> RunResult:
            journal.listen(on_envelope)
            async with contextlib.AsyncExitStack() as resources:
                if draft is not None:
                    await resources.enter_async_context(draft.resources)
                if draft is not None and continues:
                    context = dataclasses.replace(draft.context, stop=stop)
                    return await self._apply(context, plan, hosts, draft.applied(), permit)
                context = await self.begin_anew(resources, journal, stop, plan, hosts)
                if draft is not None:
                    context = dataclasses.replace(context, links=draft.context.links)
                known = Known(selected=hosts, jobs=draft.jobs if draft else {}, is_late=is_late)
                return await self._apply(context, plan, hosts, known, permit)

        told = telling(self._tools, journal, stop, work, intent=plan.intent)
        return Run(journal, stop, told if tells else work)

    async def begin_anew(
        self,
        resources: contextlib.AsyncExitStack,
        journal: Journal,
        stop: Stop,
        plan: Plan,
        hosts: Sequence[HostName],
    ) -> Context:
        """Begin a new run that applies a plan. What it uses is open until `resources` are closed."""
        folder = resources.enter_context(self.folder(journal, plan.verb))
        journal.emit(_run_started(journal.run, plan, hosts))
        judged = [plan.parts[name].apply_policy(self._tools.inventory.hosts[name]) for name in hosts]
        return await resources.enter_async_context(self._tools.context(journal, stop, judged, folder))

    async def _apply(
        self,
        context: Context,
        plan: Plan,
        hosts: Sequence[HostName],
        known: Known,
        permit: Permit,
    ) -> RunResult:
        journal, state = context.journal, self._tools.state
        must_record = plan.verb is not Verb.ROLLBACK
        entered = Entered(self._tools.origin, plan.verb)

        async def work() -> None:
            nonlocal context
            context = permitted(context, await permit())
            others = [name for name in plan.hosts if name not in hosts]
            journal.finish(*(result.skipped(name, "the plan is applied to others only") for name in others))
            if not hosts:
                return
            from fleet.deploy.applying import Applying  # a run that changes nothing is over before

            must = must_record and not context.break_glass
            about = entering.begun(self._tools, journal.run, hosts, entered, plan=plan, must_record=must)
            async with about as head:
                told = dataclasses.replace(context, head=head)
                await Applying(told, self._tools.inventory, plan, hosts).apply(known.jobs)
            if rollouts.must_undo(plan, journal):
                await rollouts.undo(self, self._tools.inventory, context, plan)

        async with recording(
            state, journal, context.folder, plan=plan.digest, must_record=must_record, entered=entered
        ) as record:
            done = await run_to_end(journal, context.stop, known.selected, work())
        # What was late already waits as it did, if it is late still.
        has_failed = known.is_late or await rollouts.has_failed(context, plan)
        whole = set(hosts) == set(plan.hosts)
        lost = await delivering.note(
            self._tools, journal, plan, has_failed=has_failed, is_whole=whole, is_late=known.is_late
        )
        await remember_ends(state, self._tools.inventory, done.hosts, time.time(), links=context.links)
        with contextlib.suppress(FleetError):
            await in_state(state.tidy)
        return dataclasses.replace(done, unrecorded=record.trouble or lost)

    def decline(self, plan: Plan, why: str) -> Run:
        """End a plan without applying it. If it was made elsewhere, that is not recorded."""
        draft = self._drafts.take(plan)
        journal = draft.context.journal if draft else Journal(RunRecord(id=new_run_id()), self._tools.by)
        stop = draft.context.stop if draft else Stop()

        async def work(on_envelope: OnEnvelope) -> RunResult:
            journal.listen(on_envelope)
            async with contextlib.AsyncExitStack() as resources:
                if draft is None:
                    journal.emit(_run_started(journal.run, plan, plan.hosts))
                else:
                    await resources.enter_async_context(draft.resources)
                    record = recording(self._tools.state, journal, draft.context.folder, must_record=False)
                    await resources.enter_async_context(record)
                journal.finish(*(result.skipped(name, why) for name in plan.hosts))
                return finish(journal, stop, draft.hosts if draft else plan.hosts, None)

        return Run(journal, stop, work)

    def reboot(
        self, hosts: Sequence[Host], agree: Agree, stop: Stop, permit: Permit, *, force: bool, accept_boot_risk: bool
    ) -> Run:
        """Begin to reboot hosts into the systems that they run, if there is a `permit` for it."""
        journal = Journal(RunRecord(id=new_run_id()), self._tools.by)
        names = tuple(host.name for host in hosts)

        async def work(on_envelope: OnEnvelope) -> RunResult:
            from fleet.deploy.rebooting import Rebooting  # few runs do that

            journal.listen(on_envelope)
            with self.folder(journal, Verb.REBOOT) as folder:
                journal.emit(RunStarted(run=journal.run, verb=Verb.REBOOT, goal=Goal.BOOT, hosts=names))
                entered = Entered(self._tools.origin, Verb.REBOOT)
                async with self._tools.context(journal, stop, hosts, folder) as context:
                    rebooting = Rebooting(context, self._tools.inventory, hosts, agree, force, accept_boot_risk)
                    about = entering.begun(self._tools, journal.run, names, entered, plan=None, must_record=False)

                    async def reboot_all() -> None:
                        permitted(context, await permit())
                        async with about:
                            await rebooting.reboot_all()

                    async with recording(
                        self._tools.state, journal, folder, must_record=False, entered=entered
                    ) as record:
                        done = await run_to_end(journal, stop, names, reboot_all())
            with contextlib.suppress(FleetError):
                await in_state(self._tools.state.tidy)
            return dataclasses.replace(done, unrecorded=record.trouble)

        return Run(journal, stop, telling(self._tools, journal, stop, work))


def _run_started(run: RunId, plan: Plan, hosts: Sequence[HostName]) -> RunStarted:
    parts = [plan.parts[name] for name in hosts]
    watch = max((part.watch for part in parts), default=0.0)
    strict = plan.verb is Verb.ROLLBACK and any(part.checks_decide for part in parts)
    return RunStarted(run=run, verb=plan.verb, goal=plan.goal, hosts=tuple(hosts), watch=watch, strict=strict)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
