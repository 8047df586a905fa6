"""Going to a new system by way of a reboot: when that is wanted, whether it would lead back, whom it would disturb."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import UnfitError
from fleet.host.program import HostProgram, ask
from fleet.model import Reboot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.host.answers import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine


def goes_by_reboot(wanted: Reboot, reasons: Sequence[str]) -> bool:
    """Whether a host is rebooted. `reasons` are what `plan` shows: all that a live switch cannot bring."""
    return wanted is Reboot.ALWAYS or (wanted is Reboot.IF_NEEDED and bool(reasons))


def require_way_back(host: Host, facts: HostFacts, *, accept_boot_risk: bool) -> str:
    """What people should know about the boot. Raises `UnfitError` where a system that does not boot would stay."""
    if facts.boot_default != facts.running:
        hint = f"make it so, with fleet deploy {host.name} or a rollback, and then reboot"
        raise UnfitError(
            host.name, f"the boot default is {facts.boot_default or 'unknown'}, not what runs: no way back", hint=hint
        )
    if facts.boots_once:
        return "boots it once: after a panic the old one boots; a kernel that hangs needs a watchdog or a person"
    if not accept_boot_risk:
        raise UnfitError(
            host.name,
            "its boot loader cannot boot an entry once, so that a system that does not boot would stay: "
            f"{facts.boots_not_once}",
            hint="--accept-boot-risk reboots it all the same; better with a console at hand",
        )
    return (
        "its boot loader cannot boot it once: if it does not boot at all, somebody has to choose the old one there "
        f"({facts.boots_not_once})"
    )


async def require_idle(machine: Machine, host: Host, *, force: bool) -> tuple[str, ...]:
    """What a reboot would interrupt. Raises `UnfitError` when there is something, unless it is forced."""
    found = tuple((await ask(machine, host, HostProgram().call("busy"))).get("busy", ()))
    if found and not force:
        raise UnfitError(
            host.name, f"a reboot would interrupt {'; '.join(found)}", hint="wait, or --force, which is recorded"
        )
    return found
