"""Choose what each host should get, and build it: evaluation goes on while the hosts are looked at.

Nothing is built for a host before it was looked at. Nobody waits long for a host that does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from fleet.deploy import decide, result
from fleet.deploy.looks import LATE
from fleet.deploy.target import Choice, Wanted, choose_targets, combined, require_rollback_target, rollback_target
from fleet.errors import FleetError
from fleet.events import BuildFinished
from fleet.inventory import BuildOn
from fleet.model import Goal, Outcome, Reboot, Severity, Verb
from fleet.steps.build import build, build_failure
from fleet.steps.gated import require_way_back

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from fleet.deploy.context import Context
    from fleet.deploy.look import HostContacts
    from fleet.deploy.looks import Looks
    from fleet.deploy.options import Options
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host, Inventory
    from fleet.model import Closure


class Chooser:
    """Chooses what each host of a plan should get. Hosts that nothing will happen to have their results afterwards."""

    def __init__(
        self, context: Context, fleet: Inventory, hosts: Sequence[Host], options: Options, contacts: HostContacts
    ) -> None:
        self._context = context
        self._fleet = fleet
        self._hosts = hosts
        self._options = options
        self._contacts = contacts

    async def choose(self) -> Choice:
        """Look at every host, and return what the remaining ones should get. What is built here is built then.

        Raise `EvaluationError` or `BuildError`, unless the options allow to leave out the hosts concerned.
        """
        looks = self._contacts.begin_looks(self._hosts)
        try:
            if self._options.verb is not Verb.ROLLBACK:
                return await self._new_systems(looks)
            await looks.end()
            return Choice(wanted={}) if self.call_off_if_required() else await self._former_systems()
        finally:
            await looks.cancel()

    def remaining(self) -> list[Host]:
        """Return the hosts that have no result yet."""
        return [host for host in self._hosts if host.name not in self._context.journal.results]

    def call_off_if_required(self) -> bool:
        """Skip the remaining hosts if the plan is all or nothing and a host cannot take part.

        Return whether that is so.
        """
        results = self._context.journal.results
        unable = [name for name, ended in results.items() if ended.outcome in (Outcome.FAILED, Outcome.DEFERRED)]
        if not unable or not self._options.all_or_nothing:
            return False
        self._context.journal.finish(*result.called_off(self.remaining(), unable))
        return True

    async def _new_systems(self, looks: Looks) -> Choice:
        """Evaluate the hosts and build their systems. What becomes known of them meanwhile may end that."""
        options = self._options
        choosing = asyncio.create_task(choose_targets(self._context, self._fleet, self._hosts, options))
        try:
            await looks.settled()
            if options.all_or_nothing or not self._ready():
                await looks.end()
            if self.call_off_if_required() or not self.remaining():
                return await self._for_those_away(choosing)
            choice = await choosing
        finally:
            choosing.cancel()
            await asyncio.gather(choosing, return_exceptions=True)
        early = self._ready()
        were_ready = {host.name for host in early}
        self._take_failures(early, choice)
        if choice.evaluated is not None:
            self._context.journal.emit(choice.evaluated)
        await self._prepare(early, choice, root="closure")
        await looks.end(LATE)
        if self.call_off_if_required():
            return Choice(wanted={})
        late = [host for host in self._ready() if host.name not in were_ready]
        self._take_failures(late, choice)
        await self._prepare(late, choice, root="late-closure")
        return choice

    async def _for_those_away(self, choosing: Awaitable[Choice]) -> Choice:
        """Return what hosts should get that are away for now, though nothing is left to be done now."""
        away = [ended for ended in self._context.journal.results.values() if ended.outcome is Outcome.DEFERRED]
        if away and self._options.verb is Verb.DEPLOY and not self._options.all_or_nothing:
            with contextlib.suppress(FleetError):  # where it does not evaluate there is nothing to bring them
                return await choosing
        return Choice(wanted={})

    async def _former_systems(self) -> Choice:
        """Choose what each host ran before."""
        options, context, wanted = self._options, self._context, {}
        require_rollback_target(options.back_to)

        async def find_former(host: Host) -> None:
            facts, link = self._contacts.facts[host.name], context.links[host.name]
            closure = await rollback_target(host, facts, link, options.back_to)
            require_way_back(host, facts, closure)
            wanted[host.name] = Wanted(closure=closure, is_local=False)

        await self._contacts.for_each_host(self.remaining(), find_former)
        choice = Choice(wanted=wanted)
        await self._prepare(self.remaining(), choice, root="closure")
        return choice

    def _ready(self) -> list[Host]:
        """Return the hosts that were looked at, can take part, and have no result yet."""
        return [host for host in self.remaining() if host.name in self._contacts.ready]

    def _take_failures(self, hosts: Sequence[Host], choice: Choice) -> None:
        """Leave out those of the hosts that do not evaluate. Raise `EvaluationError` without `keep_going`.

        That of a host which cannot take part for another reason does not count.
        """
        failed = {host.name: choice.failed[host.name] for host in hosts if host.name in choice.failed}
        if failed and not self._options.keep_going:
            raise combined(failed)
        for host in hosts:
            if host.name in failed:
                self._contacts.leave_out(host, failed[host.name])

    async def _prepare(self, hosts: Sequence[Host], choice: Choice, *, root: str) -> None:
        """Finish those of the hosts that have nothing to do, and build what the others need."""
        to_build = []
        for host in hosts:
            if host.name in self._context.journal.results:
                continue
            facts, closure = self._contacts.facts[host.name], choice.wanted[host.name].closure
            if facts.stands_on(closure) and self._options.goal is not Goal.DRY_ACTIVATE:
                if host.name in self._contacts.away:  # nobody has seen it today
                    self._contacts.leave_out(host, self._contacts.away[host.name])
                elif self._compares_secrets(host, facts, closure):
                    choice.wanted[host.name] = Wanted(closure=closure, is_local=False)  # it has it; secrets may differ
                    self._tell_of_no_reboot(host)
                else:
                    await self._finish_unchanged(host, facts, closure)
            else:
                to_build.append(host)
        await self._build(to_build, choice, root=root)

    def _compares_secrets(self, host: Host, facts: HostFacts, closure: Closure) -> bool:
        """Whether a host takes part for its secrets alone. What leaves them alone is reported."""
        if not host.secrets or not self._options.switches or self._options.verb is Verb.ROLLBACK:
            return False
        if facts.running != closure:  # a transaction would lead to the system itself
            message = "runs a specialisation of this system, and keeps it: its secrets are not compared"
            hint = f"fleet secrets push {host.name} does that"
            self._contacts.report(host, Severity.NOTE, "secrets", message, hint)
        return facts.running == closure

    async def _finish_unchanged(self, host: Host, facts: HostFacts, closure: Closure) -> None:
        """Finish a host that runs the closure already and boots it next."""
        self._tell_of_no_reboot(host)
        self._context.journal.emit(decide.unchanged_event(host, facts, closure))
        self._context.journal.finish(result.unchanged(host, facts, closure))
        await self._context.links[host.name].close()

    def _tell_of_no_reboot(self, host: Host) -> None:
        """Report that a host which runs and boots its system already is not rebooted, if that was asked for."""
        if self._options.reboot is Reboot.ALWAYS:
            message = "runs and boots this system already, and is not rebooted: there is none to come back to"
            self._contacts.report(
                host, Severity.NOTE, "not_rebooted", message, f"fleet reboot {host.name}, if that is meant"
            )

    async def _build(self, hosts: Sequence[Host], choice: Choice, *, root: str) -> None:
        """Build what hosts do not build themselves, with roots of that name, and leave out hosts whose build failed.

        Raise `BuildError` without `keep_going`.
        """
        started = time.monotonic()
        todo = {
            host.name: evaluated
            for host in hosts
            if (evaluated := choice.wanted[host.name].evaluated) is not None and host.build_on is BuildOn.CONTROLLER
        }
        if not todo:
            return
        context = self._context
        failed = await build(context.here, todo, root=context.folder / root, emit=context.journal.emit)
        if failed and not self._options.keep_going:
            raise build_failure(failed)
        for host in hosts:
            if host.name in failed:
                self._contacts.leave_out(host, failed[host.name])
        built = {name: each.closure for name, each in todo.items() if name not in failed}
        count = len({each.derivation for each in todo.values()})
        context.journal.emit(BuildFinished(closures=built, derivations=count, seconds=time.monotonic() - started))
