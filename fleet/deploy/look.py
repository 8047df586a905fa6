"""Contact many hosts at once. A host that fails is left out of the run, and the others go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.deploy import result, rollout_results
from fleet.deploy.absent import never_seen
from fleet.deploy.looks import Look, Looks
from fleet.errors import BugError, FleetError, HostError, UnreachableError
from fleet.events import FindingReported, PhaseStarted
from fleet.inventory.hooks import When
from fleet.machine import CONTACTS
from fleet.model import Phase, Severity, Verb
from fleet.steps import preflight, reboot
from fleet.steps.caches import INSTEAD
from fleet.steps.hooks import Hooks
from fleet.steps.sign import ask_trust, untrusted
from fleet.tasks import wait_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from fleet.deploy.absent import Absentees
    from fleet.deploy.context import Context
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.model import HostName
    from fleet.steps.job import Job
    from fleet.steps.sign import SigningKey

PROVES = "--reboot if-needed proves them now, by a reboot that comes back by itself"
KEPT_OPEN = 128
"""The largest number of hosts in a run whose connections stay open from one phase to the next. In a larger run a
connection lasts for one phase: each takes a file descriptor here, of the 1,024 that most systems allow, and 60 KB, and
has to be kept alive."""


async def require_idle(context: Context, host: Host, *, force: bool) -> None:
    """Report what a reboot of the host interrupts. Raise `UnfitError` if that is anything, unless `force` is set."""
    for activity in await reboot.require_idle(context.links[host.name], host, force=force):
        message = f"the reboot interrupts {activity}"
        context.journal.emit(
            FindingReported(host=host.name, severity=Severity.NOTE, kind="forced", message=message, hint=reboot.FORCED)
        )


class HostContacts:
    """Contacts the hosts of one run, a limited number at once.

    Reports what it finds; hosts that are left out get a result.
    """

    def __init__(
        self,
        context: Context,
        *,
        count: int,
        key: SigningKey | None = None,
        absent: Absentees | None = None,
    ) -> None:
        """Prepare for a run of `count` hosts. With `key`, ask each host whether it trusts this key.

        Those of `absent` that do not answer take part as they were seen last.
        """
        self._context = context
        self._is_crowded = count > KEPT_OPEN
        self._key = key
        self._absent = absent or {}
        self._facts: dict[HostName, HostFacts] = {}
        self.away: dict[HostName, UnreachableError] = {}
        """The hosts that take part though they do not answer, and why they do not."""
        self.ready: set[HostName] = set()
        """The hosts that were looked at, and can take part."""

    @property
    def facts(self) -> Mapping[HostName, HostFacts]:
        """The facts of the hosts that were looked at, and of those that are away."""
        return self._facts

    async def look(self, hosts: Sequence[Host]) -> Mapping[HostName, HostFacts]:
        """Look at every host and return the facts of each. Hosts that cannot take part have a result afterwards."""
        looks = self.begin_looks(hosts)
        try:
            await looks.end()
        finally:
            await looks.cancel()
        return self._facts

    def begin_looks(self, hosts: Sequence[Host]) -> Looks:
        """Begin to look at every host. Those that cannot take part get a result."""
        limit = asyncio.Semaphore(CONTACTS)

        async def attempt(look: Look) -> None:
            await self._contact(look.host, lambda _: self._look(look), limit)

        async def account_for(host: Host, work: Awaitable[None]) -> None:
            await self._leave_out_if_raised(host, self._unless_away(host, work))

        return Looks(hosts, attempt, account_for)

    async def _unless_away(self, host: Host, work: Awaitable[None]) -> None:
        """Await the look at the host. If it does not answer, take what was seen of it last where that is wanted."""
        try:
            await work
        except UnreachableError as error:
            if host.name not in self._absent:
                raise
            seen = self._absent[host.name]
            if seen is None:
                raise never_seen(host, error) from error
            self._context.journal.emit(seen.finding(host, error))
            self._facts[host.name] = seen.facts
            self.away[host.name] = error
            self.ready.add(host.name)

    async def _look(self, look: Look) -> None:
        """Keep the facts of one host and report what people should know. Raise `HostError` if it cannot take part."""
        host, emit = look.host, self._context.journal.emit
        link = self._context.links[host.name]
        if look.begin():
            emit(PhaseStarted(host=host.name, phase=Phase.PREFLIGHT))
            await self._run_hooks(host)
        await link.open(on_answer=look.answer)
        facts = await preflight.preflight(link, host)
        self._facts[host.name] = facts
        for finding in preflight.notes(facts):
            emit(preflight.report(finding, host))
        preflight.require_fit(host, facts, waits=self._context.wait > 0)
        if facts.transaction is not None:
            self.report(host, Severity.NOTE, "waits", f"waits for its turn: {facts.transaction} is open", "")
        if facts.doubtful:
            emit(preflight.report(preflight.unverified(), host))
        if self._key is not None:
            note = untrusted(self._key, host, await ask_trust(link, host))
            if note is not None:
                emit(preflight.report(note, host))
        self.ready.add(host.name)

    async def _run_hooks(self, host: Host) -> None:
        """Run the hooks that come before the first contact, unless the run only looks. They are what wakes a host."""
        context = self._context
        if context.journal.record.verb in (Verb.DEPLOY, Verb.PUSH, Verb.ROLLBACK):
            hooks = Hooks(
                host,
                here=context.here,
                folder=context.home,
                emit=context.journal.emit,
                environment={"FLEET_RUN": context.run},
            )
            for note in await hooks.run(When.BEFORE_CONTACT, None):
                self.report(host, Severity.NOTE, "hook", note, "")

    async def for_each_host(self, hosts: Sequence[Host], act: Callable[[Host], Awaitable[None]]) -> None:
        """Do `act` for every host, `CONTACTS` of them at once. A host whose act raises `HostError` is left out.

        So is one that leads into a bug: what one host says must not end the run of all. Any other `FleetError` is
        raised when all have ended; it is about this machine.
        """
        limit = asyncio.Semaphore(CONTACTS)
        contacts = [self._leave_out_if_raised(host, self._contact(host, act, limit)) for host in hosts]
        await wait_all([asyncio.create_task(contact) for contact in contacts])

    async def _contact(self, host: Host, act: Callable[[Host], Awaitable[None]], limit: asyncio.Semaphore) -> None:
        """Do `act` for the host as soon as `limit` has a place for it."""
        contacted = self._context.journal.contacted
        async with limit:
            contacted.add(host.name)
            try:
                await act(host)
            finally:
                contacted.discard(host.name)
                if self._is_crowded:
                    await self._context.links[host.name].close()

    async def _leave_out_if_raised(self, host: Host, work: Awaitable[None]) -> None:
        """Await the work, and leave the host out if that raises `HostError` or leads into a bug."""
        try:
            await work
        except HostError as error:
            self.leave_out(host, error)
        except FleetError:
            raise
        except Exception as error:
            self.leave_out(host, BugError.of(error))

    def leave_out(self, host: Host, error: FleetError) -> None:
        """Report why the host failed, and finish it as one on which nothing was changed."""
        ended = result.left_out(host, error, self._facts.get(host.name))
        ended = rollout_results.told_of_delivery(ended, self._context.journal.record)
        severity = Severity.NOTE if ended.outcome.is_good else Severity.ERROR
        hint = ended.failure.hint if ended.failure is not None else error.hint
        self.report(host, severity, error.kind, error.message, hint)
        self._context.journal.finish(ended)

    def report(self, host: Host, severity: Severity, kind: str, message: str, hint: str) -> None:
        """Report one finding about the host."""
        finding = FindingReported(host=host.name, severity=severity, kind=kind, message=message, hint=hint)
        self._context.journal.emit(finding)

    def report_notes(self, job: Job) -> None:
        """Report what people should know about a job before it begins."""
        if job.part.hooks:
            names = ", ".join(f"{hook.name} ({hook.when}, on the {hook.on})" for hook in job.part.hooks)
            self.report(job.host, Severity.NOTE, "hooks", f"hooks run: {names}", "")
        if job.part.secrets:
            names = ", ".join(place.name for place in job.part.secrets)
            self.report(
                job.host, Severity.NOTE, "secrets", f"secrets are compared, and written if they differ: {names}", ""
            )
        if job.load.caches_trouble:
            message = f"the host's own caches could not be asked: {job.load.caches_trouble}"
            self.report(job.host, Severity.NOTE, "caches", message, INSTEAD)
        if job.part.reboot and not job.part.by_reboot:
            parts = ", ".join(job.part.reboot)
            message = f"needs a reboot to use all of it: {parts} are not what is booted, and a switch cannot prove them"
            self.report(job.host, Severity.NOTE, "needs_reboot", message, PROVES)
