"""What a built system says about itself, here or on the host, and whether a host may be switched to it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import QuarantinedError, UnfitError
from fleet.host import answers, obstacles
from fleet.host.obstacles import PARTS
from fleet.machine import Command
from fleet.model import Goal, Reboot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.host.answers import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure

NEEDED = ("nixos-version", "bin/switch-to-configuration")
"""Files without which a closure is no system that can be switched to."""
_LOOK = f"""
cd -- "$1" || exit 1
for file in {" ".join(NEEDED)}; do [ -e "$file" ] || echo "lacks=$file"; done
echo "platform=$(cat system 2>/dev/null)"
echo "init_interface=$(cat init-interface-version 2>/dev/null)"
find -L kernel-modules/lib/modules -name 'nvidia.ko*' -exec readlink -f '{{}}' ';' 2>/dev/null | sed 's/^/nvidia=/'
echo "inhibitors=$(tr -d '\\n' 2>/dev/null <switch-inhibitors)"
for part in {" ".join(PARTS)}; do
    if [ -L "$part" ]; then said=$(readlink -e "$part"); else said=$(cat "$part" 2>/dev/null); fi
    echo "part_$part=$said"
done
"""


@dataclass(frozen=True, kw_only=True)
class System:
    """What a closure says about itself."""

    closure: Closure
    is_switchable: bool
    """Whether it has what `NEEDED` names."""
    platform: str = ""
    """The Nix system it is for, such as `x86_64-linux`; empty where it does not say."""
    inhibitors: Mapping[str, str] = field(default_factory=dict)
    init_interface: str = ""
    nvidia: str = ""
    """The version of the NVIDIA driver among its kernel modules."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Where each of `PARTS` is in the store, or its text; empty for those that are not there."""

    def reboot_reasons(self, facts: HostFacts) -> tuple[str, ...]:
        """All that only a reboot makes live: parts that differ from what is booted, and what forbids a live switch."""
        parts = [part for part in PARTS if self.parts.get(part, "") != _known(part, facts.booted_parts.get(part, ""))]
        return (*parts, *self.obstacles(facts))

    def obstacles(self, facts: HostFacts) -> tuple[str, ...]:
        """What makes a live switch from what runs fail, or leave half of it working."""
        return obstacles.between(
            (facts.inhibitors, self.inhibitors),
            (facts.init_interface, self.init_interface),
            (facts.nvidia, self.nvidia),
        )


def look_here(closure: Closure) -> System:
    """What a closure in the local store says."""
    tree = Path(closure)
    return System(
        closure=closure,
        is_switchable=all((tree / file).exists() for file in NEEDED),
        platform=_text(tree / "system"),
        inhibitors=obstacles.inhibitors(_text(tree / "switch-inhibitors")),
        init_interface=_text(tree / "init-interface-version"),
        nvidia=obstacles.nvidia_version(
            str((Path(folder) / file).resolve())
            for folder, _, files in os.walk(tree / "kernel-modules" / "lib" / "modules", followlinks=True)
            for file in files
            if file.startswith("nvidia.ko")
        ),
        parts={part: _part(tree / part) for part in PARTS},
    )


async def look_there(machine: Machine, host: Host, closure: Closure) -> System:
    """What a closure on the host says. Raises `UnfitError` where it is not there."""
    output = await machine.run(Command(argv=("sh", "-c", _LOOK, "sh", closure)))
    if output.status != 0:
        hint = f"fleet generations {host.name} lists what is there"
        raise UnfitError(host.name, f"{closure} is not on this host", said=output.stderr.splitlines()[-3:], hint=hint)
    lines = answers.parse(output.stdout)
    return System(
        closure=closure,
        is_switchable="lacks" not in lines,
        platform=answers.one(lines, "platform").strip(),
        inhibitors=obstacles.inhibitors(answers.one(lines, "inhibitors")),
        init_interface=answers.one(lines, "init_interface").strip(),
        nvidia=obstacles.nvidia_version(lines.get("nvidia", [])),
        parts={part: _known(part, answers.one(lines, f"part_{part}")) for part in PARTS},
    )


def require_welcome(host: Host, facts: HostFacts, closure: Closure, *, retry_quarantined: bool) -> None:
    """Raises `QuarantinedError` for a closure that was found bad on this host, unless it is wanted anyway."""
    if closure in facts.quarantined and not retry_quarantined:
        hint = "deploy a different closure, or --retry-quarantined"
        raise QuarantinedError(host.name, f"{closure} was found bad on this host before", hint=hint)


def require_switchable(host: Host, system: System) -> None:
    """Raises `UnfitError` with what makes the system unfit for this host: its shape, its platform."""
    if not system.is_switchable:
        hint = f"a closure has {' and '.join(NEEDED)}; is system.switch.enable off?"
        raise UnfitError(host.name, f"{system.closure} is not a NixOS system that can be switched to", hint=hint)
    if system.platform and system.platform != host.system:
        hint = f"see nixpkgs.hostPlatform in its configuration, or system in [hosts.{host.name}]"
        raise UnfitError(host.name, f"the closure is for {system.platform}, the host is {host.system}", hint=hint)


def require_live(host: Host, obstacles: Sequence[str], goal: Goal, *, remedy: Reboot = Reboot.IF_NEEDED) -> None:
    """Raises `UnfitError` where these forbid a switch without a reboot."""
    if obstacles:
        message = f"a live switch is inhibited ({', '.join(obstacles)})"
        hint = f"these change only with a reboot: --reboot {remedy}"
        raise UnfitError(host.name, message, hint=f"{hint}, without --goal test" if goal is Goal.TEST else hint)


def _known(part: str, said: str) -> str:
    return said if part == "kernel-params" or said.startswith("/nix/store/") else ""


def _part(path: Path) -> str:
    if not path.is_symlink():
        return _text(path)
    return _known(path.name, str(path.resolve())) if path.exists() else ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
