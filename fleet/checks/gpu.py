"""Check NVIDIA GPUs: whether the driver works, and how many there are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.checks.command import last_line
from fleet.machine import Command
from fleet.scripts import script
from fleet.text import version_numbers

if TYPE_CHECKING:
    from fleet.checks.command import Attempt
    from fleet.inventory import Check
    from fleet.machine import Machine

_VERSION = r"[0-9]{1,9}(?:\.[0-9]{1,9}){1,9}"
_LONGEST_LINE, _MOST_LINES = 1000, 1000
"""Characters of a line, and lines, that are looked at."""


async def ask_gpu(check: Check, host: Machine) -> Attempt:
    """Return whether the host has the GPUs and the driver that the check wants, and which ones it has."""
    argv = ("sh", "-c", script("fleet.checks", "gpu"))
    output = await host.run(Command(argv=argv, timeout=check.timeout, verb=("gpu",)))
    lines = [line[:_LONGEST_LINE] for line in output.stdout.splitlines()[:_MOST_LINES]]
    errors = [line[:_LONGEST_LINE] for line in output.stderr.splitlines()[-_MOST_LINES:]]
    module = _found(rf"^module=.*?Kernel Module.*?\s({_VERSION})\s", [f"{line}\n" for line in lines])
    # The version in the library's error message is the fallback: nvidia-smi prints it exactly when the two differ.
    library = _found(rf"^library=.*\.so\.({_VERSION})$", lines)
    userspace = library or _found(rf"NVML library version:\s*({_VERSION})", [*lines, *errors])
    if (library and module and library != module) or any("version mismatch" in line for line in (*lines, *errors)):
        return False, f"needs reboot: the kernel module is {module or 'another'}, userspace is {userspace or 'newer'}"
    gpus = [line for line in lines if line.strip() and "=" not in line.split(",")[0]]
    if output.status != 0:
        return False, last_line(output.stderr, "\n".join(gpus)) or f"nvidia-smi: exit status {output.status}"
    return _judge(check, gpus)


def _judge(check: Check, gpus: list[str]) -> Attempt:
    drivers = {line.split(",")[0].strip() for line in gpus}
    if not gpus:
        return False, "nvidia-smi lists no GPU"
    if broken := sorted(driver for driver in drivers if re.fullmatch(_VERSION, driver) is None):
        return False, f"nvidia-smi: {broken[0]}"
    got = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}, driver {', '.join(sorted(drivers))}"
    if check.count is not None and len(gpus) != check.count:
        return False, f"{got}; wanted {check.count}"
    wanted = check.min_driver
    if wanted is not None and any(version_numbers(driver) < version_numbers(wanted) for driver in drivers):
        return False, f"{got}; wanted driver {wanted} or later"
    return True, got


def _found(pattern: str, lines: list[str]) -> str:
    """Return what the group of the pattern matches in the first line that it fits, or an empty string."""
    return next((match[1] for line in lines if (match := re.search(pattern, line))), "")
