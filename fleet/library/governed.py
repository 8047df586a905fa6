"""What a policy says about changes of a fleet, and what it takes to approve them or to take a plan back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, PolicyError
from fleet.library.authority import authority_of
from fleet.library.judging import REMEDIES, Judge, Plea
from fleet.library.plans import require_known, signatures_file
from fleet.library.reader import FleetReader
from fleet.model import Goal, Verb
from fleet.state.threads import in_state
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fleet.errors import FleetError
    from fleet.events import PolicyApplied
    from fleet.inventory import Inventory
    from fleet.library.approving import Examined
    from fleet.library.drafts import Drafts
    from fleet.library.fleet_mesh import FleetMesh
    from fleet.library.garbage import GarbageCollector
    from fleet.library.imaging import Imager
    from fleet.library.reading import OnWait
    from fleet.library.sandboxes import Sandboxes
    from fleet.library.signatures import Signed
    from fleet.library.tools import Tools
    from fleet.model import HostName, RunId
    from fleet.plans import Plan
    from fleet.policy import Principals, Verdict
    from fleet.signing import Signature
    from fleet.state import Asked, Delivery, Request

NOTHING = Plea()
"""Nothing is brought forward for a change."""


def require_signed(plan: Plan, fleet: Inventory, hosts: Sequence[HostName], plea: Plea) -> None:
    """Raise `PolicyError` if hosts with a gate are among these, and nobody has signed the plan.

    To go back needs no signature, and neither does what changes nothing that runs. Raise `ConfigError` for a host that
    fleet.toml does not have any more.
    """
    gated = [name for name in require_known(fleet, hosts) if fleet.hosts[name].gate]
    needs = plan.verb is Verb.DEPLOY and (plan.goal.switches or plan.goal is Goal.DRY_ACTIVATE)
    if gated and needs and not plea.signatures:
        message = f"{listed(gated, most=6)}: has a gate, which takes signed plans only"
        raise PolicyError(message, hint=REMEDIES["deploy"])


class GovernedFleet(FleetReader):
    """A fleet whose changes may have to be asked for: docs/policy.md. Without the files of that page nothing has to."""

    def __init__(self, tools: Tools, drafts: Drafts) -> None:
        super().__init__(tools)
        self._drafts = drafts
        self._judge = Judge(tools)

    @property
    def garbage(self) -> GarbageCollector:
        """Finds what hosts and this machine have that no rollback needs, and lets it go."""
        from fleet.library.garbage import GarbageCollector  # few collect any

        return GarbageCollector(self._tools, self.computers, self._judge)

    @property
    def images(self) -> Imager:
        """Makes container images of hosts and packages."""
        from fleet.library.imaging import Imager  # few make any

        return Imager(self._tools, self, self._judge)

    async def judge(self, plan: Plan, *hosts: HostName, plea: Plea = NOTHING) -> Verdict | None:
        """Return what policy.toml says about applying the plan to these hosts, or to all; None if there is no policy.

        Raise `PolicyError` for a signature that is not a good one of this plan, and `ConfigError` for hosts that
        fleet.toml does not have any more: nobody can say what it says about them.
        """
        is_own = self._drafts.find(plan) is not None
        return await self._judge.judge_plan(
            plan, require_known(self.inventory, hosts or plan.hosts), plea, is_own=is_own
        )

    async def strays(self, plan: Plan, hosts: Sequence[HostName]) -> bool:
        """Return whether the plan brings one of these hosts a commit that is not on what is checked out here now."""
        from fleet.source.revision import strays

        known = require_known(self.inventory, hosts)
        groups = self.inventory.by_reference([self.inventory.hosts[name] for name in known])
        pairs = dict.fromkeys((flake, plan.source_of(host.name)) for flake, group in groups.items() for host in group)
        return any([await strays(self._tools.here, *pair) for pair in pairs])

    async def require_allowed(self, plan: Plan, *hosts: HostName, plea: Plea = NOTHING) -> None:
        """Raise `PolicyError` if `apply` would be refused now, before anybody is asked whether it should begin."""
        is_own = self._drafts.find(plan) is not None
        require_signed(plan, self.inventory, hosts or plan.hosts, plea)
        await self._judge.allows_plan(plan, hosts or plan.hosts, plea, is_own=is_own)

    async def _permit(self, plan: Plan, hosts: Sequence[HostName], plea: Plea, *, is_own: bool) -> PolicyApplied | None:
        """Return what there is to tell of the policy, or raise `PolicyError`. Keep the signatures of the plan."""
        require_signed(plan, self.inventory, hosts, plea)
        applied = await self._judge.require_plan(plan, hosts, plea, is_own=is_own)
        if plea.signatures:
            from fleet.library.signatures import add_signatures

            with contextlib.suppress(ConfigError):  # whoever goes on with the run has to bring them again then
                await asyncio.to_thread(add_signatures, plan, self.signatures_file(plan), plea.signatures)
        return applied

    async def _permit_to_go_on(self, plan: Plan, hosts: Sequence[HostName], *, has_begun: bool) -> PolicyApplied | None:
        """Do the same for hosts of a plan that others have applied, by the signatures that were kept.

        `has_begun` says that one of its hosts had begun: a window that has closed meanwhile stops nothing then.
        """
        plea = NOTHING
        if self.signatures_file(plan).exists():
            from fleet.library.signatures import read_signatures

            kept = await asyncio.to_thread(read_signatures, plan, self.signatures_file(plan))
            plea = dataclasses.replace(plea, signatures=kept)
        return await self._judge.require_plan(plan, hosts, plea, is_own=False, has_begun=has_begun)

    async def ask(self, run: RunId, asked: Asked | None) -> None:
        """Ask something of a rollout that is under way in any process; None lets it go on. Raise `StateError`."""
        await in_state(self._tools.state.ask, run, asked, by=self._tools.by)

    async def asked(self, run: RunId) -> Request | None:
        """Return what somebody asks of a rollout now; None if nobody does. Raise `StateError`."""
        return await in_state(self._tools.state.asked, run)

    async def deliveries(self, *selectors: str) -> tuple[Delivery, ...]:
        """Return what waits for these hosts, or for all, since they were away. Raise `StateError`."""
        names = {host.name for host in self.select(*selectors)}
        found = await in_state(self._tools.state.deliveries)
        return tuple(delivery for delivery in found if delivery.host in names)

    @property
    def sandboxes(self) -> Sandboxes:
        """Brings sandboxes of hosts up, proves them, and takes them down."""
        from fleet.library.sandboxes import Sandboxes  # few have any

        return Sandboxes(self._tools, self.computers, self._judge)

    @property
    def mesh(self) -> FleetMesh:
        """Tells who is in the mesh of the fleet, and which keys hosts have made for it."""
        from fleet.library.fleet_mesh import FleetMesh  # few have one

        return FleetMesh(self._tools, self.inventory, self.computers)

    async def require_act(self, verb: str, *hosts: HostName, plea: Plea = NOTHING, begins: bool = False) -> None:
        """Raise `PolicyError` if these hosts may not be changed by an act that has no plan: `reboot` or `exec`.

        `begins` says that it is about to be done: then it is written down if rules are broken.
        """
        await self._judge.require_act(verb, hosts, plea, begins=begins)

    @property
    def by(self) -> str:
        """The name under which this process acts."""
        return self._tools.by

    def principals(self) -> Principals | None:
        """Return who there is by principals.toml; None if there is no such file."""
        authority = authority_of(self.inventory)
        return authority.principals if authority is not None else None

    @property
    def has_policy(self) -> bool:
        """Whether there is a policy.toml. Raise `ConfigError` if it is wrong."""
        authority = authority_of(self.inventory)
        return authority is not None and authority.policy is not None

    @property
    def is_person(self) -> bool:
        """Whether this process acts as a person, and not as an agent or CI."""
        return self._tools.acts_as is None or self._tools.acts_as.kind == "person"

    def wants_touch(self) -> bool:
        """Return whether only approvals count that were made with a touch."""
        authority = authority_of(self.inventory)
        return authority is not None and authority.policy is not None and authority.policy.approval.touch

    async def verified(self, plan: Plan, signatures: Sequence[Signature]) -> Signed:
        """Return what these signatures of a plan come to. Raise `PolicyError` for one that is not good."""
        from fleet.library.signatures import verified

        return await verified(plan, signatures, self.principals())

    def signatures_file(self, plan: Plan) -> Path:
        """Return where this machine keeps the signatures of a plan that it keeps. It may not exist."""
        return signatures_file(plan, self._tools.state)

    async def examine(self, plan: Plan, *, rebuild: bool = False) -> Examined:
        """Find out, without believing the plan, that it brings what its commits make. It can be approved then.

        With `rebuild` the systems are built here too, and their contents compared. Raise `PolicyError` if something
        speaks against it, or if this process acts for nobody who may approve.
        """
        from fleet.library import approving  # few approve

        approving.require_approver(self._tools, plan)
        require_known(self.inventory, plan.hosts)
        protected = self._judge.protected
        remote = protected.remote if protected is not None else None
        return await approving.examine(self._tools, plan, remote=remote, rebuild=rebuild)

    async def own_diff(self, plan: Plan, examined: Examined) -> list[str]:
        """Return lines about what the plan changes, from what was found here."""
        from fleet.library.own_diff import own_diff

        protected = self._judge.protected
        branch = protected.branches[0] if protected is not None else None
        return await own_diff(self._tools, plan, examined, branch=branch)

    async def withdraw(self, plan: Plan, *hosts: HostName, on_wait: OnWait) -> Mapping[HostName, str | FleetError]:
        """Make the parts of the plan for these hosts, or for all, worthless: each host draws a new serial.

        Return the new serial of each host, empty where the part was worthless before, or why it cannot be asked.
        """
        from fleet.library.withdrawing import withdraw

        return await withdraw(self._tools, plan, require_known(self.inventory, hosts or plan.hosts), on_wait=on_wait)
