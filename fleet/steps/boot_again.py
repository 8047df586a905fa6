"""Reboot a host into the system that it runs, wait until it is back, and see that it is as it was."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, HostError, StaleError, UnfitError, UnreachableError
from fleet.host import answers
from fleet.inventory.drivers import Driver
from fleet.machine import Command
from fleet.scripts import one_line
from fleet.steps.monitor import CheckMonitor, now
from fleet.steps.preflight import preflight
from fleet.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.events import Emit
    from fleet.host.facts import HostFacts
    from fleet.machine import Link, Machine
    from fleet.model import CheckAnswer

SHUTDOWN = 300.0
"""Seconds that a host has for going down. systemd ends most services after 90."""
INTERVAL = 1.0
"""Seconds between two looks at a host that boots."""
STARTING = ("", "initializing", "starting")
"""What systemd says of itself before the boot is through."""
SILENCES = 3
"""How many `confirm_timeout`s a host that is back may be silent again."""
SETTLING = 30.0
"""Seconds after the boot in which a unit that has failed may still come up, at least."""


@dataclass(frozen=True, kw_only=True)
class Boot:
    """One boot of a host, and how far it has come."""

    id: str
    """Differs from boot to boot, also in a container, which shares its kernel with others."""
    state: str
    """What systemd says of itself."""


async def boot_of(machine: Machine, link: Link) -> Boot:
    """Return the boot that the host is in. Raise `HostError` if it does not tell."""
    argv = ("sh", "-c", one_line("fleet.steps", "boot-state"))
    output = await machine.run(Command(argv=argv, root=False, timeout=20.0, verb=("boot-state",)))
    lines = answers.parse(output.stdout)
    if len(answers.one(lines, "boot").split()) != 2:
        said = output.stderr.splitlines()[-3:]
        raise CommandFailedError(
            link.host.name, "it does not tell which boot this is", ran=" ".join(argv[:2]), said=said
        )
    return Boot(id=answers.one(lines, "boot"), state=answers.one(lines, "state"))


async def reboot(link: Link, boot: Boot, facts: HostFacts) -> None:
    """Let the host reboot, which it may have begun when this raises `UnreachableError` or `CommandFailedError`.

    Raise `StaleError` if it is not any more as it was looked at, and `UnfitError` if it does not reboot. Nothing was
    changed then.
    """
    runs = facts.running if link.host.driver is Driver.NIXOS else ""
    argv = ("sh", "-c", one_line("fleet.steps", "reboot"), "sh", boot.id, runs)
    verb = ("reboot", boot.id, facts.running)
    output = await link.run(Command(argv=argv, timeout=120.0, name="systemctl reboot", verb=verb))
    lines = answers.parse(output.stdout)
    if changed := answers.one(lines, "changed"):
        message = f"the host is not any more as it was looked at: {plain_text(changed)}"
        raise StaleError(link.host.name, message, hint="see what happens there: fleet status, fleet history")
    if output.status != 0:
        message = f"systemctl reboot failed with exit status {output.status}"
        raise UnfitError(link.host.name, message, ran="systemctl reboot", said=output.stderr.splitlines()[-5:])


async def until_back(link: Link, before: Boot) -> float:
    """Wait until the host has booted anew and lets us in, and return how many seconds that took.

    Raise the last `HostError` if that takes longer than `SHUTDOWN` and the host's `boot_timeout` together.
    """
    started = now()
    patience = SHUTDOWN + link.host.boot_timeout
    missed: HostError = UnreachableError(link.host.name, "it has not gone down")
    while now() - started < patience:
        try:
            async with link.fresh() as machine:
                if (await boot_of(machine, link)).id != before.id:
                    return now() - started
                missed = UnreachableError(link.host.name, "it has not gone down")
        except HostError as error:
            missed = error
        await asyncio.sleep(INTERVAL)
    raise missed


async def what_is_wrong(
    link: Link, here: Machine, facts: HostFacts, before: Mapping[str, CheckAnswer], *, emit: Emit
) -> str:
    """Look at a host that has booted again until it is as it was before for `settle`, or until it had its time.

    Return what is wrong with it; nothing if it runs the same system, no unit has failed that had not before, and every
    check passes that passed. Raise the last `HostError` if it cannot be looked at any more.
    """
    host = link.host
    wanted = [check for check in host.checks if check.name in before and before[check.name].passed]
    monitor = CheckMonitor(host=host, checks=wanted, here=here, emit=emit, stage="after")
    patience = max([SETTLING, *(check.within for check in wanted)]) + host.settle
    begun = heard = now()
    booted: float | None = None
    well: float | None = None
    async with monitor.asking(link):
        while True:
            try:
                wrong = await _wrong(link, facts)
                heard = now()
                if wrong is not None and booted is None:
                    booted = heard
            except HostError as error:
                wrong = f"it cannot be looked at: {error.message}"
                if now() - heard > SILENCES * host.confirm_timeout:
                    raise
            failing = [str(state) for state in monitor.states.values() if state.passed_since is None]
            wrong = "the boot is not through" if wrong is None else "; ".join(filter(None, (wrong, *failing)))
            well = None if wrong else well or now()
            if well is not None and now() - well >= host.settle:
                return ""
            if wrong and now() > (begun + host.boot_timeout if booted is None else booted + patience):
                return wrong
            await asyncio.sleep(min(INTERVAL, max(0.05, host.settle / 4)))


async def _wrong(link: Link, before: HostFacts) -> str | None:
    """Return what is wrong with the host; nothing if it is as before, and None while its boot is not through."""
    if (await boot_of(link, link)).state in STARTING:
        return None
    facts = await preflight(link, link.host)
    if facts.running != before.running:
        return f"it runs {facts.running}, and before the reboot {before.running}"
    failed = [unit for unit in facts.failed_units if unit not in before.failed_units]
    return f"failed: {', '.join(failed)}" if failed else ""
