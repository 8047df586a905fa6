"""Judge what a host says of its hardware: a disk that cannot be written, weak power, jobs on its GPUs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.errors import UnfitError
from fleet.model import Goal
from fleet.text import listed

if TYPE_CHECKING:
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host

NOW = {0: "undervoltage", 1: "a capped clock", 2: "throttling", 3: "the soft temperature limit"}
EVER = {bit + 16: words for bit, words in NOW.items()}
"""The bits of `vcgencmd get_throttled`: what is so now, and what was so since the boot (raspberrypi.com documents
vcgencmd)."""
MOST_NAMED = 5


def notes(facts: HostFacts) -> list[tuple[str, str, str]]:
    """Return (kind, message, hint) for each thing that people should know."""
    found: list[tuple[str, str, str]] = []
    if places := (*facts.read_only, *facts.boot_read_only):
        hint = "a file system that has found errors becomes so, as on a worn card; see dmesg there, and mount it again"
        found.append(("read_only", f"cannot be written: {listed(places, most=MOST_NAMED)}", hint))
    if power := power_trouble(facts):
        hint = "a stronger power supply or a cooler place; a Pi whose voltage drops amid a write may lose its card"
        found.append(("power", power, hint))
    if facts.gpu_jobs:
        jobs = "; ".join(facts.gpu_jobs[:MOST_NAMED]) + ("; …" if len(facts.gpu_jobs) > MOST_NAMED else "")
        hint = "no reboot and no other driver before they have ended, unless with --force, which is recorded"
        found.append(("gpu_jobs", f"computes on a GPU: {jobs}", hint))
    return found


def power_trouble(facts: HostFacts) -> str:
    """Return what is wrong with the power or the temperature of a Raspberry Pi; nothing if all is well or not known."""
    bits = int(facts.throttled, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", facts.throttled) else 0
    now = [words for bit, words in NOW.items() if bits >> bit & 1]
    if facts.undervoltage and NOW[0] not in now:
        now.insert(0, NOW[0])
    ever = [words for bit, words in EVER.items() if bits >> bit & 1 and words not in now]
    told = [f"{', '.join(now)} now"] if now else []
    told += [f"{', '.join(ever)} since the boot"] if ever else []
    return "; ".join(told)


def require_writable(host: Host, facts: HostFacts, goal: Goal) -> None:
    """Raise `UnfitError` if a place cannot be written that a switch with this goal writes to."""
    if not goal.switches:
        return
    places = (*facts.read_only, *(facts.boot_read_only if goal is not Goal.TEST else ()))
    if places:
        hint = f"mount it writable again; where that fails, the disk does: fleet ssh {host.name} dmesg"
        raise UnfitError(host.name, f"a switch writes to what is read-only: {', '.join(places)}", hint=hint)
