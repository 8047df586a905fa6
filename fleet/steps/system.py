"""Read what a built system says about itself, here or on a host, and decide whether a host may be switched to it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, QuarantinedError, UnfitError
from fleet.files import read_file
from fleet.host import answers, obstacles
from fleet.host.obstacles import PARTS
from fleet.inventory.drivers import Driver
from fleet.inventory.problems import dotted
from fleet.machine import Command
from fleet.model import Goal, Reboot
from fleet.scripts import script
from fleet.steps.gated import gate_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure

LONGEST = 1 << 20
"""The most bytes of a file of a system that are read."""
NEEDED: Mapping[Driver, tuple[tuple[str, ...], ...]] = {
    Driver.NIXOS: (("nixos-version",), ("bin/switch-to-configuration",)),
    Driver.SYSTEM_MANAGER: (("bin/register-profile",), ("bin/activate",), ("etcFiles/etcFiles.json",)),
    Driver.NIX_DARWIN: (("systemConfig",), ("activate",), ("darwin-version", "darwin-version.json")),
    Driver.HOME_MANAGER: (("hm-version", "home-files"), ("activate",)),
    Driver.GENERIC: (("bin/activate", "activate"),),
}
"""By driver the files without which it has no closure to activate: one of each group. A closure is for the first that
finds all of its own there."""
FILES = tuple(dict.fromkeys(file for groups in NEEDED.values() for group in groups for file in group))


@dataclass(frozen=True, kw_only=True)
class System:
    """What a closure says about itself."""

    closure: Closure
    driver: Driver | None
    """What activates it, by the files of `NEEDED` that it has. None if nothing does."""
    platform: str = ""
    """The Nix system that it is for, such as `x86_64-linux`. Empty if it does not say."""
    inhibitors: Mapping[str, str] = field(default_factory=dict)
    init_interface: str = ""
    nvidia: str = ""
    """The version of the NVIDIA driver among its kernel modules. Empty if there is none."""
    gate: str = ""
    """The digest of its gate. Empty if it has none, or if it is not here."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """For each of `PARTS` its store path or its text. Empty for those that it does not have."""

    def reboot_reasons(self, facts: HostFacts) -> tuple[str, ...]:
        """Return what needs a reboot: parts that differ from the booted ones, and obstacles to a live switch."""
        parts = [
            part for part in PARTS if self.parts.get(part, "") != _comparable(part, facts.booted_parts.get(part, ""))
        ]
        return (*parts, *self.obstacles(facts))

    def obstacles(self, facts: HostFacts) -> tuple[str, ...]:
        """Return what makes a live switch from the running system fail, or leave half of it working."""
        return obstacles.between(
            (facts.inhibitors, self.inhibitors),
            (facts.init_interface, self.init_interface),
            (facts.nvidia, self.nvidia),
        )


def look_here(closure: Closure) -> System:
    """Return what a closure in the local store says about itself. Reads many files: call it in a thread."""
    tree = Path(closure)
    return System(
        closure=closure,
        driver=recognised({file for file in FILES if (tree / file).exists()}),
        platform=_read_text(tree / "system"),
        inhibitors=obstacles.inhibitors(_read_text(tree / "switch-inhibitors")),
        init_interface=_read_text(tree / "init-interface-version"),
        nvidia=obstacles.nvidia_version(
            str((Path(folder) / file).resolve())
            for folder, _, files in os.walk(tree / "kernel-modules" / "lib" / "modules", followlinks=True)
            for file in files
            if file.startswith("nvidia.ko")
        ),
        gate=gate_of(closure),
        parts={part: _read_part(tree / part) for part in PARTS},
    )


def recognised(has: Collection[str]) -> Driver | None:
    """Return the driver of a closure that has these of `FILES`."""
    fitting = (d for d, groups in NEEDED.items() if all(any(file in has for file in group) for group in groups))
    return next(fitting, None)


async def look_there(machine: Machine, host: Host, closure: Closure) -> System:
    """Return what a closure on the host says about itself.

    Raise `UnfitError` if the host says that it is not there, and `CommandFailedError` if it does not answer.
    """
    argv = ("sh", "-c", script("fleet.steps", "look-at-system"), "sh", closure, *FILES)
    output = await machine.run(Command(argv=argv, verb=("system", closure)))
    lines = answers.parse(output.stdout)
    if "absent" in lines:
        hint = f"fleet generations {host.name} lists what is there"
        raise UnfitError(host.name, f"{closure} is not on this host", hint=hint)
    if output.status != 0 or "platform" not in lines:  # to fail to ask is no answer
        said = [*output.stdout.splitlines()[:1], *output.stderr.splitlines()[-3:]]
        message = f"the host did not say what {closure} is: exit status {output.status}"
        raise CommandFailedError(host.name, message, said=said, hint=f"try: fleet ssh {host.name} true")
    return System(
        closure=closure,
        driver=recognised(set(FILES) - set(lines.get("lacks", ()))),
        platform=answers.one(lines, "platform").strip(),
        inhibitors=obstacles.inhibitors(answers.one(lines, "inhibitors")),
        init_interface=answers.one(lines, "init_interface").strip(),
        nvidia=obstacles.nvidia_version(lines.get("nvidia", [])),
        parts={part: _comparable(part, answers.one(lines, f"part_{part}")) for part in PARTS},
    )


async def specialisation(machine: Machine, system: Closure, running: Closure) -> str:
    """Return the name of the specialisation of a system on the machine that runs; nothing if it is none."""
    argv = ("sh", "-c", script("fleet.steps", "specialisation"), "sh", system, running)
    output = await machine.run(Command(argv=argv, root=False, verb=("specialisation", system, running)))
    return output.stdout.strip() if output.status == 0 else ""


def require_not_quarantined(host: Host, facts: HostFacts, closure: Closure, *, retry_quarantined: bool) -> None:
    """Raise `QuarantinedError` if the closure was found bad on this host, unless it should be tried again."""
    if closure in facts.quarantined and not retry_quarantined:
        hint = "deploy a different closure, or --retry-quarantined"
        raise QuarantinedError(host.name, f"{closure} was found bad on this host before", hint=hint)


def is_for(driver: Driver | None, wanted: Driver) -> bool:
    """Whether a closure of one driver can be activated by another: by its own, and by the generic one if that only runs
    its script. The scripts of whole systems take a computer for their own."""
    return driver is wanted or (wanted is Driver.GENERIC and driver not in (None, Driver.NIXOS, Driver.NIX_DARWIN))


def require_switchable(host: Host, system: System) -> None:
    """Raise `UnfitError` if the system cannot be switched to, or is for another platform than the host's."""
    if not is_for(system.driver, host.driver):
        needed = " and ".join(" or ".join(group) for group in NEEDED[host.driver])
        hint = f"a closure of {host.driver} has {needed}"
        if system.driver is not None:
            hint = f'it is one of {system.driver}: write driver = "{system.driver}" in [{dotted("hosts", host.name)}]'
        elif host.driver is Driver.NIXOS:
            hint += "; is system.switch.enable off?"
        what = "NixOS system" if host.driver is Driver.NIXOS else f"system of {host.driver}"
        raise UnfitError(host.name, f"{system.closure} is not a {what} that can be switched to", hint=hint)
    if system.platform and system.platform != host.system:
        hint = f"see nixpkgs.hostPlatform in its configuration, or system in [{dotted('hosts', host.name)}]"
        raise UnfitError(host.name, f"the closure is for {system.platform}, the host is {host.system}", hint=hint)


def require_live(host: Host, obstacles: Sequence[str], goal: Goal, *, remedy: Reboot = Reboot.IF_NEEDED) -> None:
    """Raise `UnfitError` if there are obstacles to a live switch.

    `remedy` is the value of --reboot that the hint names.
    """
    if obstacles:
        message = f"a live switch is inhibited ({', '.join(obstacles)})"
        hint = f"these change only with a reboot: --reboot {remedy}"
        raise UnfitError(host.name, message, hint=f"{hint}, without --goal test" if goal is Goal.TEST else hint)


def _comparable(part: str, value: str) -> str:
    """Return the value as far as it can be compared: store paths, and the kernel parameters as they are."""
    return value if part == "kernel-params" or value.startswith("/nix/store/") else ""


def _read_part(path: Path) -> str:
    """Return the store path of a part, or its text if it is a plain file."""
    if not path.is_symlink():
        return _read_text(path)
    return _comparable(path.name, str(path.resolve())) if path.exists() else ""


def _read_text(path: Path) -> str:
    """Return the text of the file; an empty string if it cannot be read."""
    try:
        return read_file(path, most=LONGEST).decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""
