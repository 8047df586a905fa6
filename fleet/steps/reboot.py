"""Decide about reboots: whether one is wanted, whether the host would come back from it, and whom it would disturb."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import UnfitError
from fleet.host.locked import locked
from fleet.host.program import HostProgram, ask
from fleet.model import Reboot
from fleet.plans import Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Link, Machine


FORCED = "asked for with --force"
MOST_ACTIVITIES = 20
"""What a reboot would interrupt, of which so much is named."""


def goes_by_reboot(wanted: Reboot, reasons: Sequence[str]) -> bool:
    """Whether the host is rebooted.

    `reasons` are all the things that a live switch cannot bring, as `plan` shows them.
    """
    return wanted is Reboot.ALWAYS or (wanted is Reboot.IF_NEEDED and bool(reasons))


def require_another_system(host: Host, action: Action, wanted: Reboot) -> None:
    """Raise `UnfitError` if a reboot is asked for into a system that runs already without being the boot default.

    Nothing would be left to come back to, and without the reboot it would be kept unproven.
    """
    if action is Action.COMMIT and wanted is Reboot.ALWAYS:
        message = "runs this system already, though it boots another: there is none to come back to from a reboot"
        hint = f"fleet deploy {host.name} without a reboot makes it the boot default; or roll back first"
        raise UnfitError(host.name, message, hint=hint)


def require_elsewhere(link: Link) -> None:
    """Raise `UnfitError` if the host to be rebooted is this machine: nobody would be here to prove the new system."""
    if link.is_here:
        message = "this machine would reboot, and fleet with it, so that nobody proves the new system and it goes back"
        hint = "deploy from another machine; or without a reboot, and reboot when that is kept"
        raise UnfitError(link.host.name, message, hint=hint)


def require_safe_reboot(host: Host, facts: HostFacts, *, accept_boot_risk: bool) -> str:
    """Return what people should know about the boot.

    Raise `UnfitError` if a system that does not boot would stay, unless that risk was accepted.
    """
    if facts.boot_default != facts.running:
        hint = f"make it so, with fleet deploy {host.name} or a rollback, and then reboot"
        known = facts.boot_default or f"not known ({facts.boot_doubt})"
        raise UnfitError(host.name, f"the boot default is {known}, not what runs: no way back", hint=hint)
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


def require_same_boot(host: Host, facts: HostFacts, *, accept_boot_risk: bool) -> tuple[str, ...]:
    """Return what people should know who accept the risk of a reboot into the system that runs.

    Raise `LockedError` if a transaction is open, and `UnfitError` if the host would boot another system, or, unless the
    risk was accepted, one that has never booted there: there is nothing that it could come back to then.
    """
    if facts.transaction is not None:
        raise locked(host, facts.transaction, facts.waiting)
    if facts.lock_holder:
        message = f"somebody switches it: switch-to-configuration's lock is held by process {facts.lock_holder}"
        raise UnfitError(host.name, message, hint="wait until that has ended")
    if facts.profile != facts.running or facts.boot_default not in (facts.running, None):
        target = facts.boot_default or facts.profile
        hint = f"fleet deploy {host.name} makes what runs the boot default, or boots what is wanted; so does a rollback"
        raise UnfitError(host.name, f"a reboot would lead to {target}, and not to what runs", hint=hint)
    risks = []
    if facts.boot_default is None:
        risks.append((f"what it boots cannot be read ({facts.boot_doubt})", "--accept-boot-risk reboots all the same"))
    if facts.reboot_pending:
        parts = ", ".join(facts.reboot_pending)
        hint = (
            f"fleet rollback {host.name} --to {facts.booted}, which did boot, and then fleet deploy {host.name} "
            "--reboot always boots it on trial; --accept-boot-risk reboots all the same"
        )
        risks.append((f"a reboot starts what never booted there, with nothing to come back to: {parts}", hint))
    if risks and not accept_boot_risk:
        raise UnfitError(host.name, "; ".join(what for what, _ in risks), hint=risks[-1][1])
    return tuple(what for what, _ in risks)


async def require_idle(machine: Machine, host: Host, *, force: bool) -> tuple[str, ...]:
    """Return what a reboot would interrupt. Raise `UnfitError` if there is anything, unless `force` is set."""
    activities = tuple((await ask(machine, host, HostProgram().call("busy"))).get("busy", ())[:MOST_ACTIVITIES])
    if activities and not force:
        raise UnfitError(
            host.name, f"a reboot would interrupt {'; '.join(activities)}", hint="wait, or --force, which is recorded"
        )
    return activities
