"""Apply a plan: see that what it needs is here and that its hosts are as it says, then take them through its waves."""

from __future__ import annotations

import dataclasses
import time
from pathlib import PurePath
from typing import TYPE_CHECKING

from fleet import nix
from fleet.deploy import result, rollout_results
from fleet.deploy.look import HostContacts, require_idle
from fleet.deploy.rollout import Rollout
from fleet.deploy.stale import outcome_of_last, require_current
from fleet.errors import ConfigError, HostKeyError
from fleet.host.program import HostProgram
from fleet.inventory import BuildOn
from fleet.model import Outcome
from fleet.plans.announce import planned
from fleet.steps.estimate import Estimator, require_room
from fleet.steps.hardware import require_writable
from fleet.steps.job import Job
from fleet.steps.load import Contents, Load, contents_of, load_of
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
    ) -> None:
        """Prepare to apply the plan to these hosts.

        They are all of the `selected` ones, unless another process has begun with those: then they are the rest, the
        journal has the results of the others, and the soak of the waves in `soaked` is over.
        """
        self._context = context
        self._fleet = fleet
        self._plan = plan
        self._parts = {name: plan.parts[name] for name in hosts}
        self._selected = frozenset(self._parts if selected is None else selected)
        self._soaked = soaked
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
        jobs = await self._context.stop.unless(self._jobs(known))
        if jobs or len(self._selected) > len(self._parts):
            program = HostProgram(await store_program(self._context.here))
            await Rollout(self._context, self._plan, jobs, program, self._selected, soaked=self._soaked).roll_out()

    async def _jobs(self, known: Mapping[HostName, Job]) -> dict[HostName, Job]:
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
        if jobs and self._key is not None:
            await sign(self._context.here, self._key, self._local_parts)
            await self._context.supply.renew()  # it has been asked before, and would send paths without the signatures
        return await self._remove_damage(jobs)

    async def _look_at_hosts(self) -> dict[HostName, Job]:
        """Return the jobs of the hosts that are as the plan says, and give every other host its result."""
        contents = {closure: await self._contents(part) for closure, part in self._local_parts.items()}
        await self._require_derivations()
        facts = await self._contacts.look(list(self._hosts.values()))
        jobs: dict[HostName, Job] = {}

        async def add_job_or_result(host: Host) -> None:
            part = self._parts[host.name]
            if (ended := outcome_of_last(part, facts[host.name])) is not None:
                self._context.journal.finish(ended)
            else:
                jobs[host.name] = await self._job(host, facts[host.name], contents.get(part.closure))

        await self._contacts.for_each_host(self._hosts_without_result(), add_job_or_result)
        for number, wave in enumerate(self._plan.waves, 1):
            for name in wave:
                if name in jobs:
                    self._context.journal.emit(planned(self._parts[name], number))
                    self._contacts.report_notes(jobs[name])
        return jobs

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

    async def _contents(self, part: Part) -> Contents:
        """Return what the closure of the part is made of. It is fetched or built first if it is not here.

        Raise `ConfigError` if it cannot be had, or is not made of what was planned.
        """
        await self._make_available(part.closure, part.derivation)
        contents = await contents_of(self._context.here, self._context.supply, part.closure)
        if contents.manifest != part.manifest:
            raise ConfigError(
                f"{part.closure}: its contents in this machine's store are not those that were planned",
                hint="it was built elsewhere, and does not reproduce: copy it from there, or plan again here",
            )
        return contents

    async def _require_derivations(self) -> None:
        """Raise `ConfigError` if a derivation that a host builds itself is not in this machine's store.

        It is not built here: the host may be of another kind.
        """
        for part in self._parts.values():
            derivation = part.derivation if part.build_on is BuildOn.TARGET else None
            if derivation is not None and not await self._is_in_local_store(derivation):
                hint = "nix copy --derivation --from the machine that made the plan, or plan again here"
                raise ConfigError(f"{derivation} is not in this machine's store", hint=hint)

    async def _make_available(self, path: str, derivation: str | None) -> None:
        """Fetch or build the path if it is not in the local store, and root it for the run.

        Raise `ConfigError` if it can be neither fetched nor built.
        """
        here = self._context.here
        root = self._context.folder / PurePath(path).name  # each path has a root of its own
        for attempt in (path, derivation):
            if attempt is None:
                continue
            realised = await here.run(nix.realise([attempt], root=root))
            if realised.status == 0 and await self._is_in_local_store(path):
                return
        hint = "nix copy --from the machine that made the plan, and apply it again"
        raise ConfigError(f"{path} is not in this machine's store, and cannot be fetched or built", hint=hint)

    async def _is_in_local_store(self, path: str) -> bool:
        """Return whether the path is in this machine's store."""
        missing = await self._context.here.run(nix.missing([path]))
        return missing.status == 0 and not missing.stdout.strip()

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
                contents = await contents_of(self._context.here, self._context.supply, job.closure)
                checked[host.name] = dataclasses.replace(job, load=await self._load(link, host, job.facts, contents))

        await self._contacts.for_each_host([job.host for job in jobs.values() if job.facts.doubtful], verify_host)
        return {name: job for name, job in checked.items() if name not in self._context.journal.results}


def _require_same_key(part: Part, link: Link) -> None:
    """Raise `HostKeyError` if the host answers with another key than when the plan was made."""
    if part.host_key and link.host_key != part.host_key:
        message = f"the host answers with the key {link.host_key}, and with {part.host_key} when the plan was made"
        raise HostKeyError(link.host.name, message, hint="find out why, and make a new plan")
