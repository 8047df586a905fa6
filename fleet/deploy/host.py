"""Take one host through a run: push, switch, prove, and let it keep the new system or go back to the old one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.notes import notes, reboot_pending
from fleet.deploy.orders import order_of
from fleet.deploy.secrets import HostSecrets
from fleet.deploy.seen import Seen
from fleet.deploy.stale import answer_to_part
from fleet.errors import CommandFailedError, HostError, UnreachableError
from fleet.events import HostCondemned, HostProven, PhaseStarted
from fleet.host.answers import State, View
from fleet.host.program import ANSWER_TIMEOUT, EndedError, HostProgram, ask
from fleet.inventory import LinkSpeed
from fleet.inventory.drivers import Driver
from fleet.model import Goal, HostResult, Outcome, Phase, Reboot
from fleet.steps import preflight, prove, push, system, verdict
from fleet.steps.hold import Hold
from fleet.steps.monitor import CheckMonitor, ask_once
from fleet.steps.prove_back import BackProver
from fleet.steps.switch import LOST, Follower, OverdueError, begin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.deploy.context import Context
    from fleet.inventory import Check
    from fleet.machine import Link
    from fleet.model import CheckAnswer
    from fleet.plans import Plan
    from fleet.state import HostRecord
    from fleet.steps.job import Job
    from fleet.steps.prove_back import Unwell
    from fleet.steps.verdict import Proof

UNROOT_PATIENCE = 5.0
"""Seconds for tidying up on a host that may be gone. A deployment some days later tidies up too."""


@dataclass(frozen=True, kw_only=True)
class HostRun:
    """One host's way through a run. It holds what does not change; each step hands what it found to the next."""

    context: Context
    job: Job
    program: HostProgram
    secrets: HostSecrets
    """What brings its secrets. Their values are read once, also where the job is planned anew meanwhile."""
    hold: Hold
    """Whether this process is still the one that proves the run there. It only reports how it ends where it is not."""
    plan: Plan | None
    """What the run is to do; None if the run is resumed, since it begins nothing then."""

    @classmethod
    def of(
        cls, context: Context, job: Job, program: HostProgram, *, plan: Plan | None = None, hold: Hold | None = None
    ) -> HostRun:
        """Return the way of a host through a run. Without a `hold` this process begins there itself."""
        hold = hold or Hold()
        secrets = HostSecrets(context, job, program, hold)
        return cls(context=context, job=job, program=program, secrets=secrets, hold=hold, plan=plan)

    @property
    def link(self) -> Link:
        """The connection to the host."""
        return self.context.links[self.job.host.name]

    async def push(self) -> None:
        """Bring the closure and the host program to the host and root them for the run. It can switch to them then.

        Raise `HostError` if that fails, or if the host cannot switch to what it has built.
        """
        job, context = self.job, self.context
        self._announce_phase(Phase.PUSH)
        await context.journal.flush()
        ours = context.slow_links if job.host.link is LinkSpeed.SLOW else context.supply
        engine = None if job.part.copy_with == "nix" else ours
        emit = context.journal.emit
        async with context.sites.around(job, context.links, context.supply, emit=emit):
            await push.push(context.here, self.link, job, context.run, self.program, engine=engine, emit=emit)
        if job.built_there is not None:  # before, there was nothing to look at
            there = await system.look_there(self.link, job.host, job.closure)
            system.require_switchable(job.host, there)
            if job.part.goal in (Goal.SWITCH, Goal.TEST):
                system.require_live(job.host, there.obstacles(job.facts), job.part.goal, remedy=Reboot.ALWAYS)

    async def stage(self) -> HostResult:
        """Let the closure wait on the host, and return the result that says so. Raise `HostError` if that fails."""
        job = self.job
        if job.part.goal is Goal.DRY_ACTIVATE:
            order = await order_of(self.context, job, self.plan)
            await push.dry_activate(self.link, job, self.context.journal.emit, order=order.text())
        await ask(self.link, job.host, self.program.call("stage", self.context.run, job.closure))
        return HostResult(host=job.host.name, outcome=Outcome.STAGED, closure=job.closure, previous=job.part.expected)

    async def ask_checks(self) -> Mapping[str, CheckAnswer]:
        """Return what each check says before the switch, by its name. Raise `HostError` if the host cannot be asked."""
        return await ask_once(self.job.host, self.link, self.context.here, emit=self.context.journal.emit)

    async def unroot(self, patience: float = UNROOT_PATIENCE) -> bool:
        """Tell the host that the run will not begin there any more, and return whether the host has confirmed that.

        Its roots are gone then. Wait at most `patience` seconds.
        """
        with contextlib.suppress(HostError, TimeoutError):
            async with asyncio.timeout(patience):
                await push.unroot(self.link, self.job, self.context.run)
                return True
        return False

    async def switch(self, before: Mapping[str, CheckAnswer]) -> HostResult:
        """Ask the host to begin, follow it and return how it ended. Raise `HostError` if it refuses to begin."""
        self._announce_phase(Phase.SWITCH)
        await self.context.journal.flush()
        follower = self._follower()
        try:
            begun = await self._begin()
        except EndedError:  # another run has applied this very part since we looked
            await self.unroot()
            return await answer_to_part(self.link, self.job.host, self.job.part)
        return await self._follow_to_result(follower, before, begun, is_on_record=False)

    async def resume(self, past: HostRecord) -> HostResult:
        """Follow a host whose run another process began, as far as `past` tells, and return how it ended."""
        if not past.begun:
            await self.unroot()
            return result.skipped(self.job.host.name, "the run ended before the switch began")
        lost = None
        if not past.heard:
            lost = UnreachableError(self.job.host.name, "the controller was lost before the switch began")
        return await self._follow_to_result(self._follower(), past.before, lost, is_on_record=past.heard)

    def _follower(self) -> Follower:
        emit = self.context.journal.emit
        return Follower(machine=self.link, program=self.program, run=self.context.run, job=self.job, emit=emit)

    async def _begin(self) -> View | HostError:
        """Ask the host to begin. Return what it showed if it has begun, or the error that leaves open whether it has.

        In that case it has to be followed as if it had. Raise the `HostError` of a refusal, or `EndedError`.
        """
        try:
            order = await order_of(self.context, self.job, self.plan)
            return await begin(self.link, self.job.host, self.program, order)
        except LOST as error:
            return error

    async def _follow_to_result(
        self,
        follower: Follower,
        before: Mapping[str, CheckAnswer],
        begun: View | HostError | None,
        *,
        is_on_record: bool,
    ) -> HostResult:
        """Follow the host to its end and return its result.

        `begun` is what `_begin` has returned, if this process began; `is_on_record` says that it is known to have.
        """
        lost = begun if isinstance(begun, HostError) else None
        has_switched = False
        try:
            followed = await follower.follow_activation(begun if isinstance(begun, View) else None)
            if followed.view.state is State.UNKNOWN and lost is not None:
                return await self._give_up_begin(lost)
            proof: Proof | None = None
            if has_switched := followed.view.state is State.SWITCHED:
                proof = await self._prove(before, follower.cursor)
            if followed.view.is_open:
                followed = await follower.follow_to_end(proof)
            if followed.view.state is State.UNKNOWN:
                return await self._result_of_unknown_run(is_on_record=is_on_record or has_switched)
        except (HostError, OverdueError) as error:
            return self._in_doubt(error, has_switched=has_switched)
        missed = f"no connection meanwhile: {followed.lost}" if followed.lost else ""
        return await self._conclude(
            Seen(
                end=followed.view,
                verdict=proof.verdict if proof else verdict.Decided(followed.view),
                before=before,
                answers=proof.answers if proof else (),
                said=followed.said,
                silence=(proof.lost if proof else "") or missed,
            )
        )

    async def _give_up_begin(self, lost: HostError) -> HostResult:
        """Give up the run on the host, and return the host's result.

        It is in doubt unless the host says that the run will not begin any more: a `begin` may still be at work there.
        """
        if await self.unroot(ANSWER_TIMEOUT):
            return result.left_out(self.job.host, lost, self.job.facts)
        return self._in_doubt(lost, has_switched=False)

    async def _result_of_unknown_run(self, *, is_on_record: bool) -> HostResult:
        """Return the result of a host that knows nothing of the run.

        Either a later run came, or the host went down before this one was on its disk.
        """
        job, run = self.job, self.context.run
        facts = await preflight.preflight(self.link, job.host)
        is_later = any(there is not None and there.run > run for there in (facts.transaction, facts.last))
        if is_later or is_on_record or facts.running != job.part.expected:
            return result.replaced(job, run)
        await self.unroot()
        why = CommandFailedError(job.host.name, "it went down before the switch began; nothing was changed")
        return result.left_out(job.host, why, job.facts)

    def _in_doubt(self, error: HostError | OverdueError, *, has_switched: bool) -> HostResult:
        why, is_overdue = f"not seen to the end: {error}", isinstance(error, OverdueError)
        return result.in_doubt(self.job, why, has_switched=has_switched, is_overdue=is_overdue)

    async def _prove(self, before: Mapping[str, CheckAnswer], cursor: str) -> Proof:
        """Prove the new system, and return the proof. Its switch was heard up to `cursor`.

        Emit the verdict, unless the host decided first.
        """
        job, context = self.job, self.context
        emit = context.journal.emit
        await self.secrets.fill_trial()
        monitor = CheckMonitor(
            host=job.host, checks=self._deciding_checks(before), here=context.here, emit=emit, stage="after"
        )
        prover = prove.Prover(
            *(self.link, self.program, context.run, job.closure, monitor),
            watch=job.part.watch,
            cursor=cursor,
            hold=self.hold,
        )
        proof = await prover.prove()
        match proof.verdict:
            case verdict.Proven(seconds):
                emit(HostProven(host=job.host.name, closure=job.closure, seconds=seconds))
            case verdict.Condemned(reason):
                emit(HostCondemned(host=job.host.name, closure=job.closure, reason=reason))
        return proof

    def _deciding_checks(self, before: Mapping[str, CheckAnswer]) -> list[Check]:
        """Return the declared checks that count. A check counts too if it is not known what it said before."""
        if not self.job.part.checks_decide:
            return []
        failed = {name for name, answer in before.items() if not answer.passed}
        return [check for check in self.job.host.checks if check.name not in failed or not check.tolerate_existing]

    async def _conclude(self, seen: Seen) -> HostResult:
        """Return the host's result, and write a failure bundle if the host did not keep the new system."""
        job, unfilled = self.job, await self.secrets.fill_after(seen.end)
        match seen.end.state:
            case State.COMMITTED | State.TESTED:
                told = [*await notes(self.context, job, self.plan, seen.before), *filter(None, [unfilled])]
                return result.kept(job, seen.end, told, reboot=await reboot_pending(self.context, job))
            case State.REVERTED:
                lines = await self._evidence(seen)
                end, unwell = await self._prove_old(seen)
                why = result.why_back(end, seen.verdict, seen.silence)
                ended = result.gone_back(job, end, why, lines, unwell=unwell)
                ended = dataclasses.replace(ended, notes=(*ended.notes, *filter(None, [unfilled])))
            case State.SUPERSEDED:
                ended = result.not_ours(job, seen.end, seen.said[-5:])
            case _:
                ended = result.stuck(job, seen.end, await self._evidence(seen))
        from fleet.deploy.bundle import write_bundle  # only a host that went back needs one

        bundle = await write_bundle(self.context, job, since=seen.end.since, said=seen.said, answers=seen.answers)
        return result.with_bundle(ended, bundle)

    async def _prove_old(self, seen: Seen) -> tuple[View, Unwell | None]:
        """Prove the old system from outside. Return the end, with the blame where it belongs, and what is wrong."""
        if self.hold.is_lost:  # whoever has it does that
            return seen.end, None
        here, run, emit = self.context.here, self.context.run, self.context.journal.emit
        prover = BackProver(link=self.link, here=here, program=self.program, run=run, emit=emit)
        return await prover.prove(seen.end, seen.before)

    async def _evidence(self, seen: Seen) -> list[str]:
        """Return the lines that matter, if they can be had. Never raises: nothing here may change the known end."""
        reason = seen.verdict.reason if isinstance(seen.verdict, verdict.Condemned) else seen.end.reason
        from fleet.steps import evidence  # only a host that went back has some

        with contextlib.suppress(Exception):
            user = self.job.host.profile if self.job.host.driver is Driver.HOME_MANAGER else ""
            return await evidence.lines(self.link, self.context.run, seen.end, reason, seen.said, user=user)
        return list(seen.said[-5:])

    def _announce_phase(self, phase: Phase) -> None:
        self.context.journal.emit(PhaseStarted(host=self.job.host.name, phase=phase))
