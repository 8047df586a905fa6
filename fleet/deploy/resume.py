"""Take up a run whose controller was lost: learn from the hosts what became of it. Nothing is built, nothing begins."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.hooked import HookedHost
from fleet.deploy.host import HostRun
from fleet.deploy.rollout import bug
from fleet.errors import ConfigError, HostError, UnreachableError
from fleet.host.program import HostProgram
from fleet.machine import CONTACTS
from fleet.model import Goal, Verb
from fleet.plans import Part
from fleet.state import HostRecord
from fleet.steps.hold import Hold, take_up
from fleet.steps.job import Job
from fleet.steps.monitor import now
from fleet.steps.preflight import preflight
from fleet.steps.switch import RETRY, longest_reboot
from fleet.tasks import wait_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.deploy.context import Context
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host, Inventory
    from fleet.machine import Link
    from fleet.model import HostName, HostResult, RunId
    from fleet.plans import Plan
    from fleet.state import RunRecord


async def concerned(links: Mapping[HostName, Link], hosts: Sequence[Host], run: RunId) -> list[HostRecord]:
    """Return the hosts that may have begun in a run whose record cannot be read here.

    They are the hosts that know of the run, and those that cannot be asked. Raise `ConfigError` if no host knows of it.
    """
    places = asyncio.Semaphore(CONTACTS)

    async def knows(host: Host) -> bool:
        link = links[host.name]
        async with places:
            try:
                facts = await preflight(link, host)
            except Exception:  # `Resumer` asks again and reports it; here a bug must not keep us from the other hosts
                return True
            finally:
                await link.close()
        return any(recorded is not None and recorded.run == run for recorded in (facts.transaction, facts.last))

    known = await asyncio.gather(*map(knows, hosts))
    found = [HostRecord(name=host.name, begun=True) for host, is_known in zip(hosts, known, strict=True) if is_known]
    if not found:
        hint = "fleet status tells what each host runs, and which run is open there"
        raise ConfigError(f"what was written of run {run} cannot be read, and no host knows of it", hint=hint)
    return found


class Resumer:
    """Takes up all hosts of an earlier run at once, since their deadlines do not wait. The journal gets each result."""

    def __init__(self, context: Context, fleet: Inventory, past: RunRecord, plan: Plan | None) -> None:
        """Prepare to take up the run `past`. `plan` is what it was to do; None if that is not known any more."""
        self._context = context
        self._fleet = fleet
        self._past = past
        self._parts = plan.parts if plan is not None else {}
        self._logging_in = asyncio.Semaphore(CONTACTS)
        """Limits first contacts only. To follow a host needs no place: its deadline runs."""

    async def resume_all(self) -> None:
        """Take up every host, and give each a result. A bug at one must not cancel the others, whose deadlines run.

        When this is cancelled, the result of each host that is not followed any more says so.
        """
        try:
            await wait_all([asyncio.create_task(self._resume(name, past)) for name, past in self._past.hosts.items()])
        finally:
            for name, past in self._past.hosts.items():
                if name not in self._context.journal.results:
                    self._context.journal.finish(_unfollowed(name, past))

    async def _resume(self, name: HostName, past: HostRecord) -> None:
        try:
            self._context.journal.finish(await self._result_of(name, past))
        except Exception as error:  # a bug; its result names the host and the state that it is in
            self._context.journal.finish(bug(name, past.closure, error, begun=past.begun))

    async def _result_of(self, name: HostName, past: HostRecord) -> HostResult:
        """Return the host's result: the recorded one if that is final, otherwise what the host says."""
        if past.is_settled and past.result is not None:
            return past.result
        host = self._fleet.hosts.get(name)
        if host is None:
            return result.forgotten(name, "it is not in fleet.toml any more")
        part = self._parts.get(name)
        try:
            return await self._follow(part.apply_policy(host) if part is not None else host, past)
        finally:
            await self._context.links[name].close()

    async def _follow(self, host: Host, past: HostRecord) -> HostResult:
        """Ask the host what became of its part, and stay with it until the end."""
        run, link = self._context.run, self._context.links[host.name]
        try:
            facts, hold = await _take_up(link, host, past, run, self._logging_in)
        except HostError as error:
            if past.begun:
                return result.forgotten(host.name, f"not seen to the end: {error.message}")
            return result.left_out(host, error)
        known = _corrected(facts, past, run)
        part = self._parts.get(host.name) or _rebuilt_part(host, known, self._past)
        if part is None or not (known.begun or known.pushed):
            why = "it knows nothing of the run" if known.begun else "the run ended before it began"
            return result.skipped(host.name, why)
        if known.previous is not None:  # the part may have been planned anew, when its turn came
            part = dataclasses.replace(part, expected=known.previous)
        job = Job(part=part, host=host, facts=facts)
        started = time.monotonic()
        ended = await HostRun.of(self._context, job, HostProgram(), hold=hold).resume(known)
        ended = await HookedHost(self._context, job, has_prepared=known.prepared or known.begun).after(ended, hold)
        return dataclasses.replace(ended, seconds=time.monotonic() - started)


def _unfollowed(name: HostName, past: HostRecord) -> HostResult:
    """Return the result of a host that nobody follows any more."""
    if past.begun:
        return result.forgotten(name, "interrupted before its end was seen")
    return result.skipped(name, "the run ended before the switch began")


def _rebuilt_part(host: Host, past: HostRecord, run: RunRecord) -> Part | None:
    """Rebuild the host's part of a run whose plan is not known. Return None if its closures are not known either."""
    if past.closure is None or past.previous is None:
        return None
    return Part(
        host=host.name,
        closure=past.closure,
        expected=past.previous,
        goal=Goal.BOOT if past.by_reboot else run.goal,
        activation_timeout=max(1, round(host.activation_timeout)),
        confirm_timeout=max(1, round(host.confirm_timeout)),
        boot_timeout=max(1, round(host.boot_timeout)),
        settle=host.settle,
        watch=run.watch,
        checks=host.checks,
        checks_decide=run.verb != Verb.ROLLBACK or run.strict,
        ignore_units=host.ignore_units,
        ignore_snippets=host.ignore_snippets,
        secrets=tuple(secret.place for secret in host.secrets.values()),
        offline=host.offline,
        reboot=past.reboot,
    )


async def _take_up(
    link: Link, host: Host, past: HostRecord, run: RunId, logging_in: asyncio.Semaphore
) -> tuple[HostFacts, Hold]:
    """Return the facts of the host, and the hold on the run there, where it is open: from now on we prove it.

    Wait for a host that was about to reboot, for as long as a reboot may take.
    """
    until = now() + (longest_reboot(host) if past.by_reboot else 0.0)
    while True:
        try:
            async with logging_in:
                facts = await preflight(link, host)
                is_open = facts.transaction is not None and facts.transaction.run == run
                return facts, await take_up(link, host, HostProgram(), run) if is_open else Hold()
        except UnreachableError:
            if now() > until:
                raise
            await asyncio.sleep(RETRY)


def _corrected(facts: HostFacts, past: HostRecord, run: RunId) -> HostRecord:
    """Return the record, corrected by what the host says of the run.

    The last lines that we wrote may be lost, on a full disk for example.
    """
    known = past
    for recorded in (facts.transaction, facts.last):
        if recorded is None:
            continue
        if recorded.run == run:
            by_reboot = known.by_reboot or recorded.by_reboot
            known = dataclasses.replace(
                known, begun=True, heard=True, closure=recorded.new, previous=recorded.old, by_reboot=by_reboot
            )
        elif recorded.run > run:  # a later run has replaced the host's record of this one
            known = dataclasses.replace(known, heard=known.begun or known.heard)
    return known
