"""Find out before anything is evaluated whether each host can be deployed to, and what people should know first."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet.errors import UnfitError
from fleet.events import FindingReported
from fleet.host.facts import host_facts
from fleet.host.locked import locked
from fleet.host.program import HostProgram, ask
from fleet.inventory.gated import is_planned_for_when_away
from fleet.model import Finding, Severity
from fleet.steps import hardware
from fleet.text import listed

if TYPE_CHECKING:
    from fleet.events import Emit
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine

MACHINES = {
    "x86_64-linux": ("x86_64",),
    "i686-linux": ("x86_64", "i686", "i586", "i486", "i386"),
    "aarch64-linux": ("aarch64",),
    "armv7l-linux": ("aarch64", "armv7l", "armv8l"),
    "armv6l-linux": ("aarch64", "armv6l", "armv7l", "armv8l"),
    "riscv64-linux": ("riscv64",),
    "aarch64-darwin": ("arm64",),
    "x86_64-darwin": ("x86_64",),
}
"""The kernels (`uname -m`) that run each Nix system."""
NIX_FLOOR = 64 << 20
"""Free bytes on /nix, below which not even the smallest new system is pushed."""
BOOT_FLOOR = 4 << 20
"""The same on /boot."""


def report(finding: Finding, host: Host) -> FindingReported:
    """Return the event that reports a finding about the host."""
    return FindingReported(
        host=host.name, severity=finding.severity, kind=finding.kind, message=finding.message, hint=finding.hint
    )


async def preflight(machine: Machine, host: Host) -> HostFacts:
    """Return what the host is and runs. Raise a `HostError` if it cannot be asked.

    A transaction that a reboot interrupted is settled by the host first.
    """
    answer = await ask(machine, host, HostProgram().call("facts"))
    facts = host_facts(answer)
    return dataclasses.replace(facts, answer=answer) if is_planned_for_when_away(host) else facts


async def verify(machine: Machine, host: Host, *, emit: Emit) -> None:
    """Remove from the host's store what a power cut during a push has damaged, and report it.

    Damaged paths that are in use are left alone; the host refuses to switch to a system that needs one. Raise
    `CommandFailedError` if the host cannot look.
    """
    found = await ask(machine, host, HostProgram().verify())
    damaged, kept = found.get("damaged", []), found.get("kept", [])
    sentences = [f"{len(damaged)} store paths were damaged, and are sent again"] if damaged else []
    if kept:
        sentences.append(f"damaged and in use, so left alone: {listed(kept)}")
    hint = "nix-store --repair-path there mends them; nix-store --query --roots tells what keeps them" if kept else ""
    emit(report(_went_down("; ".join(sentences) or "nothing was damaged", hint), host))


def unverified() -> Finding:
    """Return the finding that what arrived before a power cut was not looked at since."""
    return _went_down("the next deployment looks for what that has damaged")


def _went_down(and_then: str, hint: str = "") -> Finding:
    message = f"the host went down amid a push: {and_then}"
    return Finding(severity=Severity.NOTE, kind="damaged", message=message, hint=hint)


def require_fit(host: Host, facts: HostFacts, *, waits: bool = False) -> None:
    """Raise an error if the host cannot be deployed to at all, or has an open transaction, unless the run `waits`."""
    if facts.transaction is not None and not waits:
        raise locked(host, facts.transaction, facts.waiting)
    for finding in errors(host, facts):
        raise UnfitError(host.name, finding.message, hint=finding.hint)


def errors(host: Host, facts: HostFacts) -> tuple[Finding, ...]:
    """Return what leaves the host out of the run, whether or not a transaction is open on it."""
    found: list[tuple[str, str, str]] = []
    if not facts.nix:
        found.append(("nix", "Nix is not there: no nix-store is found", "install Nix, or see that root's PATH has it"))
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
    """Return what people should know about the host, and what does not stop the run."""
    found: list[tuple[str, str, str]] = []
    if facts.reboot_pending:
        parts = ", ".join(facts.reboot_pending)
        found.append(("reboot_pending", f"a reboot is pending: {parts} differ from what was booted", ""))
    if facts.failed_units:
        units = listed(facts.failed_units)
        found.append(("failing_units", f"failing already, will not be counted: {units}", ""))
    if facts.upgrade_unit:
        hint = "system.autoUpgrade would undo or overtake a deployment"
        found.append(("auto_upgrade", f"{facts.upgrade_unit} is active", hint))
    if facts.lock_holder:
        hint = "someone switches this host by hand; the deployment is refused if that still goes on by then"
        found.append(("switch_lock", f"switch-to-configuration's lock is held by process {facts.lock_holder}", hint))
    if facts.boot_unmounted:
        folders = ", ".join(facts.boot_unmounted)
        hint = f"mount it before you deploy: mount {facts.boot_unmounted[0]}"
        message = f"{folders} is in fstab and not mounted: what a deployment writes there does not boot"
        found.append(("boot_unmounted", message, hint))
    found += hardware.notes(facts)
    found += _space(facts)
    return tuple(Finding(severity=Severity.NOTE, kind=kind, message=text, hint=hint) for kind, text, hint in found)


def require_room(host: Host, facts: HostFacts) -> None:
    """Raise `UnfitError` if not even the smallest new system fits on the host.

    Do not ask this for a system that the host has already: it needs no space.
    """
    for _, message, hint in _space(facts):
        raise UnfitError(host.name, message, hint=hint)


def _space(facts: HostFacts) -> list[tuple[str, str, str]]:
    """Return (kind, message, hint) for each disk that is nearly full."""
    found: list[tuple[str, str, str]] = []
    if facts.nix and facts.nix_free < NIX_FLOOR:
        hint = "fleet gc frees what no rollback needs"
        found.append(("space", f"only {_mib(facts.nix_free)} free on /nix", hint))
    if facts.boot_free is not None and facts.boot_free < BOOT_FLOOR:
        hint = "fleet gc deletes old generations, and writes the boot menu without them"
        found.append(("space", f"only {_mib(facts.boot_free)} free on /boot", hint))
    return found


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
