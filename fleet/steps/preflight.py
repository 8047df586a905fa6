"""Before anything is evaluated: can each host be deployed to, and what should people know first?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import UnfitError
from fleet.events import FindingReported
from fleet.host import answers
from fleet.host.program import HostProgram, ask, locked
from fleet.model import Severity

if TYPE_CHECKING:
    from fleet.events import Emit
    from fleet.host.answers import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine

MACHINES = {
    "x86_64-linux": ("x86_64",),
    "i686-linux": ("x86_64", "i686", "i586", "i486", "i386"),
    "aarch64-linux": ("aarch64",),
    "armv7l-linux": ("aarch64", "armv7l", "armv8l"),
    "armv6l-linux": ("aarch64", "armv6l", "armv7l", "armv8l"),
    "riscv64-linux": ("riscv64",),
}
"""Which kernels (`uname -m`) can run which Nix system."""
NIX_FLOOR = 64 << 20
BOOT_FLOOR = 4 << 20
"""Free bytes without which not even the smallest new system is pushed."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line about one host. An error leaves the host out of the run; a note never does."""

    severity: Severity
    kind: str
    message: str
    hint: str = ""

    def of(self, host: Host) -> FindingReported:
        """The event that tells it of the host."""
        return FindingReported(
            host=host.name, severity=self.severity, kind=self.kind, message=self.message, hint=self.hint
        )


async def preflight(machine: Machine, host: Host) -> HostFacts:
    """What the host is and runs; what a reboot had left open there is settled. Raises the HostError that stops it."""
    return answers.host_facts(await ask(machine, host, HostProgram().call("facts")))


async def verify(machine: Machine, host: Host, *, emit: Emit) -> None:
    """What a power cut amid a push has damaged is not in the host's store any more, where nobody else needs it.

    The host refuses a system that needs the rest. Raises `CommandFailedError` where it cannot look.
    """
    found = await ask(machine, host, HostProgram().verify())
    damaged, kept = found.get("damaged", []), found.get("kept", [])
    words = [f"{len(damaged)} store paths were damaged, and are sent again"] if damaged else []
    if kept:
        words.append(f"damaged and in use, so left alone: {', '.join(kept)}")
    hint = "nix-store --repair-path there mends them; nix-store --query --roots tells what keeps them" if kept else ""
    emit(_went_down("; ".join(words) or "nothing was damaged", hint).of(host))


def unverified() -> Finding:
    """What had arrived before a power cut has not been looked at since."""
    return _went_down("the next deployment looks for what that has damaged")


def _went_down(and_then: str, hint: str = "") -> Finding:
    message = f"the host went down amid a push: {and_then}"
    return Finding(severity=Severity.NOTE, kind="damaged", message=message, hint=hint)


def require_fit(host: Host, facts: HostFacts) -> None:
    """Raises the first error, if there is one."""
    if facts.transaction is not None:
        raise locked(host, facts.transaction)
    for finding in errors(host, facts):
        raise UnfitError(host.name, finding.message, hint=finding.hint)


def errors(host: Host, facts: HostFacts) -> tuple[Finding, ...]:
    """What leaves the host out of the run, whoever else is at work on it."""
    found: list[tuple[str, str, str]] = []
    if not facts.nix:
        found.append(
            ("nix", "Nix is not there: nix-store does not answer", "install Nix, or see that root's PATH has it")
        )
    elif not facts.store_writable:
        found.append(("nix", "the Nix database cannot be written", "is /nix mounted read-only? see dmesg on the host"))
    if facts.machine not in MACHINES.get(host.system, (facts.machine,)):
        hint = f'set system = "{facts.machine}-linux" for this host, and build it for that'
        found.append(("architecture", f"the host is {facts.machine}, fleet.toml says {host.system}", hint))
    if not facts.running.startswith("/nix/store/"):
        hint = "fleet deploys to hosts that already run NixOS; install it first (nixos-anywhere, for one)"
        found.append(("not_nixos", "/run/current-system is not a NixOS system", hint))
    elif not facts.profile.startswith("/nix/store/"):
        hint = "this host runs from a live image; install NixOS to its disk first (nixos-anywhere, for one)"
        found.append(("no_profile", f"no system profile {facts.profile}: this host has nothing to boot again", hint))
    return tuple(Finding(severity=Severity.ERROR, kind=kind, message=text, hint=hint) for kind, text, hint in found)


def notes(facts: HostFacts) -> tuple[Finding, ...]:
    """What people should know, and what stops nothing."""
    found: list[tuple[str, str, str]] = []
    if facts.reboot_pending:
        parts = ", ".join(facts.reboot_pending)
        found.append(("reboot_pending", f"a reboot is pending: {parts} differ from what was booted", ""))
    if facts.failed_units:
        units = ", ".join(facts.failed_units)
        found.append(("failing_units", f"failing already, will not be counted: {units}", ""))
    if facts.upgrade_unit:
        hint = "system.autoUpgrade would undo or overtake a deployment"
        found.append(("auto_upgrade", f"{facts.upgrade_unit} is active", hint))
    if facts.lock_holder:
        hint = "someone switches this host by hand; the deployment is refused if that still goes on by then"
        found.append(("switch_lock", f"switch-to-configuration's lock is held by process {facts.lock_holder}", hint))
    found += _space(facts)
    return tuple(Finding(severity=Severity.NOTE, kind=kind, message=text, hint=hint) for kind, text, hint in found)


def require_room(host: Host, facts: HostFacts) -> None:
    """Raises where not even the smallest new system would fit. What goes back, and what stays, needs no room."""
    for _, message, hint in _space(facts):
        raise UnfitError(host.name, message, hint=hint)


def _space(facts: HostFacts) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    if facts.nix and facts.nix_free < NIX_FLOOR:
        hint = "nix-collect-garbage on the host frees what no generation needs"
        found.append(("space", f"only {_mib(facts.nix_free)} free on /nix", hint))
    if facts.boot_free is not None and facts.boot_free < BOOT_FLOOR:
        hint = "delete old generations, then run switch-to-configuration boot on the host"
        found.append(("space", f"only {_mib(facts.boot_free)} free on /boot", hint))
    return found


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
