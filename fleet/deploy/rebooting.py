"""Reboot hosts into the systems that they run, wave by wave, and prove that they come back as they were."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import selector
from fleet.deploy import look, result
from fleet.deploy.look import HostContacts
from fleet.errors import BugError, CommandFailedError, FleetError, HostError, StoppedError, UnreachableError
from fleet.events import HostProven, PhaseStarted, WaveStarted
from fleet.model import Failure, FailureKind, HostName, HostResult, Outcome, Phase, Severity
from fleet.output.format import human_seconds
from fleet.steps.boot_again import boot_of, reboot, until_back, what_is_wrong
from fleet.steps.monitor import ask_once
from fleet.steps.preflight import preflight
from fleet.steps.reboot import require_elsewhere, require_idle, require_same_boot
from fleet.steps.secrets import refill
from fleet.tasks import wait_all

if TYPE_CHECKING:
    from fleet.deploy.context import Context
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host, Inventory

Agree = Callable[[Sequence[HostName]], Awaitable[bool]]
"""Is asked whether these hosts may be rebooted, when all were looked at."""


@dataclass
class Rebooting:
    """Reboots the hosts of one run. The journal gets every host's result."""

    context: Context
    fleet: Inventory
    hosts: Sequence[Host]
    agree: Agree
    force: bool = False
    accept_boot_risk: bool = False
    _bad_outcomes: int = field(default=0, init=False)
    _asked: set[HostName] = field(default_factory=set, init=False)
    """The hosts that may have begun to reboot."""

    async def reboot_all(self) -> None:
        """Look at all hosts, ask, and go through the waves. Hosts that would not come back are left out.

        When this is cancelled, hosts amid a reboot get a result that says so.
        """
        ready = await self.context.stop.unless(self._look())
        names = [host.name for host in ready]
        if ready and not await self.agree(names):
            self.context.journal.finish(*(result.skipped(name, "not begun: the answer was no") for name in names))
            return
        waves = selector.waves(self.fleet, ready)
        try:
            for number, wave in enumerate(waves, 1):
                if self._stop_reason() is None:
                    self.context.journal.emit(WaveStarted(wave=number, waves=len(waves), hosts=wave.hosts))
                places = asyncio.Semaphore(self.fleet.rollout.at_once)
                hosts = [self.fleet.hosts[name] for name in wave.hosts]
                await wait_all([asyncio.create_task(self._take_turn(host, places)) for host in hosts])
        finally:
            self._finish_the_rest(names)

    async def _look(self) -> list[Host]:
        """Return the hosts that can be rebooted, and report what people should know before they agree."""
        contacts = HostContacts(self.context, count=len(self.hosts))
        await contacts.look(self.hosts)

        async def require(host: Host) -> None:
            facts = contacts.facts[host.name]
            for note in require_same_boot(host, facts, accept_boot_risk=self.accept_boot_risk):
                contacts.report(host, Severity.NOTE, "reboots", note, "accepted with --accept-boot-risk")
            require_elsewhere(self.context.links[host.name])
            await look.require_idle(self.context, host, force=self.force)

        results = self.context.journal.results
        await contacts.for_each_host([host for host in self.hosts if host.name not in results], require)
        return [host for host in self.hosts if host.name not in results]

    async def _take_turn(self, host: Host, places: asyncio.Semaphore) -> None:
        async with places:
            if (reason := self._stop_reason()) is not None:
                self._finish(result.skipped(host.name, reason))
                return
            started = time.monotonic()
            try:
                ended = await self._reboot(host)
            except Exception as error:  # a bug must not keep the other hosts from their results
                ended = self._failed(host.name, BugError.of(error))
            finally:
                await self.context.links[host.name].close()
            self._finish(dataclasses.replace(ended, seconds=time.monotonic() - started))

    async def _reboot(self, host: Host) -> HostResult:
        """Reboot one host and return its result. Only bugs raise."""
        link, emit = self.context.links[host.name], self.context.journal.emit
        facts: HostFacts | None = None
        try:
            facts = await self.context.stop.unless(preflight(link, host))
            require_same_boot(host, facts, accept_boot_risk=self.accept_boot_risk)
            interrupted = await require_idle(link, host, force=self.force)
            before = await self.context.stop.unless(ask_once(host, link, self.context.here, emit=emit))
            boot = await boot_of(link, link)
            emit(PhaseStarted(host=host.name, phase=Phase.REBOOT))
            await self.context.journal.flush()
            self._asked.add(host.name)
            try:
                await reboot(link, boot, facts)
            except (UnreachableError, CommandFailedError):  # as a host that goes down is, or one that is slow to
                pass
            except HostError:  # nothing was changed
                self._asked.discard(host.name)
                raise
            await link.close()
            away = await until_back(link, boot)
            emit(PhaseStarted(host=host.name, phase=Phase.PROVE))
            back = time.monotonic()
            wrong = await refill(link, host, self.context.secrets, self.context.run)
            wrong = wrong or await what_is_wrong(link, self.context.here, facts, before, emit=emit)
        except StoppedError:
            return result.skipped(host.name, "interrupted before it began")
        except FleetError as error:
            return self._failed(host.name, error) if host.name in self._asked else result.left_out(host, error, facts)
        if wrong:
            return self._unwell(facts, host, wrong, away)
        emit(HostProven(host=host.name, closure=facts.running, seconds=time.monotonic() - back))
        forced = [f"forced, and interrupted {activity}" for activity in interrupted]
        failing = [f"check {one.check} was failing before: {one.said}" for one in before.values() if not one.passed]
        return HostResult(
            host=host.name, outcome=Outcome.KEPT, closure=facts.running, previous=facts.running, boot_default=True,
            boot_proven=True, notes=(f"rebooted, back after {human_seconds(away)}", *forced, *failing),
        )  # fmt: skip

    def _unwell(self, facts: HostFacts, host: Host, wrong: str, away: float) -> HostResult:
        """Return the result of a host that is back and not as it was."""
        failure = Failure(
            kind=FailureKind.UNHEALTHY,
            message=f"after the reboot {wrong}",
            now=f"up again since {human_seconds(away)} after the reboot; nothing was switched",
            hint=f"fleet logs {host.name} UNIT; fleet rollback {host.name} goes to what ran before this system",
        )
        return HostResult(
            host=host.name, outcome=Outcome.NEEDS_HUMAN, closure=facts.running, previous=facts.running, failure=failure
        )

    def _failed(self, name: HostName, error: FleetError) -> HostResult:
        """Return the result of a host that may have begun to reboot and was not seen to the end."""
        failure = dataclasses.replace(
            error.failure(),
            kind=error.kind if isinstance(error, BugError) else FailureKind.IN_DOUBT,
            message=f"not seen to come back from its reboot: {error.message}",
            now="it was told to reboot into the system that it ran",
            hint=f"look at its console; fleet status {name} tells as soon as it can be reached",
        )
        return HostResult(host=name, outcome=Outcome.NEEDS_HUMAN, failure=failure)

    def _stop_reason(self) -> str | None:
        """Return why no further host may begin; None if one may."""
        if self.context.stop.is_requested:
            return "interrupted before it began"
        if self._bad_outcomes > self.fleet.rollout.max_failures:
            return f"not begun: {self._bad_outcomes} of the hosts before it ended badly (max_failures)"
        return None

    def _finish(self, ended: HostResult) -> None:
        self._bad_outcomes += ended.outcome.counts_against_run
        self.context.journal.finish(ended)

    def _finish_the_rest(self, names: Sequence[HostName]) -> None:
        """Give every host without a result one."""
        for name in names:
            if name not in self.context.journal.results:
                interrupted = CommandFailedError(name, "interrupted")
                begun = name in self._asked
                self._finish(
                    self._failed(name, interrupted) if begun else result.skipped(name, "interrupted before it began")
                )
