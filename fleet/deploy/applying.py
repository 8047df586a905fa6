"""Apply a plan: see that what it needs is here and that its hosts are as it says, then take them through its waves."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from fleet.deploy import result, rollout_results
from fleet.deploy.available import Available
from fleet.deploy.look import HostContacts, require_idle
from fleet.deploy.rollout import Rollout
from fleet.deploy.stale import outcome_of_last, require_current
from fleet.errors import BuildError, HostKeyError
from fleet.host.program import HostProgram
from fleet.model import Outcome
from fleet.plans.announce import planned
from fleet.steps.estimate import Estimator, require_room
from fleet.steps.hardware import require_writable
from fleet.steps.job import Job
from fleet.steps.load import Contents, Load, load_of
from fleet.steps.preflight import verify
from fleet.steps.program import store_program
from fleet.steps.reboot import require_elsewhere, require_safe_reboot
from fleet.steps.sign import read_key, sign
from fleet.steps.system import require_not_quarantined

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.deploy.context import Context
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host, Inventory
    from fleet.machine import Link
    from fleet.model import Closure, HostName
    from fleet.plans import Part, Plan


class Applying:
    """Applies one plan, or a part of it. The journal gets every host's result."""

    def __init__(
        self,
        context: Context,
        fleet: Inventory,
        plan: Plan,
        hosts: Iterable[HostName],
        *,
        selected: Iterable[HostName] | None = None,
        soaked: frozenset[int] = frozenset(),
        available: Available | None = None,
    ) -> None:
        """Prepare to apply the plan to these hosts.

        With `available`, which knows what is here already, others apply it too, and what it brings was told before.

        They are all of the `selected` ones, unless another process has begun with those: then they are the rest, the
        journal has the results of the others, and the soak of the waves in `soaked` is over.
        """
        self._context = context
        self._fleet = fleet
        self._plan = plan
        self._parts = {name: plan.parts[name] for name in hosts}
        self._selected = frozenset(self._parts if selected is None else selected)
        self._soaked = soaked
        self._is_alone = available is None
        self._available = available or Available(context.here, context.supply, context.folder)
        self._hosts = {name: part.apply_policy(fleet.hosts[name]) for name, part in self._parts.items()}
        self._key = read_key(fleet.path, fleet.signing_key) if fleet.signing_key and self._local_parts else None
        self._contacts = HostContacts(context, count=len(self._parts), key=self._key)
        self._estimator = Estimator(context.supply)

    @property
    def _local_parts(self) -> dict[Closure, Part]:
        """The closures that come from this machine's store, each with one of its parts."""
        return {part.closure: part for part in self._parts.values() if part.manifest}

    async def apply(self, known: Mapping[HostName, Job]) -> None:
        """Apply the plan until every host has ended.

        `known` has the jobs of hosts that were looked at when the plan was made just now. Raise `ConfigError`, with
        nothing touched, if the closures are not here and cannot be had, and `StoppedError` if somebody asked to stop
        before a host could begin.
        """
        jobs = await self._context.stop.unless(self.jobs(known))
        if jobs or len(self._selected) > len(self._parts):
            program = HostProgram(await store_program(self._context.here))
            await Rollout(self._context, self._plan, jobs, program, self._selected, soaked=self._soaked).roll_out()

    async def jobs(self, known: Mapping[HostName, Job]) -> dict[HostName, Job]:
        """Return the jobs of the hosts that can begin, and give every other host its result.

        What those hosts need from this machine is in its store then.
        """
        jobs = {name: known[name] for name in self._parts if name in known}
        if len(jobs) < len(self._parts):
            jobs = await self._look_at_hosts()
            if self._plan.all_or_nothing:
                self._context.journal.finish(*rollout_results.closed(jobs.values(), time.time()))
            if self._end_if_all_or_nothing():
                return {}
        unsigned = {
            closure: part for closure, part in self._local_parts.items() if closure not in self._available.signed
        }
        if jobs and unsigned and self._key is not None:
            await sign(self._context.here, self._key, unsigned)
            await self._context.supply.renew()  # it has been asked before, and would send paths without the signatures
            self._available.signed |= unsigned.keys()
        return await self._remove_damage(jobs)

    async def _look_at_hosts(self) -> dict[HostName, Job]:
        """Return the jobs of the hosts that are as the plan says, and give every other host its result."""
        contents = await self._contents()
        facts = await self._contacts.look(self._hosts_without_result())
        jobs: dict[HostName, Job] = {}

        async def add_job_or_result(host: Host) -> None:
            part = self._parts[host.name]
            if (ended := outcome_of_last(part, facts[host.name])) is not None:
                self._context.journal.finish(ended)
            else:
                jobs[host.name] = await self._job(host, facts[host.name], contents[host.name])

        await self._contacts.for_each_host(self._hosts_without_result(), add_job_or_result)
        for number, wave in enumerate(self._plan.waves if self._is_alone else (), 1):
            for name in wave:
                if name in jobs:
                    self._context.journal.emit(planned(self._parts[name], number))
                    self._contacts.report_notes(jobs[name])
        return jobs

    async def _contents(self) -> dict[HostName, Contents | None]:
        """Return what comes from this machine's store for each host. One whose models cannot be fetched is left out."""
        found: dict[HostName, Contents | None] = {}
        for name, part in self._parts.items():
            try:
                found[name] = await (self._available.contents(part) if part.manifest else self._available.beside(part))
            except BuildError as error:
                self._contacts.leave_out(self._hosts[name], error)
        return found

    def _hosts_without_result(self) -> list[Host]:
        """Return the hosts that have no result yet."""
        return [host for name, host in self._hosts.items() if name not in self._context.journal.results]

    def _end_if_all_or_nothing(self) -> bool:
        """Skip the remaining hosts if the plan is all or nothing and a host cannot take part.

        Return whether that is so: then every host has its result.
        """
        results = self._context.journal.results
        bad = [name for name in self._parts if name in results and results[name].outcome is not Outcome.KEPT]
        if not bad or not self._plan.all_or_nothing:
            return False
        self._context.journal.finish(*result.called_off(self._hosts_without_result(), bad))
        return True

    async def _job(self, host: Host, facts: HostFacts, contents: Contents | None) -> Job:
        """Return what is done to the host. Raise `HostError` if it is not as the plan says, or cannot take part."""
        part, link = self._parts[host.name], self._context.links[host.name]
        _require_same_key(part, link)
        if part.goal.switches:
            await require_current(link, host, part, facts)
            require_not_quarantined(host, facts, part.closure, retry_quarantined=part.retry_quarantined)
            require_writable(host, facts, part.goal)
        if part.by_reboot:
            require_elsewhere(link)
            require_safe_reboot(host, facts, accept_boot_risk=part.accept_boot_risk)
            await require_idle(self._context, host, force=part.force)
        load = Load() if contents is None else await self._load(link, host, facts, contents)
        return Job(part=part, host=host, facts=facts, load=load)

    async def _load(self, link: Link, host: Host, facts: HostFacts, contents: Contents) -> Load:
        """Return what the host lacks of a closure. Raise `UnfitError` if there is no room for it."""
        load = await load_of(link, host, contents)
        if load.missing:
            load = await self._estimator.estimate(load, host.name, speed=None)
            require_room(host.name, facts, load)
        return load

    async def _remove_damage(self, jobs: Mapping[HostName, Job]) -> dict[HostName, Job]:
        """Remove what a power cut during a push has damaged on hosts, and return the jobs of those that can begin.

        What was removed is missing in the load of the job, so it is pushed again.
        """
        checked = dict(jobs)

        async def verify_host(host: Host) -> None:
            job, link = jobs[host.name], self._context.links[host.name]
            await verify(link, host, emit=self._context.journal.emit)
            if job.part.manifest:
                contents = await self._available.contents(job.part)
                checked[host.name] = dataclasses.replace(job, load=await self._load(link, host, job.facts, contents))

        await self._contacts.for_each_host([job.host for job in jobs.values() if job.facts.doubtful], verify_host)
        return {name: job for name, job in checked.items() if name not in self._context.journal.results}


def _require_same_key(part: Part, link: Link) -> None:
    """Raise `HostKeyError` if the host answers with another key than when the plan was made."""
    if part.host_key and link.host_key != part.host_key:
        message = f"the host answers with the key {link.host_key}, and with {part.host_key} when the plan was made"
        raise HostKeyError(link.host.name, message, hint="find out why, and make a new plan")
