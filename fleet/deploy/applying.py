"""Applying a plan: what it needs is here, its hosts are as it says, and then they go through its waves."""

from __future__ import annotations

import dataclasses
from pathlib import PurePath
from typing import TYPE_CHECKING

from fleet import nix
from fleet.deploy import result
from fleet.deploy.look import HostContacts
from fleet.deploy.rollout import Rollout
from fleet.deploy.stale import outcome_of_last, require_current
from fleet.errors import ConfigError, HostKeyError
from fleet.host.program import HostProgram
from fleet.inventory import BuildOn
from fleet.model import Outcome
from fleet.plans.announce import planned
from fleet.steps.estimate import Estimator, require_room
from fleet.steps.job import Job
from fleet.steps.load import Contents, Load, contents_of, load_of
from fleet.steps.preflight import verify
from fleet.steps.program import store_program
from fleet.steps.reboot import require_idle, require_safe_reboot
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

    def __init__(self, context: Context, fleet: Inventory, plan: Plan, hosts: Iterable[HostName]) -> None:
        self._context = context
        self._fleet = fleet
        self._plan = plan
        self._parts = {name: plan.parts[name] for name in hosts}
        self._hosts = {name: part.apply_policy(fleet.hosts[name]) for name, part in self._parts.items()}
        self._key = read_key(fleet.path, fleet.signing_key) if fleet.signing_key and self._local else None
        self._contacts = HostContacts(context, count=len(self._parts), key=self._key)
        self._estimator = Estimator(context.supply)

    @property
    def _local(self) -> dict[Closure, Part]:
        """The closures that come from this machine's store, each with one of its parts."""
        return {part.closure: part for part in self._parts.values() if part.manifest}

    async def apply(self, known: Mapping[HostName, Job]) -> None:
        """Every host has ended. `known` has the jobs of hosts that were looked at when the plan was made just now.

        Raises `ConfigError`, with nothing touched, where the closures are not here and cannot be had, and
        `StoppedError` where somebody asked for the end before a host could begin.
        """
        jobs = await self._context.stop.unless(self._jobs(known))
        if jobs:
            program = HostProgram(await store_program(self._context.here))
            await Rollout(self._context, self._plan, jobs, program).roll_out()

    async def _jobs(self, known: Mapping[HostName, Job]) -> dict[HostName, Job]:
        """The jobs of the hosts that can begin; what they need is in this machine's store. The others have a result."""
        jobs = {name: known[name] for name in self._parts if name in known}
        if len(jobs) < len(self._parts):
            jobs = await self._looked_at()
            if self._is_nothing():
                return {}
        if jobs and self._key is not None:
            await sign(self._context.here, self._key, self._local)
            await self._context.supply.renew()  # it has been asked before, and would send paths without the signatures
        return await self._undamaged(jobs)

    async def _looked_at(self) -> dict[HostName, Job]:
        """The jobs of the hosts that are as the plan says. The others have a result."""
        contents = {closure: await self._contents(part) for closure, part in self._local.items()}
        await self._require_derivations()
        facts = await self._contacts.look(list(self._hosts.values()))
        jobs: dict[HostName, Job] = {}

        async def one(host: Host) -> None:
            part = self._parts[host.name]
            if (ended := outcome_of_last(part, facts[host.name])) is not None:
                self._context.journal.finish(ended)
            else:
                jobs[host.name] = await self._job(host, facts[host.name], contents.get(part.closure))

        await self._contacts.each(self._left(), one)
        for number, wave in enumerate(self._plan.waves, 1):
            for name in wave:
                if name in jobs:
                    self._context.journal.emit(planned(self._parts[name], number))
                    self._contacts.report_notes(jobs[name])
        return jobs

    def _left(self) -> list[Host]:
        return [host for name, host in self._hosts.items() if name not in self._context.journal.results]

    def _is_nothing(self) -> bool:
        """Whether it was all or nothing, and some host cannot take part: then every host has its result."""
        results = self._context.journal.results
        bad = [name for name in self._parts if name in results and results[name].outcome is not Outcome.KEPT]
        if not bad or not self._plan.all_or_nothing:
            return False
        why = f"all or nothing, and {', '.join(bad)} cannot take part"
        self._context.journal.finish(*(result.skipped(host.name, why) for host in self._left()))
        return True

    async def _contents(self, part: Part) -> Contents:
        """What the closure of the part is made of; fetched or built here where it was not."""
        await self._have(part.closure, part.derivation)
        contents = await contents_of(self._context.here, self._context.supply, part.closure)
        if contents.manifest != part.manifest:
            raise ConfigError(
                f"{part.closure}: its contents in this machine's store are not those that were planned",
                hint="it was built elsewhere, and does not reproduce: copy it from there, or plan again here",
            )
        return contents

    async def _require_derivations(self) -> None:
        """What hosts build themselves has been evaluated here. It is not built here: they may be of another kind."""
        for part in self._parts.values():
            derivation = part.derivation if part.build_on is BuildOn.TARGET else None
            if derivation is not None and not await self._is_here(derivation):
                hint = "nix copy --derivation --from the machine that made the plan, or plan again here"
                raise ConfigError(f"{derivation} is not in this machine's store", hint=hint)

    async def _have(self, path: str, derivation: str | None) -> None:
        """The path is in the local store. Raises `ConfigError` where it can be neither fetched nor built."""
        here = self._context.here
        root = self._context.folder / PurePath(path).name  # each path has a root of its own
        for attempt in (path, derivation):
            if attempt is None:
                continue
            realised = await here.run(nix.realise([attempt], root=root))
            if realised.status == 0 and await self._is_here(path):
                return
        hint = "nix copy --from the machine that made the plan, and apply it again"
        raise ConfigError(f"{path} is not in this machine's store, and cannot be fetched or built", hint=hint)

    async def _is_here(self, path: str) -> bool:
        missing = await self._context.here.run(nix.missing([path]))
        return missing.status == 0 and not missing.stdout.strip()

    async def _job(self, host: Host, facts: HostFacts, contents: Contents | None) -> Job:
        """What is done to the host. Raises `HostError` where it is not as the plan says, or cannot take part."""
        part, link = self._parts[host.name], self._context.links[host.name]
        _require_same_key(part, link)
        if part.goal.switches:
            await require_current(link, host, part, facts)
            require_not_quarantined(host, facts, part.closure, retry_quarantined=part.retry_quarantined)
        if part.by_reboot:
            require_safe_reboot(host, facts, accept_boot_risk=part.accept_boot_risk)
            await require_idle(link, host, force=part.force)
        load = Load() if contents is None else await self._load(link, host, facts, contents)
        return Job(part=part, host=host, facts=facts, load=load)

    async def _load(self, link: Link, host: Host, facts: HostFacts, contents: Contents) -> Load:
        """Return what the host lacks of a closure. Raise `UnfitError` if there is no room for it."""
        load = await load_of(link, host, contents)
        if load.missing:
            load = await self._estimator.estimate(load, host.name, speed=None)
            require_room(host.name, facts, load)
        return load

    async def _undamaged(self, jobs: Mapping[HostName, Job]) -> dict[HostName, Job]:
        """The jobs, with what a power cut amid a push has damaged on their hosts removed, and missing."""
        checked = dict(jobs)

        async def one(host: Host) -> None:
            job, link = jobs[host.name], self._context.links[host.name]
            await verify(link, host, emit=self._context.journal.emit)
            if job.part.manifest:
                contents = await contents_of(self._context.here, self._context.supply, job.closure)
                checked[host.name] = dataclasses.replace(job, load=await self._load(link, host, job.facts, contents))

        await self._contacts.each([job.host for job in jobs.values() if job.facts.doubtful], one)
        return {name: job for name, job in checked.items() if name not in self._context.journal.results}


def _require_same_key(part: Part, link: Link) -> None:
    """Raise `HostKeyError` if the host answers with another key than when the plan was made."""
    if part.host_key and link.host_key != part.host_key:
        message = f"the host answers with the key {link.host_key}, and with {part.host_key} when the plan was made"
        raise HostKeyError(link.host.name, message, hint="find out why, and make a new plan")
