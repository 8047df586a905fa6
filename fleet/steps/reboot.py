"""Decide about reboots: whether one is wanted, whether the host would come back from it, and whom it would disturb."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import UnfitError
from fleet.host.program import HostProgram, ask
from fleet.model import Reboot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine


def goes_by_reboot(wanted: Reboot, reasons: Sequence[str]) -> bool:
    """Whether the host is rebooted.

    `reasons` are all the things that a live switch cannot bring, as `plan` shows them.
    """
    return wanted is Reboot.ALWAYS or (wanted is Reboot.IF_NEEDED and bool(reasons))


def require_safe_reboot(host: Host, facts: HostFacts, *, accept_boot_risk: bool) -> str:
    """Return what people should know about the boot.

    Raise `UnfitError` if a system that does not boot would stay, unless that risk was accepted.
    """
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
    """Return what a reboot would interrupt. Raise `UnfitError` if there is anything, unless `force` is set."""
    activities = tuple((await ask(machine, host, HostProgram().call("busy"))).get("busy", ()))
    if activities and not force:
        raise UnfitError(
            host.name, f"a reboot would interrupt {'; '.join(activities)}", hint="wait, or --force, which is recorded"
        )
    return activities
