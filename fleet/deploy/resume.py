"""Taking up a run whose controller was lost: the truth is learned from the hosts, nothing is built or begun."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.host import HostRun
from fleet.deploy.past import PastHost
from fleet.deploy.rollout import bug
from fleet.deploy.run import told, until_interrupted
from fleet.errors import ConfigError, HostError, UnreachableError
from fleet.events import HostFinished
from fleet.host.program import HostProgram
from fleet.machine import CONTACTS
from fleet.machine.link import Link
from fleet.steps.board import now
from fleet.steps.plan import Action, HostPlan
from fleet.steps.preflight import preflight
from fleet.steps.switch import RETRY, longest_reboot
from fleet.tasks import all_ended

if TYPE_CHECKING:
    from fleet.deploy.past import PastRun
    from fleet.deploy.request import Run
    from fleet.deploy.run import Interrupts
    from fleet.host.answers import HostFacts
    from fleet.inventory import Host
    from fleet.model import HostName, HostResult, RunId


async def resume(run: Run, past: PastRun) -> int:
    """Every host of the run has its true outcome, and the run's folder has it too. Returns the exit code.

    A host that is still switching is followed; one that waits for a word is proven, and commits or goes back; one that
    has decided alone says what it did. One that had not begun stays as it is.

    Raises `ConfigError`, with nothing told, where the run cannot be read and no host knows of it.
    """
    if not past.is_readable:
        past.hosts = await _concerned(run)

    async def work(results: dict[HostName, HostResult], interrupts: Interrupts) -> None:
        taking_up = _TakingUp(run, past, results)
        try:
            await until_interrupted(run, interrupts, taking_up.all_hosts(), end_early=_nothing_new_begins)
        finally:
            taking_up.account_for_the_rest()

    return await told(run, "resume", list(past.hosts), work)


async def _concerned(run: Run) -> dict[HostName, PastHost]:
    """The hosts of fleet.toml that know of the run, and those that cannot be asked: each may have begun."""
    places = asyncio.Semaphore(CONTACTS)

    async def knows(host: Host) -> bool:
        link = Link(run.logins, host)
        async with places:
            try:
                facts = await preflight(link, host)
            except Exception:  # told of when it is asked again: a bug there must not keep us from its neighbours
                return True
            finally:
                await link.close()
        return any(there is not None and there.run == run.id for there in (facts.transaction, facts.last))

    hosts = run.inventory.hosts.values()
    known = await asyncio.gather(*map(knows, hosts))
    found = {
        host.name: PastHost(host.name, begun=True) for host, is_known in zip(hosts, known, strict=True) if is_known
    }
    if not found:
        hint = "fleet status tells what each host runs, and which run is open there"
        raise ConfigError(f"what was written of run {run.id} cannot be read, and no host knows of it", hint=hint)
    return found


def _nothing_new_begins() -> None:
    """Nor would anything without a Ctrl-C."""


class _TakingUp:
    """All hosts of an earlier run, at once: their deadlines do not wait. `results` fills as hosts end."""

    def __init__(self, run: Run, past: PastRun, results: dict[HostName, HostResult]) -> None:
        self._run = run
        self._past = past
        self._results = results
        self._logging_in = asyncio.Semaphore(CONTACTS)
        """Places for the first contact alone: whoever is followed needs none, since its deadline runs."""

    async def all_hosts(self) -> None:
        """Every host has its outcome. A bug around one must not cancel its neighbours, whose deadlines run."""
        await all_ended([asyncio.create_task(self._one(host)) for host in self._past.hosts.values()])

    def account_for_the_rest(self) -> None:
        """Hosts that nobody waits for any more are said to be left to themselves."""
        for past in self._past.hosts.values():
            if past.name in self._results:
                continue
            if past.begun:
                self._finish(result.forgotten(past.name, "interrupted before its end was seen"))
            else:
                self._finish(result.skipped(past.name, "the run ended before the switch began"))

    async def _one(self, past: PastHost) -> None:
        try:
            self._finish(await self._settled(past))
        except Exception:  # a bug; people are told which host it is about, and what state that is in
            self._finish(bug(past.name, past.closure, begun=past.begun))

    def _finish(self, ended: HostResult) -> None:
        self._results[ended.host] = ended
        self._run.emit(HostFinished(host=ended.host, result=ended))

    async def _settled(self, past: PastHost) -> HostResult:
        if past.is_settled and past.result is not None:
            return past.result
        host = self._run.inventory.hosts.get(past.name)
        if host is None:
            return result.forgotten(past.name, "it is not in fleet.toml any more")
        link = Link(self._run.logins, host)
        try:
            return await self._follow(host, past, link)
        finally:
            await link.close()

    async def _follow(self, host: Host, past: PastHost, link: Link) -> HostResult:
        try:
            facts = await _look(link, host, past, self._logging_in)
        except HostError as error:
            if past.begun:
                return result.forgotten(host.name, f"not seen to the end: {error.message}")
            return result.left_out(host, error)
        _believe(facts, past, self._run.id)
        if past.closure is None or past.previous is None or not (past.begun or past.pushed):
            why = "it knows nothing of the run" if past.begun else "the run ended before it began"
            return result.skipped(host.name, why)
        plan = HostPlan(
            host=host,
            facts=dataclasses.replace(facts, running=past.previous),
            closure=past.closure,
            action=Action.SWITCH,
            reboot=past.reboot,
            by_reboot=past.by_reboot,
        )
        host_run = HostRun(self._run, plan, link, HostProgram())
        return await host_run.take_up(past.before, begun=past.begun, heard=past.heard)


async def _look(link: Link, host: Host, past: PastHost, logging_in: asyncio.Semaphore) -> HostFacts:
    """What the host is and runs. One that was about to reboot is waited for, for as long as it would be followed."""
    patience = now() + (longest_reboot(host) if past.by_reboot else 0.0)
    while True:
        try:
            async with logging_in:
                return await preflight(link, host)
        except UnreachableError:
            if now() > patience:
                raise
            await asyncio.sleep(RETRY)


def _believe(facts: HostFacts, past: PastHost, run: RunId) -> None:
    """What the host says of the run, our own file adds to: its last lines may have been lost, to a full disk say."""
    for there in (facts.transaction, facts.last):
        if there is None:
            continue
        if there.run == run:
            past.begun = past.heard = True
            past.closure, past.previous = there.new, there.old
            past.by_reboot = past.by_reboot or there.by_reboot
        elif there.run > run:  # a later run, which replaces the record of this one
            past.heard = past.begun
