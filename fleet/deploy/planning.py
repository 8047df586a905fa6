"""Make a plan for the selected hosts.

Running systems do not change, and nothing is built before every host was looked at.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet import selector
from fleet.deploy import decide, result, rollout_results
from fleet.deploy.choosing import Chooser
from fleet.deploy.contents import FoundContents
from fleet.deploy.look import HostContacts, require_idle
from fleet.inventory import LinkSpeed
from fleet.model import Severity, Verb
from fleet.plans import Action, Plan
from fleet.plans.announce import planned
from fleet.steps import models
from fleet.steps.estimate import Estimator, require_room
from fleet.steps.gated import CHANGES
from fleet.steps.hardware import require_writable
from fleet.steps.job import Job
from fleet.steps.load import load_of
from fleet.steps.reboot import require_another_system, require_elsewhere, require_safe_reboot
from fleet.steps.sign import read_key
from fleet.steps.survey import Systems, survey
from fleet.steps.system import require_live, require_not_quarantined, specialisation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence

    from fleet.deploy.absent import Absentees
    from fleet.deploy.context import Context
    from fleet.deploy.options import Options
    from fleet.deploy.target import Choice, Wanted
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host, Inventory
    from fleet.model import HostName
    from fleet.steps.estimate import Estimate
    from fleet.steps.load import Contents, Load
    from fleet.steps.survey import Survey

    Speeds = Callable[[], Coroutine[Any, Any, Mapping[HostName, float]]]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan, and what was seen of its hosts in the making: an `apply` that follows at once need not look again."""

    plan: Plan
    jobs: Mapping[HostName, Job] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found out about all hosts, one field for each phase."""

    facts: Mapping[HostName, HostFacts]
    wanted: Mapping[HostName, Wanted]


class Planner:
    """Makes one plan. The journal gets the results of the hosts that nothing will happen to."""

    def __init__(
        self,
        context: Context,
        fleet: Inventory,
        hosts: Sequence[Host],
        options: Options,
        *,
        speeds: Speeds,
        absent: Absentees | None = None,
    ) -> None:
        """Prepare to plan for these hosts. Those of `absent` get a part though they do not answer."""
        self._context = context
        self._fleet = fleet
        self._hosts = hosts
        self._options = options
        self._speeds = speeds
        key = None
        if fleet.signing_key is not None and options.verb is not Verb.ROLLBACK:
            key = read_key(fleet.path, fleet.signing_key)
        self._contacts = HostContacts(context, count=len(hosts), key=key, absent=absent)
        self._absent = absent or {}
        self._chooser = Chooser(context, fleet, hosts, options, self._contacts)
        self._systems = Systems()
        self._estimator = Estimator(context.supply)
        self._contents = FoundContents(context, self._contacts)
        self._made = int(time.time())

    @property
    def seen(self) -> Mapping[HostName, HostFacts]:
        """The facts of the hosts that have answered."""
        return {name: facts for name, facts in self._contacts.facts.items() if name not in self._contacts.away}

    async def plan(self) -> Planned:
        """Make the plan.

        Raise `EvaluationError` or `BuildError`, unless the options allow to leave out the hosts concerned.
        """
        speeds = asyncio.ensure_future(self._speeds())  # read from disk while the hosts are contacted
        try:
            return await self._plan(speeds)
        finally:
            speeds.cancel()

    async def _plan(self, speeds: Awaitable[Mapping[HostName, float]]) -> Planned:
        chooser = self._chooser
        choice = await chooser.choose()
        wanted = choice.wanted
        await self._contents.find(chooser.remaining(), wanted)
        found = Found(facts=self._contacts.facts, wanted=wanted)
        jobs = await self._jobs(found, await speeds)
        return self._assemble(choice, {} if chooser.call_off_if_required() else self._that_begin(jobs))

    async def _require_models(self, host: Host, contents: Contents, load: Load) -> None:
        """Report the models of the host. Raise `HostError` if it cannot have them."""
        if self._options.switches:
            await models.require_vram(self._context.links[host.name], host, contents.models)
        self._contacts.report(host, Severity.NOTE, "models", models.told(contents.models, load.missing), "")

    async def _jobs(self, found: Found, speeds: Mapping[HostName, float]) -> dict[HostName, Job]:
        """Return a job for each host that can take part, in the order of the inventory."""
        jobs: dict[HostName, Job] = {}

        async def add_job(host: Host) -> None:
            jobs[host.name] = await self._job(host, found, speeds)

        await self._contacts.for_each_host(self._chooser.remaining(), add_job)
        if self._options.all_or_nothing:
            self._context.journal.finish(*rollout_results.closed(jobs.values(), time.time()))
        results = self._context.journal.results
        return {host.name: jobs[host.name] for host in self._hosts if host.name in jobs and host.name not in results}

    def _that_begin(self, jobs: dict[HostName, Job]) -> dict[HostName, Job]:
        """Return the jobs without those of hosts for which nobody goes ahead, and give these their results."""
        if self._options.is_undo:  # nobody goes ahead: all go back, as many as can
            return jobs
        waves = [wave.hosts for wave in selector.waves(self._fleet, self._hosts)]
        in_vain = decide.waves_that_begin(waves, jobs, self._context.journal.results)
        self._context.journal.finish(*(result.skipped(name, why) for name, why in in_vain.items()))
        return {name: job for name, job in jobs.items() if name not in in_vain}

    async def _job(self, host: Host, found: Found, speeds: Mapping[HostName, float]) -> Job:
        """Return what would be done to the host. Raise `HostError` if it cannot be done."""
        options, facts, wanted = self._options, found.facts[host.name], found.wanted[host.name]
        is_away = host.name in self._contacts.away
        contents = self._contents.of(host, wanted)
        if options.switches:
            require_not_quarantined(host, facts, wanted.closure, retry_quarantined=options.retry_quarantined)
            require_writable(host, facts, options.goal)
        seen = await survey(
            self._context.links[host.name] if not is_away else None,
            host,
            facts,
            wanted.closure,
            contents=contents if wanted.is_local else None,
            systems=self._systems,
            is_built_there=wanted.is_built_there,
        )
        if options.switches and facts.running != facts.profile and not is_away:
            await self._tell_of_specialisation(host, facts)
        part = decide.part_of(
            host,
            facts,
            wanted,
            seen,
            options,
            contents=contents,
            expires=self._made + options.expires_in,
        )
        if options.switches:
            require_another_system(host, part.action, options.reboot)
        if part.by_reboot:
            await self._require_reboot(host, facts, seen)
        elif options.switches:
            require_live(host, seen.obstacles, options.goal)
        load = seen.load
        if contents and contents.models and part.action is Action.SWITCH:
            if wanted.is_built_there:
                load = await load_of(self._context.links[host.name], host, contents)
            await self._require_models(host, contents, load)
        if load.missing:
            load = await self._estimator.estimate(
                load, host.name, speed=self._speed(host, speeds), over_slow_link=self._slow_link_estimate(host, facts)
            )
            require_room(host.name, facts, load)
        elif wanted.is_built_there:
            self._slow_link_estimate(host, facts)
        if part.gate:
            self._contacts.report(host, Severity.NOTE, "gate", CHANGES[part.gate], "")
        forecast = load.forecast(room_free=facts.nix_free)
        part = dataclasses.replace(part, host_key=self._host_key(host), forecast=forecast)
        return Job(part=part, host=part.apply_policy(host), facts=facts, load=load, is_surveyed=True)

    def _host_key(self, host: Host) -> str:
        """Return the fingerprint of the key by which the host is known: that of this contact, or of the last one."""
        seen = self._absent.get(host.name) if host.name in self._contacts.away else None
        return seen.host_key if seen is not None else self._context.links[host.name].host_key

    async def _tell_of_specialisation(self, host: Host, facts: HostFacts) -> None:
        """Report that the host leaves the specialisation that it runs, if it runs one."""
        if name := await specialisation(self._context.links[host.name], facts.profile, facts.running):
            message = f"runs the specialisation {name}, and leaves it: the system itself is switched to"
            self._contacts.report(host, Severity.NOTE, "specialisation", message, "")

    async def _require_reboot(self, host: Host, facts: HostFacts, seen: Survey) -> None:
        """Report how the host will reboot. Raise `UnfitError` if it must not, or could not come back."""
        options, report = self._options, self._contacts.report
        require_elsewhere(self._context.links[host.name])
        way_back = require_safe_reboot(host, facts, accept_boot_risk=options.accept_boot_risk)
        risk = "" if facts.boots_once else "accepted with --accept-boot-risk"
        why = ", ".join(seen.reboot) or "--reboot always"
        report(host, Severity.NOTE, "reboots", f"by way of a reboot, for {why}: {way_back}", risk)
        if host.name not in self._contacts.away:  # the host looks again when it begins
            await require_idle(self._context, host, force=options.force)

    def _slow_link_estimate(self, host: Host, facts: HostFacts) -> Estimate | None:
        """Return what estimates the bytes that cross the host's slow link; None if everything is sent as it is.

        If the host should get deltas but cannot, the reason is reported.
        """
        if host.link is not LinkSpeed.SLOW or self._options.copy_with == "nix":
            return None
        slow_links = self._context.slow_links
        if obstacle := slow_links.obstacle(facts):
            self._contacts.report(host, Severity.NOTE, "slow_link", *obstacle)
            return None
        return functools.partial(slow_links.estimate, self._context.links[host.name], facts)

    def _speed(self, host: Host, speeds: Mapping[HostName, float]) -> float | None:
        """Return the speed of the push in bytes per second: that of the last one, but no more than is allowed now."""
        limits = (speeds.get(host.name), host.bandwidth, self._fleet.rollout.bandwidth)
        return min((speed for speed in limits if speed), default=None)

    def _assemble(self, choice: Choice, jobs: Mapping[HostName, Job]) -> Planned:
        """Put the parts together to a plan, and report its hosts in the order of the waves."""
        hosts = [self._fleet.hosts[name] for name in jobs]
        waves = selector.waves(self._fleet, hosts)
        for number, wave in enumerate(waves, 1):
            for name in wave.hosts:
                self._report(jobs[name], number)
        options, rollout, journal = self._options, self._fleet.rollout, self._context.journal
        order = [host.name for host in self._hosts]
        plan = Plan(
            fleet=self._fleet.name,
            fleet_id=self._fleet.id,
            by=self._context.by,
            verb=Verb.DEPLOY if options.verb is Verb.PLAN else options.verb,
            goal=options.goal,
            made=self._made,
            expires=self._made + options.expires_in,
            source=choice.source,
            other_sources=decide.of_planned(choice.other_sources, jobs),
            nix_options=tuple(self._fleet.nix_options.items()),
            intent=" ".join(options.intent.split()),
            amends=options.amends.digest if options.amends is not None else "",
            at_once=rollout.at_once,
            push_at_once=rollout.push_at_once or 0,
            max_failures=len(hosts) if options.is_undo else rollout.max_failures,
            all_or_nothing=options.all_or_nothing,
            waves=tuple(wave.hosts for wave in waves),
            soaks=decide.soaks(waves) if options.verb is Verb.DEPLOY else (),
            after=tuple((host.name, before) for host in hosts if (before := _those_of(host.after, jobs))),
            undo_on_failure=_undoes(options, rollout.undo_on_failure),
            left_out=decide.left_out(journal.results, order, choice.wanted),
            findings=decide.findings(journal.early_events, order),
            parts={name: job.part for name, job in jobs.items()},
        )
        return Planned(plan=plan, jobs={name: job for name, job in jobs.items() if name not in self._contacts.away})

    def _report(self, job: Job, wave: int) -> None:
        self._context.journal.emit(planned(job.part, wave))
        self._contacts.report_notes(job)


def _those_of(names: Sequence[HostName], known: Collection[HostName]) -> tuple[HostName, ...]:
    return tuple(name for name in names if name in known)


def _undoes(options: Options, default: bool) -> bool:  # noqa: FBT001 - what fleet.toml says
    """Whether hosts go back when the run fails: only what switches can, and a rollback is a way back already."""
    wanted = default if options.undo_on_failure is None else options.undo_on_failure
    return wanted and options.switches and options.verb is not Verb.ROLLBACK
