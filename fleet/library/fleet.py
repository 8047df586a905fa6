"""Use a fleet as a library: make a plan, look at it, apply it and follow it; look at hosts; resume what was lost."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from fleet import inventory as inventories
from fleet.deploy.options import Options, PlanOptions
from fleet.deploy.stop import Stop
from fleet.files import state_folder
from fleet.inventory import Sudo
from fleet.library.authority import who_acts
from fleet.library.commanding import TIMEOUT, as_command, run_on_all
from fleet.library.comparing import differences
from fleet.library.delivering import options_for, those_back
from fleet.library.drafts import Drafts
from fleet.library.entering import planned
from fleet.library.factory import RunFactory
from fleet.library.governed import NOTHING
from fleet.library.plans import keep_plan, note_made_here, require_applicable, require_known
from fleet.library.reading import ignore
from fleet.library.secrets import SecretsFleet
from fleet.library.served import local_nix
from fleet.library.signed_parts import signed_parts
from fleet.library.taking_up import TakingUp
from fleet.library.tools import Tools
from fleet.machine import CONTACTS
from fleet.machine.given import GIVEN, GivenTo
from fleet.machine.login import Logins
from fleet.machine.sudo import Secret
from fleet.model import Verb
from fleet.state import open_state
from fleet.state.threads import in_state
from fleet.steps.secret_values import take_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from fleet.deploy.rebooting import Agree
    from fleet.diff import SystemDiff
    from fleet.errors import FleetError
    from fleet.inventory import Host, Inventory
    from fleet.library.crew.workers import WorkersOf
    from fleet.library.delivering import Back
    from fleet.library.judging import Plea
    from fleet.library.permits import Permit
    from fleet.library.reading import OnWait
    from fleet.library.runs import Planning, Run
    from fleet.library.signed_parts import SignedParts
    from fleet.machine import Connector, Output
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.state import Delivery, RunRecord


async def _yes(_: object) -> bool:
    return True


class Fleet(SecretsFleet):
    """The hosts of one fleet.toml. Use it with `async with`, in the event loop of any thread.

    There may be many at a time. Nothing here asks a person, writes to a terminal or handles a signal.
    """

    def __init__(self, tools: Tools) -> None:
        """Use `Fleet.open` instead, which makes the tools."""
        super().__init__(tools, Drafts())
        self._factory = RunFactory(tools, self._drafts)
        self._taking_up = TakingUp(tools, self._factory)
        self._under_way: set[Planning | Run] = set()

    @classmethod
    def open(cls, file: Path | str = "fleet.toml", *, sudo_password: str | None = None, principal: str = "") -> Fleet:
        """Return the fleet that the file describes. Raise `ConfigError` with everything that is wrong with the file.

        `sudo_password` is for hosts with `sudo = "password"`, `principal` the agent that acts, as FLEET_PRINCIPAL is.
        """
        inventory = inventories.load(Path(file))
        secret = Secret(sudo_password) if sudo_password is not None else None
        passwords = {
            host.name: secret for host in inventory.hosts.values() if host.sudo is Sudo.PASSWORD and secret is not None
        }
        given = GivenTo(state_folder(inventory.name) / GIVEN)
        return cls.of(inventory, Logins(inventory.hosts, passwords, given), principal=principal)

    @classmethod
    def of(cls, inventory: Inventory, logins: Connector, *, principal: str = "") -> Fleet:
        """Return the fleet of an inventory, whose hosts are reached with these logins.

        Variables that are secrets are not in the environment any more then, for nobody should inherit them.
        """
        take_environment(inventory)
        here, state = local_nix(inventory), open_state(state_folder(inventory.name), inventory.state)
        tools = Tools(inventory=inventory, logins=logins, state=state, here=here)
        actor = who_acts(inventory, principal)
        return cls(tools if actor is None else dataclasses.replace(tools, by=actor.name, acts_as=actor))

    @property
    def unentered(self) -> tuple[str, ...]:
        """What was done from here and could not be entered in the ledger, for people: a line each."""
        return tuple(self._tools.unentered)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all plannings and runs have ended, and close everything.

        If an exception leads out, they are asked to stop first: hosts that began to switch are proven or go back. So
        they are if this is cancelled while it waits. A second cancellation leaves the hosts to themselves.
        """
        if error is not None:
            self._ask_to_stop()
        cancelled: asyncio.CancelledError | None = None
        while not all(work.is_done for work in self._under_way):
            try:
                await asyncio.gather(*(work.settled() for work in self._under_way))
            except asyncio.CancelledError as caught:
                cancelled = caught
                self._ask_to_stop()
        await self._drafts.close()
        if cancelled is not None:
            raise cancelled

    def _ask_to_stop(self) -> None:
        for work in self._under_way:
            work.stop.request()

    def plan(self, *selectors: str, stop: Stop | None = None, **options: Unpack[PlanOptions]) -> Planning:
        """Begin to make a plan for these hosts, or for all. Changes nothing on any host.

        Selectors are those of the command line. `PlanOptions` names the options, and `Options` says what they mean.
        Raise `ConfigError` if nothing is selected, or if options contradict each other. Await the planning to get the
        plan; hosts that cannot take part are in its `left_out`.
        """
        return self.plan_as(self.select(*selectors), Options(**options), stop=stop)

    def plan_as(self, hosts: Sequence[Host], options: Options, *, stop: Stop | None = None) -> Planning:
        """Do the same for hosts that were chosen before, with the options in one value."""
        planning = self._factory.plan(hosts, options, stop or Stop())
        self._begun(planning)
        return planning

    def plan_rollback(
        self,
        *selectors: str,
        to: str | None = None,
        strict: bool = False,
        stop: Stop | None = None,
        **options: Unpack[PlanOptions],
    ) -> Planning:
        """Begin to make a plan that takes these hosts back, with the same care as forward.

        They go back to what ran before, or to the generation or closure `to`. Failing checks stop it only if it is
        `strict`: what they miss may be the reason for going back.
        """
        merged: dict[str, Any] = {"retry_quarantined": True, **options, "verb": Verb.ROLLBACK}
        return self.plan_as(self.select(*selectors), Options(back_to=to, strict=strict, **merged), stop=stop)

    @property
    def workers(self) -> WorkersOf:
        """What workers do with this fleet, where they share its database."""
        from fleet.library.crew.workers import WorkersOf  # most fleets have none

        return WorkersOf(self._tools, self._factory, self._drafts, self._permit, self._register)

    def apply(self, plan: Plan, *selectors: str, stop: Stop | None = None, plea: Plea = NOTHING) -> Run:
        """Begin to apply a plan, or its part for some hosts.

        Each host does exactly what the plan says, or refuses it as stale. The plan may come from another process or
        another machine. Closures that are not in this machine's store are then fetched or built. Where policy.toml asks
        for approvals, `plea` has them; what it does not allow ends the run, with nothing touched. Raise `ConfigError`
        for a plan of another fleet, and for one that has expired.
        """
        hosts = require_applicable(plan, self.inventory, selectors, now=time.time())
        permit = functools.partial(self._permit, plan, hosts, plea, is_own=self._drafts.find(plan) is not None)
        return self._register(self._factory.apply(plan, hosts, stop or Stop(), permit=permit))

    async def compare(self, plan: Plan, *hosts: HostName) -> dict[HostName, SystemDiff | FleetError]:
        """Return what differs between what these hosts of the plan run and what it brings them.

        Without `hosts` it is about all. Hosts that keep their system are not in it. Where it cannot be told within a
        minute, the reason is there instead.
        """
        parts = [plan.parts[name] for name in require_known(self.inventory, hosts or plan.hosts)]
        if draft := self._drafts.find(plan):
            return await differences(parts, draft.context.links, self._tools.here)
        async with self._tools.links([self.inventory.hosts[part.host] for part in parts]) as links:
            return await differences(parts, links, self._tools.here)

    def decline(self, plan: Plan, why: str) -> Run:
        """End a plan of this fleet without applying it. Its hosts are skipped, and nothing is changed."""
        return self._register(self._factory.decline(plan, why))

    async def carry_on(self, run: RunRecord, *, stop: Stop | None = None) -> Run:
        """Begin to go on with a rollout that another process has begun, where nobody goes on with it.

        Hosts that had begun are seen through, the others begin as the plan says; nothing is done twice. Raise
        `ConfigError` if its plan is not known here, or has expired.
        """

        def permit_of(plan: Plan, hosts: Sequence[HostName]) -> Permit:
            has_begun = any(host.begun for host in run.hosts.values())
            return functools.partial(self._permit_to_go_on, plan, hosts, has_begun=has_begun)

        return self._register(await self._taking_up.carry_on(run, stop or Stop(), permit_of))

    def resume(self, run: RunRecord, *, stop: Stop | None = None) -> Run:
        """Begin to learn what became of a run whose controller was lost, and follow it to the end.

        Nothing is built or begun.
        """
        return self._register(self._taking_up.resume(run, stop or Stop()))

    async def those_back(self, deliveries: Sequence[Delivery]) -> dict[HostName, Back]:
        """Return which of the hosts that something waits for answer, and what forbids to change them unasked."""
        return await those_back(self._tools, deliveries)

    def plan_delivery(self, deliveries: Sequence[Delivery], *, stop: Stop | None = None) -> Planning:
        """Begin to make a plan that brings hosts what waits for them. There is at least one."""
        hosts = [self.inventory.hosts[delivery.host] for delivery in deliveries]
        return self.plan_as(hosts, options_for(deliveries), stop=stop)

    async def signed_parts(self, deliveries: Sequence[Delivery]) -> tuple[SignedParts, ...]:
        """Return the signed parts that wait for those of these hosts that have a gate. Raise `StateError`."""
        return await signed_parts(self._tools.state, self.inventory, deliveries)

    def deliver(self, parts: SignedParts, *, stop: Stop | None = None) -> Run:
        """Begin to bring hosts with a gate the parts that wait for them. Raise `ConfigError` if these have expired."""
        plan = parts.plan
        require_applicable(plan, self.inventory, (), now=time.time())
        permit = functools.partial(self._permit, plan, parts.hosts, parts.plea, is_own=False)
        return self._register(self._factory.apply(plan, parts.hosts, stop or Stop(), permit=permit, is_late=True))

    def reboot(
        self,
        *selectors: str,
        agree: Agree | None = None,
        force: bool = False,
        accept_boot_risk: bool = False,
        stop: Stop | None = None,
        plea: Plea = NOTHING,
    ) -> Run:
        """Begin to reboot these hosts, or all, into what they run, and prove that they come back as they were.

        All of them are looked at first. Those that would boot something else, or a system that has never booted there,
        are left out, unless `accept_boot_risk` lets the latter; and those whose people, jobs or locks would be
        interrupted, unless `force` is set. Then `agree` is awaited with the names of the others. They go in waves, as
        in a deployment. No transaction is opened.
        """
        hosts = self.computers(*selectors)
        permit = functools.partial(self._judge.require_act, "reboot", [host.name for host in hosts], plea)
        flags = {"force": force, "accept_boot_risk": accept_boot_risk}
        return self._register(self._factory.reboot(hosts, agree or _yes, stop or Stop(), permit, **flags))

    async def execute(
        self,
        *selectors: str,
        command: str | Sequence[str],
        timeout: float = TIMEOUT,
        at_once: int = CONTACTS,
        stop: Stop | None = None,
        on_wait: OnWait = ignore,
        plea: Plea = NOTHING,
    ) -> dict[HostName, Output | FleetError]:
        """Run a command as root on these hosts, or on all, and return what it wrote and how it ended on each.

        A text is a line for `sh`; words are a program and its arguments. It gets no input, and has `timeout` seconds on
        each host. Only the end of a very long output is returned. At a request to stop it is ended wherever it runs.
        Raise `ConfigError` if there is nothing to run, and `PolicyError` if policy.toml does not allow it.
        """
        asked = as_command(command, timeout=timeout)
        hosts = self.computers(*selectors)
        await self._judge.require_act("exec", [host.name for host in hosts], plea)
        return await run_on_all(self._tools.logins, hosts, asked, at_once=at_once, stop=stop or Stop(), on_wait=on_wait)

    def _register(self, run: Run) -> Run:
        self._begun(run)
        return run

    def _begun(self, work: Planning | Run) -> None:
        self._under_way = {other for other in self._under_way if not other.is_done} | {work}

    async def keep(self, plan: Plan) -> None:
        """Remember the plan on this machine, with roots for its closures, until it expires.

        Raise `StateError` if that fails.
        """
        if self._drafts.find(plan) is not None:
            await in_state(note_made_here, plan, self._tools.state)
        await keep_plan(plan, self._tools.state, self._tools.here, planned(self._tools, plan))
