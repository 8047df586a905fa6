"""Ask a host whether it may be changed now, while nobody is there who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.machine import Command
from fleet.scripts import one_line
from fleet.text import plain_text

if TYPE_CHECKING:
    from fleet.inventory import Host
    from fleet.machine import Machine

LONGEST_ANSWER = 16 << 10
"""Bytes of the answer."""


async def what_forbids_delivery(machine: Machine, host: Host) -> str:
    """Return why the host is not to be changed now; nothing if it may be. Raise `HostError` if it cannot be asked.

    A power supply, NetworkManager or a session that the host does not have forbids nothing.
    """
    if host.deliver_on_battery and host.deliver_metered and host.deliver_in_session:
        return ""
    argv = ("sh", "-c", one_line("fleet.steps", "gates"))
    said = await machine.run(Command(argv=argv, timeout=20.0, keep=LONGEST_ANSWER, verb=("gates",)))
    found = dict(line.split("=", 1) for line in said.stdout.splitlines() if "=" in line)
    if "battery" in found and not host.deliver_on_battery:
        return "it runs on battery (deliver_on_battery)"
    if "metered" in found and not host.deliver_metered:
        return "its connection is metered (deliver_metered)"
    if "session" in found and not host.deliver_in_session:
        return f"{plain_text(found['session'])[:40]} is working there (deliver_in_session)"
    return ""
