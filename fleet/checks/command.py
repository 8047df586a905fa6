"""Checks that a command on the host answers: whether a unit is active, and any shell command that people declare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.machine import Command

if TYPE_CHECKING:
    from fleet.inventory import Check
    from fleet.machine import Machine

LONGEST_OUTPUT = 64 << 10
"""Bytes that are kept of a command's output, which may have no end."""
_LIVE = ("active", "reloading", "refreshing")

Attempt = tuple[bool, str]
"""The result of one attempt at a check: whether it passed, and why in a few words."""


async def ask_unit(check: Check, host: Machine) -> Attempt:
    """Return whether the unit is active, and the state it is in."""
    argv = ("systemctl", "show", "--property=LoadState,ActiveState,SubState", "--", check.unit or "")
    output = await host.run(
        Command(argv=argv, timeout=check.timeout, keep=LONGEST_OUTPUT, verb=("unit", check.unit or ""))
    )
    state = dict(line.split("=", 1) for line in output.stdout.splitlines() if "=" in line)
    if output.status != 0 or "ActiveState" not in state:
        return False, last_line(output.stderr, output.stdout) or f"systemctl: exit status {output.status}"
    if state.get("LoadState") == "not-found":
        return False, "there is no such unit"
    said = f"{state['ActiveState']} ({state.get('SubState', '?')})"
    return state["ActiveState"] in _LIVE, said


async def ask_command(check: Check, host: Machine) -> Attempt:
    """Return whether the command ended with 0, and the last line it wrote."""
    argv = ("sh", "-c", check.command or "")
    output = await host.run(Command(argv=argv, timeout=check.timeout, keep=LONGEST_OUTPUT, verb=("check", check.name)))
    if output.status == 0:
        return True, last_line(output.stdout, output.stderr) or "exit status 0"
    line = last_line(output.stderr, output.stdout)
    return False, f"exit status {output.status}" + (f": {line}" if line else "")


def last_line(*texts: str) -> str:
    """Return the last line that is not blank, of the first text that has one."""
    return next((text.strip().splitlines()[-1] for text in texts if text.strip()), "")
