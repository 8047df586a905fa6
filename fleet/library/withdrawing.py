"""Make parts of a plan worthless, wherever copies of it are."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fleet.errors import StateError
from fleet.host import answers
from fleet.host.program import HostProgram, ask
from fleet.ledger import Kind
from fleet.library.entering import enter_later
from fleet.library.reading import ask_all
from fleet.library.signed_parts import plan_of
from fleet.library.tools import new_run_id
from fleet.plans.text import words
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from fleet.errors import FleetError
    from fleet.inventory import Host
    from fleet.library.reading import OnWait
    from fleet.library.tools import Tools
    from fleet.machine import Link
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.state import State


async def _forget(state: State, plan: Plan, hosts: Collection[HostName]) -> None:
    """Bring these hosts nothing of the plan any more, those that are away least of all: they have not heard of it."""
    for delivery in await in_state(state.deliveries):
        brings = await plan_of(state, delivery) if delivery.host in hosts else None
        if brings is not None and brings.digest == plan.digest:
            await in_state(state.no_longer_want, [delivery.host], before=delivery.run)


async def withdraw(
    tools: Tools, plan: Plan, hosts: Sequence[HostName], *, on_wait: OnWait
) -> Mapping[HostName, str | FleetError]:
    """Ask each of the hosts to draw a new serial, where its newest is still the one that its part was made for.

    Return the new serial of each host, empty where the part was worthless before, or why the host cannot be asked.
    """
    run, who, origin = new_run_id(), words(tools.by), words(tools.origin)

    async def ask_host(host: Host, link: Link) -> str:
        part = plan.parts[host.name]
        call = HostProgram().call("withdraw", run, part.serial, who, origin, plan.digest)
        return answers.one(await ask(link, host, call), "serial")

    chosen = [tools.inventory.hosts[name] for name in hosts]
    told = await ask_all(tools.logins, chosen, ask_host, on_wait=on_wait)
    with contextlib.suppress(StateError):  # whoever cannot read that delivers nothing
        await _forget(tools.state, plan, told)
    await enter_later(
        tools,
        Kind.WITHDRAWAL,
        [
            {"plan": plan.digest, "host": name, "run": run}
            for name, serial in told.items()
            if isinstance(serial, str) and serial
        ],
    )
    return told
