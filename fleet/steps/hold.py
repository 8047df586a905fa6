"""Know whether this process is the one that proves a run on a host: another may have taken it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.host import answers
from fleet.host.program import ask

if TYPE_CHECKING:
    from fleet.host.program import HostProgram
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import RunId

FIRST = "1"
"""The number of the one who has begun a run."""


@dataclass
class Hold:
    """The number with which a process proves a run on a host. The host listens to the highest one alone."""

    number: str = FIRST
    """Empty if the host has given none."""
    is_lost: bool = False
    """Whether the host has said that somebody with a higher number proves by now."""


async def take_up(machine: Machine, host: Host, program: HostProgram, run: RunId) -> Hold:
    """Become the one who proves the run on the host. Whoever did before changes nothing there any more.

    Raise `HostError` if the host cannot be asked.
    """
    return Hold(answers.view(await ask(machine, host, program.call("attach", run))).prover)
