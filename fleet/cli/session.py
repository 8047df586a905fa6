"""What every command about hosts begins with: the inventory, the selection, and how to log in."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet import Fleet
    from fleet.inventory import Host, Inventory
    from fleet.machine.ssh import Secret
    from fleet.model import HostName

PASSWORD_VARIABLE = "FLEET_SUDO_PASSWORD"


def open_inventory(file: Path | None) -> Inventory:
    """Return the inventory in the file, or in the nearest fleet.toml."""
    from fleet import inventory

    return inventory.load(file if file is not None else _nearest())


def _nearest() -> Path:
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "fleet.toml").is_file():
            return folder / "fleet.toml"
    return Path("fleet.toml")


def choose(inventory: Inventory, selectors: Sequence[str], *, everything: bool) -> tuple[Host, ...]:
    """Return the hosts that a changing command is about. They have to be named, or `--all`."""
    from fleet import selector

    if everything and selectors:
        raise ConfigError("--all and a selector: give one of them")
    if not everything and not selectors:
        raise ConfigError("no hosts were named", hint="name hosts, @tags or kind:KIND, or say --all")
    return tuple(inventory.hosts.values()) if everything else selector.select(inventory, selectors)


def choose_or_all(inventory: Inventory, selectors: Sequence[str]) -> tuple[Host, ...]:
    """Return the hosts that a reading command is about."""
    return choose(inventory, selectors, everything=not selectors)


def fleet(inventory: Inventory, hosts: Sequence[Host]) -> Fleet:
    """Return the fleet of the inventory. If one of these hosts needs a sudo password, ask for it once."""
    from fleet import Fleet
    from fleet.inventory import Sudo
    from fleet.machine.login import Logins

    asking = [host for host in hosts if host.sudo is Sudo.PASSWORD]
    secret = _sudo_password(asking) if asking else None
    passwords = {host.name: secret for host in asking if secret is not None}
    return Fleet.of(inventory, Logins(inventory.hosts, passwords))


def _sudo_password(asking: Sequence[Host]) -> Secret:
    import click

    from fleet.machine.ssh import Secret

    given = os.environ.pop(PASSWORD_VARIABLE, None)  # Nix, git and helpers of ssh must not inherit it
    if given is not None:
        return Secret(given)
    names = ", ".join(host.name for host in asking)
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{names}: sudo needs a password, and there is no terminal to ask on", hint=f"set {PASSWORD_VARIABLE}"
        )
    return Secret(click.prompt(f"sudo password for {names}", hide_input=True, err=True))


def require_consent(count: int, *, yes: bool) -> None:
    """Raise `ConfigError` if several hosts would be changed and nobody can be asked."""
    if count > 1 and not yes and not sys.stdin.isatty():
        raise ConfigError(
            f"{count} hosts would be changed, and there is no terminal to ask on",
            hint="say --yes if that is meant",
        )


def tell_errors(answers: Mapping[HostName, object]) -> bool:
    """Print the error of each host that could not be asked to stderr. Return whether there were any."""
    import click

    from fleet.errors import FleetError
    from fleet.output.format import failure_lines

    failed = {name: answer for name, answer in answers.items() if isinstance(answer, FleetError)}
    for name, error in failed.items():
        click.echo("\n".join(failure_lines([name], error.failure())), err=True)
    return bool(failed)
