"""What a built system says about itself, here or on the host, and whether a host may be switched to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import QuarantinedError, UnfitError
from fleet.host import answers
from fleet.host.answers import PARTS
from fleet.machine import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

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
echo "inhibitors=$(tr -d '\\n' 2>/dev/null <switch-inhibitors)"
for part in {" ".join(PARTS)}; do echo "part_$part=$(readlink -e "$part")"; done
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
    parts: Mapping[str, str] = field(default_factory=dict)
    """Where each of `PARTS` is in the store; empty for those that are not there."""

    def reboot_parts(self, facts: HostFacts) -> tuple[str, ...]:
        """The parts that differ from what the host has booted: only a reboot makes them live."""
        return tuple(part for part in PARTS if self.parts.get(part, "") != _stored(facts.booted_parts.get(part, "")))


def look_here(closure: Closure) -> System:
    """What a closure in the local store says."""
    tree = Path(closure)
    return System(
        closure=closure,
        is_switchable=all((tree / file).exists() for file in NEEDED),
        platform=_text(tree / "system"),
        inhibitors=answers.inhibitors(_text(tree / "switch-inhibitors")),
        parts={part: _stored(str((tree / part).resolve())) if (tree / part).exists() else "" for part in PARTS},
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
        inhibitors=answers.inhibitors(answers.one(lines, "inhibitors")),
        parts={part: _stored(answers.one(lines, f"part_{part}")) for part in PARTS},
    )


def require_welcome(host: Host, facts: HostFacts, closure: Closure, *, retry_quarantined: bool) -> None:
    """Raises `QuarantinedError` for a closure that was found bad on this host, unless it is wanted anyway."""
    if closure in facts.quarantined and not retry_quarantined:
        hint = "deploy a different closure, or --retry-quarantined"
        raise QuarantinedError(host.name, f"{closure} was found bad on this host before", hint=hint)


def require_switchable(host: Host, facts: HostFacts, system: System) -> None:
    """Raises `UnfitError` with what makes the system unfit for this host: its shape, its platform, an inhibitor."""
    if not system.is_switchable:
        hint = f"a closure has {' and '.join(NEEDED)}; is system.switch.enable off?"
        raise UnfitError(host.name, f"{system.closure} is not a NixOS system that can be switched to", hint=hint)
    if system.platform and system.platform != host.system:
        hint = f"see nixpkgs.hostPlatform in its configuration, or system in [hosts.{host.name}]"
        raise UnfitError(host.name, f"the closure is for {system.platform}, the host is {host.system}", hint=hint)
    # switch-to-configuration refuses when a key that both systems have differs (nixpkgs, pre-switch checks).
    differing = [key for key, value in system.inhibitors.items() if facts.inhibitors.get(key, value) != value]
    if differing:
        changes = ", ".join(f"{key}: {facts.inhibitors[key]} -> {system.inhibitors[key]}" for key in differing)
        hint = "these change only with a reboot: nixos-rebuild boot and a reboot do that today"
        raise UnfitError(host.name, f"a live switch is inhibited ({changes})", hint=hint)


def _stored(path: str) -> str:
    return path if path.startswith("/nix/store/") else ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
