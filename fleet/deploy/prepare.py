"""From selected hosts to a plan. Nothing that a host runs changes, and nothing is built before all were looked at."""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import inventory, selector
from fleet.deploy import result
from fleet.deploy.target import Wanted, choose_targets, former, require_former
from fleet.errors import FleetError, HostError
from fleet.events import (
    BuildFinished,
    FindingReported,
    HostFinished,
    HostPlanned,
    PhaseStarted,
)
from fleet.inventory import BuildOn
from fleet.machine import CONTACTS
from fleet.model import Goal, HostResult, Outcome, Phase, Severity
from fleet.steps import preflight
from fleet.steps.build import build, build_failure
from fleet.steps.caches import INSTEAD
from fleet.steps.plan import Action, Contents, HostPlan, contents, plan_host
from fleet.steps.reboot import require_idle, require_way_back
from fleet.steps.sign import SigningKey, ask_trust, read_key, sign, untrusted
from fleet.steps.system import require_live, require_welcome
from fleet.steps.weigh import Scales

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from fleet.deploy.request import Run
    from fleet.host.answers import HostFacts
    from fleet.inventory import Host
    from fleet.machine.link import Link
    from fleet.model import Closure, HostName

KEPT_OPEN = 128
"""Hosts of a run whose connections stay open from one phase to the next. With more of them a connection lasts for one
phase: each takes a file here, of 1,024 that most systems allow, and 60 KB, and has to be kept alive."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is left to do, and what is already decided."""

    waves: tuple[tuple[HostPlan, ...], ...] = ()
    results: dict[HostName, HostResult] = field(default_factory=dict)

    @property
    def plans(self) -> tuple[HostPlan, ...]:
        """All hosts that something will happen to, in order."""
        return tuple(plan for wave in self.waves for plan in wave)


class Preparation:
    """Looks at hosts, and decides for each what would be done. `results` fills with those already decided."""

    def __init__(
        self, run: Run, hosts: Sequence[Host], links: Mapping[HostName, Link], results: dict[HostName, HostResult]
    ) -> None:
        self._run = run
        self._hosts = hosts
        self._links = links
        self._facts: dict[HostName, HostFacts] = {}
        self._key: SigningKey | None = None
        self.results = results

    async def prepare(self) -> Prepared:
        """The plan. Raises EvaluationError or BuildError, which stop everything unless the run keeps going."""
        if self._run.inventory.signing_key is not None and self._run.request.verb != "rollback":
            self._key = read_key(self._run.inventory.path, self._run.inventory.signing_key)
        await self._each(self._hosts, self._look)
        if self._nothing():
            return Prepared(results=self.results)
        wanted = await self._choose()
        for host in self._left():
            if self._is_there(self._facts[host.name], wanted[host.name].closure):
                facts, closure = self._facts[host.name], wanted[host.name].closure
                stays = HostPlan(
                    host=host, facts=facts, closure=closure, action=Action.UNCHANGED, reboot=facts.reboot_pending
                )
                self._tell(stays, 0)
                self._end(result.unchanged(host, facts, closure))
                await self._links[host.name].close()
        await self._build(wanted)
        prepared = await self._plan(wanted)
        return Prepared(results=self.results) if self._nothing() else prepared

    def _nothing(self) -> bool:
        """Whether it was all or nothing, and it is nothing: then every host has its result."""
        bad = [name for name, one in self.results.items() if one.outcome in (Outcome.FAILED, Outcome.DEFERRED)]
        if not bad or not self._run.request.all_or_nothing:
            return False
        why = f"all or nothing, and {', '.join(bad)} cannot take part"
        self._end(*(result.skipped(host.name, why) for host in self._left()))
        return True

    def _left(self) -> list[Host]:
        return [host for host in self._hosts if host.name not in self.results]

    def _is_there(self, facts: HostFacts, closure: Closure) -> bool:
        return facts.stands_on(closure) and self._run.request.goal is not Goal.DRY_ACTIVATE

    async def _look(self, host: Host) -> None:
        self._run.emit(PhaseStarted(host=host.name, phase=Phase.PREFLIGHT))
        facts = await preflight.preflight(self._links[host.name], host)
        self._facts[host.name] = facts
        for finding in preflight.notes(facts):
            self._run.emit(finding.of(host))
        preflight.require_fit(host, facts)
        if facts.doubtful and self._run.request.verb == "plan":
            self._run.emit(preflight.unverified().of(host))
        elif facts.doubtful:
            await preflight.verify(self._links[host.name], host, emit=self._run.emit)
        if self._key is not None:
            note = untrusted(self._key, host, await ask_trust(self._links[host.name], host))
            if note is not None:
                self._run.emit(note.of(host))

    async def _choose(self) -> Mapping[HostName, Wanted]:
        """What every host should get that is not left out."""
        if self._run.request.verb != "rollback":
            return await choose_targets(self._run, self._left(), self._leave_out)
        back_to = self._run.request.back_to
        require_former(back_to)
        wanted: dict[HostName, Wanted] = {}

        async def one(host: Host) -> None:
            closure = await former(host, self._facts[host.name], self._links[host.name], back_to)
            wanted[host.name] = Wanted(closure=closure, is_local=False)

        await self._each(self._left(), one)
        return wanted

    async def _build(self, wanted: Mapping[HostName, Wanted]) -> None:
        started = time.monotonic()
        here = {
            host.name: wanted[host.name].evaluated
            for host in self._left()
            if host.build_on is BuildOn.CONTROLLER and wanted[host.name].evaluated is not None
        }
        todo = {name: one for name, one in here.items() if one is not None}
        if not todo:
            return
        failed = await build(self._run.here, todo, root=self._run.folder / "closure", emit=self._run.emit)
        if failed and not self._run.request.keep_going:
            raise build_failure(failed)
        for host in self._left():
            if host.name in failed:
                self._leave_out(host, failed[host.name])
        built = {name: one.closure for name, one in todo.items() if name not in failed}
        count = len({one.derivation for one in todo.values()})
        self._run.emit(BuildFinished(closures=built, derivations=count, seconds=time.monotonic() - started))

    async def _plan(self, wanted: Mapping[HostName, Wanted]) -> Prepared:
        made_of: dict[Closure, Contents] = {}
        for closure in dict.fromkeys(wanted[host.name].closure for host in self._left() if wanted[host.name].is_local):
            made_of[closure] = await contents(self._run.here, closure)
        if self._key is not None and made_of and self._run.request.verb != "plan":
            await sign(self._run.here, self._key, made_of)
        plans: dict[HostName, HostPlan] = {}
        scales = Scales(self._run.supply)

        async def one(host: Host) -> None:
            want, facts, request = wanted[host.name], self._facts[host.name], self._run.request
            if request.switches:
                require_welcome(host, facts, want.closure, retry_quarantined=request.retry_quarantined)
            plan = await plan_host(
                self._links[host.name],
                host,
                facts,
                want.closure,
                made_of=made_of.get(want.closure) if want.is_local else None,
                derivation=want.derivation_to_send,
                wanted=request.reboot,
            )
            if plan.by_reboot:
                await self._require_reboot(plan)
            elif request.switches:
                require_live(host, plan.obstacles, request.goal)
            plans[host.name] = await self._weighed(scales, plan)

        await self._each(self._left(), one)
        waves = selector.waves(self._run.inventory, [host for host in self._hosts if host.name in plans])
        for number, wave in enumerate(waves, 1):
            for host in wave:
                self._tell(plans[host.name], number)
        return Prepared(waves=tuple(tuple(plans[host.name] for host in wave) for wave in waves), results=self.results)

    async def _require_reboot(self, plan: HostPlan) -> None:
        """People know how the reboot goes. Raises what forbids it."""
        host, request = plan.host, self._run.request
        known = require_way_back(host, plan.facts, accept_boot_risk=request.accept_boot_risk)
        risk = "" if plan.facts.boots_once else "accepted with --accept-boot-risk"
        self._report(host, Severity.NOTE, "reboots", f"by way of a reboot, for {_why(plan)}: {known}", risk)
        for busy in await require_idle(self._links[host.name], host, force=request.force):
            self._report(host, Severity.NOTE, "forced", f"the reboot interrupts {busy}", "asked for with --force")

    async def _weighed(self, scales: Scales, plan: HostPlan) -> HostPlan:
        """The plan with what it costs, where something is to be sent, as far as that is known before a build there."""
        host, run = plan.host, self._run
        if not plan.missing and plan.derivation is None:
            return plan
        thin = None
        is_thin = host.link is inventory.Link.SLOW and run.request.copy_with != "nix"
        if is_thin and (obstacle := run.thin.obstacle(plan.facts)):
            self._report(host, Severity.NOTE, "thin_link", *obstacle)
        elif is_thin:
            thin = functools.partial(run.thin.estimate, self._links[host.name], plan.facts)
        return await scales.weigh(plan, speed=self._speed(host), thin=thin) if plan.missing else plan

    def _speed(self, host: Host) -> float | None:
        """Bytes a second that a push to the host will have: what the last one had, but no more than is allowed now."""
        known = (self._run.speed_of(host.name), host.bandwidth, self._run.inventory.rollout.bandwidth)
        return min((speed for speed in known if speed), default=None)

    async def _each(self, hosts: Sequence[Host], act: Callable[[Host], Awaitable[None]]) -> None:
        """`act` has been done for every host; one that fails is left out, the others go on."""
        places = asyncio.Semaphore(CONTACTS)

        async def one(host: Host) -> None:
            async with places:
                try:
                    await act(host)
                except HostError as error:
                    self._leave_out(host, error)
                finally:
                    if len(self._hosts) > KEPT_OPEN:
                        await self._links[host.name].close()

        async with asyncio.TaskGroup() as group:
            for host in hosts:
                group.create_task(one(host))

    def _leave_out(self, host: Host, error: FleetError) -> None:
        self._report(host, Severity.ERROR, error.kind, error.message, error.hint)
        self._end(result.left_out(host, error, self._facts.get(host.name)))

    def _end(self, *ended: HostResult) -> None:
        for one in ended:
            self.results[one.host] = one
            self._run.emit(HostFinished(host=one.host, result=one))

    def _report(self, host: Host, severity: Severity, kind: str, message: str, hint: str) -> None:
        self._run.emit(FindingReported(host=host.name, severity=severity, kind=kind, message=message, hint=hint))

    def _tell(self, plan: HostPlan, wave: int) -> None:
        is_push = plan.action is not Action.UNCHANGED and not self._run.request.switches
        self._run.emit(
            HostPlanned(
                host=plan.host.name,
                action="push" if is_push else plan.action.value,
                closure=plan.closure,
                running=plan.facts.running,
                wave=wave,
                missing_paths=len(plan.missing),
                missing_bytes=plan.missing_bytes,
                substitute_paths=len(plan.substitutes),
                substitute_bytes=sum(plan.substitutes.values()),
                download_bytes=plan.download_bytes,
                wire_bytes=plan.wire_bytes,
                push_seconds=plan.push_seconds,
                room_needed=plan.room_needed,
                room_free=plan.facts.nix_free,
                reboot=plan.reboot,
            )
        )
        if plan.caches_trouble:
            message = f"the host's own caches could not be asked: {plan.caches_trouble}"
            self._report(plan.host, Severity.NOTE, "caches", message, INSTEAD)
        if plan.reboot and wave and not plan.by_reboot:
            parts = ", ".join(plan.reboot)
            message = f"needs a reboot to use all of it: {parts} are not what is booted, and a switch cannot prove them"
            self._report(plan.host, Severity.NOTE, "needs_reboot", message, "")


def _why(plan: HostPlan) -> str:
    return ", ".join(plan.reboot) or "--reboot always"
