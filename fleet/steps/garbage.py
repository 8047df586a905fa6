"""Find out what a host has that nobody needs, and let it go. The rule is the host's: `garbage.sh` of its program."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet.errors import HostError, LockedError
from fleet.host import garbage
from fleet.host.garbage import Freed
from fleet.host.program import HostProgram, ask
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.host.garbage import Garbage
    from fleet.inventory import Host
    from fleet.machine import Command, Machine

FINDING = 900.0
"""Seconds to find what is garbage. Nix looks at each path of the store up to three times, on an SD card maybe."""
PRUNING = 420.0
"""Seconds to delete generations and to write the boot menu, for which the host takes 5 minutes at most."""
WITHIN = 1800.0
"""Seconds that a collection may take, unless somebody says otherwise. What is left then goes the next time."""
NONE = "0"
"""The generations to delete where there are none: the boot menu may be due all the same, after an earlier try."""
LATE = 60.0
"""Seconds after which nobody waits any more for a collection whose time is over."""


async def find_garbage(machine: Machine, host: Host, *, keep: int) -> Garbage:
    """Return what the host has that nobody needs. Changes nothing.

    Raise `LockedError` while somebody deploys or pushes to the host, and `HostError` if it cannot tell.
    """
    return garbage.garbage(await ask(machine, host, _taking(HostProgram().call("garbage", str(keep)), FINDING)))


async def free(
    machine: Machine, host: Host, found: Garbage, *, within: float = WITHIN, on_count: Callable[[int], None]
) -> Freed:
    """Delete the generations that were found, as far as nobody needs them by now, and collect garbage.

    When this ends early, by an error, a cancellation or a lost connection, the host is whole: the boot menu names no
    system that is gone. `on_count` gets how many store paths are gone, now and then. Raises what `find_garbage` does;
    what comes after generations were deleted says which those are, and a deployment that comes then is no error.
    """
    numbers = ",".join(str(generation.number) for generation in found.goes) or NONE
    pruned = await ask(machine, host, _taking(HostProgram().call("prune", str(found.keep), numbers), PRUNING))

    def note(line: str) -> None:
        if (count := garbage.progress(line)) is not None:
            on_count(count)

    command = HostProgram().call("collect", f"{max(within, 1):.0f}")
    command = dataclasses.replace(command, timeout=within + LATE, ends_with_us=True)
    gone = garbage.deleted(pruned)
    try:
        return garbage.freed(await ask(machine, host, command, on_line=note), gone)
    except LockedError:
        if not gone:
            raise
        return Freed(generations=gone, stopped="deployment")
    except HostError as error:
        if gone:
            told = (
                f"generations {listed([str(number) for number in gone])} are deleted, and fleet gc goes on from there"
            )
            error.hint = f"{told}. {error.hint}" if error.hint else told
        raise


def _taking(command: Command, seconds: float) -> Command:
    return dataclasses.replace(command, timeout=seconds)
