"""Check the outputs of a flake that no deployment evaluates.

They are configurations without a host or not of NixOS, and the flake's own checks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from fleet import nix
from fleet.errors import EvaluationError, HostError
from fleet.inventory.problems import dotted
from fleet.model import Finding, Severity
from fleet.text import listed, parsed_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from fleet.inventory import Host
    from fleet.machine import Command, Machine, Output

NIXOS = "nixosConfigurations"
HIVE = "colmenaHive.nodes"
"""The outputs whose attributes are the configurations of hosts."""
_FOREIGN = {"darwinConfigurations": "system", "homeConfigurations": "activationPackage"}
"""Outputs of nix-darwin and home-manager, with the attribute of each configuration that is its derivation.

`nix flake check` knows neither: it warns of an unknown output, and evaluates nothing.
"""

_WARNING = re.compile(r"(?:evaluation|trace:) warning: ")
"""How `builtins.warn` and older versions of nixpkgs' lib begin a warning. A message may continue in the next lines."""
_OTHER = re.compile(r"\s*$|\w+:|(?:error|warning|evaluating|copying|fetching|downloading|these|this)\b")


@dataclass(frozen=True, kw_only=True)
class FlakeCheck:
    """A derivation of the flake that belongs to no host, and what is known of it. Most are checks of the flake."""

    output: str = "checks"
    system: str = ""
    """Empty if the output is not divided by system."""
    name: str = ""
    """Empty if it is not known because the output as a whole does not evaluate."""
    status: str
    """`passed`, `failed`, `evaluated` (not built), or `skipped` (not even evaluated)."""
    said: str = ""

    @property
    def place(self) -> str:
        """Its place in the flake, for people."""
        return ".".join(filter(None, (self.output, self.system, self.name)))


async def _ask(here: Machine, command: Command) -> Output:
    try:
        return await here.run(command)
    except HostError as error:
        raise EvaluationError(error.message, said=error.said, hint="is nix on your PATH?") from error


def _names_in(output: Output) -> list[str]:
    """Return the list of names that Nix has printed. Raise `EvaluationError` for anything else."""
    try:
        names = parsed_json(output.stdout)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise EvaluationError("Nix printed something else than a list of names")
    return names


def locks(described: Output) -> dict[str, Any]:
    """Return the lock file in what `metadata` printed; an empty one if it is something else."""
    with contextlib.suppress(ValueError):
        document = parsed_json(described.stdout)
        found = document.get("locks") if isinstance(document, dict) else None
        return found if isinstance(found, dict) else {}
    return {}


async def metadata(here: Machine, flake: str) -> Output:
    """Return what Nix knows about the flake itself: `locks` on stdout, or the reason of a failure on stderr."""
    return await _ask(here, nix.metadata(flake))


async def configurations(here: Machine, flake: str, output: str = NIXOS) -> tuple[str, ...] | None:
    """Return the names of the flake's NixOS configurations; None if Nix cannot list them."""
    answer = await _ask(here, nix.names(flake, output))
    return tuple(_names_in(answer)) if answer.status == 0 else None


def unchecked(hosts: Iterable[Host]) -> list[Finding]:
    """Return a note on the hosts without any check: of these a deployment proves less than people may think."""
    names = [host.name for host in hosts if not host.checks]
    if not names:
        return []
    return [
        Finding(
            kind="no_checks",
            severity=Severity.NOTE,
            message=f"no check is declared for {listed(names)}: healthy is where no unit fails and people can log in",
            hint="declare what these hosts are for: checks in fleet.toml, see docs/checks.md",
        )
    ]


def unmatched(
    chosen: Iterable[Host],
    all_hosts: Iterable[Host],
    there: Collection[str],
    ignore: Collection[str] = (),
    *,
    output: str = NIXOS,
) -> list[Finding]:
    """Return hosts without a configuration and, if all hosts are chosen, configurations without a host.

    `there` are the configurations in the output. Those that match a glob of `ignore` need no host.
    """
    chosen, all_hosts = list(chosen), list(all_hosts)
    found = [
        Finding(
            kind="no_configuration",
            message=f"{host.name} has no configuration: the flake has no {output}.{name}",
            hint="write one, or correct attr in fleet.toml, or remove the host there",
        )
        for host in chosen
        if (name := _configuration(host, output)) is not None and name not in there
    ]
    if len(chosen) == len(all_hosts):
        # Another deployer's output may have the system of a host whose configuration is there as well.
        wanted = {_configuration(host, output) or host.name for host in all_hosts}
        found += [
            Finding(
                kind="no_host",
                message=f"{output}.{name} is a configuration that no host of fleet.toml has",
                hint=f"add [{dotted('hosts', name)}] to fleet.toml; if it is no host, add it to ignore of [fleet]",
            )
            for name in there
            if name not in wanted and not any(fnmatchcase(name, glob) for glob in ignore)
        ]
    return found


def idle(ignore: Iterable[str], there: Collection[str]) -> list[Finding]:
    """Return the globs that match no configuration."""
    return [
        Finding(
            kind="no_configuration",
            severity=Severity.NOTE,
            message=f"{glob} in ignore of [fleet] matches no configuration",
            hint="remove it there, or correct it",
        )
        for glob in ignore
        if not any(fnmatchcase(name, glob) for name in there)
    ]


def is_in(host: Host, output: str) -> bool:
    """Whether the host has its configuration from the output."""
    return _configuration(host, output) is not None


def _configuration(host: Host, output: str) -> str | None:
    """Return the name of the host's configuration in the output, if it has one there."""
    first = tuple(output.split("."))
    return host.attr[len(first)] if host.attr[: len(first)] == first and len(host.attr) > len(first) else None


def warnings(lines: Iterable[str]) -> list[Finding]:
    """Return the warnings in the lines that Nix wrote while it evaluated hosts, each once."""
    messages: list[list[str]] = []
    going_on = False
    for line in lines:
        if begun := _WARNING.match(line):
            messages.append([line[begun.end() :]])
        elif going_on := going_on and not _OTHER.match(line):
            messages[-1].append(line)
        going_on = going_on or bool(begun)
    texts = dict.fromkeys(" ".join(" ".join(words).split()) for words in messages)
    return [Finding(kind="warning", severity=Severity.NOTE, message=text) for text in texts]


async def checks(here: Machine, flake: str, *, build: bool) -> list[FlakeCheck]:
    """Return the flake's checks, and its configurations that are not of NixOS.

    Checks for this machine's system are evaluated, and built with `build`; those for other systems are skipped.
    Configurations are evaluated, whatever system they are for.
    """
    own = (await _ask(here, nix.CURRENT_SYSTEM)).stdout.strip().strip('"')
    systems, found = await _names(here, flake, FlakeCheck(status="failed"))
    for system in systems:
        names, broken = await _names(here, flake, FlakeCheck(system=system, status="failed"))
        if system == own:
            found += broken
            found += [await _look(here, flake, system=system, name=name, build=build) for name in names]
        else:
            said = f"this machine is {own}"
            found += [
                FlakeCheck(system=system, name=name, status="skipped", said=said)
                for name in names or [""] * len(broken)
            ]
    for output in _FOREIGN:
        names, broken = await _names(here, flake, FlakeCheck(output=output, status="failed"))
        found += broken
        found += [await _look(here, flake, output=output, name=name) for name in names]
    return found


async def _names(here: Machine, flake: str, whole: FlakeCheck) -> tuple[list[str], list[FlakeCheck]]:
    """Return the names in an output, or in one system of it. If it does not evaluate, return it as a failed check."""
    output = await _ask(here, nix.names(flake, _attribute(whole.output, whole.system)))
    if output.status == 0:
        return _names_in(output), []
    if nix.NO_OUTPUT in output.stderr:
        return [], []
    return [], [dataclasses.replace(whole, said=_error(output.stderr.splitlines()))]


def _attribute(output: str, *path: str) -> str:
    return ".".join([output, *(nix.quoted(word) for word in path if word)])


async def _look(
    here: Machine, flake: str, *, name: str, output: str = "checks", system: str = "", build: bool = False
) -> FlakeCheck:
    attribute = _attribute(output, system, name, _FOREIGN.get(output, ""))
    lines = await _ask(here, nix.build_output(flake, attribute) if build else nix.derivation_of(flake, attribute))
    if lines.status != 0:
        status, said = "failed", _error(lines.stderr.splitlines())
    elif build:
        status, said = "passed", ""
    else:
        status, said = "evaluated", "not built" if output in _FOREIGN else "not built: fleet check --build does that"
    return FlakeCheck(output=output, system=system, name=name, status=status, said=said)


def _error(lines: Sequence[str]) -> str:
    """Return the line that says what is wrong."""
    errors = [line.strip() for line in lines if line.lstrip().startswith("error:")]
    return errors[-1] if errors else next((line for line in reversed(lines) if line.strip()), "Nix failed")
