"""Late delivery to hosts with a gate: the part that people have signed is brought, and no other one is made."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import ConfigError
from fleet.library.judging import Plea
from fleet.library.plans import parse_plan, signatures_file
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.inventory import Inventory
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.state import Delivery, State

UNSIGNED = "it has a gate, and nobody has signed what waits for it"
"""Why a host does not get its delivery."""


@dataclass(frozen=True, kw_only=True)
class SignedParts:
    """A plan whose parts wait for some of its hosts, with its signatures."""

    plan: Plan
    hosts: tuple[HostName, ...]
    plea: Plea


async def plan_of(state: State, delivery: Delivery) -> Plan | None:
    """Return the plan that has the part which waits for the host; None if it is not known here, or has no such part.

    Raise `StateError` if this machine's memory cannot be read.
    """

    def read() -> Plan | None:
        run = state.run(delivery.run)
        if run is None or run.plan is None:
            return None
        try:
            plan = parse_plan(state.plan(run.plan).encode(), f"plan {run.plan}")
        except ConfigError:  # it has expired, and was forgotten
            return None
        return plan if delivery.host in plan.parts else None

    return await in_state(read)


async def signed_parts(state: State, inventory: Inventory, deliveries: Sequence[Delivery]) -> tuple[SignedParts, ...]:
    """Return the plans whose parts wait for those of these hosts that have a gate. Raise `StateError`."""
    from fleet.library.signatures import read_signatures  # few hosts have a gate

    plans: dict[str, Plan] = {}
    hosts: dict[str, list[HostName]] = {}
    for delivery in deliveries:
        if inventory.hosts[delivery.host].gate and (plan := await plan_of(state, delivery)) is not None:
            plans[plan.digest] = plan
            hosts.setdefault(plan.digest, []).append(delivery.host)
    found = []
    for digest, plan in plans.items():
        if signatures := await asyncio.to_thread(read_signatures, plan, signatures_file(plan, state)):
            found.append(SignedParts(plan=plan, hosts=tuple(hosts[digest]), plea=Plea(signatures=signatures)))
    return tuple(found)
