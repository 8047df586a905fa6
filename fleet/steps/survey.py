"""Find out what would have to happen to a host for it to run and boot a closure. Nothing is decided here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.host.obstacles import PARTS
from fleet.plans import Action
from fleet.steps.gated import change_of_gate
from fleet.steps.load import Contents, Load, load_of
from fleet.steps.preflight import require_room
from fleet.steps.system import look_here, look_there, require_switchable

if TYPE_CHECKING:
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure
    from fleet.steps.system import System


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What it would take to bring a host to a closure."""

    action: Action
    load: Load
    reboot: tuple[str, ...] = ()
    """The parts of the closure that only a reboot makes live, and what forbids a live switch to it."""
    gate: str = ""
    """What becomes of the host's gate: `on`, `change` or `off`. Empty if it stays as it is, or if that is not known."""

    @property
    def obstacles(self) -> tuple[str, ...]:
        """What forbids a live switch to the closure."""
        return tuple(reason for reason in self.reboot if reason not in PARTS)


class Systems:
    """Describes closures in the local store. Each is read once, in a thread, since it has many files."""

    def __init__(self) -> None:
        self._looks: dict[Closure, asyncio.Task[System]] = {}

    async def look(self, closure: Closure) -> System:
        """Return what the closure says about itself."""
        if closure not in self._looks:
            self._looks[closure] = asyncio.create_task(asyncio.to_thread(look_here, closure))
        return await asyncio.shield(self._looks[closure])


def choose_action(facts: HostFacts, closure: Closure) -> Action:
    """Return what has to happen so that the host runs the closure and boots it next."""
    if facts.stands_on(closure):
        return Action.UNCHANGED
    return Action.COMMIT if facts.runs(closure) else Action.SWITCH


async def survey(
    machine: Machine | None,
    host: Host,
    facts: HostFacts,
    closure: Closure,
    *,
    contents: Contents | None,
    systems: Systems,
    is_built_there: bool = False,
) -> Survey:
    """Return what it would take to bring the host to the closure. Raise `UnfitError` if that cannot work.

    `contents` is None if nothing will be pushed: the closure ran there before, or the host builds it. A closure that is
    not built yet cannot be asked about itself. The machine is None if it is away: nobody knows
    then what it lacks.
    """
    action = choose_action(facts, closure)
    load = Load()
    if machine is not None and contents is not None and action is Action.SWITCH:
        load = await load_of(machine, host, contents)
    reboot: tuple[str, ...] = ()
    gate = ""
    if not is_built_there:
        if machine is None or contents is not None:
            system = await systems.look(closure)
        else:
            system = await look_there(machine, host, closure)
        reboot = system.reboot_reasons(facts)
        require_switchable(host, system)
        if contents is not None:
            gate = change_of_gate(facts.gate, system.gate)
    if action is Action.SWITCH and (contents is not None or is_built_there):
        require_room(host, facts)
    return Survey(action=action, load=load, reboot=reboot, gate=gate)
