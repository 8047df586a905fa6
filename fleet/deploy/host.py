"""One host: push, switch, prove, and let the host keep the new system or take back the old one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from fleet import inventory
from fleet.deploy import result
from fleet.deploy.bundle import write_bundle
from fleet.errors import CommandFailedError, HostError, UnreachableError
from fleet.events import HostCondemned, HostProven, PhaseStarted
from fleet.host.program import ANSWER_TIMEOUT, HostProgram, Order, ask
from fleet.model import Goal, HostResult, Outcome, Phase, Reboot
from fleet.steps import evidence, preflight, prove, push, switch, system
from fleet.steps.board import Board, ask_once
from fleet.steps.plan import Action

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from fleet.checks import Answer
    from fleet.deploy.request import Run
    from fleet.host.answers import View
    from fleet.inventory import Check
    from fleet.machine.link import Link
    from fleet.steps.plan import HostPlan
    from fleet.steps.prove import Verdict

    SwitchPlace = Callable[[], Awaitable[str | None]]

UNROOT_PATIENCE = 5.0
"""Seconds for tidying up on a host that may be gone: its next deployment does it too, after some days."""


async def _at_once() -> None:
    """Nobody has to wait for a place."""


class HostRun:
    """The run of one host. `begun` says whether its keeper may be at work: from then on the host decides."""

    def __init__(self, run: Run, plan: HostPlan, link: Link, program: HostProgram) -> None:
        self.begun = False
        self.has_switched = False
        """Whether only a word, or time, is missing to its end."""
        self._asked: list[Answer] = []
        """What the checks said last of the new system."""
        self._silence = ""
        """What kept the host from answering while it was followed, if anything did."""
        self._lost: HostError | None = None
        """Why it is not known whether the host has begun."""
        self._follower: switch.Follower | None = None
        self._on_record = False
        """Whether the host is known to have had the run on its disk."""
        self._is_planned = plan.derivation is None
        """Whether what the new system is was known before the switch."""
        self._run = run
        self._plan = plan
        self._link = link
        self._program = program
        self._emit = run.emit

    async def deploy(self, switch_place: SwitchPlace = _at_once) -> HostResult:
        """How the host ended. Expected failures are results; only bugs raise.

        `switch_place` is awaited between push and switch: it returns when the host may switch, or why it must not.
        """
        return await self._ended(self._deploy(switch_place))

    async def take_up(self, before: dict[str, Answer], *, begun: bool, heard: bool) -> HostResult:
        """How the host ended, whose run an earlier process began; `before` is what its checks said then.

        `heard` says whether the host is known to have begun, and not only to have been asked.
        """
        self.begun, self._on_record = begun, heard
        if not heard:
            self._lost = UnreachableError(self._plan.host.name, "the controller was lost before the switch began")
        work = self._take_up(before) if begun else self._give_up("the run ended before the switch began")
        return await self._ended(work)

    async def _take_up(self, before: dict[str, Answer]) -> HostResult:
        self._is_planned = False
        return await self._see_through(self._new_follower(), before)

    async def _give_up(self, why: str) -> HostResult:
        await self._unroot()
        return result.skipped(self._plan.host.name, why)

    async def _ended(self, work: Awaitable[HostResult]) -> HostResult:
        started = time.monotonic()
        try:
            ended = await work
        except HostError as error:
            if self.begun:
                overdue = self._follower is not None and self._follower.is_overdue
                why = f"not seen to the end: {error.message}"
                ended = result.in_doubt(self._plan, why, has_switched=self.has_switched, is_overdue=overdue)
            else:
                ended = result.left_out(self._plan.host, error, self._plan.facts)
                if self._lost is None:
                    await self._unroot()
        except asyncio.CancelledError:  # by Ctrl-C; what it has pushed may go
            if not self.begun:
                await self._unroot()
            raise
        return dataclasses.replace(ended, seconds=time.monotonic() - started)

    async def _deploy(self, switch_place: SwitchPlace) -> HostResult:
        plan, request = self._plan, self._run.request
        self._phase(Phase.PUSH)
        ours = self._run.thin if plan.host.link is inventory.Link.SLOW else self._run.supply
        copier = self._run.here if request.copy_with == "nix" else ours
        await push.push(copier, self._link, plan, self._run.id, self._program, emit=self._emit)
        if plan.derivation is not None:  # before, there was nothing to look at
            there = await system.look_there(self._link, plan.host, plan.closure)
            system.require_switchable(plan.host, there)
            if request.switches and not plan.by_reboot:
                system.require_live(plan.host, there.obstacles(plan.facts), request.goal, remedy=Reboot.ALWAYS)
        if not request.switches:
            return await self._stage()
        if (reason := await switch_place()) is not None:
            return await self._give_up(reason)
        before = await ask_once(plan.host, self._link, self._run.here, emit=self._emit)
        self._phase(Phase.SWITCH)
        return await self._see_through(await self._begin(), before)

    async def _see_through(self, follower: switch.Follower, before: dict[str, Answer]) -> HostResult:
        """The host has begun, as far as is known: what became of it."""
        self._follower = follower
        view = await follower.follow_activation()
        verdict = await self._prove(view, before, follower)
        end = view if not view.is_open else await follower.follow_to_end()
        if not self._silence and follower.lost:
            self._silence = f"no connection meanwhile: {follower.lost}"
        return await self._conclude(end, verdict, before, list(follower.said))

    async def _unroot(self, patience: float = UNROOT_PATIENCE) -> bool:
        """Whether the host has said that the run will not begin any more."""
        with contextlib.suppress(HostError, TimeoutError):
            async with asyncio.timeout(patience):
                await push.unroot(self._link, self._plan, self._run.id)
                return True
        return False

    async def _stage(self) -> HostResult:
        plan = self._plan
        if not self._run.request.goal.switches:
            await push.dry_activate(self._link, plan, self._emit)
        await ask(self._link, plan.host, self._program.call("stage", self._run.id, plan.closure))
        return HostResult(
            host=plan.host.name, outcome=Outcome.STAGED, closure=plan.closure, previous=plan.facts.running
        )

    def _new_follower(self) -> switch.Follower:
        order = Order(
            run=self._run.id,
            closure=self._plan.closure,
            expected=self._plan.facts.running,
            goal=Goal.BOOT if self._plan.by_reboot else self._run.request.goal,
            accept_boot_risk=self._run.request.accept_boot_risk,
            who=self._run.who,
            origin=self._run.origin,
            retry_quarantined=self._run.request.retry_quarantined,
            host=self._plan.host,
        )
        return switch.Follower(machine=self._link, program=self._program, order=order, emit=self._emit)

    async def _begin(self) -> switch.Follower:
        follower = self._new_follower()
        # An answer that is lost leaves it open whether the host began: then it is followed as if it had.
        self.begun = True
        try:
            await switch.begin(self._link, self._program, follower.order)
        except switch.LOST as error:
            self._lost = error
        except HostError:
            self.begun = False
            raise
        return follower

    async def _prove(self, view: View, before: dict[str, Answer], follower: switch.Follower) -> Verdict:
        plan = self._plan
        if view.state == "unknown" and self._lost is not None:
            self.begun = not await self._unroot(ANSWER_TIMEOUT)  # a `begin` may still be at work there
            raise self._lost
        if view.state != "switched":
            return prove.Decided(view)
        self.has_switched = True
        board = Board(
            host=plan.host, checks=self._deciding(before), here=self._run.here, emit=self._emit, stage="after"
        )
        watch = self._run.request.watch
        prover = prove.Prover(self._link, self._program, self._run.id, plan.closure, board, watch=watch)
        verdict = await prover.prove()
        follower.renewed(prover.heard)
        self._silence = prover.lost
        self._asked = board.last_answers()
        match verdict:
            case prove.Proven(seconds):
                self._emit(HostProven(host=plan.host.name, closure=plan.closure, seconds=seconds))
            case prove.Condemned(reason):
                self._emit(HostCondemned(host=plan.host.name, closure=plan.closure, reason=reason))
        return verdict

    def _deciding(self, before: dict[str, Answer]) -> list[Check]:
        """The declared checks that count: also those of which it is not known what they said before."""
        if not self._run.request.proves_checks:
            return []
        failed = {name for name, answer in before.items() if not answer.passed}
        return [check for check in self._plan.host.checks if check.name not in failed or not check.tolerate_existing]

    async def _conclude(self, end: View, verdict: Verdict, before: dict[str, Answer], said: list[str]) -> HostResult:
        plan = self._plan
        match end.state:
            case "committed" | "tested":
                return result.kept(plan, end, await self._notes(before), reboot=await self._reboot())
            case "reverted":
                lines = await self._evidence(end, verdict, said)
                unwell = await self._old_is_unwell(before)
                why = result.why_back(end, verdict, self._silence)
                ended = result.gone_back(plan, end, why, lines, old_is_unwell=unwell)
                return result.with_bundle(ended, await self._bundle(end, said))
            case "superseded":
                return result.with_bundle(result.not_ours(plan, end, said[-5:]), await self._bundle(end, said))
            case "stuck":
                ended = result.stuck(plan, end, await self._evidence(end, verdict, said))
                return result.with_bundle(ended, await self._bundle(end, said))
        return await self._forgotten()

    async def _forgotten(self) -> HostResult:
        """The host knows nothing of the run: a later one came, or it went down before this one was on its disk."""
        facts = await preflight.preflight(self._link, self._plan.host)
        is_later = any(there is not None and there.run > self._run.id for there in (facts.transaction, facts.last))
        if is_later or self._on_record or self.has_switched or facts.running != self._plan.facts.running:
            return result.replaced(self._plan, self._run.id)
        self.begun = False
        raise CommandFailedError(self._plan.host.name, "it went down before the switch began; nothing was changed")

    async def _bundle(self, end: View, said: list[str]) -> Path | None:
        return await write_bundle(self._run, self._link, self._plan, since=end.since, said=said, asked=self._asked)

    async def _notes(self, before: dict[str, Answer]) -> list[str]:
        if self._run.request.proves_checks:
            failing = [f"check {one.check} was failing before: {one.said}" for one in before.values() if not one.passed]
        else:
            failing = await self._failing_now()
        if self._plan.action is Action.COMMIT:
            is_default = self._run.request.goal is Goal.SWITCH
            failing.append("ran already; is now the boot default too" if is_default else "ran already")
        return failing

    async def _failing_now(self) -> list[str]:
        """What people who went back should know: their checks did not stop them."""
        try:
            after = await ask_once(self._plan.host, self._link, self._run.here, emit=self._emit, stage="after")
        except HostError as error:
            return [f"its checks could not be asked: {error.message}"]
        return [f"check {one.check} fails now: {one.said}" for one in after.values() if not one.passed]

    async def _reboot(self) -> tuple[str, ...]:
        """The parts of the new system that only a reboot makes live. Where it is not known, that is no proof."""
        if self._is_planned and not self._plan.by_reboot:
            return self._plan.reboot
        try:
            return (await preflight.preflight(self._link, self._plan.host)).reboot_pending
        except HostError as error:
            return () if self._plan.by_reboot else (f"not known: {error.message}",)

    async def _old_is_unwell(self, before: dict[str, Answer]) -> str | None:
        passed = [name for name, answer in before.items() if answer.passed]
        try:
            return await prove.prove_old(self._plan.host, self._link, self._run.here, passed, emit=self._emit)
        except HostError as error:
            return f"its checks could not be asked: {error.message}"

    async def _evidence(self, end: View, verdict: Verdict, said: list[str]) -> list[str]:
        """The lines that matter, if they can be had: the end is known, and nothing here may change it."""
        reason = verdict.reason if isinstance(verdict, prove.Condemned) else end.reason
        with contextlib.suppress(Exception):
            return await evidence.lines(self._link, self._run.id, end, reason, said)
        return said[-5:]

    def _phase(self, phase: Phase) -> None:
        self._emit(PhaseStarted(host=self._plan.host.name, phase=phase))
