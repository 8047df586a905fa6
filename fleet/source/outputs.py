"""The outputs of a flake that no deployment looks at: configurations without a host, and checks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import EvaluationError, HostError
from fleet.source import Finding

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from fleet.inventory import Host
    from fleet.machine import Command, Machine, Output

_CONFIGURATIONS = "nixosConfigurations"


@dataclass(frozen=True, kw_only=True)
class FlakeCheck:
    """One of the flake's own checks, and what is known of it."""

    system: str
    name: str
    status: str
    """`passed`, `failed`, `evaluated` (not built), or `skipped` (nobody looked)."""
    said: str = ""


async def _ask(here: Machine, command: Command) -> Output:
    try:
        return await here.run(command)
    except HostError as error:
        raise EvaluationError(error.message, said=error.said, hint="is nix on your PATH?") from error


async def metadata(here: Machine, flake: str) -> Output:
    """What Nix says of the flake itself: `locks` on stdout, or why not on stderr."""
    return await _ask(here, nix.metadata(flake))


async def configurations(here: Machine, flake: str) -> tuple[str, ...] | None:
    """The names of the flake's NixOS configurations; nothing when Nix cannot tell."""
    output = await _ask(here, nix.names(flake, _CONFIGURATIONS))
    return tuple(json.loads(output.stdout)) if output.status == 0 else None


def unmatched(chosen: Iterable[Host], all_hosts: Iterable[Host], there: Collection[str]) -> list[Finding]:
    """Hosts without a configuration and, where all hosts are chosen, configurations without a host."""
    chosen, all_hosts = list(chosen), list(all_hosts)
    found = [
        Finding(
            kind="no_configuration",
            message=f"{host.name} has no configuration: the flake has no {_CONFIGURATIONS}.{host.attr[1]}",
            hint="write one, or correct attr in fleet.toml, or remove the host there",
        )
        for host in chosen
        if host.attr[0] == _CONFIGURATIONS and host.attr[1] not in there
    ]
    if len(chosen) == len(all_hosts):
        wanted = {host.attr[1] for host in all_hosts if host.attr[0] == _CONFIGURATIONS}
        found += [
            Finding(
                kind="no_host",
                message=f"{_CONFIGURATIONS}.{name} is a configuration that no host of fleet.toml has",
                hint=f"add [hosts.{name}] to fleet.toml, or move the configuration to another output",
            )
            for name in there
            if name not in wanted
        ]
    return found


async def checks(here: Machine, flake: str, *, build: bool) -> list[FlakeCheck]:
    """Each check of the flake. Those of this machine's system are evaluated, and built if asked; no others are."""
    output = await _ask(here, nix.check_names(flake))
    if output.status != 0:
        return []  # the flake has none; one that does not evaluate at all has been told by its hosts
    names: dict[str, list[str]] = json.loads(output.stdout)
    own = (await _ask(here, nix.CURRENT_SYSTEM)).stdout.strip().strip('"')
    found = []
    for system, there in names.items():
        if system == own:
            found += [await _check(here, flake, system, name, build=build) for name in there]
        else:
            said = f"this machine is {own}"
            found += [FlakeCheck(system=system, name=name, status="skipped", said=said) for name in there]
    return found


async def _check(here: Machine, flake: str, system: str, name: str, *, build: bool) -> FlakeCheck:
    command = nix.build_check(flake, system, name) if build else nix.evaluate_check(flake, system, name)
    output = await _ask(here, command)
    if output.status == 0:
        status, said = ("passed", "") if build else ("evaluated", "not built: fleet check --build does that")
    else:
        status, said = "failed", _error(output.stderr.splitlines())
    return FlakeCheck(system=system, name=name, status=status, said=said)


def _error(lines: Sequence[str]) -> str:
    """The line that says what is wrong."""
    errors = [line.strip() for line in lines if line.lstrip().startswith("error:")]
    return errors[-1] if errors else next((line for line in reversed(lines) if line.strip()), "Nix failed")
